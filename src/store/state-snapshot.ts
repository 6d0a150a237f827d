// A state as it was at one index, to be sent to another member: an explicit LevelDB snapshot, read in chunks.

import assert from 'node:assert/strict'
import type { AbstractSnapshot } from 'abstract-level'
import type { Configuration } from '../raft/types.ts'
import {
  type Chunk,
  ChunkRefusedError,
  type Cursor,
  decodeCursor,
  encodeChunk,
  encodeCursor,
  openingSize,
  type Piece,
  type Place,
  sizeOfPiece,
} from './state-chunk.ts'
import { digestOf, type Meta, replicatedRange } from './state-rows.ts'
import type { StateTime } from './state-time.ts'
import { checkRow, pages, type Verified, type VerifyOptions, verify } from './state-verify.ts'
import type { StateLevel } from './state-writer.ts'

type StateSnapshotOptions = {
  readonly level: StateLevel
  readonly snapshot: AbstractSnapshot
  /** Of the same snapshot. */
  readonly meta: Meta
  readonly time: StateTime
  /** Runs a read of the state machine, which ends with it if the read comes upon damage. */
  readonly reading: <T>(read: () => Promise<T>) => Promise<T>
}

/** Pins every version that it can read in LevelDB until it is closed. */
export class StateSnapshot {
  readonly index: number
  readonly term: number
  readonly configuration: Configuration
  readonly revision: number
  readonly digest: string
  readonly #options: StateSnapshotOptions
  /** The row that was read last and is larger than a chunk, so that its next piece is not read anew. */
  #large: { readonly key: Uint8Array; readonly value: Uint8Array } | undefined

  constructor(options: StateSnapshotOptions) {
    const { meta } = options
    this.index = meta.lastApplied
    this.term = meta.lastAppliedTerm
    this.configuration = meta.configuration
    this.revision = meta.revision
    this.digest = digestOf(meta).digest
    this.#options = options
  }

  /**
   * Holds the rows against the digest: the sender's half of making sure that no damage is sent on (`safety.md`, rule
   * 9).
   */
  verify(options: VerifyOptions = {}): Promise<Verified> {
    return this.#options.reading(() => verify(this.#options, options))
  }

  /**
   * The rows that follow the cursor, the first ones without it, in at most `maxBytes`, which is 64 KiB or more; a row
   * that is larger comes in pieces. `next` is the cursor of the chunk that follows, undefined after the last. The
   * same question gets the same bytes. Rejects with `ChunkRefusedError` for a cursor that cannot be this snapshot's.
   */
  chunk(after: Cursor | undefined, maxBytes: number): Promise<Chunk & { readonly next: Cursor | undefined }> {
    return this.#options.reading(() => this.#chunk(after, maxBytes))
  }

  /** Lets LevelDB forget what only this snapshot still needs. */
  close(): Promise<void> {
    return this.#options.snapshot.close()
  }

  async #chunk(after: Cursor | undefined, maxBytes: number) {
    const pieces: Piece[] = []
    let room = maxBytes - openingSize(after)
    let last: Place | undefined
    let more = false
    for await (const { key, value, offset } of this.#rows(after, maxBytes)) {
      const { own, asLast } = sizeOfPiece(key)
      const rest = value.length - offset
      const fits = own + rest + asLast <= room
      more = !fits
      // Only a row that is too large for any chunk is cut.
      if (!fits && pieces.length > 0) break
      assert(fits || own + asLast < room, 'A chunk has room for a key, a cursor before it and one behind it')
      const bytes = value.subarray(offset, offset + (fits ? rest : room - own - asLast))
      pieces.push({ key, size: value.length, offset, bytes })
      room -= own + bytes.length
      last = { key, sent: fits ? undefined : offset + bytes.length }
      this.#large = fits ? undefined : { key, value }
      if (!fits) break
    }
    const next = more && last !== undefined ? encodeCursor(last) : undefined
    return { ...encodeChunk({ index: this.index, after, next, pieces }), next }
  }

  /** From the cursor on: every row from its beginning, but the first, which may have been sent in part. */
  async *#rows(after: Cursor | undefined, maxBytes: number) {
    const { level, snapshot } = this.#options
    const place = after === undefined ? undefined : decodeCursor(after)
    if (place?.sent !== undefined) {
      const value = await this.#read(place.key)
      if (value === undefined || place.sent >= value.length) {
        throw new ChunkRefusedError('The place to go on from is not one of this snapshot.')
      }
      yield { key: place.key, value, offset: place.sent }
    }
    const range = place === undefined ? replicatedRange : { gt: place.key }
    for await (const page of pages(level, { ...range, snapshot }, maxBytes)) {
      for (const [key, value] of page) {
        checkRow(key, value)
        yield { key, value, offset: 0 }
      }
    }
  }

  async #read(key: Uint8Array): Promise<Uint8Array | undefined> {
    const { level, snapshot } = this.#options
    if (this.#large !== undefined && Buffer.compare(this.#large.key, key) === 0) return this.#large.value
    const value = await level.get(key, { snapshot })
    if (value !== undefined) checkRow(key, value)
    return value
  }
}
