// What a command came to, as its answer: the success a route waits for, or the error a client reads.

import type { FastifyReply } from 'fastify'
import { TrivetError } from '../errors.ts'
import type { Executed } from '../node/surface.ts'
import { isOutcome, type Outcome, type Token } from '../store/types.ts'
import { setRevision, setTiming } from './app.ts'
import { denied, noSuchStore } from './gate.ts'
import { headers, operationLimits } from './protocol.ts'

/** Who had something decided. `store`: the one it was about; empty where it was about none, or several. */
export type Asker = { readonly token: Token; readonly store: string }

/** The outcome of a command, of the type its success has. Throws what apply refused. */
export function decided<Type extends Outcome['type']>(
  reply: FastifyReply,
  executed: Executed,
  asker: Asker,
  type: Type,
): Extract<Outcome, { type: Type }> {
  const { outcome } = executed
  setRevision(reply, executed.revision)
  setTiming(reply, executed.timing)
  if (outcome.replayed === true) reply.header(headers.replayed, 'true')
  return successOf(outcome, asker, type)
}

/** The same without an answer of its own. */
export function successOf<Type extends Outcome['type']>(
  outcome: Outcome,
  asker: Asker,
  type: Type,
): Extract<Outcome, { type: Type }> {
  if (isOutcome(outcome, type)) return outcome
  if (outcome.type === 'refused') throw refusal(outcome, asker)
  throw new Error(`the node answered ${outcome.type} to a command whose success is ${type}`)
}

/** What a read or a transaction is refused with whose values are together too much: Spin's sentence. */
export function resultTooLarge(index?: number): TrivetError {
  const limit = operationLimits.answerBytes
  return new TrivetError('result-too-large', `query result exceeds limit of ${limit} bytes`, { limit, index })
}

/** What apply refused, as the error a client reads: judged there in the newest state there is. */
function refusal(outcome: Extract<Outcome, { type: 'refused' }>, { token, store }: Asker): TrivetError {
  const { code, revision, limit, field, index } = outcome
  switch (code) {
    case 'unauthenticated':
      return new TrivetError(code, 'This token is not valid any more')
    case 'access-denied':
      if (store !== '') return denied(token, { store, access: 'read-write' })
      return new TrivetError(code, `The token ${token.name} has no grant for all of this`, { index })
    case 'no-such-store':
      if (store !== '') return noSuchStore(store)
      return new TrivetError(code, 'A store that was named is not there any more', { index })
    case 'no-such-key':
      return noSuchKey(index)
    case 'condition-failed': {
      const found = revision === undefined || revision === 0 ? 'the key is absent' : `it is at ${revision}`
      return new TrivetError(code, `The key is not as the condition wants it: ${found}`, {
        revision: revision ?? 0,
      })
    }
    case 'value-too-large':
      return new TrivetError(code, `A value here has at most ${limit ?? 'fewer'} bytes`, { limit, index })
    case 'not-a-number':
      return new TrivetError(code, 'The value that stands there is no decimal number of 64 bits', { index })
    case 'overflow':
      return new TrivetError(code, 'The sum is beyond what a signed number of 64 bits holds', { index })
    case 'range-too-large':
      return new TrivetError(code, `A range has at most ${limit ?? 'fewer'} keys to be deleted at once`, {
        limit,
        index,
      })
    case 'result-too-large':
      return resultTooLarge(index)
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
      return new TrivetError(code, `The command was refused: ${code}`, { revision, limit, index })
  }
}

/** The refusal of what needs a key to be there. */
export function noSuchKey(index?: number): TrivetError {
  return new TrivetError('no-such-key', 'There is no such key in this store', { index })
}
