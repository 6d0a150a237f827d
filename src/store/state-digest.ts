// The state digest: a sum of one hash per replicated row, and the one way in which a row changes and the sum with it.

import { Overlay, type Row, rowName } from './overlay.ts'
import { asBuffer } from './record.ts'
import { hashRow, type RowHash } from './row-hash.ts'

/** As 32 hex digits. */
export function hexOf(lanes: RowHash): string {
  return lanes.map((lane) => (lane >>> 0).toString(16).padStart(8, '0')).join('')
}

/** The sum of no rows. */
export const emptySum = '0'.repeat(32)

/**
 * A sum of row hashes, each lane modulo 2^32: the order of the rows does not matter, and a row is taken out as easily
 * as it is put in. A row that is absent, stale or altered leaves it different for good, also when it is overwritten
 * later.
 */
export class RowSum {
  #a: number
  #b: number
  #c: number
  #d: number

  constructor(hex: string = emptySum) {
    const bytes = Buffer.from(hex, 'hex')
    this.#a = bytes.readInt32BE(0)
    this.#b = bytes.readInt32BE(4)
    this.#c = bytes.readInt32BE(8)
    this.#d = bytes.readInt32BE(12)
  }

  add(row: RowHash): void {
    this.#a = (this.#a + row[0]) | 0
    this.#b = (this.#b + row[1]) | 0
    this.#c = (this.#c + row[2]) | 0
    this.#d = (this.#d + row[3]) | 0
  }

  remove(row: RowHash): void {
    this.#a = (this.#a - row[0]) | 0
    this.#b = (this.#b - row[1]) | 0
    this.#c = (this.#c - row[2]) | 0
    this.#d = (this.#d - row[3]) | 0
  }

  get hex(): string {
    return hexOf([this.#a, this.#b, this.#c, this.#d])
  }
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

  /**
   * A change of a row that was fetched. `before`: what stood there, or what that has in the sum; it is not looked at where
   * the overlay knows.
   */
  replace(name: string, row: Row, before: Uint8Array | RowHash | undefined): void {
    const { key, value } = row
    const hash = value === undefined ? undefined : hashRow(key, value)
    if (hash !== undefined) this.#sum.add(hash)
    const known = this.#overlay.put(name, value, hash, true)
    const old = known === undefined ? before && asHash(key, before) : known.hash
    if (old !== undefined) this.#sum.remove(old)
  }

  /** A row goes that was not fetched. `before` is what it has in the sum. */
  remove(name: string, before: RowHash): void {
    this.#overlay.put(name, undefined, undefined, false)
    this.#sum.remove(before)
  }

  /** A change of a row of a table that is kept in memory. */
  write(row: Row): void {
    const name = rowName(asBuffer(row.key))
    const before = this.#kept.get(name)
    if (before !== undefined) this.#sum.remove(before)
    const hash = row.value === undefined ? undefined : hashRow(row.key, row.value)
    this.#overlay.put(name, row.value, hash, false)
    if (hash === undefined) {
      this.#kept.delete(name)
    } else {
      this.#kept.set(name, hash)
      this.#sum.add(hash)
    }
  }
}

function asHash(key: Uint8Array, before: Uint8Array | RowHash): RowHash {
  return before instanceof Uint8Array ? hashRow(key, before) : before
}
