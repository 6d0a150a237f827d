// What operations came to, in the shapes their clients read.

import type { TrivetError } from '../errors.ts'
import type { Item, ItemHead, OperationResult, Outcome } from '../store/types.ts'
import { type BodyForm, carriedBytes, carriedCount } from './operation-bodies.ts'
import { problemOf } from './problem.ts'
import type { BatchAnswer, Form, OperationAnswer, TransactionAnswer } from './protocol.ts'

export type BatchResult = BatchAnswer<Form>['results'][number]

/** What a get found, or a head, which has no value. */
export function foundAnswer(item: Item | ItemHead, form: BodyForm): OperationAnswer<Form> {
  return {
    found: true,
    revision: item.revision,
    ...('value' in item ? { value: carriedBytes(form, item.value) } : {}),
    contentType: item.contentType,
    ...expiry(item.expires),
  }
}

function expiry(expires: number | undefined): { readonly expires?: string } {
  return expires === undefined ? {} : { expires: new Date(expires).toISOString() }
}

/** The successes of writes of one key. */
type Written = Extract<Outcome, { type: 'set' | 'deleted' | 'incremented' | 'touched' }>

/** A write of a batch, with the status that it has alone. */
export function writtenAnswer(outcome: Written, form: BodyForm): BatchResult {
  const replayed = outcome.replayed === true ? ({ replayed: true } as const) : {}
  switch (outcome.type) {
    case 'set': {
      const { revision, created, changed } = outcome
      return { status: created ? 201 : 200, revision, created, changed, ...replayed }
    }
    case 'deleted':
      return { status: 200, revision: outcome.revision, deleted: outcome.deleted, ...replayed }
    case 'incremented': {
      const { value, revision } = outcome
      return { status: 200, value: carriedCount(form, value), revision, ...replayed }
    }
    case 'touched':
      return { status: 200, ...expiry(outcome.expires), ...replayed }
    default:
      return outcome satisfies never
  }
}

/** A failure of an operation of a batch: its problem. A get or head says besides that it found nothing. */
export function failedAnswer(error: TrivetError, options: { readonly replayed?: true } = {}): BatchResult {
  return {
    ...problemOf(error),
    ...(error.code === 'no-such-key' ? ({ found: false } as const) : {}),
    ...options,
  }
}

/** What one operation of a transaction came to. */
export function resultAnswer(
  result: OperationResult,
  form: BodyForm,
): TransactionAnswer<Form>['results'][number] {
  switch (result.type) {
    case 'get':
    case 'head':
      return result.item === undefined ? { found: false } : foundAnswer(result.item, form)
    case 'recalled':
      return result.found ? { found: true, revision: result.revision } : { found: false }
    case 'exists':
      return { exists: result.exists }
    case 'set':
      return { revision: result.revision, created: result.created, changed: result.changed }
    case 'deleted':
    case 'rangeDeleted':
      return { deleted: result.deleted }
    case 'incremented':
      return { value: carriedCount(form, result.value) }
    case 'touched':
      return expiry(result.expires)
    default:
      return result satisfies never
  }
}
