// Who watches what, so that an event costs those whom it concerns: by store, by key, and by the lengths of prefixes.

import type { WatchFilter } from './watch-filter.ts'

type Watching = { readonly store: number; readonly filter: WatchFilter }

type StoreIndex<Watcher> = {
  readonly keys: Map<string, Set<Watcher>>
  /** By length: a key has one prefix of each. */
  readonly prefixes: Map<number, Map<string, Set<Watcher>>>
}

export class WatchIndex<Watcher extends Watching> {
  readonly #stores = new Map<number, StoreIndex<Watcher>>()

  add(watcher: Watcher): void {
    let index = this.#stores.get(watcher.store)
    if (index === undefined) {
      index = { keys: new Map(), prefixes: new Map() }
      this.#stores.set(watcher.store, index)
    }
    for (const key of watcher.filter.keys) addTo(index.keys, key, watcher)
    for (const prefix of watcher.filter.prefixes) {
      let ofLength = index.prefixes.get(prefix.length)
      if (ofLength === undefined) {
        ofLength = new Map()
        index.prefixes.set(prefix.length, ofLength)
      }
      addTo(ofLength, prefix, watcher)
    }
  }

  remove(watcher: Watcher): void {
    const index = this.#stores.get(watcher.store)
    if (index === undefined) return
    for (const key of watcher.filter.keys) removeFrom(index.keys, key, watcher)
    for (const prefix of watcher.filter.prefixes) {
      const ofLength = index.prefixes.get(prefix.length)
      if (ofLength === undefined) continue
      removeFrom(ofLength, prefix, watcher)
      if (ofLength.size === 0) index.prefixes.delete(prefix.length)
    }
    if (index.keys.size === 0 && index.prefixes.size === 0) this.#stores.delete(watcher.store)
  }

  /** Whether anybody watches anything of a store. */
  has(store: number): boolean {
    return this.#stores.has(store)
  }

  /** Calls `tell` once for everybody who watches this key, given as one character a byte. */
  find(store: number, name: string, tell: (watcher: Watcher) => void): void {
    const index = this.#stores.get(store)
    if (index === undefined) return
    // A watcher's ranges do not overlap, so nobody is found twice.
    for (const watcher of index.keys.get(name) ?? []) tell(watcher)
    for (const [length, ofLength] of index.prefixes) {
      if (length > name.length) continue
      for (const watcher of ofLength.get(name.slice(0, length)) ?? []) tell(watcher)
    }
  }
}

function addTo<Watcher>(sets: Map<string, Set<Watcher>>, name: string, watcher: Watcher): void {
  const set = sets.get(name)
  if (set === undefined) sets.set(name, new Set([watcher]))
  else set.add(watcher)
}

function removeFrom<Watcher>(sets: Map<string, Set<Watcher>>, name: string, watcher: Watcher): void {
  const set = sets.get(name)
  set?.delete(watcher)
  if (set?.size === 0) sets.delete(name)
}
