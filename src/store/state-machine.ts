// The replicated state: applies committed entries in memory, answers at once, and lets LevelDB follow behind.

import assert from 'node:assert/strict'
import { TrivetError } from '../errors.ts'
import type { Configuration, Entry } from '../raft/types.ts'
import { rowName } from './overlay.ts'
import { decodeRecord, encodeRecord, StateDamagedError } from './record.ts'
import { decide } from './state-decide.ts'
import type { Ledger } from './state-digest.ts'
import { levelFailure, StateDiskError, type StateFailure } from './state-failure.ts'
import { itemOf, orAborted, readPage } from './state-list.ts'
import { loadState, type State } from './state-open.ts'
import type { Origins } from './state-origins.ts'
import type { Repeatable, Repeats } from './state-repeats.ts'
import {
  checkpointEvery,
  closedKey,
  type Digest,
  digestOf,
  encodeMark,
  encodeMeta,
  encodeStore,
  encodeToken,
  type Meta,
  recordKey,
} from './state-rows.ts'
import { StateSnapshot } from './state-snapshot.ts'
import { type CommandStep, type OpenStore, type RowPlace, type Step, stretches } from './state-steps.ts'
import { realTime, type StateTime, Stretch } from './state-time.ts'
import { readMeta, type Verified, type VerifyOptions, verify } from './state-verify.ts'
import { type Captured, type StateLevel, StateWriter, writeBatch } from './state-writer.ts'
import type {
  Applied,
  Founding,
  Item,
  KeyCommand,
  ListPage,
  ListQuery,
  Outcome,
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
  /** The real one when absent. */
  readonly time?: StateTime | undefined
  /**
   * Called once, with the first failure. Nothing is served or written after it; the state machine is still to be
   * closed.
   */
  readonly onFailure: (failure: StateFailure) => void
}

/** What stands under the keys of a stretch of commands, by row name, kept up to date while they are applied. */
type Present = Map<string, Uint8Array | undefined>

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
  readonly #founded: Pick<Meta, 'clusterId' | 'cluster' | 'nextStore' | 'valueBytes' | 'commandVersion'>
  readonly #stores: Map<string, OpenStore>
  readonly #tokens: Map<string, Token>
  readonly #origins: Origins
  readonly #repeats: Repeats
  /** Stores whose row LevelDB has not got as it stands. */
  readonly #changedStores = new Set<OpenStore>()
  #configuration: Configuration
  #lastApplied: number
  #lastAppliedTerm: number
  #revision: number
  /** The stamp of the last entry that had one. */
  #stamp: number
  /** Of the last batch cut. */
  #digest: Digest
  #checkpoint: Digest | undefined
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
      if (state.lastBatch === 0) await machine.#found(state)
      else if (state.clean) await machine.#begin()
      return machine
    } catch (error) {
      await options.level.close()
      throw levelFailure(error, 'read')
    }
  }

  private constructor(options: StateMachineOptions, state: State) {
    const { meta, ledger, stores, tokens, origins, repeats, lastBatch } = state
    this.#level = options.level
    this.#overlayBytes = options.overlayBytes ?? 32 * 1024 * 1024
    this.#ledger = ledger
    this.#founded = meta
    this.#stores = new Map(stores.map((store) => [store.definition.name, { ...store }]))
    this.#tokens = new Map(tokens.map((token) => [token.hash, token]))
    this.#origins = origins
    this.#repeats = repeats
    this.#configuration = meta.configuration
    this.#lastApplied = meta.lastApplied
    this.#lastAppliedTerm = meta.lastAppliedTerm
    this.#revision = meta.revision
    this.#stamp = meta.time
    this.#verified = state.clean
    this.#digest = digestOf(meta)
    this.#checkpoint = meta.checkpoint
    this.#time = options.time ?? realTime
    this.#writer = new StateWriter({
      level: options.level,
      overlay: ledger.overlay,
      time: this.#time,
      flushEveryMs: options.flushEveryMs ?? 5,
      lastBatch,
      durableIndex: meta.lastApplied,
      capture: () => this.#capture(),
      onFailure: options.onFailure,
    })
  }

  /** The index of the last entry applied whole. */
  get lastApplied(): number {
    return this.#lastApplied
  }

  get lastAppliedTerm(): number {
    return this.#lastAppliedTerm
  }

  /** The highest index that LevelDB holds, synced. */
  get durableIndex(): number {
    return this.#writer.durableIndex
  }

  /** The stamp of the last entry that had one, in milliseconds since the epoch; never goes back. */
  get time(): number {
    return this.#stamp
  }

  /** The last configuration applied. */
  get configuration(): Configuration {
    return this.#configuration
  }

  get revision(): number {
    return this.#revision
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
    return this.#checkpoint
  }

  get clusterId(): string {
    return this.#founded.clusterId
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
      const known = { stores: this.#stores, tokens: this.#tokens, valueBytes: this.#founded.valueBytes }
      for (const steps of stretches(entries, known)) {
        const present = await this.#fetch(steps)
        for (const step of steps) {
          if (step.type === 'begin') this.#checkUsable()
          this.#take(step, present, applied)
          if (step.type === 'end' && this.#ledger.overlay.bytes > this.#overlayBytes)
            await this.#writer.flush()
          if (stretch.over) await stretch.pause()
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
        const reading = async <T>(read: () => Promise<T>): Promise<T> => {
          this.#checkUsable()
          return this.#reading(read)
        }
        return new StateSnapshot({ level, snapshot, meta, time: this.#time, reading })
      } catch (error) {
        await snapshot.close()
        throw error
      }
    })
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
    return this.#origins.bootOf(peer)
  }

  token(hash: string): Token | undefined {
    return this.#tokens.get(hash)
  }

  store(name: string): StoreStatus | undefined {
    const store = this.#stores.get(name)
    return store === undefined ? undefined : statusOf(store)
  }

  /** By internal number. */
  stores(): readonly StoreStatus[] {
    return [...this.#stores.values()].map(statusOf).sort((left, right) => left.number - right.number)
  }

  async get(store: string, key: Uint8Array): Promise<Item | undefined> {
    this.#checkUsable()
    const open = this.#stores.get(store)
    if (open === undefined) return undefined
    const rowKey = recordKey(open.number, key)
    const waiting = this.#ledger.overlay.get(rowName(rowKey))
    return this.#reading(async () => {
      const row = waiting === undefined ? await this.#level.get(rowKey) : waiting.value
      return row === undefined ? undefined : itemOf(rowKey, row)
    })
  }

  async list(query: ListQuery, options: { signal?: AbortSignal | undefined } = {}): Promise<ListPage> {
    const { signal } = options
    signal?.throwIfAborted()
    this.#checkUsable()
    const store = this.#stores.get(query.store)
    if (store === undefined) throw new TrivetError('no-such-store', `There is no store ${query.store}.`)
    await orAborted(this.#writer.flush(), signal)
    return this.#reading(async () => {
      const snapshot = this.#level.snapshot()
      try {
        const { revision } = await readMeta(this.#level, snapshot)
        const page = await readPage(this.#level, { snapshot, store: store.number }, query, signal)
        return { ...page, revision }
      } finally {
        await snapshot.close()
      }
    })
  }

  /** Whatever ends this process from now on, but `close`, ends it uncleanly. */
  async #begin(): Promise<void> {
    await writeBatch(this.#level, [{ key: closedKey, value: undefined }], this.#time)
  }

  async #found({ tokens }: State): Promise<void> {
    this.#writer.hold()
    for (const store of this.#stores.values()) this.#changedStores.add(store)
    for (const token of tokens) this.#ledger.write(encodeToken(token))
    this.#writer.release()
    await this.#writer.flush()
  }

  async #fetch(steps: readonly Step[]): Promise<Present> {
    const present: Present = new Map()
    const missing: RowPlace[] = []
    const want = (place: RowPlace | undefined): void => {
      if (place === undefined || present.has(place.name)) return
      const waiting = this.#ledger.overlay.get(place.name)
      // Held on to here: a batch that ends meanwhile takes it out of the overlay.
      present.set(place.name, waiting?.value)
      if (waiting === undefined) missing.push(place)
    }
    for (const step of steps) {
      if (step.type !== 'command') continue
      want(step.row)
      want(step.memory)
    }
    if (missing.length === 0) return present
    const rows = await this.#reading(() => this.#level.getMany(missing.map(({ key }) => key)))
    for (const [at, { name }] of missing.entries()) present.set(name, rows[at])
    return present
  }

  #take(step: Step, present: Present, applied: Applied[]): void {
    switch (step.type) {
      case 'begin':
        assert(
          step.entry.index === this.#lastApplied + 1,
          `Entry ${step.entry.index} follows ${this.#lastApplied}`,
        )
        this.#writer.hold()
        this.#stamp = Math.max(this.#stamp, step.time ?? 0)
        this.#forgetRepeats(step.entry.index, present)
        break
      case 'origin':
        this.#origins.hear(step.batch)
        break
      case 'command': {
        const recollection = this.#origins.recall(step.id)
        if (recollection.type === 'past') break
        const outcome = recollection.type === 'decided' ? recollection.outcome : this.#carryOut(step, present)
        if (recollection.type === 'new') this.#origins.remember(step.id, outcome)
        applied.push({ id: step.id, index: step.index, outcome })
        break
      }
      case 'end':
        this.#lastApplied = step.entry.index
        this.#lastAppliedTerm = step.entry.term
        if (step.entry.type === 'configuration') this.#configuration = step.entry.configuration
        if (step.entry.index % checkpointEvery === 0) this.#checkpoint = digestOf(this.#meta())
        this.#writer.release()
        break
      default:
        throw new assert.AssertionError({ message: `Unknown step ${step satisfies never}` })
    }
  }

  /** Takes away what is remembered of clients' writes and is over. */
  #forgetRepeats(index: number, present: Present): void {
    for (const { name, hash } of this.#repeats.begin({ time: this.#stamp, index })) {
      this.#ledger.remove(name, hash)
      if (present.has(name)) present.set(name, undefined)
    }
  }

  /** A command that its origin has not had decided before. */
  #carryOut({ command, row, memory }: CommandStep, present: Present): Outcome {
    const token = this.#tokens.get(command.token)
    if (command.type === 'openSession') return this.#openSession(token, command.session)
    const { once } = command
    if (token === undefined || once === undefined) return this.#change(command, row, present)
    const repeatable: Repeatable = {
      principal: token.name,
      once,
      memory: memory && { ...memory, row: present.get(memory.name) },
    }
    const known = this.#repeats.recall(repeatable)
    if (known !== undefined) return known
    const outcome = this.#change(command, row, present, (would) => this.#repeats.refuse(repeatable, would))
    const remembered = this.#repeats.remember(repeatable, outcome)
    if (remembered !== undefined && memory !== undefined) {
      this.#ledger.replace(memory.name, remembered, present.get(memory.name))
      present.set(memory.name, remembered.value)
    }
    return outcome
  }

  #openSession(token: Token | undefined, session: string): Outcome {
    if (token === undefined) return { type: 'refused', code: 'unauthenticated' }
    if (token.principal.type === 'monitor') return { type: 'refused', code: 'access-denied' }
    return this.#repeats.open(token.name, session)
  }

  /** Decides a write and does it. `refuse` may still say why what it would come to cannot be. */
  #change(
    command: KeyCommand,
    row: CommandStep['row'],
    present: Present,
    refuse: (would: Outcome) => Outcome | undefined = () => undefined,
  ): Outcome {
    const stands = row === undefined ? undefined : present.get(row.name)
    const before = row === undefined || stands === undefined ? undefined : decodeRecord(row.key, stands)
    const decision = decide(command, {
      token: this.#tokens.get(command.token),
      store: row?.store.definition,
      valueBytes: this.#founded.valueBytes,
      present: before,
      revision: this.#revision + 1,
      time: this.#stamp,
    })
    const refusal = refuse(decision.outcome)
    if (refusal !== undefined) return refusal
    if (decision.outcome.type !== 'refused') this.#revision += 1
    if (decision.type !== 'nothing') {
      assert(row !== undefined, 'Only a store that exists is written to')
      const value = decision.type === 'put' ? encodeRecord(row.key, decision.record) : undefined
      this.#ledger.replace(row.name, { key: row.key, value }, stands)
      present.set(row.name, value)
      const after = decision.type === 'put' ? decision.record : undefined
      row.store.keys += (after === undefined ? 0 : 1) - (before === undefined ? 0 : 1)
      row.store.bytes += sizeOf(command.key, after) - sizeOf(command.key, before)
      this.#changedStores.add(row.store)
    }
    return decision.outcome
  }

  /** Between two entries, when a batch is cut. */
  #capture(): Captured {
    const meta = this.#meta()
    this.#digest = digestOf(meta)
    return { lastApplied: meta.lastApplied, meta: encodeMeta(meta) }
  }

  /**
   * The first row as it is now; the tables that are kept in memory are written down before, being part of its sum.
   */
  #meta(): Meta {
    for (const store of this.#changedStores) this.#ledger.write(encodeStore(store))
    this.#changedStores.clear()
    for (const row of this.#origins.takeRows()) this.#ledger.write(row)
    for (const row of this.#repeats.takeRows()) this.#ledger.write(row)
    return {
      ...this.#founded,
      lastApplied: this.#lastApplied,
      lastAppliedTerm: this.#lastAppliedTerm,
      revision: this.#revision,
      time: this.#stamp,
      configuration: this.#configuration,
      sum: this.#ledger.sum,
      checkpoint: this.#checkpoint,
    }
  }

  #checkUsable(): void {
    if (this.#writer.failure !== undefined) throw this.#writer.failure.error
    if (this.#closed !== undefined) throw new TrivetError('shutting-down', 'The state is being closed.')
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

function statusOf({ number, definition, keys, bytes }: OpenStore): StoreStatus {
  return { ...definition, number, keys, bytes }
}

function sizeOf(key: Uint8Array, record: { readonly value: Uint8Array } | undefined): number {
  return record === undefined ? 0 : key.length + record.value.length
}
