// Reads a whole state back, checks every row, and holds the digest against what the rows really sum up to.

import type { AbstractSnapshot } from 'abstract-level'
import { checkRecord, StateDamagedError } from './record.ts'
import { hashRow } from './row-hash.ts'
import { RowSum } from './state-digest.ts'
import { decodeIdempotencyKey } from './state-idempotency.ts'
import { decodeOutcomes } from './state-origins.ts'
import {
  type Digest,
  decodeExpiry,
  decodeMeta,
  decodeOrigin,
  decodeRestore,
  decodeRestoreHeader,
  decodeStore,
  decodeToken,
  digestOf,
  type Meta,
  metaKey,
  type ReplicatedTable,
  replicatedRange,
  tableOf,
} from './state-rows.ts'
import { decodeSession } from './state-sessions.ts'
import { type StateTime, Stretch } from './state-time.ts'
import type { StateLevel } from './state-writer.ts'

export type VerifyOptions = {
  readonly signal?: AbortSignal | undefined
  /**
   * Reads at most this much on average, so that a scrub leaves the disk to others; as fast as it goes when absent.
   */
  readonly bytesPerSecond?: number | undefined
}

/** A whole state: every row is what was written, and none is absent or stale. */
export type Verified = Digest & {
  readonly rows: number
  /** Of keys and values. */
  readonly bytes: number
}

/** How every table's rows are read; the seal of a row is checked by its decoder. */
const decoders: Record<ReplicatedTable, (key: Uint8Array, value: Uint8Array) => unknown> = {
  meta: (_, value) => decodeMeta(value),
  stores: decodeStore,
  tokens: decodeToken,
  origins: decodeOrigin,
  outcomes: decodeOutcomes,
  sessions: decodeSession,
  idempotencyKeys: decodeIdempotencyKey,
  expiries: decodeExpiry,
  restore: (key, value) => (key[1] === 0 ? decodeRestore(value) : decodeRestoreHeader(value)),
  records: checkRecord,
}

/**
 * Throws `StateDamagedError` for a row that is not what was written, and a plain error for a row of another build.
 */
export function checkRow(key: Uint8Array, value: Uint8Array): void {
  decoders[tableOf(key)](key, value)
}

type Whole = { readonly level: StateLevel; readonly snapshot: AbstractSnapshot; readonly time: StateTime }

/**
 * Rejects with `StateDamagedError` unless the rows are whole, and with the reason of `signal`. Everything is read
 * from the one LevelDB snapshot, the digest too: batches go on meanwhile.
 */
export async function verify(
  { level, snapshot, time }: Whole,
  { signal, bytesPerSecond }: VerifyOptions,
): Promise<Verified> {
  const meta = await readMeta(level, snapshot)
  const sweep = new Sweep()
  const begun = time.now()
  const stretch = new Stretch(time)
  for await (const page of readAhead(pages(level, { ...replicatedRange, snapshot }))) {
    for (const [key, value] of page) {
      checkRow(key, value)
      sweep.add(key, value)
      if (stretch.isOverAfter(key.length + value.length)) await stretch.pause()
    }
    signal?.throwIfAborted()
    const ahead =
      bytesPerSecond === undefined ? 0 : begun + (sweep.bytes / bytesPerSecond) * 1000 - time.now()
    if (ahead > 0) await rest(ahead, time, signal)
  }
  return sweep.hold(meta)
}

/** All rows of a state in their order, summed up one by one. Each was checked by itself before. */
export class Sweep {
  readonly #sum = new RowSum()
  #rows = 0
  /** Of keys and values so far. */
  bytes = 0

  add(key: Uint8Array, value: Uint8Array): void {
    // The first row holds the sum of the others.
    if (this.#rows > 0) this.#sum.add(hashRow(key, value))
    this.#rows += 1
    this.bytes += key.length + value.length
  }

  /** Throws `StateDamagedError` unless these are the rows that the first one, `meta`, speaks of. */
  hold(meta: Meta): Verified {
    const { hex } = this.#sum
    if (hex !== meta.sum) {
      throw new StateDamagedError(
        `The state on this disk is damaged: at entry ${meta.lastApplied} its rows come to ${hex}, and ${meta.sum} was written: rows are absent, stale or altered.`,
      )
    }
    return { ...digestOf(meta), rows: this.#rows, bytes: this.bytes }
  }
}

/** The first row as it is in this LevelDB snapshot. */
export async function readMeta(level: StateLevel, snapshot: AbstractSnapshot): Promise<Meta> {
  const row = await level.get(metaKey, { snapshot })
  if (row === undefined) {
    throw new StateDamagedError('The state on this disk is damaged: its first row is missing.')
  }
  return decodeMeta(row)
}

type Range = {
  readonly gt?: Uint8Array
  readonly gte?: Uint8Array
  readonly lt?: Uint8Array
  readonly snapshot: AbstractSnapshot
}

// LevelDB hands over about this much at once, and at most this many rows.
const pageBytes = 256 * 1024
const pageRows = 1000

/** The rows of a range, page by page, each of about `bytes`, or of as many rows as are `needed` if those are fewer. */
export async function* pages(
  level: StateLevel,
  range: Range,
  bytes = pageBytes,
  needed = () => pageRows,
): AsyncGenerator<readonly (readonly [Uint8Array, Uint8Array])[], void> {
  // LevelDB's own option, unknown to abstract-level: a variable carries it past the check for excess properties.
  const options = { ...range, highWaterMarkBytes: bytes }
  const iterator = level.iterator(options)
  try {
    for (;;) {
      const page = await iterator.nextv(Math.min(pageRows, needed()))
      if (page.length === 0) return
      yield page
    }
  } finally {
    await iterator.close()
  }
}

/** The same, but the next is on its way while one is worked on. */
async function* readAhead<T>(source: AsyncGenerator<T, void>): AsyncGenerator<T, void> {
  try {
    let next = source.next()
    for (;;) {
      const read = await next
      if (read.done === true) return
      next = source.next()
      // Whoever ends the loop early does not hear of it any more.
      next.catch(() => {})
      yield read.value
    }
  } finally {
    await source.return()
  }
}

function rest(ms: number, time: StateTime, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const cancel = time.after(ms, resolve)
  const abort = () => {
    cancel()
    reject(signal?.reason)
  }
  signal?.addEventListener('abort', abort, { once: true })
  return promise.finally(() => signal?.removeEventListener('abort', abort))
}
