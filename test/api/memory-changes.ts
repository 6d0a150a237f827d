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

  /** The one change of a revision. */
  add(change: Omit<ChangeEvent, 'n' | 'last'>): void {
    const event = { ...change, n: 1, last: true }
    this.#events.push(event)
    for (const follower of this.#followers) follower.changed([event])
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
