// Outcomes as bytes: one form for every row that remembers what a command came to.

import assert from 'node:assert/strict'
import { isErrorCode } from '../errors.ts'
import { type Outcome, refusedFields } from './types.ts'

// kind u8, revision u48; a refusal goes on with code length u8, code, limit u48 and, where its kind says so, field
// length u8, field. The kind has its type in the low bits and its flags above.
const kinds = { set: 1, deleted: 2, refused: 3, sessionOpened: 4 } as const
const kindMask = 15
const flags = {
  created: 16,
  changed: 32,
  deleted: 16,
  revision: 16,
  limit: 32,
  field: 64,
  replayed: 128,
} as const

/** How many bytes `writeOutcome` writes. */
export function outcomeSize(outcome: Outcome): number {
  if (outcome.type !== 'refused') return 7
  const { code, field } = outcome
  return 14 + code.length + (field === undefined ? 0 : 1 + field.length)
}

/** Returns where it ends. */
export function writeOutcome(row: Buffer, outcome: Outcome, start: number): number {
  let at = row.writeUInt8(kindOf(outcome), start)
  at = row.writeUIntBE(('revision' in outcome ? outcome.revision : undefined) ?? 0, at, 6)
  if (outcome.type !== 'refused') return at
  const { code, limit, field } = outcome
  at = row.writeUInt8(code.length, at)
  at += row.write(code, at, 'latin1')
  at = row.writeUIntBE(limit ?? 0, at, 6)
  if (field === undefined) return at
  at = row.writeUInt8(field.length, at)
  return at + row.write(field, at, 'latin1')
}

function kindOf(outcome: Outcome): number {
  const replayed = outcome.replayed === true ? flags.replayed : 0
  switch (outcome.type) {
    case 'set':
      return (
        kinds.set | (outcome.created ? flags.created : 0) | (outcome.changed ? flags.changed : 0) | replayed
      )
    case 'deleted':
      return kinds.deleted | (outcome.deleted ? flags.deleted : 0) | replayed
    case 'sessionOpened':
      return kinds.sessionOpened | replayed
    case 'refused':
      return (
        kinds.refused |
        (outcome.revision === undefined ? 0 : flags.revision) |
        (outcome.limit === undefined ? 0 : flags.limit) |
        (outcome.field === undefined ? 0 : flags.field) |
        replayed
      )
    default:
      throw new assert.AssertionError({ message: `No encoding for outcome ${outcome satisfies never}` })
  }
}

/** The outcome that begins at `start` of a sealed row, and where it ends. */
export function readOutcome(row: Buffer, start: number): { readonly outcome: Outcome; readonly end: number } {
  const kind = row.readUInt8(start)
  const revision = row.readUIntBE(start + 1, 6)
  const end = start + 7
  const has = (flag: number): boolean => (kind & flag) !== 0
  const replayed = has(flags.replayed) ? ({ replayed: true } as const) : {}
  switch (kind & kindMask) {
    case kinds.set: {
      const created = has(flags.created)
      return { outcome: { type: 'set', revision, created, changed: has(flags.changed), ...replayed }, end }
    }
    case kinds.deleted:
      return { outcome: { type: 'deleted', revision, deleted: has(flags.deleted), ...replayed }, end }
    case kinds.sessionOpened:
      return { outcome: { type: 'sessionOpened', ...replayed }, end }
    default: {
      assert((kind & kindMask) === kinds.refused, 'A sealed outcome is one this build wrote')
      const code = readText(row, end)
      assert(isErrorCode(code.text), 'A sealed refusal has a code this build knows')
      const limit = row.readUIntBE(code.end, 6)
      const rest = has(flags.field) ? readText(row, code.end + 6) : { text: undefined, end: code.end + 6 }
      const field = refusedFields.find((one) => one === rest.text)
      assert(field === rest.text, 'A sealed refusal has a field this build knows')
      const outcome: Outcome = {
        type: 'refused',
        code: code.text,
        ...(has(flags.revision) ? { revision } : {}),
        ...(has(flags.limit) ? { limit } : {}),
        ...(field === undefined ? {} : { field }),
        ...replayed,
      }
      return { outcome, end: rest.end }
    }
  }
}

function readText(row: Buffer, at: number): { readonly text: string; readonly end: number } {
  const end = at + 1 + row.readUInt8(at)
  return { text: row.toString('latin1', at + 1, end), end }
}
