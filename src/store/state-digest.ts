// The state digest: a sum of one hash per replicated row, and the one way in which a row changes and the sum with it.

import { createHash, hash } from 'node:crypto'
import { Overlay, type Row, rowName } from './overlay.ts'
import { asBuffer } from './record.ts'

/** Four unsigned integers of 32 bits. */
export type RowHash = readonly [number, number, number, number]

// SHA-256 costs little more than a call for rows of usual sizes; its first 128 bits are kept.
const algorithm = 'sha256'
// One call over one buffer is more than twice as fast as a hash object that is fed in parts.
const scratch = Buffer.alloc(64 * 1024)
const lengthSize = 4

/**
 * Of key and value together: two rows differ in it if they differ in anything, or if their bytes are split elsewhere.
 */
export function hashRow(key: Uint8Array, value: Uint8Array): RowHash {
  const size = lengthSize + key.length + value.length
  const input = size <= scratch.length ? scratch : Buffer.allocUnsafe(lengthSize + key.length)
  input.writeUInt32BE(key.length, 0)
  input.set(key, lengthSize)
  if (input !== scratch) return lanesOf(createHash(algorithm).update(input).update(value).digest())
  scratch.set(value, lengthSize + key.length)
  return lanesOf(hash(algorithm, scratch.subarray(0, size), 'buffer'))
}

function lanesOf(bytes: Buffer): RowHash {
  return [bytes.readUInt32BE(0), bytes.readUInt32BE(4), bytes.readUInt32BE(8), bytes.readUInt32BE(12)]
}

/** As 32 hex digits. */
export function hexOf(lanes: RowHash): string {
  return lanes.map((lane) => lane.toString(16).padStart(8, '0')).join('')
}

/** The sum of no rows. */
export const emptySum = '0'.repeat(32)

/**
 * A sum of row hashes, each lane modulo 2^32: the order of the rows does not matter, and a row is taken out as easily
 * as it is put in. A row that is absent, stale or altered leaves it different for good, also when it is overwritten
 * later.
 */
export class RowSum {
  #lanes: RowHash

  constructor(hex: string = emptySum) {
    this.#lanes = lanesOf(Buffer.from(hex, 'hex'))
  }

  add(row: RowHash): void {
    this.#lanes = combine(this.#lanes, row, 1)
  }

  remove(row: RowHash): void {
    this.#lanes = combine(this.#lanes, row, -1)
  }

  get hex(): string {
    return hexOf(this.#lanes)
  }
}

function combine([a, b, c, d]: RowHash, [e, f, g, h]: RowHash, sign: 1 | -1): RowHash {
  return [(a + sign * e) >>> 0, (b + sign * f) >>> 0, (c + sign * g) >>> 0, (d + sign * h) >>> 0]
}

/**
 * Every change of a replicated row, but of the first one that holds the sum, goes through here into the overlay:
 * there is no other way, so that no table can be forgotten in the digest.
 */
export class Ledger {
  readonly #overlay = new Overlay()
  readonly #sum: RowSum
  /** Of each row of the tables that are kept in memory, what it has in the sum. */
  readonly #kept = new Map<string, RowHash>()

  constructor(sum: string) {
    this.#sum = new RowSum(sum)
  }

  /** What waits for LevelDB; it changes by `replace` and `write` alone. */
  get overlay(): Omit<Overlay, 'put'> {
    return this.#overlay
  }

  /** The sum of all rows as they are now, as 32 hex digits. */
  get sum(): string {
    return this.#sum.hex
  }

  /** A row that LevelDB has, of a table that is kept in memory and changes by `write`. */
  load(key: Uint8Array, value: Uint8Array): void {
    this.#kept.set(rowName(asBuffer(key)), hashRow(key, value))
  }

  /** A change of a row that was fetched. `before`: what stood there, or what that has in the sum. */
  replace(name: string, row: Row, before: Uint8Array | RowHash | undefined): void {
    this.#overlay.put(name, row)
    if (before !== undefined) {
      this.#sum.remove(before instanceof Uint8Array ? hashRow(row.key, before) : before)
    }
    if (row.value !== undefined) this.#sum.add(hashRow(row.key, row.value))
  }

  /** A row goes that was not fetched. `before` is what it has in the sum. */
  remove(name: string, before: RowHash): void {
    this.#overlay.put(name, { key: Buffer.from(name, 'latin1'), value: undefined })
    this.#sum.remove(before)
  }

  /** A change of a row of a table that is kept in memory. */
  write(row: Row): void {
    const name = rowName(asBuffer(row.key))
    this.#overlay.put(name, row)
    const before = this.#kept.get(name)
    if (before !== undefined) this.#sum.remove(before)
    this.#kept.delete(name)
    if (row.value === undefined) return
    const after = hashRow(row.key, row.value)
    this.#kept.set(name, after)
    this.#sum.add(after)
  }
}
