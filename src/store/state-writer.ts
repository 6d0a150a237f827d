// Carries what was applied to LevelDB, behind the applying: one synced, atomic, numbered batch after the other.

import assert from 'node:assert/strict'
import type { AbstractLevel } from 'abstract-level'
import type { Overlay, Row } from './overlay.ts'
import { StateDamagedError } from './record.ts'
import { failureOf, levelFailure, type StateFailure } from './state-failure.ts'
import { type BatchRow, batchesRange, decodeBatch, encodeBatch } from './state-rows.ts'
import { type StateTime, Stretch } from './state-time.ts'

/** LevelDB, or what stands for it in a test: keys and values are bytes. */
export type StateLevel = AbstractLevel<string | Buffer | Uint8Array, Uint8Array, Uint8Array>

/**
 * Each batch leaves its number in slot `number % slots`. LevelDB can lose a batch from the middle of its log and open
 * without a word; its number is then missing among those after it. That is noticed of the last 32,768. LevelDB's log, where it
 * happens, may have more, if they are small: of those before it is the digest that tells, held against every row after a stop
 * that was not clean.
 */
const batchSlots = 32_768

/**
 * What one batch brings LevelDB up to, the first row that says so, and this node's own rows that go with it; all others are
 * in the overlay.
 */
export type Captured = { readonly lastApplied: number; readonly meta: Row; readonly own: readonly Row[] }

type Waiter = { readonly resolve: () => void; readonly reject: (error: Error) => void }

type WriterOptions = {
  readonly level: StateLevel
  readonly overlay: Pick<Overlay, 'take' | 'settle'>
  readonly time: StateTime
  readonly flushEveryMs: number
  /** The number of the last batch in LevelDB. */
  readonly lastBatch: number
  /** What LevelDB has been brought up to. */
  readonly durableIndex: number
  /** Called at the moment a batch is cut, always between two entries. */
  readonly capture: () => Captured
  /** Called when the batch cut last is durable. */
  readonly onWritten: () => void
  /** Called once, with the first error. */
  readonly onFailure: (failure: StateFailure) => void
}

/** One batch at a time, at most one every `flushEveryMs` unless somebody waits, none after the first error. */
export class StateWriter {
  readonly #level: StateLevel
  readonly #overlay: Pick<Overlay, 'take' | 'settle'>
  readonly #time: StateTime
  readonly #flushEveryMs: number
  readonly #capture: () => Captured
  readonly #onWritten: () => void
  readonly #onFailure: (failure: StateFailure) => void
  #lastBatch: number
  #durableIndex: number
  /** Something was applied that no batch has taken. */
  #changed = false
  /**
   * An entry is being applied: half of one must never be in a batch, since the other half would come after a crash.
   */
  #held = false
  #writing = false
  /** Takes back the timer of the next batch, while there is one. */
  #cancelTimer: (() => void) | undefined
  #failure: StateFailure | undefined
  /** Waiting for the next batch, and for the one on its way. */
  #waiting: Waiter[] = []
  #boarded: Waiter[] = []

  constructor(options: WriterOptions) {
    this.#level = options.level
    this.#overlay = options.overlay
    this.#time = options.time
    this.#flushEveryMs = options.flushEveryMs
    this.#lastBatch = options.lastBatch
    this.#durableIndex = options.durableIndex
    this.#capture = options.capture
    this.#onWritten = options.onWritten
    this.#onFailure = options.onFailure
  }

  /** The last batch in LevelDB. */
  get lastBatch(): BatchRow {
    return { number: this.#lastBatch, lastApplied: this.#durableIndex }
  }

  /** Everything up to this index is in LevelDB, synced. */
  get durableIndex(): number {
    return this.#durableIndex
  }

  /** The first error; nothing is written after it. */
  get failure(): StateFailure | undefined {
    return this.#failure
  }

  /** An entry begins: no batch is cut before `release`. */
  hold(): void {
    assert(!this.#held, 'One entry is applied at a time')
    this.#held = true
    this.#changed = true
  }

  /** The entry is applied whole. */
  release(): void {
    assert(this.#held, 'An entry ends once')
    this.#held = false
    this.#schedule()
  }

  /** Resolves when everything applied so far, and the rest of an entry begun, is in LevelDB, synced. */
  flush(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error)
    if (!this.#changed && !this.#writing) return Promise.resolve()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const waiters = this.#changed ? this.#waiting : this.#boarded
    waiters.push({ resolve, reject })
    this.#schedule()
    return promise
  }

  /** Ends all writing for good. Returns the first failure, which may be another. */
  fail(error: Error): StateFailure {
    if (this.#failure !== undefined) return this.#failure
    this.#failure = failureOf(error)
    this.#cancelTimer?.()
    for (const waiter of [...this.#boarded, ...this.#waiting]) waiter.reject(error)
    this.#boarded = []
    this.#waiting = []
    this.#onFailure(this.#failure)
    return this.#failure
  }

  get #ready(): boolean {
    return this.#changed && !this.#held && !this.#writing && this.#failure === undefined
  }

  #schedule(): void {
    if (!this.#ready) return
    if (this.#waiting.length > 0) {
      this.#cancelTimer?.()
      this.#cancelTimer = undefined
      void this.#write()
    } else {
      this.#cancelTimer ??= this.#time.after(this.#flushEveryMs, () => {
        this.#cancelTimer = undefined
        if (this.#ready) void this.#write()
      })
    }
  }

  /** Never rejects: an error ends in `fail`. */
  async #write(): Promise<void> {
    this.#changed = false
    this.#writing = true
    this.#boarded = this.#waiting
    this.#waiting = []
    try {
      const { lastApplied, meta, own } = this.#capture()
      const number = this.#lastBatch + 1
      const mark = markOf({ number, lastApplied })
      await writeBatch(this.#level, [...this.#overlay.take(), ...own, meta, mark], this.#time)
      this.#overlay.settle()
      this.#lastBatch = number
      this.#durableIndex = lastApplied
      this.#onWritten()
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)))
    }
    this.#writing = false
    for (const waiter of this.#boarded) waiter.resolve()
    this.#boarded = []
    this.#schedule()
  }
}

// LevelDB 1.20 can lose unsynced writes from below a synced one when it changes its log file: every batch is synced.
const synced = { sync: true }

/** The row by which a batch tells that it is there. */
export function markOf(batch: BatchRow): Row {
  return encodeBatch(batch.number % batchSlots, batch)
}

/**
 * Writes all of these rows or none, synced. Rejects with `StateDiskError` or `StateDamagedError`; the handle must not
 * be written any more then.
 */
export async function writeBatch(level: StateLevel, rows: readonly Row[], time: StateTime): Promise<void> {
  const batch = level.batch()
  const stretch = new Stretch(time)
  for (const { key, value } of rows) {
    if (value === undefined) batch.del(key)
    else batch.put(key, value)
    if (stretch.isOverAfter(value?.length ?? 0)) await stretch.pause()
  }
  try {
    await batch.write(synced)
  } catch (error) {
    throw levelFailure(error, 'written')
  }
}

/**
 * The number of the last batch in LevelDB and what it brought the state up to; undefined when there never was one.
 * Throws `StateDamagedError` when one before it is missing.
 */
export async function lastBatch(level: StateLevel): Promise<BatchRow | undefined> {
  const numbers: number[] = new Array(batchSlots).fill(0)
  let last: BatchRow = { number: 0, lastApplied: 0 }
  for await (const [key, value] of level.iterator(batchesRange)) {
    const batch = decodeBatch(key, value)
    numbers[batch.slot] = batch.number
    if (batch.number > last.number) last = batch
  }
  if (last.number === 0) return undefined
  for (let number = Math.max(1, last.number - batchSlots + 1); number < last.number; number++) {
    if (numbers[number % batchSlots] === number) continue
    throw new StateDamagedError(
      `The state on this disk is damaged: batch ${number} is missing below batch ${last.number}.`,
    )
  }
  return last
}
