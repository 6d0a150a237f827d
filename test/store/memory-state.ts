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
}

/** What abstract-level calls in its implementations; its types keep it to themselves. */
type Implementation = { _batch(operations: readonly Operation[], options: object): Promise<void> }

const memory = MemoryLevel.prototype as unknown as Implementation

/**
 * A batch takes its time to be readable, and more to be synced. A power loss keeps the batches whose sync had ended, and
 * any of the others: LevelDB loses unsynced ones from below a synced one too when its log file changes in between.
 */
export class MemoryState extends MemoryLevel<Uint8Array, Uint8Array> {
  readonly #syncs: boolean
  readonly #batches: Batch[] = []
  #failIn = Number.POSITIVE_INFINITY
  #failWith: WriteFault = 'EIO'
  #poisoned = false
  #gate: Promise<void> | undefined
  /** Batches offered, failed ones included. */
  writes = 0

  constructor({ syncs = true }: MemoryStateOptions = {}) {
    super({ keyEncoding: 'view', valueEncoding: 'view' })
    this.#syncs = syncs
  }

  /** The n-th batch from now fails, and the handle is poisoned from then on: it takes batches and keeps none. */
  failWrite(n: number, code: WriteFault): void {
    this.#failIn = n
    this.#failWith = code
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
    const kept = this.#batches.filter(
      ({ durable, fate }) => durable || (fate !== 'swallowed' && random() < 0.5),
    )
    return MemoryState.#of(kept, this.#syncs)
  }

  /** What a process finds that was killed and started again: the system still has all that was taken. */
  async restart(): Promise<MemoryState> {
    return MemoryState.#of(
      this.#batches.filter(({ fate }) => fate === 'taken'),
      this.#syncs,
    )
  }

  /** Like `restart`, but the batch that failed may have come to the disk nevertheless. */
  async reopened(seed: number): Promise<MemoryState> {
    const random = xorshift(seed)
    const kept = this.#batches.filter(({ fate }) => fate === 'taken' || (fate === 'failed' && random() < 0.5))
    return MemoryState.#of(kept, this.#syncs)
  }

  /** Like `restart`, without the batches for which `keep` is false; they are numbered from 0. */
  async without(keep: (index: number) => boolean): Promise<MemoryState> {
    return MemoryState.#of(
      this.#batches.filter(({ fate }, index) => fate === 'taken' && keep(index)),
      this.#syncs,
    )
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

  static async #of(batches: readonly Batch[], syncs: boolean): Promise<MemoryState> {
    const survivor = new MemoryState({ syncs })
    await survivor.open()
    for (const batch of batches) {
      await memory._batch.call(survivor, batch.operations, {})
      survivor.#batches.push({ operations: batch.operations, durable: true, fate: 'taken' })
    }
    return survivor
  }

  /** abstract-level's one way in for plain and chained batches. */
  async _batch(operations: readonly Operation[], options: { readonly sync?: boolean }): Promise<void> {
    this.writes += 1
    this.#failIn -= 1
    const fails = this.#failIn === 0
    const fate = fails ? 'failed' : this.#poisoned ? 'swallowed' : 'taken'
    const batch: Batch = { operations: [...operations], durable: false, fate }
    this.#batches.push(batch)
    await turn()
    await this.#gate
    if (fails) {
      this.#poisoned = true
      const { text, code } = faults[this.#failWith]
      throw Object.assign(new Error(text), { code })
    }
    await memory._batch.call(this, operations, options)
    await turn()
    if (options.sync === true && this.#syncs && !this.#poisoned) batch.durable = true
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
