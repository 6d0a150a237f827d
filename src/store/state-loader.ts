// The receiving end of a snapshot: chunks into an empty LevelDB, which becomes a state only when all of it is proven.

import assert from 'node:assert/strict'
import { asBuffer, StateDamagedError } from './record.ts'
import {
  type Chunk,
  type ChunkContent,
  ChunkRefusedError,
  type Cursor,
  decodeChunk,
  decodeCursor,
  encodeCursor,
  isSame,
  type Piece,
} from './state-chunk.ts'
import { levelFailure } from './state-failure.ts'
import {
  closedKey,
  type Digest,
  decodeLoading,
  encodeLoading,
  encodeMark,
  loadingKey,
  type SealedRow,
} from './state-rows.ts'
import { realTime, type StateTime } from './state-time.ts'
import { checkRow, readMeta, type Verified, type VerifyOptions, verify } from './state-verify.ts'
import { lastBatch, markOf, type StateLevel, writeBatch } from './state-writer.ts'

/** What a snapshot must turn out to be, by the word of its sender. */
export type ExpectedState = Digest & { readonly term: number }

export type StateLoaderOptions = {
  /**
   * Opened (`openLevel`): empty, or with part of the same snapshot. The caller closes it; a state machine can be
   * opened on it.
   */
  readonly level: StateLevel
  readonly expected: ExpectedState
  /** The real one when absent. */
  readonly time?: StateTime
}

/** The largest row that is taken, in bytes: more than any value may have. */
const maxRowBytes = 64 * 1024 * 1024

/** A row as far as its pieces have come. */
type OpenRow = {
  readonly key: Uint8Array
  /** Of the whole value, in bytes. */
  readonly size: number
  readonly length: number
  readonly pieces: readonly Uint8Array[]
}

/**
 * Each chunk is one synced, numbered batch, with the place to go on from in it. So what a receiver finds after it was
 * interrupted, by whatever, is proven as far as that place, and it goes on there. Until `finish` no state machine
 * opens on it. One chunk is written while the next is had from the sender and checked, and never more than one.
 */
export class StateLoader {
  readonly #level: StateLevel
  readonly #time: StateTime
  readonly #expected: ExpectedState
  #lastBatch: number
  /** Of the last chunk taken. */
  #after: Cursor | undefined
  #complete: boolean
  /** The last row taken whole. */
  #lastKey: Uint8Array | undefined
  #open: OpenRow | undefined
  #busy = false
  /** The batch of the last chunk taken. */
  #written: Promise<void> = Promise.resolve()

  /**
   * Rejects with `StateDamagedError` when what is there is another snapshot's, a state of its own, or has lost a
   * batch: the caller deletes the directory and begins with an empty one.
   */
  static async open(options: StateLoaderOptions): Promise<StateLoader> {
    const { level, expected } = options
    try {
      const batch = await lastBatch(level)
      if (batch === undefined) {
        for await (const _ of level.keys({ limit: 1 })) {
          throw new StateDamagedError('A snapshot is loaded into an empty place, and there are rows.')
        }
        return new StateLoader(options, { lastBatch: 0, after: undefined })
      }
      const row = await level.get(loadingKey)
      const loading = row === undefined ? undefined : decodeLoading(row)
      const { index, term, digest } = loading ?? {}
      if (index !== expected.index || term !== expected.term || digest !== expected.digest) {
        throw new StateDamagedError(
          'There is something else than the beginning of the snapshot to be loaded.',
        )
      }
      return new StateLoader(options, { lastBatch: batch.number, after: loading?.after })
    } catch (error) {
      throw levelFailure(error, 'read')
    }
  }

  private constructor(
    { level, expected, time = realTime }: StateLoaderOptions,
    { lastBatch: number, after }: { readonly lastBatch: number; readonly after: Cursor | undefined },
  ) {
    this.#level = level
    this.#time = time
    this.#expected = expected
    this.#lastBatch = number
    this.#after = after
    this.#lastKey = after === undefined ? undefined : decodeCursor(after).key
    // The last chunk goes on from nowhere, like an empty beginning; but that one is no batch.
    this.#complete = number > 0 && after === undefined
  }

  /** The place after which the next chunk begins; undefined for the first. */
  get after(): Cursor | undefined {
    return this.#after
  }

  /** Every chunk was taken: `finish` is next. */
  get complete(): boolean {
    return this.#complete
  }

  /**
   * Takes the chunk that follows `after`, whose bytes nobody may change from then on. Resolves while it is still being written:
   * what becomes of that is said by the next call, or by `flush`. Rejects with `ChunkRefusedError`, and has taken nothing,
   * when it is not that one or was damaged on its way; it may be asked for again. After `StateDiskError` the LevelDB is to be
   * closed; opened again, it goes on from what it then holds.
   */
  async add(chunk: Chunk): Promise<void> {
    assert(!this.#busy, 'One chunk at a time')
    this.#busy = true
    try {
      const content = decodeChunk(chunk)
      const { rows, lastKey, open } = this.#join(content)
      const { next } = content
      await this.#written
      this.#open = open
      this.#lastKey = lastKey && Buffer.from(lastKey)
      this.#complete = next === undefined
      this.#after = next && Buffer.from(next)
      if (rows.length === 0 && !this.#complete) return
      this.#written = this.#write(rows, this.#complete ? undefined : lastKey)
      this.#written.catch(() => 'whoever calls next is told')
    } finally {
      this.#busy = false
    }
  }

  /** Resolves when every chunk taken is durable. */
  flush(): Promise<void> {
    return this.#written
  }

  /**
   * Reads back what LevelDB holds, row by row, and makes it a state that `StateMachine.open` takes as whole, if it is
   * the one expected; rejects with `StateDamagedError` if not. Its files' names are durable once the directory has
   * been synced.
   */
  async finish(options: VerifyOptions = {}): Promise<Verified> {
    assert(this.#complete, 'A snapshot is loaded when its last chunk is')
    await this.flush()
    const verified = await this.#verify(options)
    const batch = { number: this.#lastBatch + 1, lastApplied: this.#expected.index }
    const rows = [{ key: loadingKey, value: undefined }, encodeMark(closedKey, batch), markOf(batch)]
    await writeBatch(this.#level, rows, this.#time)
    return verified
  }

  async #verify(options: VerifyOptions): Promise<Verified> {
    const { index, term, digest } = this.#expected
    const level = this.#level
    const snapshot = level.snapshot()
    try {
      const verified = await verify({ level, snapshot, time: this.#time }, options)
      const { lastAppliedTerm } = await readMeta(level, snapshot)
      for (const [what, found, expected] of [
        ['index', verified.index, index],
        ['term', lastAppliedTerm, term],
        ['digest', verified.digest, digest],
      ] as const) {
        if (found === expected) continue
        throw new StateDamagedError(
          `The snapshot that was loaded has ${what} ${found}, and ${expected} was sent.`,
        )
      }
      return verified
    } catch (error) {
      throw levelFailure(error, 'read')
    } finally {
      await snapshot.close()
    }
  }

  /** The rows that this chunk completes, and the one that it leaves open. Changes nothing. */
  #join({ index, after, pieces, next }: ChunkContent) {
    if (this.#complete) throw new ChunkRefusedError('The last chunk of the snapshot has been taken.')
    if (index !== this.#expected.index) {
      throw new ChunkRefusedError(
        `A chunk of the snapshot at ${index} came for the one at ${this.#expected.index}.`,
      )
    }
    if (!isSame(after, this.#after))
      throw new ChunkRefusedError('A chunk of the snapshot came out of its order.')
    const rows: SealedRow[] = []
    let open = this.#open
    let lastKey = this.#lastKey
    for (const piece of pieces) {
      const { key } = piece
      if (lastKey !== undefined && Buffer.compare(key, lastKey) <= 0) {
        throw new ChunkRefusedError('The rows in a chunk of the snapshot are out of their order.')
      }
      // Almost every row comes in one piece, and goes to LevelDB from where it lies in the chunk.
      const isWhole = open === undefined && piece.offset === 0 && piece.bytes.length === piece.size
      const row = isWhole ? undefined : extend(open, piece)
      open = row !== undefined && row.length < row.size ? row : undefined
      if (open !== undefined) continue
      rows.push(checked(key, row === undefined ? piece.bytes : Buffer.concat(row.pieces)))
      lastKey = key
    }
    const end =
      open === undefined ? lastKey && placeAfter(lastKey) : encodeCursor({ key: open.key, sent: open.length })
    if (next === undefined ? open !== undefined : !isSame(next, end)) {
      throw new ChunkRefusedError('A chunk of the snapshot ends elsewhere than it says.')
    }
    return { rows, lastKey, open }
  }

  /**
   * `lastKey` is the row after which to go on, should this be interrupted; undefined when the snapshot is complete.
   */
  async #write(rows: readonly SealedRow[], lastKey: Uint8Array | undefined): Promise<void> {
    const number = this.#lastBatch + 1
    const after = lastKey === undefined ? undefined : placeAfter(lastKey)
    const loading = encodeLoading({ ...this.#expected, after })
    await writeBatch(this.#level, [...rows, loading, markOf({ number, lastApplied: 0 })], this.#time)
    this.#lastBatch = number
  }
}

function placeAfter(key: Uint8Array): Cursor {
  return encodeCursor({ key, sent: undefined })
}

/** The row with one more piece. What it keeps is copied: the chunk belongs to the caller. */
function extend(open: OpenRow | undefined, { key, size, offset, bytes }: Piece): OpenRow {
  const before = open ?? { key: Buffer.from(key), size, length: 0, pieces: [] }
  const length = before.length + bytes.length
  const continues = isSame(key, before.key) && size === before.size && offset === before.length
  if (!continues || bytes.length === 0 || length > size || size > maxRowBytes) {
    throw new ChunkRefusedError(
      'A piece of a row in a chunk of the snapshot does not fit the pieces before it.',
    )
  }
  return { ...before, length, pieces: [...before.pieces, Buffer.from(bytes)] }
}

function checked(key: Uint8Array, value: Uint8Array): SealedRow {
  try {
    checkRow(key, value)
  } catch (error) {
    if (!(error instanceof StateDamagedError)) throw error
    throw new ChunkRefusedError('A row in a chunk of the snapshot is not what was written.', { cause: error })
  }
  return { key: asBuffer(key), value: asBuffer(value) }
}
