// From entries to batches: lays out what one append writes in one buffer, used again and again, for one write.

import assert from 'node:assert/strict'
import type { Entry, HardState } from '../raft/types.ts'
import type { Place, Seat } from './wal-format.ts'
import {
  batchBytes,
  batchHeaderBytes,
  encodedSize,
  hardStateSize,
  sealBatch,
  sectorBytes,
  writeEntry,
  writeHardState,
} from './wal-format.ts'
import type { BatchPlace } from './wal-state.ts'

/**
 * Entries share a batch up to this size. A read checks whole batches, so that a large append in one batch would make
 * a small read of it large.
 */
const fullBatchBytes = 128 * 1024

/** A buffer that a large append has grown beyond this is given back. */
const keptBufferBytes = 2 * 1024 * 1024

const smallBufferBytes = 64 * 1024

type Draft = { readonly start: number; bodyBytes: number; firstIndex: number; count: number }

/** Everything between `encode` and the next `encode` is about one append. */
export class BatchEncoder {
  #buffer = Buffer.allocUnsafeSlow(smallBufferBytes)
  #end = 0
  #drafts: Draft[] = []

  /** Lays out the batches and returns how many bytes they take, whole sectors. Without entries it is one batch. */
  encode(hardState: HardState | undefined, entries: readonly Entry[]): number {
    if (this.#buffer.length > keptBufferBytes) this.#buffer = Buffer.allocUnsafeSlow(smallBufferBytes)
    this.#end = 0
    this.#drafts = []
    let draft = this.#begin()
    if (hardState !== undefined) {
      const size = hardStateSize(hardState)
      const end = writeHardState(this.#room(size), this.#end, hardState)
      draft.bodyBytes += size
      this.#end = end
    }
    for (const entry of entries) {
      const size = encodedSize(entry)
      if (draft.bodyBytes > 0 && draft.bodyBytes + size > fullBatchBytes) draft = this.#begin(draft)
      const end = writeEntry(this.#room(size), this.#end, entry)
      assert(end === this.#end + size, 'an entry takes the bytes it said it would')
      if (draft.count === 0) draft.firstIndex = entry.index
      draft.count += 1
      draft.bodyBytes += size
      this.#end = end
    }
    this.#finish(draft)
    return this.#end
  }

  /**
   * Finishes the batches for the place where they will stand. The bytes are a view of the buffer, valid until the
   * next `encode`.
   */
  seal(seat: Seat, durable: Place): { readonly bytes: Buffer; readonly batches: readonly BatchPlace[] } {
    const batches: BatchPlace[] = []
    for (const { start, bodyBytes, firstIndex, count } of this.#drafts) {
      const offset = seat.offset + start
      sealBatch(this.#buffer, start, { ...seat, offset }, { bodyBytes, firstIndex, count, durable })
      if (count > 0) batches.push({ segment: seat.segment, offset, bytes: batchBytes(bodyBytes), firstIndex })
    }
    return { bytes: this.#buffer.subarray(0, this.#end), batches }
  }

  #begin(last?: Draft): Draft {
    if (last !== undefined) this.#finish(last)
    const draft = { start: this.#end, bodyBytes: 0, firstIndex: 0, count: 0 }
    this.#drafts.push(draft)
    this.#end += batchHeaderBytes
    return draft
  }

  #finish(draft: Draft): void {
    this.#end = draft.start + batchBytes(draft.bodyBytes)
  }

  /** The buffer, with room for so many bytes, the padding after them and the header of a next batch. */
  #room(bytes: number): Buffer {
    const needed = this.#end + bytes + 2 * sectorBytes
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2))
      this.#buffer.copy(larger, 0, 0, this.#end)
      this.#buffer = larger
    }
    return this.#buffer
  }
}
