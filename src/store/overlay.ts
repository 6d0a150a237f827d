// Rows in memory that every reader looks at first: what LevelDB is not yet known to have, and what it was given lately.

import type { RowHash } from './row-hash.ts'

/** A row of LevelDB; `value` is undefined where the row is to go. Neither is ever changed once it is here. */
export type Row = { readonly key: Uint8Array; readonly value: Uint8Array | undefined }

/** What stands under a name: undefined where the row is to go. */
export type Stands = { readonly value: Uint8Array | undefined }

/**
 * The newest version of a row. It changes in place, with every version of the row: an object for each of them would outlive
 * two collections of new objects and then be work for those of old ones.
 */
type Entry = {
  readonly name: string
  readonly key: Uint8Array
  /** Whether it is remembered. */
  readonly lasts: boolean
  value: Uint8Array | undefined
  /** What it has in the digest, if it stands. */
  isHashed: boolean
  a: number
  b: number
  c: number
  d: number
  /** About what the row takes, in bytes of memory. */
  bytes: number
  /** The batch that takes it, or took it, to LevelDB. */
  batch: number
}

/** What a batch brought to LevelDB. */
type Settled = { readonly batch: number; readonly entries: readonly Entry[] }

/** What a row that stood had in the digest; undefined where none stood. */
type Had = { readonly hash: RowHash | undefined }

const nothing: RowHash = [0, 0, 0, 0]

/** How much is remembered of what LevelDB was given: about so many bytes of memory, of the last so many rows. */
const rememberedBytes = 16 * 1024 * 1024
const rememberedRows = 64 * 1024

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
  /** The batches whose rows are remembered, oldest first; those written again since are counted no more in the bytes. */
  readonly #settled: Settled[] = []
  #settledRows = 0
  #settledBytes = 0

  /** About what waits for LevelDB and is on its way, in bytes of memory. */
  get bytes(): number {
    return this.#freshBytes + this.#leavingBytes
  }

  /** What stands under this name (`rowName`) now; undefined when LevelDB has to be asked. */
  get(name: string): Stands | undefined {
    const entry = this.#entries.get(name)
    return entry === undefined ? undefined : { value: entry.value }
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
   * `hash`: what the row has in the digest, if it stands. `lasts`: whether it may be asked for by its name later, and is
   * worth remembering. Returns what stood there had; undefined when only LevelDB knows.
   */
  put(name: string, row: Row, hash: RowHash | undefined, lasts: boolean): Had | undefined {
    const entry = this.#entries.get(name)
    const bytes = weight(row)
    this.#freshBytes += bytes
    if (entry === undefined) {
      const { key, value } = row
      const [a, b, c, d] = hash ?? nothing
      const isHashed = hash !== undefined
      const added: Entry = { name, key, lasts, value, isHashed, a, b, c, d, bytes, batch: this.#next }
      this.#entries.set(name, added)
      this.#fresh.push(added)
      return undefined
    }
    if (entry.batch === this.#next) this.#freshBytes -= entry.bytes
    else {
      if (this.#isSettled(entry)) this.#settledBytes -= entry.bytes
      entry.batch = this.#next
      this.#fresh.push(entry)
    }
    const before: Had = { hash: entry.isHashed ? [entry.a, entry.b, entry.c, entry.d] : undefined }
    entry.value = row.value
    entry.isHashed = hash !== undefined
    ;[entry.a, entry.b, entry.c, entry.d] = hash ?? nothing
    entry.bytes = bytes
    return before
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
    const entries = this.#leaving
    this.#leaving = []
    this.#leavingBytes = 0
    const remembered = entries.filter((entry) => entry.batch === batch && this.#remembers(entry))
    if (remembered.length === 0) return
    for (const { bytes } of remembered) this.#settledBytes += bytes
    this.#settled.push({ batch, entries: remembered })
    this.#settledRows += remembered.length
    while (this.#settledBytes > rememberedBytes || this.#settledRows > rememberedRows) this.#forgetOldest()
  }

  /** Only of an entry that is not of the next batch. */
  #isSettled({ batch }: Entry): boolean {
    return batch < this.#next - 1 || this.#leaving.length === 0
  }

  /** Whether it stays, though LevelDB has it. */
  #remembers({ name, lasts }: Entry): boolean {
    if (!lasts) this.#entries.delete(name)
    return lasts
  }

  #forgetOldest(): void {
    const oldest = this.#settled.shift()
    if (oldest === undefined) return
    this.#settledRows -= oldest.entries.length
    for (const entry of oldest.entries) {
      if (entry.batch !== oldest.batch) continue
      this.#settledBytes -= entry.bytes
      this.#entries.delete(entry.name)
    }
  }
}

function rowOf({ key, value }: Entry): Row {
  return { key, value }
}

/** A row's key as a map key: one character a byte. */
export function rowName(key: Buffer): string {
  return key.toString('latin1')
}

// Two buffers, an object, a string of the key and a place in a map cost about this much besides the bytes.
const perRow = 400

function weight(row: Row): number {
  return perRow + 2 * row.key.length + (row.value?.length ?? 0)
}
