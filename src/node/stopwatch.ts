// Where the time of a write goes, for `Server-Timing`: when entries entered this log, were durable, committed and applied.

import type { Entry } from '../raft/types.ts'
import type { WriteTiming } from './surface.ts'

/** Entries that were saved together. */
type Span = { readonly first: number; readonly last: number; readonly seenAt: number; savedAt: number }

export class Stopwatch {
  readonly #now: () => number
  /** In the order of their saves; those no timing will be asked of are dropped. */
  #spans: Span[] = []
  #committedAt = 0
  #appliedAt = 0

  constructor(now: () => number) {
    this.#now = now
  }

  /** These entered the log; their save begins. */
  appended(entries: readonly Entry[]): void {
    const first = entries[0]
    const last = entries.at(-1)
    if (first === undefined || last === undefined) return
    const now = this.#now()
    this.#spans.push({ first: first.index, last: last.index, seenAt: now, savedAt: now })
  }

  saved(entries: readonly Entry[]): void {
    const span = this.#spans.at(-1)
    if (span !== undefined && span.first === entries[0]?.index) span.savedAt = this.#now()
  }

  /** These are committed; their apply begins. Spans of earlier applies are forgotten. */
  committed(entries: readonly Entry[]): void {
    this.#committedAt = this.#now()
    const first = entries[0]
    if (first === undefined) return
    const kept = this.#spans.findIndex((span) => span.last >= first.index)
    this.#spans.splice(0, kept === -1 ? this.#spans.length : kept)
  }

  applied(): void {
    this.#appliedAt = this.#now()
  }

  /** For a command applied just now, in the entry at `index`. */
  timing(index: number, sent: { readonly queuedAt: number; readonly sentAt: number }): WriteTiming {
    const span = this.#spans.findLast((candidate) => candidate.first <= index && index <= candidate.last)
    const seenAt = span?.seenAt ?? this.#committedAt
    return {
      forward: Math.max(0, seenAt - sent.sentAt),
      queue: Math.max(0, sent.sentAt - sent.queuedAt),
      fsync: span === undefined ? 0 : span.savedAt - span.seenAt,
      quorum: Math.max(0, this.#committedAt - seenAt),
      apply: this.#appliedAt - this.#committedAt,
    }
  }
}
