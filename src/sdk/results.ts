// What operations come to, read alike from an answer of their own, from a batch and from a transaction.

import { type Deleted, defaultContentType, headers as fieldNames, type Written } from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import {
  boolean,
  type Fields,
  list,
  number,
  read,
  readDelete,
  readRevision,
  readSet,
  string,
} from './answers.ts'
import type {
  Incremented,
  Listed,
  OperationResult,
  RangeDeleted,
  Touched,
  Transacted,
  Transaction,
} from './backend.ts'
import type { Operation } from './operations.ts'
import type { Bytes, Entry } from './types.ts'
import type { Answer } from './verdict.ts'

/** Of a get: undefined where a batch says that there is none. */
export function readEntry(key: string, answer: Answer): Entry | undefined {
  if (answer.result !== undefined) return read(answer, false, (result) => entryOf(key, result))
  const expires = answer.headers.get(fieldNames.expires)
  return {
    key,
    value: answer.body,
    revision: readRevision(answer),
    contentType: answer.headers.get('Content-Type') ?? defaultContentType,
    ...(expires === null ? {} : { expires: new Date(expires) }),
  }
}

export function readExists(answer: Answer): boolean {
  if (answer.result !== undefined) return read(answer, false, (result) => boolean(result, 'exists'))
  readRevision(answer)
  return true
}

export function readWritten(answer: Answer): Written {
  return readSet(answer)
}

export function readDeleted(answer: Answer): Deleted {
  return readDelete(answer)
}

export function readIncremented(answer: Answer): Incremented {
  return read(answer, true, (body) => ({ revision: number(body, 'revision'), value: integer(body, 'value') }))
}

export function readTouched(answer: Answer): Touched {
  return read(answer, true, expiryOf)
}

export function readRangeDeleted(answer: Answer): RangeDeleted {
  return read(answer, true, (body) => ({
    revision: number(body, 'revision'),
    deleted: number(body, 'deleted'),
  }))
}

/** `writes`: whether what cannot be read leaves a write in doubt. */
export function readTransacted(
  answer: Answer,
  transaction: Transaction,
  { writes }: { readonly writes: boolean },
): Transacted {
  const transacted = read(answer, writes, (body) => {
    const succeeded = boolean(body, 'succeeded')
    const operations = succeeded ? transaction.onSuccess : transaction.onFailure
    const results = list(body, 'results')
    if (results.length !== operations.length)
      throw new Error(`${operations.length} operations have ${results.length} results`)
    return {
      succeeded,
      revision: number(body, 'revision'),
      results: operations.map((operation, index) => {
        const result = results[index] ?? {}
        return isLost(operation, result) ? undefined : resultOf(operation, result)
      }),
    }
  })
  const results = transacted.results.filter((result) => result !== undefined)
  if (results.length === transacted.results.length) return { ...transacted, results }
  throw new TrivetError(
    'outcome-unknown',
    'The transaction was carried out, but what it read was lost with its first answer',
  )
}

/** Values that were read are not remembered for a repeat. */
function isLost({ op }: Operation, result: Fields): boolean {
  return op === 'get' && result['found'] === true && result['value'] === undefined
}

function resultOf(operation: Operation, result: Fields): OperationResult {
  const { op } = operation
  switch (op) {
    case 'get':
      return { op, entry: entryOf(operation.key, result) }
    case 'exists':
      return { op, exists: boolean(result, 'exists') }
    case 'set':
      return { op, created: boolean(result, 'created'), changed: boolean(result, 'changed') }
    case 'delete':
      return { op, deleted: boolean(result, 'deleted') }
    case 'increment':
      return { op, value: integer(result, 'value') }
    case 'touch':
      return { op, ...expiryOf(result) }
    case 'deletePrefix':
      return { op, deleted: number(result, 'deleted') }
    default:
      return operation satisfies never
  }
}

/** A line of a streamed listing, and of its last line what ended it. */
export type Line =
  | { readonly type: 'row'; readonly row: Listed }
  | { readonly type: 'end'; readonly count: number }
  | { readonly type: 'error'; readonly problem: Fields }

/** Throws for what is none. */
export function readLine(text: string): Line {
  const parsed: unknown = JSON.parse(text)
  if (typeof parsed !== 'object' || parsed === null) throw new Error('a line of the listing is no object')
  const line: Fields = { ...parsed }
  if (line['end'] === true) return { type: 'end', count: number(line, 'count') }
  const { error } = line
  if (typeof error === 'object' && error !== null) return { type: 'error', problem: { ...error } }
  const { value } = line
  return {
    type: 'row',
    row: {
      key: string(line, 'key'),
      revision: number(line, 'revision'),
      contentType: string(line, 'contentType'),
      ...expiryOf(line),
      ...(value === undefined ? {} : { value: fromBase64(string(line, 'value')) }),
    },
  }
}

function entryOf(key: string, result: Fields): Entry | undefined {
  if (!boolean(result, 'found')) return undefined
  return {
    key,
    value: bytes(result, 'value'),
    revision: number(result, 'revision'),
    contentType: string(result, 'contentType'),
    ...expiryOf(result),
  }
}

export function expiryOf(from: Fields): { readonly expires?: Date } {
  const { expires } = from
  if (expires === undefined || expires === null) return {}
  const date = new Date(string(from, 'expires'))
  if (Number.isNaN(date.getTime())) throw new Error('expires should be a time')
  return { expires: date }
}

/** A 64-bit integer: as a number, native or, in JSON, as decimal text. */
function integer(from: Fields, name: string): bigint {
  const value = from[name]
  if (typeof value === 'bigint') return value
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value)
  if (typeof value === 'string' && /^-?\d{1,19}$/.test(value)) return BigInt(value)
  throw new Error(`${name} should be an integer`)
}

/** A copy, because what MessagePack gives looks into the whole answer. */
function bytes(from: Fields, name: string): Bytes {
  const value = from[name]
  if (value instanceof Uint8Array) return new Uint8Array(value)
  if (typeof value === 'string') return fromBase64(value)
  throw new Error(`${name} should be bytes`)
}

/** Throws for what is none. */
export function fromBase64(text: string): Bytes {
  const binary = atob(text)
  const made = new Uint8Array(binary.length)
  for (let index = 0; index < binary.length; index += 1) made[index] = binary.charCodeAt(index)
  return made
}
