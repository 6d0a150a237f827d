// Outcomes as bytes: one form for every row that remembers what a command came to.

import assert from 'node:assert/strict'
import { isErrorCode } from '../errors.ts'
import { type OperationResult, type Outcome, refusedFields } from './types.ts'

// kind u8, flags u8, revision u48; then, as kind and flags say:
//   refused       code length u8, code, limit u48 | field length u8, field | index u16
//   incremented   value i64
//   touched       expires u48, 0 for never; tokenRotated the same, 0 for gone
//   rangeDeleted  count u32
//   transaction   results u16, result...
// A result is kind u8, flags u8 and what the outcome of its kind has, but no revision of its own: `recalled` has one.
const kinds = {
  set: 1,
  deleted: 2,
  refused: 3,
  sessionOpened: 4,
  incremented: 5,
  touched: 6,
  rangeDeleted: 7,
  transaction: 8,
  storeCreated: 9,
  storeDropped: 10,
  tokenMinted: 11,
  tokenRevoked: 12,
  tokenRotated: 13,
  appRemoved: 14,
  done: 15,
  restored: 16,
} as const satisfies Record<Outcome['type'], number>

const bareTypes = new Map(
  (
    [
      'sessionOpened',
      'storeCreated',
      'storeDropped',
      'tokenMinted',
      'tokenRevoked',
      'appRemoved',
      'done',
    ] as const
  ).map((type) => [kinds[type] as number, type]),
)

const resultKinds = { exists: 32, recalled: 33 } as const

const flags = {
  replayed: 1,
  /** Of a set. */
  created: 2,
  changed: 4,
  /** A key was deleted, exists, or was found; a transaction took `then`. */
  yes: 2,
  /** What a refusal has. */
  revision: 2,
  limit: 4,
  field: 8,
  index: 16,
} as const

/**
 * The outcome as it is remembered: without the items that a transaction returned, and said to be a replay where that
 * leaves something out.
 */
export function rememberedForm(outcome: Outcome): Outcome {
  if (outcome.type !== 'transaction') return outcome
  const { results } = outcome
  if (!results.some(({ type }) => type === 'get' || type === 'head')) return outcome
  return { ...outcome, results: results.map(withoutItem), replayed: true }
}

function withoutItem(result: OperationResult): OperationResult {
  if (result.type !== 'get' && result.type !== 'head') return result
  return { type: 'recalled', found: result.item !== undefined, revision: result.item?.revision ?? 0 }
}

const headSize = 8

/** How many bytes `writeOutcome` writes. */
export function outcomeSize(outcome: Outcome): number {
  switch (outcome.type) {
    case 'refused': {
      const { code, field, index } = outcome
      return (
        headSize +
        7 +
        code.length +
        (field === undefined ? 0 : 1 + field.length) +
        (index === undefined ? 0 : 2)
      )
    }
    case 'incremented':
      return headSize + 8
    case 'touched':
    case 'tokenRotated':
      return headSize + 6
    case 'rangeDeleted':
      return headSize + 4
    case 'transaction':
      return outcome.results.reduce((size, result) => size + resultSize(result), headSize + 2)
    default:
      return headSize
  }
}

function resultSize(result: OperationResult): number {
  switch (result.type) {
    case 'exists':
    case 'set':
    case 'deleted':
      return 2
    case 'incremented':
      return 10
    case 'touched':
    case 'recalled':
      return 8
    case 'rangeDeleted':
      return 6
    case 'get':
    case 'head':
      throw new assert.AssertionError({ message: 'Items are not remembered' })
    default:
      throw new assert.AssertionError({ message: `No encoding for result ${result satisfies never}` })
  }
}

/** Writes an outcome in its `rememberedForm`. Returns where it ends. */
export function writeOutcome(row: Buffer, outcome: Outcome, start: number): number {
  let at = row.writeUInt8(kinds[outcome.type], start)
  at = row.writeUInt8(flagsOf(outcome), at)
  at = row.writeUIntBE(('revision' in outcome ? outcome.revision : undefined) ?? 0, at, 6)
  switch (outcome.type) {
    case 'refused':
      return writeRefusal(row, outcome, at)
    case 'incremented':
      return row.writeBigInt64BE(outcome.value, at)
    case 'touched':
    case 'tokenRotated':
      return row.writeUIntBE(outcome.expires ?? 0, at, 6)
    case 'rangeDeleted':
      return row.writeUInt32BE(outcome.deleted, at)
    case 'transaction':
      at = row.writeUInt16BE(outcome.results.length, at)
      for (const result of outcome.results) at = writeResult(row, result, at)
      return at
    default:
      return at
  }
}

function flagsOf(outcome: Outcome): number {
  const replayed = outcome.replayed === true ? flags.replayed : 0
  switch (outcome.type) {
    case 'set':
      return replayed | setFlags(outcome)
    case 'deleted':
      return replayed | (outcome.deleted ? flags.yes : 0)
    case 'transaction':
      return replayed | (outcome.succeeded ? flags.yes : 0)
    case 'refused':
      return (
        replayed |
        (outcome.revision === undefined ? 0 : flags.revision) |
        (outcome.limit === undefined ? 0 : flags.limit) |
        (outcome.field === undefined ? 0 : flags.field) |
        (outcome.index === undefined ? 0 : flags.index)
      )
    default:
      return replayed
  }
}

function setFlags({ created, changed }: { readonly created: boolean; readonly changed: boolean }): number {
  return (created ? flags.created : 0) | (changed ? flags.changed : 0)
}

type Refusal = Extract<Outcome, { type: 'refused' }>

function writeRefusal(row: Buffer, { code, limit, field, index }: Refusal, start: number): number {
  let at = row.writeUInt8(code.length, start)
  at += row.write(code, at, 'latin1')
  at = row.writeUIntBE(limit ?? 0, at, 6)
  if (field !== undefined) {
    at = row.writeUInt8(field.length, at)
    at += row.write(field, at, 'latin1')
  }
  return index === undefined ? at : row.writeUInt16BE(index, at)
}

function writeResult(row: Buffer, result: OperationResult, start: number): number {
  const head = (kind: number, flag: number): number => row.writeUInt8(flag, row.writeUInt8(kind, start))
  switch (result.type) {
    case 'exists':
      return head(resultKinds.exists, result.exists ? flags.yes : 0)
    case 'set':
      return head(kinds.set, setFlags(result))
    case 'deleted':
      return head(kinds.deleted, result.deleted ? flags.yes : 0)
    case 'incremented':
      return row.writeBigInt64BE(result.value, head(kinds.incremented, 0))
    case 'touched':
      return row.writeUIntBE(result.expires ?? 0, head(kinds.touched, 0), 6)
    case 'rangeDeleted':
      return row.writeUInt32BE(result.deleted, head(kinds.rangeDeleted, 0))
    case 'recalled':
      return row.writeUIntBE(result.revision, head(resultKinds.recalled, result.found ? flags.yes : 0), 6)
    case 'get':
    case 'head':
      throw new assert.AssertionError({ message: 'Items are not remembered' })
    default:
      throw new assert.AssertionError({ message: `No encoding for result ${result satisfies never}` })
  }
}

type Read<Value> = { readonly value: Value; readonly end: number }

/** The outcome that begins at `start` of a sealed row, and where it ends. */
export function readOutcome(row: Buffer, start: number): { readonly outcome: Outcome; readonly end: number } {
  const flagged = row.readUInt8(start + 1)
  const { value, end } = readDecided(row, start)
  return { outcome: (flagged & flags.replayed) === 0 ? value : { ...value, replayed: true }, end }
}

function readDecided(row: Buffer, start: number): Read<Outcome> {
  const kind = row.readUInt8(start)
  const flagged = row.readUInt8(start + 1)
  const revision = row.readUIntBE(start + 2, 6)
  const end = start + headSize
  const bare = bareTypes.get(kind)
  if (bare !== undefined) return { value: { type: bare }, end }
  const has = (flag: number): boolean => (flagged & flag) !== 0
  switch (kind) {
    case kinds.set:
      return {
        value: { type: 'set', revision, created: has(flags.created), changed: has(flags.changed) },
        end,
      }
    case kinds.deleted:
      return { value: { type: 'deleted', revision, deleted: has(flags.yes) }, end }
    case kinds.incremented:
      return { value: { type: 'incremented', revision, value: row.readBigInt64BE(end) }, end: end + 8 }
    case kinds.touched:
      return { value: { type: 'touched', ...readExpires(row, end) }, end: end + 6 }
    case kinds.tokenRotated:
      return { value: { type: 'tokenRotated', ...readExpires(row, end) }, end: end + 6 }
    case kinds.rangeDeleted:
      return { value: { type: 'rangeDeleted', revision, deleted: row.readUInt32BE(end) }, end: end + 4 }
    case kinds.transaction: {
      const { value: results, end: after } = readResults(row, { start: end, revision })
      return { value: { type: 'transaction', revision, succeeded: has(flags.yes), results }, end: after }
    }
    case kinds.restored:
      return { value: { type: 'restored', revision }, end }
    default:
      assert(kind === kinds.refused, 'A sealed outcome is one this build wrote')
      return readRefusal(row, end, { has, revision })
  }
}

function readExpires(row: Buffer, at: number): { readonly expires?: number } {
  const expires = row.readUIntBE(at, 6)
  return expires === 0 ? {} : { expires }
}

function readRefusal(
  row: Buffer,
  start: number,
  { has, revision }: { readonly has: (flag: number) => boolean; readonly revision: number },
): Read<Outcome> {
  const { value: code, end } = readText(row, start)
  assert(isErrorCode(code), 'A sealed refusal has a code this build knows')
  const limit = row.readUIntBE(end, 6)
  const rest = has(flags.field) ? readText(row, end + 6) : { value: undefined, end: end + 6 }
  const field = refusedFields.find((one) => one === rest.value)
  assert(field === rest.value, 'A sealed refusal has a field this build knows')
  const value: Outcome = {
    type: 'refused',
    code,
    ...(has(flags.revision) ? { revision } : {}),
    ...(has(flags.limit) ? { limit } : {}),
    ...(field === undefined ? {} : { field }),
    ...(has(flags.index) ? { index: row.readUInt16BE(rest.end) } : {}),
  }
  return { value, end: rest.end + (has(flags.index) ? 2 : 0) }
}

function readResults(
  row: Buffer,
  { start, revision }: { readonly start: number; readonly revision: number },
): Read<readonly OperationResult[]> {
  const results: OperationResult[] = []
  let at = start + 2
  for (let left = row.readUInt16BE(start); left > 0; left--) {
    const { value, end } = readResult(row, { start: at, revision })
    results.push(value)
    at = end
  }
  return { value: results, end: at }
}

function readResult(
  row: Buffer,
  { start, revision }: { readonly start: number; readonly revision: number },
): Read<OperationResult> {
  const kind = row.readUInt8(start)
  const flagged = row.readUInt8(start + 1)
  const end = start + 2
  const has = (flag: number): boolean => (flagged & flag) !== 0
  switch (kind) {
    case resultKinds.exists:
      return { value: { type: 'exists', exists: has(flags.yes) }, end }
    case kinds.set:
      return {
        value: { type: 'set', revision, created: has(flags.created), changed: has(flags.changed) },
        end,
      }
    case kinds.deleted:
      return { value: { type: 'deleted', deleted: has(flags.yes) }, end }
    case kinds.incremented:
      return { value: { type: 'incremented', value: row.readBigInt64BE(end) }, end: end + 8 }
    case kinds.touched:
      return { value: { type: 'touched', ...readExpires(row, end) }, end: end + 6 }
    case kinds.rangeDeleted:
      return { value: { type: 'rangeDeleted', deleted: row.readUInt32BE(end) }, end: end + 4 }
    default:
      assert(kind === resultKinds.recalled, 'A sealed result is one this build wrote')
      return {
        value: { type: 'recalled', found: has(flags.yes), revision: row.readUIntBE(end, 6) },
        end: end + 6,
      }
  }
}

function readText(row: Buffer, at: number): Read<string> {
  const end = at + 1 + row.readUInt8(at)
  return { value: row.toString('latin1', at + 1, end), end }
}
