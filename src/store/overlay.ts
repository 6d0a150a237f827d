// Rows in memory that every reader looks at first: what LevelDB is not yet known to have, and what it was given lately.

import { ByteRing } from './byte-ring.ts'
import type { RowHash } from './row-hash.ts'

/** A row of LevelDB; `value` is undefined where the row is to go. Neither is ever changed once it is here. */
export type Row = { readonly key: Uint8Array; readonly value: Uint8Array | undefined }

/** What stands under a name: undefined where no row is, or where it is to go. */
export type Stands = { readonly value: Uint8Array | undefined }

/** What a row that stood had in the digest; undefined where none stood. */
export type Had = { readonly hash: RowHash | undefined }

/**
 * The newest version of a row. It changes in place, and what is remembered of it lies in a ring: objects of each version would
 * outlive two collections of new objects, and then be work for those of old ones.
 */
type Entry = {
  readonly name: string
  /** Whether it is remembered. */
  readonly lasts: boolean
  /** As long as LevelDB is not known to have it; undefined where it is to go. */
  value: Uint8Array | undefined
  /** Where it lies in the ring after that, and how long it is; -1 before, and where there is none. */
  at: number
  size: number
  /** What it has in the digest, if it stands. */
  isHashed: boolean
  a: number
  b: number
  c: number
  d: number
  /** About what the row takes while it waits, in bytes of memory. */
  bytes: number
  /** The batch that takes it, or took it, to LevelDB. */
  batch: number
}

/** What a batch brought to LevelDB, and where in the ring that begins. */
type Settled = { readonly batch: number; readonly at: number; readonly entries: readonly Entry[] }

/** How much is remembered of what LevelDB was given: so many bytes, of the last so many rows, none larger than a piece. */
const remembered = { pieces: 24, pieceBytes: 512 * 1024, rows: 64 * 1024 } as const

const nothing: RowHash = [0, 0, 0, 0]

/**
 * A row waits for the next batch, is on its way with one, or is remembered for some time after its batch is durable: what
 * was written lately is likely to be read and written again, and then LevelDB is not asked for it, nor is it hashed once
 * more to take it out of the digest.
 */
export class Overlay {
  readonly #entries = new Map<string, Entry>()
  /** The number of the next batch, counted from 1 since the start, and what waits for it. */
  #next = 1
  #fresh: Entry[] = []
  #freshBytes = 0
  /** What is on its way. Some of it may have been written again, and then waits as well. */
  #leaving: readonly Entry[] = []
  #leavingBytes = 0
  readonly #ring = new ByteRing(remembered)
  /** The batches whose rows are remembered, oldest first; some of them have been written again since. */
  readonly #settled: Settled[] = []
  #settledRows = 0

  /** About what waits for LevelDB and is on its way, in bytes of memory. */
  get bytes(): number {
    return this.#freshBytes + this.#leavingBytes
  }

  /** What stands under this name (`rowName`) now; undefined when LevelDB has to be asked. */
  get(name: string): Stands | undefined {
    const entry = this.#entries.get(name)
    if (entry === undefined) return undefined
    const { at, size, value } = entry
    return { value: at < 0 ? value : this.#ring.read(at, size) }
  }

  /**
   * The rows whose names lie between these two, the second excluded, in their order: all that LevelDB is not known to
   * have as they are now.
   */
  within(from: string, to: string): readonly Row[] {
    const found = new Set<Entry>()
    for (const layer of [this.#leaving, this.#fresh]) {
      for (const entry of layer) if (entry.name >= from && entry.name < to) found.add(entry)
    }
    return [...found].sort((left, right) => (left.name < right.name ? -1 : 1)).map(rowOf)
  }

  /**
   * `value`: undefined where the row is to go. `hash`: what it has in the digest, if it stands. `lasts`: whether it may be asked
   * for by its name later, and is worth remembering. Returns what stood there had; undefined when only LevelDB knows.
   */
  put(
    name: string,
    value: Uint8Array | undefined,
    hash: RowHash | undefined,
    lasts: boolean,
  ): Had | undefined {
    const bytes = perRow + 2 * name.length + (value?.length ?? 0)
    this.#freshBytes += bytes
    const [a, b, c, d] = hash ?? nothing
    const isHashed = hash !== undefined
    const entry = this.#entries.get(name)
    if (entry === undefined) {
      const batch = this.#next
      const added: Entry = { name, lasts, value, at: -1, size: 0, isHashed, a, b, c, d, bytes, batch }
      this.#entries.set(name, added)
      this.#fresh.push(added)
      return undefined
    }
    if (entry.batch === this.#next) this.#freshBytes -= entry.bytes
    else {
      entry.batch = this.#next
      this.#fresh.push(entry)
    }
    const had: Had = { hash: entry.isHashed ? [entry.a, entry.b, entry.c, entry.d] : undefined }
    entry.value = value
    entry.at = -1
    entry.isHashed = isHashed
    entry.a = a
    entry.b = b
    entry.c = c
    entry.d = d
    entry.bytes = bytes
    return had
  }

  /** Hands out the rows for one batch. Whatever is put from now on is for the next. */
  take(): readonly Row[] {
    this.#leaving = this.#fresh
    this.#leavingBytes = this.#freshBytes
    this.#fresh = []
    this.#freshBytes = 0
    this.#next += 1
    return this.#leaving.map(rowOf)
  }

  /** The batch taken last is durable. */
  settle(): void {
    const batch = this.#next - 1
    const newest = this.#leaving.filter((entry) => entry.batch === batch)
    this.#leaving = []
    this.#leavingBytes = 0
    const at = this.#ring.end
    const entries = newest.filter((entry) => this.#remember(entry))
    if (entries.length === 0) return
    this.#settled.push({ batch, at, entries })
    this.#settledRows += entries.length
    for (let first = this.#settled[0]; first !== undefined; first = this.#settled[0]) {
      if (first.at >= this.#ring.oldest && this.#settledRows <= remembered.rows) break
      this.#forget(first)
    }
  }

  /** Whether it stays, though LevelDB has it. */
  #remember(entry: Entry): boolean {
    const { name, lasts, value } = entry
    const size = value?.length ?? 0
    if (!lasts || size > this.#ring.largest) {
      this.#entries.delete(name)
      return false
    }
    if (value === undefined) return true
    entry.at = this.#ring.write(value)
    entry.size = size
    entry.value = undefined
    return true
  }

  /** The oldest of what is remembered. */
  #forget({ batch, entries }: Settled): void {
    this.#settled.shift()
    this.#settledRows -= entries.length
    for (const entry of entries) if (entry.batch === batch) this.#entries.delete(entry.name)
  }
}

function rowOf({ name, value }: Entry): Row {
  return { key: Buffer.from(name, 'latin1'), value }
}

/** A row's key as a map key: one character a byte. */
export function rowName(key: Buffer): string {
  return key.toString('latin1')
}

// A buffer, an object, a string of the key and a place in a map cost about this much besides the bytes.
const perRow = 300
