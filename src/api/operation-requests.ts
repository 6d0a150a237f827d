// What batches and transactions share as requests: their bodies in, their answers out.

import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { TrivetError } from '../errors.ts'
import type { RouteContext } from './app.ts'
import { type BodyForm, decodeBody, encodeAnswer, formOf } from './operation-bodies.ts'
import { msgpackType, operationLimits } from './protocol.ts'

/** Answers up to this go out in one piece. In bytes. */
const pieceBytes = 256 * 1024

export type OperationBody = {
  readonly form: BodyForm
  readonly fields: Readonly<Record<string, unknown>>
}

/** Reads and decodes the body of a batch or transaction: an object of these fields at most. */
export async function readOperationBody(
  request: FastifyRequest,
  { bodies, limits }: Pick<RouteContext, 'bodies' | 'limits'>,
  known: readonly string[],
): Promise<OperationBody> {
  const form = formOf(request.headers['content-type'])
  const bytes = limits.bodyBytes ?? operationLimits.bodyBytes
  const body = decodeBody(form, await bodies.read(request.raw, { code: 'request-too-large', bytes }))
  if (typeof body !== 'object' || body === null || Array.isArray(body) || body instanceof Uint8Array) {
    throw invalid('body', 'The body must be an object')
  }
  const stranger = Object.keys(body).find((name) => !known.includes(name))
  if (stranger !== undefined) throw invalid(stranger, `This route has no field ${stranger}`)
  return { form, fields: { ...body } }
}

/** A list of the body, of at most as many as a body may have. Empty where it is not given. */
export function listOf({ fields }: OperationBody, name: string): readonly unknown[] {
  const list = fields[name]
  if (list === undefined) return []
  if (!Array.isArray(list)) throw invalid(name, `${name} must be a list`)
  const limit = operationLimits.operations
  if (list.length <= limit) return list
  throw new TrivetError('invalid-request', `${name} has at most ${limit} operations`, {
    field: name,
    limit,
    actual: list.length,
  })
}

function invalid(field: string, detail: string): TrivetError {
  return new TrivetError('invalid-request', detail, { field })
}

/** Answers with some fields and the `results`, in the form the request came in. */
export function sendResults(
  reply: FastifyReply,
  form: BodyForm,
  {
    fields,
    results,
  }: { readonly fields: Readonly<Record<string, unknown>>; readonly results: readonly object[] },
): FastifyReply {
  const pieces = encodeAnswer(form, fields, results)
  const type = form === 'msgpack' ? msgpackType : 'application/json; charset=utf-8'
  reply.header('content-type', type)
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0)
  if (length <= pieceBytes) return reply.send(Buffer.concat(pieces, length))
  return reply.header('content-length', length).send(Readable.from(pieces, { objectMode: false }))
}
