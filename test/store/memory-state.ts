// A LevelDB in memory for the state machine: it keeps, loses and fails what a real one may.

import { setImmediate as turn } from 'node:timers/promises'
import { MemoryLevel } from 'memory-level'

type Operation =
  | { readonly type: 'put'; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: 'del'; readonly key: Uint8Array }

type Batch = {
  readonly operations: readonly Operation[]
  durable: boolean
  /** What became of it besides: `failed` may be on the disk or not, `swallowed` by a poisoned handle never is. */
  readonly fate: 'taken' | 'failed' | 'swallowed'
}

/** What LevelDB says. */
const faults = {
  ENOSPC: { code: 'LEVEL_IO_ERROR', text: 'IO error: 000005.log: No space left on device' },
  EIO: { code: 'LEVEL_IO_ERROR', text: 'IO error: 000005.log: Input/output error' },
  corruption: { code: 'LEVEL_CORRUPTION', text: 'Corruption: corrupted compressed block contents' },
} as const

type WriteFault = keyof typeof faults

type MemoryStateOptions = {
  /** False makes every sync a lie: it resolves, and the batch can still be lost. */
  readonly syncs?: boolean
  /** How long each of the two parts of a write takes, until it is readable and until it is synced: a turn, unless given. */
  readonly pause?: () => Promise<unknown>
  /** How many of the batches can still be lost or told apart; older ones that are durable are kept as rows. All, unless given. */
  readonly remembered?: number
}

/** What abstract-level calls in its implementations; its types keep it to themselves. */
type Implementation = { _batch(operations: readonly Operation[], options: object): Promise<void> }

const memory = MemoryLevel.prototype as unknown as Implementation

/**
 * A batch takes its time to be readable, and more to be synced. A power loss keeps the batches whose sync had ended, and
 * any of the others: LevelDB loses unsynced ones from below a synced one too when its log file changes in between.
 */
export class MemoryState extends MemoryLevel<Uint8Array, Uint8Array> {
  readonly #options: MemoryStateOptions
  /** What the batches before the first of `#batches` have led to, by key. */
  readonly #rows: Map<string, Operation>
  #batches: Batch[] = []
  #failIn = Number.POSITIVE_INFINITY
  #failWith: WriteFault = 'EIO'
  #poisoned = false
  #gate: Promise<void> | undefined
  /** Batches offered, failed ones included. */
  writes = 0

  constructor(options: MemoryStateOptions = {}, rows: ReadonlyMap<string, Operation> = new Map()) {
    super({ keyEncoding: 'view', valueEncoding: 'view' })
    this.#options = options
    this.#rows = new Map(rows)
  }

  /** The n-th batch from now fails, and the handle is poisoned from then on: it takes batches and keeps none. */
  failWrite(n: number, code: WriteFault): void {
    this.#failIn = n
    this.#failWith = code
  }

  /** No write fails that was to. */
  heal(): void {
    this.#failIn = Number.POSITIVE_INFINITY
  }

  /** Holds every batch back, unread, until the returned function is called: the disk hangs. */
  hang(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#gate = promise
    return () => {
      this.#gate = undefined
      resolve()
    }
  }

  /** How many batches a power loss now could take. */
  get volatile(): number {
    return this.#batches.filter(({ durable, fate }) => !durable && fate === 'taken').length
  }

  /** What a machine finds that lost its power now. This handle is of no use any more. */
  async powerLoss(seed: number): Promise<MemoryState> {
    const random = xorshift(seed)
    return this.#survivor(({ durable, fate }) => durable || (fate !== 'swallowed' && random() < 0.5))
  }

  /** What a process finds that was killed and started again: the system still has all that was taken. */
  async restart(): Promise<MemoryState> {
    return this.#survivor(({ fate }) => fate === 'taken')
  }

  /** Like `restart`, but the batch that failed may have come to the disk nevertheless. */
  async reopened(seed: number): Promise<MemoryState> {
    const random = xorshift(seed)
    return this.#survivor(({ fate }) => fate === 'taken' || (fate === 'failed' && random() < 0.5))
  }

  /** Like `restart`, without the batches for which `keep` is false; they are numbered from 0. */
  async without(keep: (index: number) => boolean): Promise<MemoryState> {
    return this.#survivor(({ fate }, index) => fate === 'taken' && keep(index))
  }

  /** Like `restart`, with another value under a key, or none: a row that rotted, vanished or resurfaced. */
  async altered(key: Uint8Array, value: Uint8Array | undefined): Promise<MemoryState> {
    const survivor = await this.restart()
    await memory._batch.call(
      survivor,
      [value === undefined ? { type: 'del', key } : { type: 'put', key, value }],
      {},
    )
    return survivor
  }

  /** All that ever stood under a key, oldest first; undefined where it was deleted. */
  versions(key: Uint8Array): readonly (Uint8Array | undefined)[] {
    return this.#batches
      .flatMap(({ operations }) => operations)
      .filter((operation) => Buffer.compare(operation.key, key) === 0)
      .map((operation) => (operation.type === 'put' ? operation.value : undefined))
  }

  /** How many batches `without` can tell apart. */
  get remembered(): number {
    return this.#batches.length
  }

  /** Changes rows behind everybody's back, durably: rows may vanish, flip a bit or be as they once were. */
  async damage(operations: readonly Operation[]): Promise<void> {
    await memory._batch.call(this, operations, {})
    this.#batches.push({ operations, durable: true, fate: 'taken' })
  }

  async #survivor(keep: (batch: Batch, index: number) => boolean): Promise<MemoryState> {
    const survivor = new MemoryState(this.#options, this.#rows)
    await survivor.open()
    await memory._batch.call(survivor, [...this.#rows.values()], {})
    for (const { operations } of this.#batches.filter(keep)) {
      await memory._batch.call(survivor, operations, {})
      survivor.#batches.push({ operations, durable: true, fate: 'taken' })
    }
    survivor.#forget()
    return survivor
  }

  /** Keeps only as many batches apart as are to be remembered. */
  #forget(): void {
    const { remembered = Number.POSITIVE_INFINITY } = this.#options
    if (this.#batches.length <= 2 * remembered) return
    const firstVolatile = this.#batches.findIndex(({ durable }) => !durable)
    const end = Math.min(
      this.#batches.length - remembered,
      firstVolatile === -1 ? this.#batches.length : firstVolatile,
    )
    for (const { operations } of this.#batches.slice(0, end)) {
      for (const operation of operations) {
        const name = Buffer.from(operation.key).toString('latin1')
        if (operation.type === 'put') this.#rows.set(name, operation)
        else this.#rows.delete(name)
      }
    }
    this.#batches = this.#batches.slice(end)
  }

  /** LevelDB clears a range by batches that are not synced. The twin's own way would neither be lost nor take the time of a test. */
  async _clear(range: object): Promise<void> {
    const keys = await this.keys(range).all()
    if (keys.length === 0) return
    await this._batch(
      keys.map((key) => ({ type: 'del', key })),
      {},
    )
  }

  /** abstract-level's one way in for plain and chained batches. */
  async _batch(operations: readonly Operation[], options: { readonly sync?: boolean }): Promise<void> {
    this.writes += 1
    this.#failIn -= 1
    const fails = this.#failIn === 0
    const fate = fails ? 'failed' : this.#poisoned ? 'swallowed' : 'taken'
    const batch: Batch = { operations: [...operations], durable: false, fate }
    this.#batches.push(batch)
    const { syncs = true, pause = turn } = this.#options
    await pause()
    await this.#gate
    if (fails) {
      this.#poisoned = true
      const { text, code } = faults[this.#failWith]
      throw Object.assign(new Error(text), { code })
    }
    await memory._batch.call(this, operations, options)
    await pause()
    if (options.sync === true && syncs && !this.#poisoned) batch.durable = true
    this.#forget()
  }
}

/** Numbers from 0 to 1, the same for the same seed. */
export function xorshift(seed: number): () => number {
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1
  const next = () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state / 2 ** 32
  }
  // The first numbers of seeds that lie together lie together too.
  for (let n = 0; n < 16; n++) next()
  return next
}
