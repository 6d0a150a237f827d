// The changes of a state in memory: all of them are kept, and told to those who follow.

import { type ChangeEvent, type Follower, isAfter } from '../../src/store/state-changes.ts'
import type { HistoryQuery, HistoryReader } from '../../src/store/state-history-read.ts'

export class MemoryChanges {
  readonly #events: ChangeEvent[] = []
  readonly #followers = new Set<Follower>()

  follow(follower: Follower): () => void {
    this.#followers.add(follower)
    return () => this.#followers.delete(follower)
  }

  /** The changes of a revision, in order. */
  add(changes: readonly Omit<ChangeEvent, 'n' | 'last'>[]): void {
    const events = changes.map((change, at) => ({ ...change, n: at + 1, last: at === changes.length - 1 }))
    this.#events.push(...events)
    for (const follower of this.#followers) follower.changed(events)
  }

  authorityChanged(): void {
    for (const follower of this.#followers) follower.authorityChanged()
  }

  open(through: number): HistoryReader {
    const events = this.#events.filter(({ revision }) => revision <= through)
    return {
      since: 0,
      through,
      pages: (query) => pagesOf(events, through, query),
      close: async () => undefined,
    }
  }
}

async function* pagesOf(events: readonly ChangeEvent[], through: number, query: HistoryQuery) {
  const { after, store, matches } = query
  yield {
    events: events.filter((event) => event.store === store && isAfter(event, after) && matches(event.key)),
    through,
  }
}
