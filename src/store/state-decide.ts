// What a command comes to: a pure function of the command and what the state holds for it, equal on every member.

import assert from 'node:assert/strict'
import { UnknownCommandError } from './commands.ts'
import { permits } from './grants.ts'
import { asBuffer, type StoredRecord } from './record.ts'
import type { Condition, KeyCommand, Outcome, StoreDefinition, Token } from './types.ts'

/** The longest key, in bytes. */
const maxKeyBytes = 4096

/** All of the state that a command is judged by. */
export type Circumstances = {
  /** The token the command came with, if the state has it. */
  readonly token: Token | undefined
  /** The store it names, if the state has it. */
  readonly store: StoreDefinition | undefined
  /** The largest value the cluster takes, in bytes. */
  readonly valueBytes: number
  /** What stands under its key. */
  readonly present: StoredRecord | undefined
  /** The revision it gets if it is carried out. */
  readonly revision: number
  /** The stamp of its entry, in milliseconds since the epoch. */
  readonly time: number
}

/** What is to happen: `put` replaces the record under the key, `remove` takes it away, `nothing` leaves all as it is. */
export type Decision =
  | { readonly type: 'put'; readonly outcome: Outcome; readonly record: StoredRecord }
  | { readonly type: 'remove'; readonly outcome: Outcome }
  | { readonly type: 'nothing'; readonly outcome: Outcome }

/** Total: every command comes to something. A record to `put` refers to the command's value and does not copy it. */
export function decide(command: KeyCommand, circumstances: Circumstances): Decision {
  const refusal = refuse(command, circumstances)
  if (refusal !== undefined) return { type: 'nothing', outcome: refusal }
  const { present, revision, time, store } = circumstances
  switch (command.type) {
    case 'set': {
      const { value, contentType } = command
      const created = present === undefined
      const changed = created || present.contentType !== contentType || !sameBytes(present.value, value)
      const record: StoredRecord = {
        value,
        contentType,
        revision,
        createdRevision: created ? revision : present.createdRevision,
        // The whole record is replaced, its time to live with it.
        expires: store?.ttl === undefined ? undefined : time + store.ttl,
      }
      return { type: 'put', outcome: { type: 'set', revision, created, changed }, record }
    }
    case 'delete': {
      const deleted = present !== undefined
      return { type: deleted ? 'remove' : 'nothing', outcome: { type: 'deleted', revision, deleted } }
    }
    case 'increment':
    case 'touch':
      throw new UnknownCommandError(3, command.type)
    default:
      throw new assert.AssertionError({ message: `No meaning for command ${command satisfies never}` })
  }
}

/** The contract's order of checks: 401, 403, 404, 400, 413, 412. */
function refuse(command: KeyCommand, circumstances: Circumstances): Outcome | undefined {
  const { token, store, valueBytes, present } = circumstances
  if (token === undefined) return { type: 'refused', code: 'unauthenticated' }
  const target = { store: command.store, access: 'read-write', within: command.key } as const
  if (!permits(token.principal, target)) return { type: 'refused', code: 'access-denied' }
  if (store === undefined) return { type: 'refused', code: 'no-such-store' }
  if (command.key.length === 0 || command.key.length > maxKeyBytes) {
    return { type: 'refused', code: 'invalid-key', limit: maxKeyBytes }
  }
  if (command.type === 'set') {
    // The surfaces check it too. Here it holds however the command came in: one bad type would break every later read.
    if (!isContentType(command.contentType)) return { type: 'refused', code: 'invalid-request' }
    const limit = store.maxValueBytes ?? valueBytes
    if (command.value.length > limit) return { type: 'refused', code: 'value-too-large', limit }
  }
  if (!command.conditions.every((condition) => holds(condition, present))) {
    return { type: 'refused', code: 'condition-failed', revision: present?.revision ?? 0 }
  }
  return undefined
}

function holds(condition: Condition, present: StoredRecord | undefined): boolean {
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
function isContentType(text: string): boolean {
  return text.length <= 255 && /^[\x20-\x7e]+$/.test(text)
}

function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return asBuffer(left).equals(right)
}
