// What a command came to, as its answer: the success a route waits for, or the error a client reads.

import type { FastifyReply } from 'fastify'
import { TrivetError } from '../errors.ts'
import type { Executed } from '../node/surface.ts'
import type { Outcome } from '../store/types.ts'
import { setRevision, setTiming } from './app.ts'
import { type Call, denied, noSuchStore } from './gate.ts'
import { headers } from './protocol.ts'

/** The outcome of a command, of the type its success has. Throws what apply refused. */
export function decided<Type extends Outcome['type']>(
  reply: FastifyReply,
  executed: Executed,
  call: Call,
  type: Type,
): Extract<Outcome, { type: Type }> {
  const { outcome } = executed
  setRevision(reply, executed.revision)
  setTiming(reply, executed.timing)
  if (outcome.replayed === true) reply.header(headers.replayed, 'true')
  if (isOfType(outcome, type)) return outcome
  if (outcome.type === 'refused') throw refusal(outcome, call)
  throw new Error(`the node answered ${outcome.type} to a command whose success is ${type}`)
}

function isOfType<Type extends Outcome['type']>(
  outcome: Outcome,
  type: Type,
): outcome is Extract<Outcome, { type: Type }> {
  return outcome.type === type
}

/** What apply refused, as the error a client reads: judged there in the newest state there is. */
function refusal(outcome: Extract<Outcome, { type: 'refused' }>, call: Call): TrivetError {
  const { code, revision, limit, field } = outcome
  switch (code) {
    case 'unauthenticated':
      return new TrivetError(code, 'This token is not valid any more')
    case 'access-denied':
      return denied(call.token, { store: call.store, access: 'read-write' })
    case 'no-such-store':
      return noSuchStore(call.store)
    case 'condition-failed': {
      const found = revision === undefined || revision === 0 ? 'the key is absent' : `it is at ${revision}`
      return new TrivetError(code, `The key is not as the condition wants it: ${found}`, {
        revision: revision ?? 0,
      })
    }
    case 'value-too-large':
      return new TrivetError(code, `A value here has at most ${limit ?? 'fewer'} bytes`, { limit })
    case 'session-expired':
      return new TrivetError(code, 'This session is not known, or was not used for ten minutes')
    case 'idempotency-key-reused':
      return new TrivetError(
        code,
        'This idempotency key was used for another request in the last ten minutes',
      )
    case 'overloaded':
      return new TrivetError(code, `No more than ${limit} ${field} are remembered at a time`, {
        field,
        limit,
      })
    default:
      if (field === 'trivet-session') {
        return new TrivetError(code, 'This seq was acknowledged before: its outcome is forgotten', { field })
      }
      return new TrivetError(code, `The command was refused: ${code}`, { revision, limit })
  }
}
