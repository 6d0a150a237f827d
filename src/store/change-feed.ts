// Gathers what a command changes, numbers it, and hands it to the history and to those who follow.

import type { Change, ChangeEvent, Follower } from './state-changes.ts'
import type { History, KeptRecord } from './state-history.ts'

/** A change before it has its place in a revision. `created`: its key has a record since then. */
export type Touched = Omit<Change, 'revision' | 'n'> & { readonly created: boolean }

export class ChangeFeed {
  readonly #history: History
  readonly #followers = new Set<Follower>()
  #touched: Touched[] = []

  constructor(history: History) {
    this.#history = history
  }

  /** Calls the follower with everything from now on, until the returned function is called. */
  follow(follower: Follower): () => void {
    this.#followers.add(follower)
    return () => this.#followers.delete(follower)
  }

  /** The command being applied changes a key. */
  add(touched: Touched): void {
    this.#touched.push(touched)
  }

  /** The command being applied takes away a record. `row`: as it lies under `key`. */
  replaced(record: KeptRecord, key: Uint8Array, row: Uint8Array): void {
    if (this.#history.wants(record)) this.#history.replaced(record.revision, key, row)
  }

  /** The command is applied: all that it changed has this revision. `time` is its entry's stamp. */
  done(revision: number, time: number): void {
    if (this.#touched.length === 0) return
    const touched = this.#touched
    this.#touched = []
    const events = touched.map(({ type, store, key, record }, at): ChangeEvent => {
      const last = at === touched.length - 1
      return { revision, n: at + 1, last, type, store, key, record }
    })
    this.#history.record(events, { time, of: touched })
    for (const follower of this.#followers) follower.changed(events)
  }

  /** The state is another from this revision on: nothing of what was told leads to it. `time` is its entry's stamp. */
  restarted(revision: number, time: number): void {
    this.#history.restart(revision, time)
    this.authorityChanged()
  }

  /** Tokens or stores are not what they were. */
  authorityChanged(): void {
    for (const follower of this.#followers) follower.authorityChanged()
  }
}
