// What the routes of administration share: how their commands are repeated, and what apply's refusals mean there.

import { hash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { parseDuration } from '../duration.ts'
import { type ErrorCode, TrivetError } from '../errors.ts'
import { maxTtl } from '../node/names.ts'
import type { NodeSurface } from '../node/surface.ts'
import type { AdminCommand, Outcome } from '../store/types.ts'
import { setRevision, setTiming } from './app.ts'
import { decided } from './decided.ts'
import { callOf, type Rule } from './gate.ts'
import { readRepeat } from './once.ts'

/** The longest body of an administrative request, in bytes. */
export const adminBodyBytes = 64 * 1024

/** For routes that only admins may use. */
export const administers: Rule = { need: { type: 'admin' }, judged: 'write', repeatable: true }

/** The headers of these routes, for the document. */
export const adminHeaders = ['idempotency-key', 'trivet-session', 'trivet-timeout'] as const

type Sentences = Partial<Record<ErrorCode, string>>

/**
 * Has a command decided. `asked`: what the request says, by which a repeat under an idempotency key is known: a secret made
 * here is no part of it. Throws what apply refused, in this route's own sentences where they are given.
 */
export async function administer<Type extends Outcome['type']>(
  request: FastifyRequest,
  reply: FastifyReply,
  options: {
    readonly node: NodeSurface
    readonly command: AdminCommand
    readonly asked: unknown
    readonly success: Type
    readonly sentences: Sentences
  },
): Promise<Extract<Outcome, { type: Type }>> {
  const { node, command, asked, success, sentences } = options
  const call = callOf(request)
  const repeat = readRepeat(request.headers)
  const once = repeat?.type === 'key' ? { ...repeat, digest: digestOf(command.type, asked) } : repeat
  const executed = await node.execute(once === undefined ? command : { ...command, once }, call)
  const { outcome } = executed
  if (outcome.type === 'refused') {
    const { code, limit, field } = outcome
    const sentence = sentences[code] ?? (field === undefined ? undefined : boundSentence(field, limit))
    if (sentence !== undefined) {
      setRevision(reply, executed.revision)
      setTiming(reply, executed.timing)
      throw new TrivetError(code, sentence, { field, limit })
    }
  }
  return decided(reply, executed, call, success)
}

function boundSentence(field: string, limit: number | undefined): string | undefined {
  return /^(?:stores|apps|tokens)$/.test(field) ? `A cluster has at most ${limit} ${field}` : undefined
}

function digestOf(type: AdminCommand['type'], asked: unknown): Uint8Array {
  return hash('sha256', JSON.stringify([type, asked]), 'buffer')
}

/** A duration of a body, in milliseconds. Throws `invalid-request` with its field outside of its bounds. */
export function readDuration(field: string, text: string, least: 0 | 1): number {
  const milliseconds = parseDuration(text)
  if (milliseconds !== undefined && milliseconds >= least && milliseconds <= maxTtl) return milliseconds
  throw new TrivetError('invalid-request', `The field ${field} is a duration from ${least}ms to 3650d`, {
    field,
  })
}
