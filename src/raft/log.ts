// The log as the core sees it: the term of every index, the entries still needed in memory, and how far each duty has come.

import { assert } from './assert.ts'
import type { Configuration, Entry, MemberId, Position } from './types.ts'

/** The first index of a run of entries that share a term. */
export type TermRun = Position

/** A configuration and the index of the entry that brought it; the founding's own has the base's index. */
export type ConfigurationAt = { readonly index: number; readonly configuration: Configuration }

/** What a log is rebuilt from at start. Everything in it is durable. */
export type RecoveredLog = {
  /** The last position that the state machine's starting point covers: no entry at or below it is kept. */
  readonly base: Position
  readonly lastIndex: number
  /** Ascending, the first one at `base.index + 1`; empty when the log is. */
  readonly terms: readonly TermRun[]
  /** Ascending; the first one holds at the base. */
  readonly configurations: readonly ConfigurationAt[]
  /** How far the state machine has come. */
  readonly appliedIndex: number
  /** The entries above `appliedIndex`, all of them. */
  readonly entries: readonly Entry[]
}

/** Where a follower's log and a leader's may still agree (see `appendRejected`). */
export type Hint = Position

/** About what an entry occupies in memory and on the wire. */
export function entryBytes(entry: Entry): number {
  switch (entry.type) {
    case 'noop':
      return 32
    case 'commands':
      return 32 + entry.data.byteLength
    case 'configuration':
      return 32 + entry.configuration.members.length * 256
    default:
      return entry satisfies never
  }
}

/**
 * Invariant: base ≤ appliedIndex ≤ min(commitIndex, savedIndex), savedIndex ≤ handedIndex ≤ lastIndex, and entries
 * above min(appliedIndex, savedIndex) are always in memory. `commitIndex` may pass `savedIndex`: a quorum that does not
 * include this replica has committed, and applying waits for the own disk (`safety.md`, rule 5).
 */
export class Log {
  readonly base: Position
  readonly #cacheBytes: number
  #lastIndex: number
  #terms: TermRun[]
  #configurations: ConfigurationAt[]
  /** Entries `#firstCached`..`#lastIndex`. */
  #entries: Entry[]
  #firstCached: number
  #cachedBytes = 0
  /** Bytes of entries above `#appliedIndex`. */
  #unappliedBytes = 0
  #commitIndex: number
  #appliedIndex: number
  #savedIndex: number
  #handedIndex: number

  constructor(recovered: RecoveredLog, options: { readonly cacheBytes: number }) {
    const { base, lastIndex, appliedIndex, entries } = recovered
    assert(appliedIndex >= base.index && appliedIndex <= lastIndex, 'the state machine is within its own log')
    assert(
      entries.length === lastIndex - appliedIndex,
      'every entry above the applied one is handed over at start',
    )
    assert(recovered.configurations.length > 0, 'a log has a configuration')
    this.base = base
    this.#cacheBytes = options.cacheBytes
    this.#lastIndex = lastIndex
    this.#terms = [...recovered.terms]
    this.#configurations = [...recovered.configurations]
    this.#entries = [...entries]
    this.#firstCached = appliedIndex + 1
    for (const entry of entries) this.#cachedBytes += entryBytes(entry)
    this.#unappliedBytes = this.#cachedBytes
    this.#commitIndex = appliedIndex
    this.#appliedIndex = appliedIndex
    this.#savedIndex = lastIndex
    this.#handedIndex = lastIndex
  }

  get lastIndex(): number {
    return this.#lastIndex
  }

  get lastTerm(): number {
    const last = this.#terms.at(-1)
    return last === undefined ? this.base.term : last.term
  }

  /** The highest index known to be on a quorum; only grows. */
  get commitIndex(): number {
    return this.#commitIndex
  }

  /** The highest index the state machine has applied. */
  get appliedIndex(): number {
    return this.#appliedIndex
  }

  /** The highest index that is durable here and still part of the log. */
  get savedIndex(): number {
    return this.#savedIndex
  }

  /** Bytes of entries appended here and not applied. */
  get unappliedBytes(): number {
    return this.#unappliedBytes
  }

  get cachedBytes(): number {
    return this.#cachedBytes
  }

  /** The latest configuration in the log, committed or not: the one that holds. */
  get configuration(): ConfigurationAt {
    const last = this.#configurations.at(-1)
    assert(last !== undefined, 'a log has a configuration')
    return last
  }

  /** The voters of that configuration. */
  get voters(): readonly MemberId[] {
    const { members } = this.configuration.configuration
    return members.filter((member) => member.voter).map((member) => member.peer)
  }

  /** Every configuration that the log still holds, oldest first. */
  get configurations(): readonly ConfigurationAt[] {
    return this.#configurations
  }

  /** The term of the entry at `index`; undefined beyond either end. */
  term(index: number): number | undefined {
    if (index === this.base.index) return this.base.term
    if (index < this.base.index || index > this.#lastIndex) return undefined
    let low = 0
    let high = this.#terms.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (this.#run(middle).index <= index) low = middle
      else high = middle - 1
    }
    return this.#run(low).term
  }

  /** Whether a log that ends at `last` holds all that is committed, as far as this one can tell (section 5.4.1). */
  isMatchedBy(last: Position): boolean {
    return last.term > this.lastTerm || (last.term === this.lastTerm && last.index >= this.#lastIndex)
  }

  /** Adds entries at the end, as a leader does. */
  append(entries: readonly Entry[]): void {
    for (const entry of entries) {
      assert(entry.index === this.#lastIndex + 1, 'entries are appended without a gap')
      assert(entry.term >= this.lastTerm, 'terms never go back within a log')
      if (entry.term !== this.lastTerm || this.#terms.length === 0) {
        this.#terms.push({ index: entry.index, term: entry.term })
      }
      if (entry.type === 'configuration') {
        this.#configurations.push({ index: entry.index, configuration: entry.configuration })
      }
      const bytes = entryBytes(entry)
      this.#entries.push(entry)
      this.#cachedBytes += bytes
      this.#unappliedBytes += bytes
      this.#lastIndex = entry.index
    }
  }

  /**
   * Takes entries from the leader after (`prevIndex`, `prevTerm`). Returns undefined when they are now part of this log, or the
   * hint for the leader when the position before them is not. Entries that are already here are skipped, so that a
   * late or repeated message never shortens the log (figure 2, AppendEntries 3 and 4).
   */
  take(prevIndex: number, prevTerm: number, entries: readonly Entry[]): Hint | undefined {
    if (prevIndex < this.base.index) {
      // Everything up to the base is committed, so it matches; what lies above it is looked at as usual.
      const above = entries.filter((entry) => entry.index > this.base.index)
      const first = above[0]
      if (first === undefined || first.index !== this.base.index + 1) return undefined
      return this.take(this.base.index, this.base.term, above)
    }
    if (this.term(prevIndex) !== prevTerm) return this.#hint(Math.min(prevIndex, this.#lastIndex), prevTerm)
    const fresh = entries.findIndex((entry) => this.term(entry.index) !== entry.term)
    if (fresh === -1) return undefined
    const conflict = entries[fresh]
    assert(conflict !== undefined, 'the entry found is there')
    if (conflict.index <= this.#lastIndex) this.#truncate(conflict.index)
    this.append(fresh === 0 ? entries : entries.slice(fresh))
    return undefined
  }

  /** The last position at or below `index` whose term is at or below `term`: nothing above it can match. */
  #hint(index: number, term: number): Hint {
    for (let at = this.#terms.length - 1; at >= 0; at--) {
      const run = this.#run(at)
      if (run.index > index) continue
      if (run.term <= term) {
        const next = this.#terms[at + 1]
        const end = next === undefined ? this.#lastIndex : next.index - 1
        return { index: Math.min(index, end), term: run.term }
      }
    }
    return this.base
  }

  /** The same on the leader's side: the last index that a follower with this hint may share. */
  sharedWith(hint: Hint): number {
    return this.#hint(Math.min(hint.index, this.#lastIndex), hint.term).index
  }

  /** Removes everything from `index` on, configurations too (thesis 4.1). */
  #truncate(index: number): void {
    assert(index > this.#commitIndex, 'committed entries are never replaced')
    assert(index >= this.#firstCached, 'what is not committed is in memory')
    for (const entry of this.#entries.splice(index - this.#firstCached)) {
      const bytes = entryBytes(entry)
      this.#cachedBytes -= bytes
      this.#unappliedBytes -= bytes
    }
    this.#terms = this.#terms.filter((run) => run.index < index)
    this.#configurations = this.#configurations.filter((at) => at.index < index)
    this.#lastIndex = index - 1
    this.#savedIndex = Math.min(this.#savedIndex, index - 1)
    this.#handedIndex = Math.min(this.#handedIndex, index - 1)
  }

  /** Entries from `from` on, at least one and about `maxBytes`; undefined when they are no longer in memory. */
  slice(from: number, maxBytes: number): readonly Entry[] | undefined {
    assert(from > this.base.index && from <= this.#lastIndex + 1, 'a slice begins within the log')
    if (from < this.#firstCached) return undefined
    return this.#upTo(from, this.#lastIndex, maxBytes)
  }

  #upTo(from: number, to: number, maxBytes: number): readonly Entry[] {
    let bytes = 0
    let end = from
    while (end <= to) {
      const entry = this.#entries[end - this.#firstCached]
      assert(entry !== undefined, 'what is asked of the cache is in it')
      bytes += entryBytes(entry)
      if (bytes > maxBytes && end > from) break
      end++
    }
    return this.#entries.slice(from - this.#firstCached, end - this.#firstCached)
  }

  /** Hands out what no save has taken yet. */
  takeUnsaved(): readonly Entry[] {
    const entries = this.#entries.slice(this.#handedIndex + 1 - this.#firstCached)
    this.#handedIndex = this.#lastIndex
    return entries
  }

  /**
   * A save up to this position is durable. If the entries were replaced while it ran, the log's term there is another
   * and nothing is counted: their replacements are in a later save.
   */
  saved(position: Position): void {
    if (this.term(position.index) === position.term && position.index > this.#savedIndex) {
      this.#savedIndex = position.index
    }
  }

  /** Returns whether the commit index moved. */
  commit(index: number): boolean {
    assert(index <= this.#lastIndex, 'what is committed is in the log')
    if (index <= this.#commitIndex) return false
    this.#commitIndex = index
    return true
  }

  /** Committed, durable here, and not applied: about `maxBytes` of it. */
  applicable(maxBytes: number): readonly Entry[] {
    return this.#upTo(this.#appliedIndex + 1, Math.min(this.#commitIndex, this.#savedIndex), maxBytes)
  }

  /**
   * Whether more than this is appended and not applied, and applying will make room. Entries that no leader has committed
   * yet hold nobody off: only the entries that come after them can commit them, an old leader's above all.
   */
  lagsInApplying(maxBytes: number): boolean {
    return this.#unappliedBytes > maxBytes && this.#appliedIndex < this.#commitIndex
  }

  applied(index: number): void {
    assert(index > this.#appliedIndex, 'entries are applied once')
    assert(
      index <= this.#commitIndex && index <= this.#savedIndex,
      'only what is committed and durable is applied',
    )
    for (let at = this.#appliedIndex + 1; at <= index; at++) {
      const entry = this.#entries[at - this.#firstCached]
      assert(entry !== undefined, 'what is not applied is in memory')
      this.#unappliedBytes -= entryBytes(entry)
    }
    this.#appliedIndex = index
    this.#evict()
  }

  /** Keeps the newest applied entries for followers that lag a little, up to the bound. */
  #evict(): void {
    if (this.#cachedBytes <= this.#cacheBytes) return
    let bytes = this.#cachedBytes
    let count = 0
    // An eighth is dropped at a time, so that moving the rest up costs little per entry.
    const target = this.#cacheBytes - this.#cacheBytes / 8
    while (bytes > target && this.#firstCached + count <= this.#appliedIndex) {
      const entry = this.#entries[count]
      assert(entry !== undefined, 'the cache holds what it counts')
      bytes -= entryBytes(entry)
      count++
    }
    this.#entries.splice(0, count)
    this.#firstCached += count
    this.#cachedBytes = bytes
  }

  #run(at: number): TermRun {
    const run = this.#terms[at]
    assert(run !== undefined, 'the run of terms exists')
    return run
  }
}
