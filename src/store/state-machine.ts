// The replicated state: applies committed entries in memory, answers at once, and lets LevelDB follow behind.

import assert from 'node:assert/strict'
import { TrivetError } from '../errors.ts'
import type { Configuration, Entry } from '../raft/types.ts'
import { ChangeFeed } from './change-feed.ts'
import type { Place } from './places.ts'
import { StateDamagedError } from './record.ts'
import { AppliedState } from './state-apply.ts'
import { backupOf } from './state-backup.ts'
import type { Follower } from './state-changes.ts'
import type { Ledger } from './state-digest.ts'
import { levelFailure, StateDiskError, type StateFailure } from './state-failure.ts'
import { fetchFor } from './state-fetch.ts'
import { History, type HistoryLimits, historyLimits } from './state-history.ts'
import { type HistoryReader, openHistory } from './state-history-read.ts'
import { loadState, type State } from './state-open.ts'
import { StateReads } from './state-reads.ts'
import { closedKey, type Digest, digestOf, encodeMark, encodeMeta } from './state-rows.ts'
import { StateSnapshot } from './state-snapshot.ts'
import { stretches, workOf } from './state-steps.ts'
import { statusOf } from './state-stores.ts'
import { realTime, type StateTime, Stretch } from './state-time.ts'
import { readMeta, type Verified, type VerifyOptions, verify } from './state-verify.ts'
import { type Captured, type StateLevel, StateWriter, writeBatch } from './state-writer.ts'
import type {
  Applied,
  AppStatus,
  ConsistentRead,
  Due,
  Founding,
  Item,
  ListPage,
  ListQuery,
  StateReader,
  StoreStatus,
  Token,
} from './types.ts'

export type StateMachineOptions = {
  /** Opened, with byte keys and values (`openLevel`). The state machine closes it, also when opening fails. */
  readonly level: StateLevel
  readonly founding: Founding
  /** The longest an applied entry waits for its batch to start while none is on its way, in milliseconds. */
  readonly flushEveryMs?: number
  /** What may wait for LevelDB in memory, in bytes; applying waits when it is passed. */
  readonly overlayBytes?: number
  /** How much of the history of changes is kept; 10 minutes or 256 MiB, whichever is less, unless given. */
  readonly history?: HistoryLimits | undefined
  /** The real one when absent. */
  readonly time?: StateTime | undefined
  /**
   * Called once, with the first failure. Nothing is served or written after it; the state machine is still to be
   * closed.
   */
  readonly onFailure: (failure: StateFailure) => void
}

/**
 * Applies the log, one `apply` at a time, and reads what was applied. What it hands out are views of rows that never
 * change; what it is given it copies, so that an entry's buffer is free once `apply` has resolved.
 */
export class StateMachine implements StateReader {
  readonly #level: StateLevel
  readonly #ledger: Ledger
  readonly #overlayBytes: number
  readonly #writer: StateWriter
  readonly #time: StateTime
  readonly #applied: AppliedState
  readonly #history: History
  readonly #feed: ChangeFeed
  /** Clears what the history has let go of, while there is any. */
  #clearing: Promise<void> | undefined
  readonly #reads: StateReads
  /** Of the last batch cut. */
  #digest: Digest
  #applying = false
  #verified: boolean
  #closed: Promise<void> | undefined

  /**
   * The state in LevelDB, or the founding's, made durable, where LevelDB is empty. Rejects with `StateDamagedError`
   * when rows are damaged or batches missing, and with an operator's sentence for another cluster's state.
   */
  static async open(options: StateMachineOptions): Promise<StateMachine> {
    try {
      const state = await loadState(options.level, options.founding)
      const machine = new StateMachine(options, state)
      if (state.lastBatch === 0) await machine.#found()
      else if (state.clean) await machine.#begin()
      return machine
    } catch (error) {
      await options.level.close()
      throw levelFailure(error, 'read')
    }
  }

  private constructor(options: StateMachineOptions, state: State) {
    const { meta, ledger, history, lastBatch } = state
    this.#level = options.level
    this.#overlayBytes = options.overlayBytes ?? 32 * 1024 * 1024
    this.#ledger = ledger
    const { revision, time } = meta
    this.#history = new History(history, { revision, time, limits: options.history ?? historyLimits })
    this.#feed = new ChangeFeed(this.#history)
    this.#applied = new AppliedState(state, this.#feed)
    this.#verified = state.clean
    this.#digest = digestOf(meta)
    this.#time = options.time ?? realTime
    this.#writer = new StateWriter({
      level: options.level,
      overlay: ledger.overlay,
      time: this.#time,
      flushEveryMs: options.flushEveryMs ?? 50,
      lastBatch,
      durableIndex: meta.lastApplied,
      capture: () => this.#capture(),
      onWritten: () => this.#written(),
      onFailure: options.onFailure,
    })
    this.#reads = new StateReads({
      level: options.level,
      overlay: ledger.overlay,
      stores: this.#applied.stores,
      tokens: this.#applied.tokens,
      flush: () => this.flush(),
      reading: (read) => this.#usable(read),
      time: this.#time,
    })
  }

  /** The index of the last entry applied whole. */
  get lastApplied(): number {
    return this.#applied.lastApplied
  }

  get lastAppliedTerm(): number {
    return this.#applied.lastAppliedTerm
  }

  /** The highest index that LevelDB holds, synced. */
  get durableIndex(): number {
    return this.#writer.durableIndex
  }

  /** The stamp of the last entry that had one, in milliseconds since the epoch; never goes back. */
  get time(): number {
    return this.#applied.stamp
  }

  /** What was applied and waits for LevelDB: about what it holds of memory, and when applying waits, in bytes. */
  get overlay(): { readonly bytes: number; readonly bound: number } {
    return { bytes: this.#ledger.overlay.bytes, bound: this.#overlayBytes }
  }

  /** The last configuration applied. */
  get configuration(): Configuration {
    return this.#applied.configuration
  }

  get revision(): number {
    return this.#applied.revision
  }

  /**
   * Whether the rows in LevelDB are known to be whole: it was closed properly, or `recompute` has found so since.
   * Until then LevelDB may have lost rows in a crash without a trace, and linearizable reads belong to another node
   * (`safety.md`, rule 9).
   */
  get verified(): boolean {
    return this.#verified
  }

  /** Why nothing is served any more, if so. */
  get failure(): StateFailure | undefined {
    return this.#writer.failure
  }

  /** The digest of the state as the last batch took it to LevelDB; after `flush`, of all that was applied. */
  get digest(): Digest {
    return this.#digest
  }

  /** The digest at the last index that is a multiple of `checkpointEvery`. */
  get digestAt(): Digest | undefined {
    return this.#applied.checkpoint
  }

  get clusterId(): string {
    return this.#applied.clusterId
  }

  /**
   * Applies the entries that follow `lastApplied` and resolves with what their commands came to, in order. A command
   * that was decided before comes to the same again; one that its origin no longer waits for comes to nothing and is
   * not in the answer. Waits while the overlay is full. Any rejection is final; `failure` says what is to be done.
   */
  async apply(entries: readonly Entry[]): Promise<readonly Applied[]> {
    assert(!this.#applying, 'One apply at a time')
    this.#checkUsable()
    this.#applying = true
    const applied: Applied[] = []
    try {
      const stretch = new Stretch(this.#time)
      const { known } = this.#applied
      for (const steps of stretches(entries, known)) {
        const found = await this.#reading(() =>
          fetchFor(steps, {
            level: this.#level,
            overlay: this.#ledger.overlay,
            known,
            keepsRow: (record) => this.#history.wants(record),
            time: this.#time,
          }),
        )
        for (const step of steps) {
          if (step.type === 'begin') this.#checkUsable()
          if (step.type === 'begin') this.#writer.hold()
          const work = workOf(step, found.rows)
          const answer = this.#applied.take(step, found)
          if (answer !== undefined) applied.push(answer)
          if (step.type === 'end') await this.#ended()
          if (stretch.isOverAfter(work)) await stretch.pause()
        }
      }
    } catch (error) {
      // Being closed is noticed between entries. Anything else may leave one applied by half, and nothing of that may
      // reach LevelDB or a reader.
      throw error instanceof TrivetError ? error : this.#fail(error)
    } finally {
      this.#applying = false
    }
    return applied
  }

  /** Resolves when everything applied so far is in LevelDB, synced. */
  async flush(): Promise<void> {
    this.#checkUsable()
    await this.#writer.flush()
  }

  /**
   * Reads every row of the state as LevelDB has it, beside everything else, and holds it against the digest. Damage
   * ends the state machine, as it does when a read comes upon it; without any, the state is `verified`. Pins the
   * versions it reads until it is done.
   */
  async recompute(options: VerifyOptions = {}): Promise<Verified> {
    this.#checkUsable()
    return this.#reading(async () => {
      const snapshot = this.#level.snapshot()
      try {
        const verified = await verify({ level: this.#level, snapshot, time: this.#time }, options)
        // All may have been read before it was closed.
        this.#checkUsable()
        this.#verified = true
        return verified
      } finally {
        await snapshot.close()
      }
    })
  }

  /**
   * The state as of everything applied so far, to be sent in chunks while this one goes on. The caller closes it;
   * closing the state machine ends it.
   */
  async snapshot(): Promise<StateSnapshot> {
    await this.flush()
    return this.#reading(async () => {
      const level = this.#level
      const snapshot = level.snapshot()
      try {
        const meta = await readMeta(level, snapshot)
        const reading = async <T>(read: () => Promise<T>): Promise<T> => this.#usable(read)
        return new StateSnapshot({ level, snapshot, meta, time: this.#time, reading })
      } catch (error) {
        await snapshot.close()
        throw error
      }
    })
  }

  /** The state as of everything applied at the first read, as a backup; closing the state machine ends it. */
  async *backup(): AsyncGenerator<Uint8Array, void> {
    await this.flush()
    yield* backupOf({ level: this.#level, reading: (read) => this.#usable(read) })
  }

  /** The stamp at which a restore under way is over, should nothing more come of it; undefined without one. */
  get restoreOverAt(): number | undefined {
    return this.#applied.restoreOverAt
  }

  /**
   * Flushes and closes LevelDB, unless it has failed: then it only closes it. Reads under way may reject with
   * `shutting-down`.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    try {
      await this.#clearing
      if (this.#writer.failure !== undefined) return
      await this.#writer.flush()
      if (!this.#verified) return
      await writeBatch(this.#level, [encodeMark(closedKey, this.#writer.lastBatch)], this.#time)
    } finally {
      await this.#level.close()
    }
  }

  /** The last boot under which this node's commands were applied; 0 where none were. */
  bootOf(peer: string): number {
    return this.#applied.bootOf(peer)
  }

  token(hash: string): Token | undefined {
    return this.#applied.tokens.get(hash)
  }

  tokens(): readonly Token[] {
    return this.#applied.tokens.list()
  }

  store(place: Place): StoreStatus | undefined {
    const store = this.#applied.stores.at(place)
    return store === undefined ? undefined : statusOf(store)
  }

  stores(): readonly StoreStatus[] {
    return this.#applied.stores.statuses()
  }

  apps(): readonly AppStatus[] {
    return this.#applied.stores.apps()
  }

  dropped(): readonly number[] {
    return this.#applied.stores.dropped()
  }

  async get(place: Place, key: Uint8Array): Promise<Item | undefined> {
    this.#checkUsable()
    return this.#reads.get(place, key)
  }

  async getEach(
    place: Place,
    keys: readonly Uint8Array[],
    found: (item: Item | undefined, at: number) => void,
  ): Promise<void> {
    this.#checkUsable()
    return this.#reads.getEach(place, keys, found)
  }

  async list(query: ListQuery, options: { signal?: AbortSignal | undefined } = {}): Promise<ListPage> {
    this.#checkUsable()
    return this.#reads.list(query, options)
  }

  async openRead(): Promise<ConsistentRead> {
    this.#checkUsable()
    return this.#reads.openRead()
  }

  async due(now: number, limit: number): Promise<Due> {
    this.#checkUsable()
    return this.#reads.due(now, limit)
  }

  /** Tells the follower of everything that is applied from now on, until the returned function is called. */
  follow(follower: Follower): () => void {
    return this.#feed.follow(follower)
  }

  /** What is kept of the changes, as of everything applied so far. The caller closes it. */
  async openHistory(): Promise<HistoryReader> {
    await this.flush()
    return this.#reading(async () => {
      const level = this.#level
      const snapshot = level.snapshot()
      try {
        const reading = <T>(read: () => Promise<T>): Promise<T> => {
          this.#checkUsable()
          return this.#reading(read)
        }
        return await openHistory({ level, snapshot, reading })
      } catch (error) {
        await snapshot.close()
        throw error
      }
    })
  }

  /** Whatever ends this process from now on, but `close`, ends it uncleanly. */
  async #begin(): Promise<void> {
    await writeBatch(this.#level, [{ key: closedKey, value: undefined }], this.#time)
  }

  async #found(): Promise<void> {
    this.#writer.hold()
    this.#applied.stores.markAll()
    this.#applied.tokens.markAll()
    this.#writer.release()
    await this.#writer.flush()
  }

  /** An entry is applied whole. */
  async #ended(): Promise<void> {
    this.#writer.release()
    if (this.#waitingBytes > this.#overlayBytes) await this.#writer.flush()
  }

  /** What waits for LevelDB in memory. */
  get #waitingBytes(): number {
    return this.#ledger.overlay.bytes + this.#history.waitingBytes
  }

  /** Between two entries, when a batch is cut. */
  #capture(): Captured {
    const meta = this.#applied.meta()
    this.#digest = digestOf(meta)
    const own = this.#history.takeRows(meta.revision, meta.time)
    return { lastApplied: meta.lastApplied, meta: encodeMeta(meta), own }
  }

  #written(): void {
    this.#history.settled()
    if (this.#history.clearable) this.#clearing ??= this.#clear()
  }

  /** Never rejects: an error ends the state machine. */
  async #clear(): Promise<void> {
    try {
      while (this.#history.clearable && this.failure === undefined && this.#closed === undefined) {
        await this.#history.clear(this.#level)
      }
    } catch (error) {
      this.#writer.fail(levelFailure(error, 'written'))
    } finally {
      this.#clearing = undefined
    }
  }

  #checkUsable(): void {
    if (this.#writer.failure !== undefined) throw this.#writer.failure.error
    if (this.#closed !== undefined) throw new TrivetError('shutting-down', 'The state is being closed.')
  }

  /** A read of a state machine that may have failed or been closed meanwhile. */
  #usable<T>(read: () => Promise<T>): Promise<T> {
    this.#checkUsable()
    return this.#reading(read)
  }

  /** Runs a read of LevelDB. An error of LevelDB, and a row that is not what was written, ends the state machine. */
  async #reading<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read()
    } catch (error) {
      if (this.#level.status !== 'open') this.#checkUsable()
      const failure = levelFailure(error, 'read')
      const ends = failure instanceof StateDamagedError || failure instanceof StateDiskError
      throw ends ? this.#fail(failure) : error
    }
  }

  /** Returns the error to throw: that of the first failure. */
  #fail(error: unknown): Error {
    return this.#writer.fail(levelFailure(error, 'read')).error
  }
}
