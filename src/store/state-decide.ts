// What a write of one key comes to: a pure function of the write and what the state holds for it, equal on every member.

import assert from 'node:assert/strict'
import type { ErrorCode } from '../errors.ts'
import { permits } from './grants.ts'
import { asBuffer, type StoredRecord } from './record.ts'
import { lastExpiry } from './state-rows.ts'
import type {
  Condition,
  KeyCommand,
  Operation,
  OperationResult,
  Outcome,
  StoreDefinition,
  Token,
  Ttl,
  Until,
} from './types.ts'

/** The longest key, in bytes. */
export const maxKeyBytes = 4096

/** The longest text of a signed 64-bit number, in bytes. */
export const maxNumberBytes = 20

/** A record as a write finds it; its value is undefined where it was too large to be read. */
export type Present = Omit<StoredRecord, 'value'> & { readonly value: Uint8Array | undefined }

/** A write of one key, alone or in a transaction. */
export type KeyWrite = Extract<Operation, { type: 'set' | 'delete' | 'increment' | 'touch' }>

/** All of the state that a write is judged by. */
export type Circumstances = {
  readonly store: StoreDefinition
  /** The largest value the cluster takes, in bytes. */
  readonly valueBytes: number
  /** What stands under its key. */
  readonly present: Present | undefined
  /** The revision it gets if it is carried out. */
  readonly revision: number
  /** The stamp of its entry, in milliseconds since the epoch. */
  readonly time: number
}

export type Refusal = { readonly type: 'refused'; readonly code: ErrorCode; readonly limit?: number }

/** What is to happen: `put` replaces the record under the key, `remove` takes it away, `nothing` leaves all as it is. */
export type Decision =
  | { readonly type: 'put'; readonly result: OperationResult; readonly record: StoredRecord }
  | { readonly type: 'remove' | 'nothing'; readonly result: OperationResult }
  | Refusal

/**
 * Why a single write is refused, in the contract's order: 401, 403, 404, 400, 413, 412. Undefined for one that is to be
 * decided.
 */
export function refuse(
  command: KeyCommand,
  circumstances: { readonly token: Token | undefined; readonly store: StoreDefinition | undefined } & Pick<
    Circumstances,
    'valueBytes' | 'present'
  >,
): Outcome | undefined {
  const { token, store, valueBytes, present } = circumstances
  if (token === undefined) return { type: 'refused', code: 'unauthenticated' }
  const target = { store: command.store, access: 'read-write', within: command.key } as const
  if (!permits(token.principal, target)) return { type: 'refused', code: 'access-denied' }
  if (store === undefined) return { type: 'refused', code: 'no-such-store' }
  const invalid = refuseContent(command, { store, valueBytes })
  if (invalid !== undefined) return invalid
  if (!command.conditions.every((condition) => holds(condition, present))) {
    return { type: 'refused', code: 'condition-failed', revision: present?.revision ?? 0 }
  }
  return undefined
}

/** Whether what a write brings can stand in a store, whatever stands there now. */
export function refuseContent(
  operation: Exclude<Operation, { type: 'deletePrefix' }>,
  { store, valueBytes }: Pick<Circumstances, 'store' | 'valueBytes'>,
): Refusal | undefined {
  if (operation.key.length === 0 || operation.key.length > maxKeyBytes) {
    return { type: 'refused', code: 'invalid-key', limit: maxKeyBytes }
  }
  if (operation.type !== 'set') return undefined
  // The surfaces check it too. Here it holds however the command came in: one bad type would break every later read.
  if (!isContentType(operation.contentType)) return { type: 'refused', code: 'invalid-request' }
  return refuseSize(operation.value, { store, valueBytes })
}

function refuseSize(
  value: Uint8Array,
  { store, valueBytes }: Pick<Circumstances, 'store' | 'valueBytes'>,
): Refusal | undefined {
  const limit = store.maxValueBytes ?? valueBytes
  return value.length > limit ? { type: 'refused', code: 'value-too-large', limit } : undefined
}

/** Total: every write comes to something. A record to `put` refers to the write's value and does not copy it. */
export function decide(write: KeyWrite, circumstances: Circumstances): Decision {
  const { present, revision, time, store } = circumstances
  switch (write.type) {
    case 'set': {
      const { value, contentType, ttl } = write
      const created = present === undefined
      const changed = created || present.contentType !== contentType || !sameBytes(present.value, value)
      const record: StoredRecord = {
        value,
        contentType,
        revision,
        createdRevision: created ? revision : present.createdRevision,
        // The whole record is replaced, its time to live with it.
        expires: expiresOf(ttl ?? store.ttl, time),
      }
      return { type: 'put', result: { type: 'set', revision, created, changed }, record }
    }
    case 'delete': {
      const deleted = present !== undefined
      return { type: deleted ? 'remove' : 'nothing', result: { type: 'deleted', deleted } }
    }
    case 'increment':
      return increment(write, circumstances)
    case 'touch': {
      if (present === undefined) return { type: 'refused', code: 'no-such-key' }
      const { value } = present
      if (value === undefined) return { type: 'refused', code: 'result-too-large' }
      const expires = expiresOf(write.ttl, time)
      const result = { type: 'touched', ...(expires === undefined ? {} : { expires }) } as const
      return expires === present.expires
        ? { type: 'nothing', result }
        : { type: 'put', result, record: { ...fieldsOf(present), value, expires } }
    }
    default:
      throw new assert.AssertionError({ message: `No meaning for write ${write satisfies never}` })
  }
}

function increment(write: Extract<KeyWrite, { type: 'increment' }>, circumstances: Circumstances): Decision {
  const { present, revision, time, store } = circumstances
  const before = present === undefined ? 0n : numberIn(present.value)
  if (before === undefined) return { type: 'refused', code: 'not-a-number' }
  const sum = before + write.delta
  if (BigInt.asIntN(64, sum) !== sum) return { type: 'refused', code: 'overflow' }
  const value = Buffer.from(String(sum))
  const tooLarge = refuseSize(value, circumstances)
  if (tooLarge !== undefined) return tooLarge
  const record: StoredRecord =
    present === undefined
      ? {
          value,
          contentType: 'text/plain',
          revision,
          createdRevision: revision,
          expires: expiresOf(write.ttl ?? store.ttl, time),
        }
      : { ...fieldsOf(present), value, revision }
  return { type: 'put', result: { type: 'incremented', value: sum }, record }
}

/** Undefined for bytes that are no signed 64-bit number in decimal. */
function numberIn(bytes: Uint8Array | undefined): bigint | undefined {
  if (bytes === undefined || bytes.length > maxNumberBytes) return undefined
  const text = asBuffer(bytes).toString('latin1')
  if (!/^-?\d{1,19}$/.test(text)) return undefined
  const number = BigInt(text)
  return BigInt.asIntN(64, number) === number ? number : undefined
}

function fieldsOf({ contentType, revision, createdRevision, expires }: Present): Omit<StoredRecord, 'value'> {
  return { contentType, revision, createdRevision, expires }
}

function expiresOf(ttl: Ttl | Until | undefined, time: number): number | undefined {
  if (typeof ttl === 'object') return Math.min(ttl.until, lastExpiry)
  return ttl === undefined || ttl === 'none' ? undefined : Math.min(time + ttl, lastExpiry)
}

function holds(condition: Condition, present: Present | undefined): boolean {
  switch (condition.type) {
    case 'exists':
      return present !== undefined
    case 'absent':
      return present === undefined
    case 'revision':
      return present !== undefined && condition.revisions.includes(present.revision)
    default:
      throw new assert.AssertionError({ message: `Unknown condition ${condition satisfies never}` })
  }
}

/** 1 to 255 characters of printable ASCII: what a record can hold and a header can carry. */
export function isContentType(text: string): boolean {
  return text.length <= 255 && /^[\x20-\x7e]+$/.test(text)
}

/** A value that was too large to be read is another one than any that is written. */
export function sameBytes(left: Uint8Array | undefined, right: Uint8Array): boolean {
  return left !== undefined && asBuffer(left).equals(right)
}
