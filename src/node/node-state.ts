// The replicated state as a node shows it from its first moment on: empty until the node takes part.

import { TrivetError } from '../errors.ts'
import { nameOf, type Place } from '../store/places.ts'
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

/** Before the node takes part it knows no token and no store, so whoever asks is made to wait for it or refused. */
export class NodeState implements StateReader {
  #machine: StateMachine | undefined

  /** From now on what this state machine has applied is shown; nothing, while there is none that is known to be whole. */
  show(machine: StateMachine | undefined): void {
    this.#machine = machine
  }

  get revision(): number {
    return this.#machine?.revision ?? 0
  }

  get lastApplied(): number {
    return this.#machine?.lastApplied ?? 0
  }

  get clusterId(): string {
    return this.#machine?.clusterId ?? ''
  }

  token(hash: string): Token | undefined {
    return this.#machine?.token(hash)
  }

  tokens(): readonly Token[] {
    return this.#machine?.tokens() ?? []
  }

  store(store: Place): StoreStatus | undefined {
    return this.#machine?.store(store)
  }

  stores(): readonly StoreStatus[] {
    return this.#machine?.stores() ?? []
  }

  apps(): readonly AppStatus[] {
    return this.#machine?.apps() ?? []
  }

  async get(store: Place, key: Uint8Array): Promise<Item | undefined> {
    return this.#machine?.get(store, key)
  }

  async getMany(store: Place, keys: readonly Uint8Array[]): Promise<readonly (Item | undefined)[]> {
    return this.#machine?.getMany(store, keys) ?? keys.map(() => undefined)
  }

  async list(query: ListQuery, options?: { signal?: AbortSignal | undefined }): Promise<ListPage> {
    if (this.#machine === undefined)
      throw new TrivetError('no-such-store', `There is no store ${nameOf(query.store)}`)
    return this.#machine.list(query, options)
  }

  async openRead(): Promise<ConsistentRead> {
    if (this.#machine === undefined) throw new TrivetError('not-ready', 'This node has no state to read yet')
    return this.#machine.openRead()
  }

  async due(now: number, limit: number): Promise<Due> {
    return this.#machine?.due(now, limit) ?? { records: [], tokens: [] }
  }

  dropped(): readonly number[] {
    return this.#machine?.dropped() ?? []
  }
}
