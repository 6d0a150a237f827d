// Operations on keys as they travel in batches and transactions, made and checked here.

import { defaultContentType } from '../api/protocol.ts'
import { formatDuration } from '../duration.ts'
import { TrivetError } from '../errors.ts'
import { toMilliseconds } from './duration.ts'
import { checkStoreName } from './paths.ts'
import type { Bytes, SetOptions, Ttl, Value } from './types.ts'

type Place = { readonly store: string; readonly key: string }

/** What must hold of the key for a write of its own to happen; in a transaction `if` says it instead. */
export type Conditions = { readonly ifRevision?: number; readonly ifAbsent?: true }

export type GetOperation = Place & { readonly op: 'get' }
export type ExistsOperation = Place & { readonly op: 'exists' }
export type SetOperation = Place & {
  readonly op: 'set'
  readonly value: Bytes
  readonly contentType: string
  readonly ttl?: string
}
export type DeleteOperation = Place & { readonly op: 'delete' }
export type IncrementOperation = Place & {
  readonly op: 'increment'
  readonly delta: bigint
  readonly ttl?: string
}
export type TouchOperation = Place & { readonly op: 'touch'; readonly ttl: string }
export type DeletePrefixOperation = {
  readonly op: 'deletePrefix'
  readonly store: string
  readonly prefix: string
}

/** What may stand in a transaction. */
export type Operation =
  | GetOperation
  | ExistsOperation
  | SetOperation
  | DeleteOperation
  | IncrementOperation
  | TouchOperation
  | DeletePrefixOperation

/** What may be sent by itself, or together with others that know nothing of it. */
export type SingleOperation = Exclude<Operation, DeletePrefixOperation> & Conditions

/** What a transaction asks before it decides which of its two lists to carry out. */
export type TransactionCondition = Place &
  ({ readonly revision: number } | { readonly exists: boolean } | { readonly value: Bytes })

/** A store by its name, or by an open handle. */
export type StoreName = string | { readonly name: string }

/**
 * The operations of a transaction.
 *
 * ```ts
 * await client.transaction().onSuccess(op.set('carts', 'c1', 'full'), op.increment('carts', 'count')).commit()
 * ```
 */
export const op = {
  get: (store: StoreName, key: string): GetOperation => ({ op: 'get', ...placeOf(store, key) }),
  exists: (store: StoreName, key: string): ExistsOperation => ({ op: 'exists', ...placeOf(store, key) }),
  set: (
    store: StoreName,
    key: string,
    value: Value,
    options: Pick<SetOptions, 'contentType' | 'ttl'> = {},
  ): SetOperation => {
    const contentType =
      options.contentType ?? (typeof value === 'string' ? 'text/plain; charset=utf-8' : defaultContentType)
    return {
      op: 'set',
      ...placeOf(store, key),
      value: copyOf(value),
      contentType: checkContentType(contentType),
      ...ttlOf(options.ttl),
    }
  },
  /** Stores `JSON.stringify(value)` as `application/json`. */
  setJson: (
    store: StoreName,
    key: string,
    value: unknown,
    options: Pick<SetOptions, 'ttl'> = {},
  ): SetOperation =>
    op.set(store, key, jsonText(key, value), { ...options, contentType: 'application/json' }),
  delete: (store: StoreName, key: string): DeleteOperation => ({ op: 'delete', ...placeOf(store, key) }),
  /** `ttl` holds only where it creates the key. */
  increment: (
    store: StoreName,
    key: string,
    delta: number | bigint = 1,
    options: Pick<SetOptions, 'ttl'> = {},
  ): IncrementOperation => ({
    op: 'increment',
    ...placeOf(store, key),
    delta: toDelta(delta),
    ...ttlOf(options.ttl),
  }),
  touch: (store: StoreName, key: string, { ttl }: { readonly ttl: Ttl }): TouchOperation => ({
    op: 'touch',
    ...placeOf(store, key),
    ttl: ttlText(ttl),
  }),
  /** Every key that begins with the prefix, which is not empty. */
  deletePrefix: (store: StoreName, prefix: string): DeletePrefixOperation => {
    if (prefix !== '')
      return { op: 'deletePrefix', store: nameOf(store), prefix: wellFormed(prefix, 'prefix') }
    throw new TrivetError('invalid-request', 'The prefix of a range in a transaction is not empty', {
      field: 'prefix',
    })
  },
} as const

/** The conditions of a transaction: all of those given must hold. */
export const check = {
  /** 0: the key is missing. */
  revision: (store: StoreName, key: string, revision: number): TransactionCondition => ({
    ...placeOf(store, key),
    revision: revision === 0 ? 0 : checkRevision(revision, 'revision'),
  }),
  exists: (store: StoreName, key: string): TransactionCondition => ({ ...placeOf(store, key), exists: true }),
  absent: (store: StoreName, key: string): TransactionCondition => ({
    ...placeOf(store, key),
    exists: false,
  }),
  /** The very same bytes, of whatever type. */
  value: (store: StoreName, key: string, value: Value): TransactionCondition => ({
    ...placeOf(store, key),
    value: copyOf(value),
  }),
} as const

/** Throws `invalid-request` for two that exclude each other, or a revision that is none. */
export function conditionsOf({
  ifRevision,
  ifAbsent,
}: Pick<SetOptions, 'ifRevision' | 'ifAbsent'>): Conditions {
  if (ifRevision === undefined) return ifAbsent === true ? { ifAbsent } : {}
  if (ifAbsent === true) {
    throw new TrivetError('invalid-request', 'ifRevision and ifAbsent exclude each other', {
      field: 'ifAbsent',
    })
  }
  return { ifRevision: checkRevision(ifRevision, 'ifRevision') }
}

export function checkRevision(revision: number, field: string): number {
  if (Number.isSafeInteger(revision) && revision > 0) return revision
  throw new TrivetError('invalid-request', `${field} must be a positive integer; it is ${revision}`, {
    field,
  })
}

export function jsonText(key: string, value: unknown): string {
  const text: string | undefined = JSON.stringify(value)
  if (text === undefined) throw new TypeError(`JSON has no text for this value of ${JSON.stringify(key)}`)
  return text
}

/** The text, when it has a form in UTF-8. */
export function wellFormed(text: string, field: string): string {
  if (text.isWellFormed()) return text
  throw new TrivetError(
    'invalid-request',
    `The ${field} holds half of a surrogate pair, which has no UTF-8 form`,
    { field },
  )
}

export function ttlText(ttl: Ttl): string {
  if (ttl === 'none') return ttl
  const milliseconds = toMilliseconds(ttl, 'ttl')
  if (Number.isInteger(milliseconds)) return formatDuration(milliseconds)
  throw new TrivetError('invalid-request', `ttl must be whole milliseconds; it is ${milliseconds}`, {
    field: 'ttl',
  })
}

function ttlOf(ttl: Ttl | undefined): { readonly ttl?: string } {
  return ttl === undefined ? {} : { ttl: ttlText(ttl) }
}

function placeOf(store: StoreName, key: string): Place {
  return { store: nameOf(store), key: checkKey(key) }
}

function nameOf(store: StoreName): string {
  return checkStoreName(typeof store === 'string' ? store : store.name)
}

function checkKey(key: string): string {
  if (key === '') throw new TrivetError('invalid-key', 'A key has at least one byte', { field: 'key' })
  if (key.isWellFormed()) return key
  throw new TrivetError('invalid-key', 'The key holds half of a surrogate pair, which has no UTF-8 form', {
    field: 'key',
  })
}

/** A copy, so that what the caller does with its buffer meanwhile is not what another try sends. */
function copyOf(value: Value): Bytes {
  if (typeof value === 'string') return new TextEncoder().encode(value)
  if (value instanceof ArrayBuffer) return new Uint8Array(value.slice(0))
  if (value instanceof Uint8Array) return new Uint8Array(value)
  throw new TypeError('A value is a string, a Uint8Array or an ArrayBuffer')
}

function toDelta(delta: number | bigint): bigint {
  if (typeof delta === 'number' && !Number.isSafeInteger(delta)) {
    throw new TrivetError(
      'invalid-request',
      `delta must be a whole number, as a bigint beyond 2^53; it is ${delta}`,
      { field: 'delta' },
    )
  }
  const whole = BigInt(delta)
  if (BigInt.asIntN(64, whole) === whole) return whole
  throw new TrivetError('invalid-request', `delta must fit into 64 bits, signed; it is ${delta}`, {
    field: 'delta',
  })
}

function checkContentType(contentType: string): string {
  if (/^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/.test(contentType)) return contentType
  throw new TrivetError(
    'invalid-request',
    'contentType must be a media type in printable ASCII, at most 255 bytes',
    { field: 'contentType' },
  )
}
