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
  isSame,
  openingSize,
  type Piece,
  type Place,
  sizeOfPiece,
} from './state-chunk.ts'
import { digestOf, type Meta, replicatedRange } from './state-rows.ts'
import type { StateTime } from './state-time.ts'
import { checkRow, pages, Sweep, type Verified, type VerifyOptions, verify } from './state-verify.ts'
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
  readonly #sweep = new Sweep()
  /** How far the rows were handed out in their order, and are in the sweep. */
  #sweptTo: Cursor | undefined | 'the end'

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
   * 9). Rows that were handed out in their order, from the first to the last, were summed up on their way and are not read
   * again.
   */
  verify(options: VerifyOptions = {}): Promise<Verified> {
    const { reading, meta } = this.#options
    return reading(async () =>
      this.#sweptTo === 'the end' ? this.#sweep.hold(meta) : verify(this.#options, options),
    )
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
    const { level, snapshot } = this.#options
    const place = after === undefined ? undefined : decodeCursor(after)
    const filling = new Filling(maxBytes - openingSize(after))
    const rest = place?.sent === undefined ? undefined : await this.#rest(place.key, place.sent)
    if (rest === undefined || filling.take(rest.key, rest.value, rest.offset)) {
      const range = place === undefined ? replicatedRange : { gt: place.key }
      await this.#fill(
        filling,
        pages(level, { ...range, snapshot }, maxBytes, () => filling.rowsNeeded),
      )
    }
    this.#large = filling.cut
    const { pieces, next } = filling
    this.#sum(after, { pieces, next, rest })
    return { ...encodeChunk({ index: this.index, after, next, pieces }), next }
  }

  async #fill(filling: Filling, read: ReturnType<typeof pages>): Promise<void> {
    for await (const page of read) {
      for (const [key, value] of page) {
        checkRow(key, value)
        if (!filling.take(key, value, 0)) return
      }
    }
  }

  /** The row that was sent in part. */
  async #rest(key: Uint8Array, offset: number) {
    const { level, snapshot } = this.#options
    const isKnown = this.#large !== undefined && Buffer.compare(this.#large.key, key) === 0
    const value = isKnown ? this.#large?.value : await level.get(key, { snapshot })
    if (value === undefined || offset >= value.length) {
      throw new ChunkRefusedError('The place to go on from is not one of this snapshot.')
    }
    if (!isKnown) checkRow(key, value)
    return { key, value, offset }
  }

  /** Adds the rows that end in a chunk to the sweep, if it goes on from there. */
  #sum(after: Cursor | undefined, chunk: Filled): void {
    const { pieces, next, rest } = chunk
    const goesOn = this.#sweptTo !== 'the end' && isSame(after, this.#sweptTo)
    if (!goesOn) return
    for (const { key, size, offset, bytes } of pieces) {
      if (bytes.length === size) this.#sweep.add(key, bytes)
      else if (rest !== undefined && offset + bytes.length === size) this.#sweep.add(key, rest.value)
    }
    this.#sweptTo = next ?? 'the end'
  }
}

type Row = { readonly key: Uint8Array; readonly value: Uint8Array }

type Filled = {
  readonly pieces: readonly Piece[]
  readonly next: Cursor | undefined
  /** The row of which the first piece is the rest, or more of it. */
  readonly rest: Row | undefined
}

/** A chunk as far as it is filled. */
class Filling {
  readonly pieces: Piece[] = []
  readonly #space: number
  #room: number
  /** Where the chunk ends. */
  #last: Place | undefined
  #more = false
  /** The row of which there is more than the chunk has room for. */
  cut: Row | undefined

  constructor(space: number) {
    this.#space = space
    this.#room = space
  }

  /** The cursor of the chunk that follows; undefined if none does. */
  get next(): Cursor | undefined {
    return this.#more && this.#last !== undefined ? encodeCursor(this.#last) : undefined
  }

  /** So many rows like those before have room, and one more shows that there is more. */
  get rowsNeeded(): number {
    const { length } = this.pieces
    return length === 0 ? Infinity : Math.ceil((this.#room / (this.#space - this.#room)) * length) + 1
  }

  /** Takes what has room of a row from here on. False when the chunk is full: nothing that follows is for it. */
  take(key: Uint8Array, value: Uint8Array, offset: number): boolean {
    const { own, asLast } = sizeOfPiece(key)
    const rest = value.length - offset
    const fits = own + rest + asLast <= this.#room
    this.#more = !fits
    // Only a row that is too large for any chunk is cut.
    if (!fits && this.pieces.length > 0) return false
    assert(
      fits || own + asLast < this.#room,
      'A chunk has room for a key, a cursor before it and one behind it',
    )
    const bytes = value.subarray(offset, offset + (fits ? rest : this.#room - own - asLast))
    this.pieces.push({ key, size: value.length, offset, bytes })
    this.#room -= own + bytes.length
    this.#last = { key, sent: fits ? undefined : offset + bytes.length }
    this.cut = fits ? undefined : { key, value }
    return fits
  }
}
