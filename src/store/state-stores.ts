// The stores as memory holds them: those of names, those of apps, and dropped ones whose records are still to go.

import assert from 'node:assert/strict'
import type { Row } from './overlay.ts'
import type { Place } from './places.ts'
import { encodeStore, maxStoreNumber, type StoreRow, storeKey } from './state-rows.ts'
import type { AppStatus, StoreDefinition, StoreStatus } from './types.ts'

/** The same on every member for ever: a change is a change of what commands mean. */
export const storeBounds = { named: 10_000, apps: 10_000 } as const

/** A store as it changes. `number` is its place in LevelDB. */
export type OpenStore = {
  readonly number: number
  readonly definition: StoreDefinition
  keys: number
  /** Sum of key and value bytes. */
  bytes: number
  dropped?: true | undefined
  /** A restore fills it. */
  hidden?: true | undefined
}

/** No name of a store has a colon. */
const appName = 'app:'

/** The app whose store has this name; undefined for one with a name of its own. */
export function appOf(name: string): string | undefined {
  return name.startsWith(appName) ? name.slice(appName.length) : undefined
}

/** The store of an app, as it is made. */
export function appStore(app: string): StoreDefinition {
  return { name: appName + app }
}

export class StoreTable {
  readonly #named = new Map<string, OpenStore>()
  readonly #apps = new Map<string, OpenStore>()
  /** Those whose records are to be collected, in the order in which they were dropped or loaded. */
  readonly #dropped = new Map<number, OpenStore>()
  readonly #numbered = new Map<number, OpenStore>()
  /** Stores whose row LevelDB has not got as it stands. */
  readonly #changed = new Set<OpenStore>()
  readonly #collected = new Set<number>()
  #next: number
  #bytes = 0

  constructor(rows: readonly StoreRow[], next: number) {
    this.#next = next
    for (const row of rows) {
      const store: OpenStore = { ...row }
      this.#numbered.set(store.number, store)
      if (store.hidden === true) continue
      if (store.dropped === true) this.#dropped.set(store.number, store)
      else this.#link(store)
    }
  }

  /** The number the next store gets. */
  get next(): number {
    return this.#next
  }

  /** Sum of key and value bytes of all stores that can be opened. */
  get bytes(): number {
    return this.#bytes
  }

  /** How many there are that have a name of their own, or are an app's. */
  get counts(): { readonly named: number; readonly apps: number } {
    return { named: this.#named.size, apps: this.#apps.size }
  }

  at(place: Place): OpenStore | undefined {
    return typeof place === 'string' ? this.#named.get(place) : this.#apps.get(place.app)
  }

  /** Dropped ones too. */
  numbered(number: number): OpenStore | undefined {
    return this.#numbered.get(number)
  }

  hasApp(app: string): boolean {
    return this.#apps.has(app)
  }

  /** The number of every store as it is now, whatever becomes of the stores. */
  numbers(): (place: Place) => number | undefined {
    const named = new Map([...this.#named].map(([name, { number }]) => [name, number]))
    const apps = new Map([...this.#apps].map(([app, { number }]) => [app, number]))
    return (place) => (typeof place === 'string' ? named.get(place) : apps.get(place.app))
  }

  /** By internal number. */
  statuses(): readonly StoreStatus[] {
    return [...this.#named.values()].map(statusOf).sort((left, right) => left.number - right.number)
  }

  apps(): readonly AppStatus[] {
    const all = [...this.#apps].map(([id, { keys, bytes }]) => ({ id, keys, bytes }))
    return all.sort((left, right) => Buffer.compare(Buffer.from(left.id), Buffer.from(right.id)))
  }

  dropped(): readonly number[] {
    return [...this.#dropped.keys()].sort((left, right) => left - right)
  }

  create(definition: StoreDefinition): void {
    this.#link(this.#make(definition))
  }

  /** A store that nobody can open until it is shown. */
  createHidden(definition: StoreDefinition): OpenStore {
    const store = this.#make(definition)
    store.hidden = true
    return store
  }

  /** A hidden store takes its name, from the store that has it if there is one. */
  show(store: OpenStore): void {
    const { name } = store.definition
    const app = appOf(name)
    const before = app === undefined ? this.#named.get(name) : this.#apps.get(app)
    if (before !== undefined) this.drop(before)
    store.hidden = undefined
    this.#changed.add(store)
    this.#link(store)
  }

  /** A hidden store goes: its records are collected. */
  abandon(store: OpenStore): void {
    store.hidden = undefined
    store.dropped = true
    this.#dropped.set(store.number, store)
    this.#changed.add(store)
    if (store.keys === 0) this.forget(store)
  }

  #make(definition: StoreDefinition): OpenStore {
    assert(this.#next <= maxStoreNumber, 'There are numbers for four thousand million stores')
    const store: OpenStore = { number: this.#next, definition, keys: 0, bytes: 0 }
    this.#next += 1
    this.#numbered.set(store.number, store)
    this.#changed.add(store)
    return store
  }

  createForApp(app: string): void {
    this.create(appStore(app))
  }

  /** Nobody can open it from now on; its records stay until they are collected. */
  drop(store: OpenStore): void {
    const { name } = store.definition
    const app = appOf(name)
    if (app === undefined) this.#named.delete(name)
    else this.#apps.delete(app)
    this.#bytes -= store.bytes
    store.dropped = true
    this.#dropped.set(store.number, store)
    this.#changed.add(store)
    if (store.keys === 0) this.forget(store)
  }

  /** The last record of a dropped store is gone. */
  forget({ number }: OpenStore): void {
    const store = this.#dropped.get(number)
    assert(store?.keys === 0 && store.bytes === 0, 'Nothing is left of a store that is forgotten')
    this.#dropped.delete(number)
    this.#numbered.delete(number)
    this.#changed.delete(store)
    this.#collected.add(number)
  }

  /** Records came or went. */
  count(store: OpenStore, more: { readonly keys: number; readonly bytes: number }): void {
    store.keys += more.keys
    store.bytes += more.bytes
    if (isOpen(store)) this.#bytes += more.bytes
    this.#changed.add(store)
  }

  /** Every row is to be written, as for a state that has just been founded. */
  markAll(): void {
    for (const store of this.#numbered.values()) this.#changed.add(store)
  }

  /** The rows that changed since it was last asked, for one batch. */
  takeRows(): readonly Row[] {
    const rows: Row[] = []
    for (const number of this.#collected) rows.push({ key: storeKey(number), value: undefined })
    for (const store of this.#changed) rows.push(encodeStore(store))
    this.#collected.clear()
    this.#changed.clear()
    return rows
  }

  #link(store: OpenStore): void {
    const { name } = store.definition
    const app = appOf(name)
    if (app === undefined) this.#named.set(name, store)
    else this.#apps.set(app, store)
    this.#bytes += store.bytes
  }
}

/** Whether somebody can open it. */
export function isOpen({ dropped, hidden }: Pick<StoreRow, 'dropped' | 'hidden'>): boolean {
  return dropped !== true && hidden !== true
}

export function statusOf({ number, definition, keys, bytes }: OpenStore): StoreStatus {
  return { ...definition, number, keys, bytes }
}
