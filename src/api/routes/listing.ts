// The keys of a store in the order of their bytes: page by page, or all of them as a stream.

import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Static } from 'typebox'
import { TrivetError } from '../../errors.ts'
import type { ListQuery as StateQuery } from '../../store/types.ts'
import { type App, type RouteContext, setRevision } from '../app.ts'
import { type CursorQuery, openCursor, sealCursor } from '../cursor.ts'
import { type Call, placeOfCall, storeCallOf } from '../gate.ts'
import { KeyStreams, listedKey } from '../key-streams.ts'
import { documented } from '../openapi.ts'
import { headers, pageLimits } from '../protocol.ts'
import { KeyPage, ListQuery, StoreParams } from '../schemas.ts'
import { KeyLine } from '../schemas-operations.ts'
import { boundOf } from '../url.ts'

/** A page ends after the item that takes its keys and values past this, in bytes. */
const pageBytes = 4 * 1024 * 1024

type Query = Static<typeof ListQuery>

export function addListingRoute(app: App, context: RouteContext): void {
  const { node, gate, limits } = context
  const streams = new KeyStreams(context)
  const rule = gate.route({ need: { type: 'store', access: 'read', over: 'range' }, judged: 'read' })
  app.route({
    ...rule,
    method: 'GET',
    url: '/v1/stores/:store/keys',
    schema: {
      summary: 'List keys',
      params: StoreParams,
      querystring: ListQuery,
      ...documented({
        headers: ['trivet-timeout'],
        answers: { 200: KeyPage },
        answersLines: KeyLine,
      }),
    },
    handler: async (request, reply) => {
      const { query } = request
      const bounds = boundsOf(query, limits.keyBytes)
      const isStream = asksForLines(request)
      const call = await gate.settle(request, query.minRevision)
      if (call.stale) reply.header(headers.stale, 'true')
      if (!isStream) return sendPage(call, reply, { query, bounds })
      const wanted = { store: placeOfCall(call), ...bounds, reverse: query.reverse }
      return streams.send(request, reply, { ...wanted, values: query.values === true })
    },
  })

  async function sendPage(
    call: Call,
    reply: FastifyReply,
    { query, bounds }: { readonly query: Query; readonly bounds: ReturnType<typeof boundsOf> },
  ): Promise<FastifyReply> {
    const { prefix = '', start = '', end = '', reverse = false, limit, cursor, values = false } = query
    const sealed: CursorQuery = {
      clusterId: node.state.clusterId,
      storeNumber: storeCallOf(call).number,
      prefix,
      start,
      end,
      reverse,
    }
    const wanted: StateQuery = {
      store: placeOfCall(call),
      ...bounds,
      after: cursor === undefined ? undefined : openCursor(sealed, cursor),
      reverse,
      limit: limit ?? pageLimits.defaultKeys,
      maxBytes: pageBytes,
    }
    const page = await node.state.list(wanted, { signal: call.signal })
    setRevision(reply, page.revision)
    const last = page.more ? page.items.at(-1) : undefined
    return reply.send({
      keys: page.items.map((item) => listedKey(item, values)),
      ...(last === undefined ? {} : { cursor: sealCursor(sealed, last.key) }),
      revision: page.revision,
    })
  }
}

function boundsOf({ prefix = '', start = '', end = '' }: Query, keyBytes: number) {
  return {
    prefix: boundOf('prefix', prefix, keyBytes),
    start: boundOf('start', start, keyBytes),
    end: boundOf('end', end, keyBytes),
  }
}

/** Whether a stream is asked for. It is the whole listing: what makes pages is refused. */
function asksForLines(request: FastifyRequest<{ Querystring: Query }>): boolean {
  const { accept } = request.headers
  if (accept === undefined || !/\bapplication\/x-ndjson\b/i.test(accept)) return false
  for (const field of ['limit', 'cursor'] as const) {
    if (request.query[field] === undefined) continue
    throw new TrivetError('invalid-request', `A stream has no pages, and so no ${field}`, { field })
  }
  return true
}
