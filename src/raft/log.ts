// The log as the core sees it: the term of every index, the entries still needed in memory, and how far each duty has come.

import { assert } from './assert.ts'
import type { Configuration, Entry, Member, MemberId, Position, Snapshot } from './types.ts'

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
  /** How far the state machine has come; the base's index when there is none to speak of. */
  readonly appliedIndex: number
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
 * above `savedIndex` are always in memory. `commitIndex` may pass `savedIndex`: a quorum that does not
 * include this replica has committed, and applying waits for the own disk (`safety.md`, rule 5).
 */
export class Log {
  #base: Position
  readonly #cacheBytes: number
  #lastIndex: number
  #terms: TermRun[]
  #configurations: ConfigurationAt[]
  /** Entries `#firstCached`..`#lastIndex`. */
  #entries: Entry[]
  #firstCached: number
  #cachedBytes = 0
  /** Bytes of the entries in memory above `#appliedIndex`. */
  #unappliedBytes = 0
  #commitIndex: number
  #appliedIndex: number
  #savedIndex: number
  #handedIndex: number

  constructor(recovered: RecoveredLog, options: { readonly cacheBytes: number }) {
    const { base, lastIndex, appliedIndex } = recovered
    assert(appliedIndex >= base.index && appliedIndex <= lastIndex, 'the state machine is within its own log')
    assert(recovered.configurations.length > 0, 'a log has a configuration')
    this.#base = base
    this.#cacheBytes = options.cacheBytes
    this.#lastIndex = lastIndex
    this.#terms = [...recovered.terms]
    this.#configurations = [...recovered.configurations]
    this.#entries = []
    this.#firstCached = lastIndex + 1
    this.#commitIndex = appliedIndex
    this.#appliedIndex = appliedIndex
    this.#savedIndex = lastIndex
    this.#handedIndex = lastIndex
  }

  /** The position that the log begins after: the state machine, or a snapshot of it, covers what was before. */
  get base(): Position {
    return this.#base
  }

  get lastIndex(): number {
    return this.#lastIndex
  }

  get lastTerm(): number {
    const last = this.#terms.at(-1)
    return last === undefined ? this.#base.term : last.term
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

  /** Bytes of entries appended here since the start and not applied. */
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

  /**
   * Whether this member may seek to lead: as a voter, or as one that a change not known to be committed has removed. Its log may
   * be the one that the others need, and then nobody but it can commit that very change (thesis 4.2.2).
   */
  mayLead(peer: MemberId): boolean {
    const isVoter = ({ configuration }: ConfigurationAt) =>
      configuration.members.some((member) => member.peer === peer && member.voter)
    const before = this.configuration.index > this.#commitIndex ? this.#configurations.at(-2) : undefined
    return isVoter(this.configuration) || (before !== undefined && isVoter(before))
  }

  /** Who this member is in that configuration; undefined for one that is in none of it. */
  member(peer: MemberId): Member | undefined {
    return this.configuration.configuration.members.find((member) => member.peer === peer)
  }

  /** Every configuration that the log still holds, oldest first. */
  get configurations(): readonly ConfigurationAt[] {
    return this.#configurations
  }

  /** The term of the entry at `index`; undefined beyond either end. */
  term(index: number): number | undefined {
    if (index === this.#base.index) return this.#base.term
    if (index < this.#base.index || index > this.#lastIndex) return undefined
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
    if (prevIndex < this.#base.index) {
      // Everything up to the base is committed, so it matches; what lies above it is looked at as usual.
      const above = entries.filter((entry) => entry.index > this.#base.index)
      const first = above[0]
      if (first === undefined || first.index !== this.#base.index + 1) return undefined
      return this.take(this.#base.index, this.#base.term, above)
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
    return this.#base
  }

  /** The same on the leader's side: the last index that a follower with this hint may share. */
  sharedWith(hint: Hint): number {
    return this.#hint(Math.min(hint.index, this.#lastIndex), hint.term).index
  }

  /** Removes everything from `index` on, configurations too (thesis 4.1). */
  #truncate(index: number): void {
    assert(index > this.#commitIndex, 'committed entries are never replaced')
    const at = Math.max(0, index - this.#firstCached)
    for (const entry of this.#entries.splice(at)) this.#forget(entry)
    this.#firstCached = Math.min(this.#firstCached, index)
    this.#terms = this.#terms.filter((run) => run.index < index)
    this.#configurations = this.#configurations.filter((at) => at.index < index)
    this.#lastIndex = index - 1
    this.#savedIndex = Math.min(this.#savedIndex, index - 1)
    this.#handedIndex = Math.min(this.#handedIndex, index - 1)
  }

  /** An entry leaves the memory. */
  #forget(entry: Entry): void {
    const bytes = entryBytes(entry)
    this.#cachedBytes -= bytes
    if (entry.index > this.#appliedIndex) this.#unappliedBytes -= bytes
  }

  /** Entries from `from` on, at least one and about `maxBytes`; undefined when they are no longer in memory. */
  slice(from: number, maxBytes: number): readonly Entry[] | undefined {
    assert(from > this.#base.index && from <= this.#lastIndex + 1, 'a slice begins within the log')
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
      this.#evict()
    }
  }

  /** Returns whether the commit index moved. */
  commit(index: number): boolean {
    assert(index <= this.#lastIndex, 'what is committed is in the log')
    if (index <= this.#commitIndex) return false
    this.#commitIndex = index
    return true
  }

  /** The last index that is committed, and durable here: how far applying may go. */
  get applicableIndex(): number {
    return Math.min(this.#commitIndex, this.#savedIndex)
  }

  /** Committed, durable here, and not applied: about `maxBytes` of it; undefined when it is no longer in memory. */
  applicable(maxBytes: number): readonly Entry[] | undefined {
    const from = this.#appliedIndex + 1
    if (from > this.applicableIndex) return []
    return from < this.#firstCached ? undefined : this.#upTo(from, this.applicableIndex, maxBytes)
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
    for (let at = Math.max(this.#appliedIndex + 1, this.#firstCached); at <= index; at++) {
      const entry = this.#entries[at - this.#firstCached]
      assert(entry !== undefined, 'the cache has no holes')
      this.#unappliedBytes -= entryBytes(entry)
    }
    this.#appliedIndex = index
    this.#evict()
  }

  /**
   * Keeps the newest entries that are durable for the state machine and for followers that lag a little, up to the bound. What
   * is dropped is read from disk when it is needed.
   */
  #evict(): void {
    if (this.#cachedBytes <= this.#cacheBytes) return
    // An eighth is dropped at a time, so that moving the rest up costs little per entry.
    const target = this.#cacheBytes - this.#cacheBytes / 8
    let bytes = this.#cachedBytes
    let count = 0
    while (bytes > target && this.#firstCached + count <= this.#savedIndex) {
      const entry = this.#entries[count]
      assert(entry !== undefined, 'the cache holds what it counts')
      bytes -= entryBytes(entry)
      count++
    }
    for (const entry of this.#entries.splice(0, count)) this.#forget(entry)
    this.#firstCached += count
  }

  /** The entries up to `index`, all of them applied, are no longer on disk: the log begins after them. */
  compact(index: number): void {
    assert(index <= this.#appliedIndex, 'only what is applied is compacted')
    if (index <= this.#base.index) return
    this.#beginAfter({ index, term: this.#termWithin(index), configuration: this.#configurationAt(index) })
  }

  /** Whether the log goes on after a snapshot with what it has, or holds nothing that could follow it (section 7). */
  continues(base: Position): boolean {
    return this.term(base.index) === base.term
  }

  /** The state machine now begins with a snapshot, and the log after it. Both are durable. */
  install(base: Snapshot): void {
    assert(base.index >= this.#base.index, 'a snapshot is never older than the one before')
    if (!this.continues(base)) {
      assert(base.index > this.#commitIndex, 'what is committed agrees with every snapshot')
      for (const entry of this.#entries.splice(0)) this.#forget(entry)
      this.#terms = []
      this.#configurations = []
      this.#lastIndex = base.index
      this.#savedIndex = base.index
      this.#handedIndex = base.index
      this.#firstCached = base.index + 1
    }
    this.#beginAfter(base)
    this.#commitIndex = Math.max(this.#commitIndex, base.index)
    this.#savedIndex = Math.max(this.#savedIndex, base.index)
    this.#appliedIndex = base.index
    this.#countUnapplied()
  }

  /** The state machine is another, which has come only to `index`: what follows is applied to it again. */
  reapplyAfter(index: number): void {
    assert(index >= this.#base.index && index <= this.#appliedIndex, 'a state is regained within the log')
    this.#appliedIndex = index
    this.#countUnapplied()
  }

  #countUnapplied(): void {
    this.#unappliedBytes = 0
    for (const entry of this.#entries) {
      if (entry.index > this.#appliedIndex) this.#unappliedBytes += entryBytes(entry)
    }
  }

  #beginAfter({ index, term, configuration }: Snapshot): void {
    const count = Math.max(0, Math.min(index + 1 - this.#firstCached, this.#entries.length))
    for (const entry of this.#entries.splice(0, count)) this.#forget(entry)
    this.#firstCached = Math.max(this.#firstCached, index + 1)
    const later = this.#terms.filter((run) => run.index > index + 1)
    const next = this.#lastIndex > index ? this.#termWithin(index + 1) : undefined
    this.#terms = next === undefined ? [] : [{ index: index + 1, term: next }, ...later]
    const above = this.#configurations.filter((at) => at.index > index)
    this.#configurations = [{ index, configuration }, ...above]
    this.#base = { index, term }
  }

  #termWithin(index: number): number {
    const term = this.term(index)
    assert(term !== undefined, 'the index is within the log')
    return term
  }

  /** The configuration that holds at an index of the log. */
  #configurationAt(index: number): Configuration {
    const at = this.#configurations.findLast((candidate) => candidate.index <= index)
    assert(at !== undefined, 'a log has a configuration at its base')
    return at.configuration
  }

  #run(at: number): TermRun {
    const run = this.#terms[at]
    assert(run !== undefined, 'the run of terms exists')
    return run
  }
}
