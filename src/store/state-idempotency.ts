// Idempotency keys: one write each under a name of the client's own, remembered for ten minutes (`safety.md`, rule 18).

import { hash } from 'node:crypto'
import { statusOf } from '../errors.ts'
import { outcomeSize, readOutcome, writeOutcome } from './outcome-bytes.ts'
import { type Row, rowName } from './overlay.ts'
import { asBuffer, seal, sealSize, unseal } from './record.ts'
import { hashRow, type RowHash } from './row-hash.ts'
import { compareMoments, type Moment, momentSize, readMoment, writeMoment } from './state-moment.ts'
import { idempotencyRowKey } from './state-rows.ts'
import type { Outcome } from './types.ts'

/** The same on every member for ever: a change is a change of what commands mean. */
export const idempotencyBounds = {
  /** How long a key is remembered, in log time. */
  lifeMs: 10 * 60_000,
  /** Keys of one principal at a time: beyond it a new one is refused, and never an old one forgotten early. */
  perPrincipal: 100_000,
} as const

/** The row's key: principal and key as 128 bits of their hash, so that what stays in memory of each is small and equal. */
export function idempotencyKeyRow(principal: string, key: string): Buffer {
  return idempotencyRowKey(hash('sha256', JSON.stringify([principal, key]), 'buffer').subarray(0, 16))
}

/** Whether a decided write is remembered under its key: what was refused as it stands may be sent anew. */
export function isKept(outcome: Outcome): boolean {
  return outcome.type !== 'refused' || [409, 412].includes(statusOf(outcome.code))
}

/** What memory holds of a key: less than 200 bytes. */
type Place = {
  /** Of its row. */
  readonly name: string
  /** Of its row: what it has in the state's digest, so that it can be taken away without being read. */
  readonly hash: RowHash
  readonly principal: string
  readonly moment: Moment
}

/** A row that is to go: its name, and what it has in the state's digest. */
export type GoneRow = Pick<Place, 'name' | 'hash'>

/** What the replicated state holds of a key, in its row. */
type Remembered = {
  readonly moment: Moment
  readonly principal: string
  readonly digest: Uint8Array
  readonly outcome: Outcome
}

/**
 * The order in which idempotency keys end, and how many each principal has. What each came to lies in its row, which is
 * read with the other rows of its command.
 */
export class IdempotencyKeys {
  /** Those that count, in the order in which they end: from `#first` on. */
  #live: Place[] = []
  #first = 0
  #sorted = true
  /** Those that have ended and whose rows still stand, by name, in the order in which they ended. */
  readonly #ended = new Map<string, Place>()
  readonly #counts = new Map<string, number>()

  /** Takes in a row of its table, as stored, in any order; all of them before the first `pass`. */
  load(key: Uint8Array, value: Uint8Array): void {
    const { moment, principal } = decodeIdempotencyKey(key, value)
    this.#add({ name: rowName(asBuffer(key)), hash: hashRow(key, value), principal, moment })
    this.#sorted = false
  }

  /** Log time goes on: what has stood for too long has ended, whenever its row is taken away. */
  pass(time: number): void {
    if (!this.#sorted) this.#live.sort((left, right) => compareMoments(left.moment, right.moment))
    this.#sorted = true
    for (let place = this.#live[this.#first]; place !== undefined; place = this.#live[this.#first]) {
      if (!isOver(place.moment, time)) break
      this.#first += 1
      this.#ended.set(place.name, place)
      const left = this.#countOf(place.principal) - 1
      if (left === 0) this.#counts.delete(place.principal)
      else this.#counts.set(place.principal, left)
    }
    if (this.#first <= this.#live.length / 2) return
    this.#live = this.#live.slice(this.#first)
    this.#first = 0
  }

  /** Takes away at most `limit` keys that have ended, the earliest first. Their rows are to go. */
  collect(limit: number): readonly GoneRow[] {
    const gone: Place[] = []
    for (const place of this.#ended.values()) {
      if (gone.length >= limit) break
      this.#ended.delete(place.name)
      gone.push(place)
    }
    return gone
  }

  /** A write comes: undefined when its key is new, else what it came to or why it is refused. `row` is what stands there. */
  recall(
    key: Buffer,
    row: Uint8Array | undefined,
    asked: { readonly digest: Uint8Array; readonly time: number },
  ): Outcome | undefined {
    const found = row === undefined ? undefined : decodeIdempotencyKey(key, row)
    if (found === undefined || isOver(found.moment, asked.time)) return undefined
    if (!asBuffer(found.digest).equals(asked.digest)) {
      return { type: 'refused', code: 'idempotency-key-reused' }
    }
    return { ...found.outcome, replayed: true }
  }

  /** Why one more key of this principal cannot be remembered; undefined when it can. */
  refuse(principal: string): Outcome | undefined {
    const limit = idempotencyBounds.perPrincipal
    if (this.#countOf(principal) < limit) return undefined
    return { type: 'refused', code: 'overloaded', limit, field: 'idempotency keys of a principal' }
  }

  /** Counts a key in that `recall` called new. Returns its row. */
  remember(key: Buffer, remembered: Remembered): Row {
    const name = rowName(key)
    // The row of one that has ended may still stand there. It is replaced, and no longer to be taken away.
    this.#ended.delete(name)
    const value = encodeKey(key, remembered)
    const { principal, moment } = remembered
    this.#add({ name, hash: hashRow(key, value), principal, moment })
    return { key, value }
  }

  #add(place: Place): void {
    this.#live.push(place)
    this.#counts.set(place.principal, this.#countOf(place.principal) + 1)
  }

  #countOf(principal: string): number {
    return this.#counts.get(principal) ?? 0
  }
}

function isOver({ time }: { readonly time: number }, now: number): boolean {
  return time + idempotencyBounds.lifeMs <= now
}

// seal | moment | digest, 32 bytes | principal length u16 | principal | outcome
const keyFormat = 2
const fixedSize = sealSize + momentSize + 32 + 2

function encodeKey(key: Buffer, { moment, principal, digest, outcome }: Remembered): Buffer {
  const principalSize = Buffer.byteLength(principal)
  const row = Buffer.allocUnsafe(fixedSize + principalSize + outcomeSize(outcome))
  let at = writeMoment(row, moment, sealSize)
  row.set(digest, at)
  at = row.writeUInt16BE(principalSize, at + 32)
  at += row.write(principal, at)
  writeOutcome(row, outcome, at)
  return seal(key, keyFormat, row)
}

/** What `IdempotencyKeys.remember` wrote. */
export function decodeIdempotencyKey(key: Uint8Array, value: Uint8Array): Remembered {
  const row = unseal(key, keyFormat, value)
  const end = fixedSize + row.readUInt16BE(fixedSize - 2)
  return {
    moment: readMoment(row, sealSize),
    digest: row.subarray(sealSize + momentSize, fixedSize - 2),
    principal: row.toString('utf8', fixedSize, end),
    outcome: readOutcome(row, end).outcome,
  }
}
