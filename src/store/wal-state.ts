// What the log holds, in memory: its ends, its hard state, and where each batch of entries lies. Recovery and appends
// change it alike, so that a log read back is the log that was written.

import assert from 'node:assert/strict'
import type { Configuration, Entry, HardState, Position } from '../raft/types.ts'
import type { Place } from './wal-format.ts'
import type { LogBase, SegmentHeader } from './wal-segment.ts'

/** A batch on disk: `bytes` are whole sectors. */
export type BatchPlace = Place & { readonly firstIndex: number; readonly bytes: number }

export class LogState {
  #base: LogBase
  /** Place of every batch that holds entries of the log. */
  readonly batches = new BatchIndex()
  #hardState: HardState
  #last: Position
  /** Entries below this one lie in segments that are gone. */
  #first: number
  /** What the oldest segment says of the entry before its own, which lies in segments that are gone too. */
  readonly #before: Position
  #terms: Position[] = []
  #configurations: SegmentHeader['configuration'][]

  /** The log as the oldest segment that is left begins it. */
  constructor(header: SegmentHeader) {
    this.#base = header.base
    this.#hardState = header.hardState
    this.#last = header.last
    this.#first = header.last.index + 1
    this.#before = header.last
    const { index, configuration } = header.base
    this.#configurations = [{ index, configuration }]
    if (header.configuration.index > index) this.#configurations.push(header.configuration)
  }

  get base(): LogBase {
    return this.#base
  }

  get hardState(): HardState {
    return this.#hardState
  }

  get last(): Position {
    return this.#last
  }

  get first(): number {
    return this.#first
  }

  /** The first index of each term, ascending. */
  get terms(): readonly Position[] {
    return this.#terms
  }

  /** The base's configuration and those of the entries, in order: the last one is in force. */
  get configurations(): readonly SegmentHeader['configuration'][] {
    return this.#configurations
  }

  get configuration(): SegmentHeader['configuration'] {
    const latest = this.#configurations.at(-1)
    assert(latest !== undefined, 'a log has a configuration')
    return latest
  }

  /** The one in force at an index from the base on. */
  configurationAt(index: number): Configuration {
    const found = this.#configurations.findLast((each) => each.index <= index)
    assert(
      found !== undefined && index >= this.#base.index,
      'a log knows its configurations from its base on',
    )
    return found.configuration
  }

  /** The segment of the first entry after an index; undefined when there is none. */
  segmentAfter(index: number): number | undefined {
    if (index >= this.#last.index) return undefined
    return this.batches.at(this.batches.find(index + 1))?.segment
  }

  /** The term of an entry of the log or of its base; undefined for any other index. */
  termAt(index: number): number | undefined {
    if (index === this.#base.index) return this.#base.term
    if (index === this.#before.index && index === this.#first - 1) return this.#before.term
    if (index < this.#first || index > this.#last.index) return undefined
    return this.#terms.findLast((run) => run.index <= index)?.term
  }

  setHardState(hardState: HardState): void {
    this.#hardState = hardState
  }

  /** Whether the entry can follow what is here, at the end or in place of a suffix (figure 2: terms never decrease). */
  accepts(entry: Entry): boolean {
    const { index, term } = entry
    if (index <= this.#base.index || index > this.#last.index + 1) return false
    return term >= (this.termAt(index - 1) ?? 0)
  }

  /** Appends an accepted entry, in place of everything from its index on. */
  add(entry: Entry): void {
    const { index, term } = entry
    if (index <= this.#last.index) this.#truncate(index)
    if (index < this.#first) this.#first = index
    if (this.#terms.at(-1)?.term !== term) this.#terms.push({ index, term })
    if (entry.type === 'configuration') {
      this.#configurations.push({ index, configuration: entry.configuration })
    }
    this.#last = { index, term }
  }

  /** Begins the log at another base. Entries after it stay; the base is one of the entries, or where they begin. */
  rebase(base: LogBase): void {
    const { index } = base
    const term = this.termAt(index)
    assert(this.#first - 1 <= index && index <= this.#last.index, 'a log is cut within its entries')
    assert(term === undefined || term === base.term, 'a log is cut at an entry that it holds')
    const next = this.#last.index > index ? this.termAt(index + 1) : undefined
    const later = this.#terms.filter((run) => run.index > index + 1)
    this.#terms = next === undefined ? [] : [{ index: index + 1, term: next }, ...later]
    this.#configurations = [
      { index, configuration: base.configuration },
      ...this.#configurations.filter((each) => each.index > index),
    ]
    this.#first = index + 1
    if (next === undefined) this.batches.clear()
    else this.batches.dropThrough(index)
    this.#base = base
  }

  /** Begins the log at another base, without an entry. */
  empty(base: LogBase): void {
    const { index, term, configuration } = base
    this.#terms = []
    this.#configurations = [{ index, configuration }]
    this.#first = index + 1
    this.#last = { index, term }
    this.batches.clear()
    this.#base = base
  }

  #truncate(from: number): void {
    this.#terms = this.#terms.filter((run) => run.index < from)
    this.#configurations = this.#configurations.filter((each, at) => at === 0 || each.index < from)
  }
}

/**
 * Where entries lie: one row per batch, in parallel typed arrays of 28 bytes a row, ordered by place and by first
 * index alike. A batch holds the entries from its first index up to that of the row after it: what a later batch
 * replaced is no longer looked for in an earlier one.
 */
export class BatchIndex {
  #count = 0
  #firstIndexes = new Float64Array(64)
  #segments = new Uint32Array(64)
  #offsets = new Uint32Array(64)
  #bytes = new Uint32Array(64)
  /** Bytes of all batches up to and with this row's, also of those that are rows no more. */
  #ends = new Float64Array(64)
  /** The same before the first row. */
  #begin = 0

  get count(): number {
    return this.#count
  }

  add(batch: BatchPlace): void {
    while (this.#count > 0 && (this.#firstIndexes[this.#count - 1] ?? 0) >= batch.firstIndex) this.#count -= 1
    if (this.#count === this.#firstIndexes.length) this.#grow()
    this.#firstIndexes[this.#count] = batch.firstIndex
    this.#segments[this.#count] = batch.segment
    this.#offsets[this.#count] = batch.offset
    this.#bytes[this.#count] = batch.bytes
    this.#ends[this.#count] = this.#endOf(this.#count - 1) + batch.bytes
    this.#count += 1
  }

  /** The row of the batch with this entry, -1 when the first batch begins after it. */
  find(index: number): number {
    let low = 0
    let high = this.#count
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#firstIndexes[middle] ?? 0) <= index) low = middle + 1
      else high = middle
    }
    return low - 1
  }

  at(row: number): BatchPlace | undefined {
    if (row < 0 || row >= this.#count) return undefined
    return {
      firstIndex: this.#firstIndexes[row] ?? 0,
      segment: this.#segments[row] ?? 0,
      offset: this.#offsets[row] ?? 0,
      bytes: this.#bytes[row] ?? 0,
    }
  }

  /** Bytes of the batches that begin after an index. */
  bytesAfter(index: number): number {
    return this.#endOf(this.#count - 1) - this.#endOf(this.find(index))
  }

  /** Forgets the batches whose entries all lie at or below an index. */
  dropThrough(index: number): void {
    const dropped = Math.max(0, this.find(index + 1))
    this.#begin = this.#endOf(dropped - 1)
    const columns = [this.#firstIndexes, this.#segments, this.#offsets, this.#bytes, this.#ends]
    for (const column of columns) column.copyWithin(0, dropped, this.#count)
    this.#count -= dropped
  }

  clear(): void {
    this.#begin = this.#endOf(this.#count - 1)
    this.#count = 0
  }

  #endOf(row: number): number {
    return row < 0 ? this.#begin : (this.#ends[row] ?? 0)
  }

  #grow(): void {
    const length = this.#count * 2
    const firstIndexes = new Float64Array(length)
    firstIndexes.set(this.#firstIndexes)
    this.#firstIndexes = firstIndexes
    const ends = new Float64Array(length)
    ends.set(this.#ends)
    this.#ends = ends
    this.#segments = grown(this.#segments, length)
    this.#offsets = grown(this.#offsets, length)
    this.#bytes = grown(this.#bytes, length)
  }
}

function grown(old: Uint32Array<ArrayBuffer>, length: number): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(length)
  larger.set(old)
  return larger
}
