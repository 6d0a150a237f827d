// The replicated state as a node shows it: nothing until the node takes part, and never an older one than it has shown.

import { TrivetError } from '../errors.ts'
import type { Place } from '../store/places.ts'
import type { StateMachine } from '../store/state-machine.ts'
import type {
  AppStatus,
  ConsistentRead,
  Due,
  Item,
  ListPage,
  ListQuery,
  StateReader,
  StoreStatus,
  Token,
} from '../store/types.ts'

/**
 * Between a barrier and the read behind it the state may be lost, or opened again from what was durable of it. Whoever
 * reads then is told `not-ready`: "there is no such key" and "this token is not valid" are answers only a state can give.
 */
export class NodeState implements StateReader {
  #machine: StateMachine | undefined
  /** How far the state had come that was shown before this one. */
  #least = 0

  /** From now on what this state machine has applied is shown; nothing, while there is none that is known to be whole. */
  show(machine: StateMachine | undefined): void {
    this.#least = Math.max(this.#least, this.lastApplied)
    this.#machine = machine
  }

  /** 0 while there is no state. */
  get revision(): number {
    return this.#machine?.revision ?? 0
  }

  /** 0 while there is no state. */
  get lastApplied(): number {
    return this.#machine?.lastApplied ?? 0
  }

  get clusterId(): string {
    return this.#shown().clusterId
  }

  token(hash: string): Token | undefined {
    return this.#shown().token(hash)
  }

  tokens(): readonly Token[] {
    return this.#shown().tokens()
  }

  store(store: Place): StoreStatus | undefined {
    return this.#shown().store(store)
  }

  stores(): readonly StoreStatus[] {
    return this.#shown().stores()
  }

  apps(): readonly AppStatus[] {
    return this.#shown().apps()
  }

  async get(store: Place, key: Uint8Array): Promise<Item | undefined> {
    return this.#shown().get(store, key)
  }

  async getEach(
    store: Place,
    keys: readonly Uint8Array[],
    found: (item: Item | undefined, at: number) => void,
  ): Promise<void> {
    return this.#shown().getEach(store, keys, found)
  }

  async list(query: ListQuery, options?: { signal?: AbortSignal | undefined }): Promise<ListPage> {
    return this.#shown().list(query, options)
  }

  async openRead(): Promise<ConsistentRead> {
    return this.#shown().openRead()
  }

  async due(now: number, limit: number): Promise<Due> {
    return this.#shown().due(now, limit)
  }

  dropped(): readonly number[] {
    return this.#shown().dropped()
  }

  #shown(): StateMachine {
    const machine = this.#machine
    if (machine !== undefined && machine.lastApplied >= this.#least) return machine
    throw new TrivetError(
      'not-ready',
      'This node has no state to answer from at the moment. Ask another one.',
    )
  }
}
