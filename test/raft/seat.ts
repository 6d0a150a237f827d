// One member of an ensemble: its core while it is up, and a disk that keeps only what was saved.

import { assert } from '../../src/raft/assert.ts'
import type { RecoveredLog, TermRun } from '../../src/raft/log.ts'
import type { Raft } from '../../src/raft/raft.ts'
import type { Configuration, Duty, Entry, HardState, MemberId, Snapshot } from '../../src/raft/types.ts'

export type SaveDuty = Extract<Duty, { type: 'save' }>
export type InstallDuty = Extract<Duty, { type: 'install' }>
type ApplyDuty = Extract<Duty, { type: 'apply' }>
type FetchDuty = Extract<Duty, { type: 'fetch' }>

/** The state at a position, as one member gives it to another; with the terms of all that led to it, for the observer. */
export type StateAt = { readonly base: Snapshot; readonly terms: readonly number[] }

/** What one member's disk holds. A save is one atomic write: all of it is there after a crash, or nothing. */
export class SeatDisk {
  hardState: HardState
  /** What the log begins after. */
  base: Snapshot
  /** After the base. */
  entries: Entry[]
  /** How far the state machine is durable. */
  appliedIndex = 0
  /** The state machine is damaged. */
  stateless = false
  /** The boot at which the log was lost, until the core says that this is over. */
  rebuilding: number | undefined
  /** Raised at every start. */
  boot = 0
  /** The terms of everything up to the base, which this disk no longer has: the observer goes by them. */
  #past: readonly number[] = []

  constructor(founding: Configuration, entries: readonly Entry[], hardState: HardState) {
    this.base = { index: 0, term: 0, configuration: founding }
    this.entries = [...entries]
    this.hardState = hardState
  }

  get lastIndex(): number {
    return this.base.index + this.entries.length
  }

  /** The term at an index, also of what only the state covers; 0 before the first entry, undefined beyond the last. */
  term(index: number): number | undefined {
    if (index === 0) return 0
    return index <= this.base.index ? this.#past[index - 1] : this.entry(index)?.term
  }

  /** Undefined beyond either end. */
  entry(index: number): Entry | undefined {
    return index <= this.base.index ? undefined : this.entries[index - this.base.index - 1]
  }

  write(duty: SaveDuty): void {
    if (duty.hardState !== undefined) this.hardState = duty.hardState
    const first = duty.entries[0]
    if (first === undefined) return
    assert(
      first.index > this.base.index && first.index <= this.lastIndex + 1,
      'a save leaves no gap on disk and nothing below its base',
    )
    this.entries.length = first.index - this.base.index - 1
    this.entries.push(...duty.entries)
  }

  /** The state at an index of this log, as a snapshot has it. */
  stateAt(index: number): StateAt {
    const term = this.term(index)
    assert(term !== undefined && index >= this.base.index, 'a state has a position in the log')
    const terms = this.#terms(index)
    return { base: { index, term, configuration: this.#configurationAt(index) }, terms }
  }

  compact(index: number): void {
    if (index <= this.base.index) return
    this.#begin(this.stateAt(index), this.entries.slice(index - this.base.index))
  }

  install({ keeps }: InstallDuty, state: StateAt): void {
    const { index, term } = state.base
    assert(index >= this.base.index, 'a base never goes back')
    assert(keeps === (this.term(index) === term), 'memory and disk agree on what the log keeps')
    this.#begin(state, keeps ? this.entries.slice(index - this.base.index) : [])
    this.appliedIndex = index
    this.stateless = false
  }

  /** Log and hard state are gone; the state machine stays, unless that is gone too. */
  loseLog(founding: Configuration, options: { readonly keepsState: boolean }): void {
    const keeps = options.keepsState && !this.stateless && this.term(this.appliedIndex) !== undefined
    const empty = { base: { index: 0, term: 0, configuration: founding }, terms: [] }
    const state = keeps ? this.stateAt(this.appliedIndex) : empty
    this.#begin(state, [])
    this.appliedIndex = state.base.index
    this.stateless = false
    this.hardState = { term: 1, votedFor: undefined }
    this.rebuilding = this.boot + 1
  }

  recover(): RecoveredLog {
    const terms: TermRun[] = []
    const configurations = [{ index: this.base.index, configuration: this.base.configuration }]
    for (const entry of this.entries) {
      const { index, term } = entry
      if (terms.at(-1)?.term !== term) terms.push({ index, term })
      if (entry.type === 'configuration') configurations.push({ index, configuration: entry.configuration })
    }
    return {
      base: { index: this.base.index, term: this.base.term },
      lastIndex: this.lastIndex,
      terms,
      configurations,
      appliedIndex: this.stateless ? this.base.index : this.appliedIndex,
    }
  }

  #begin(state: StateAt, entries: readonly Entry[]): void {
    this.base = state.base
    this.#past = state.terms
    this.entries = [...entries]
  }

  #terms(index: number): readonly number[] {
    const above = this.entries.slice(0, index - this.base.index).map(({ term }) => term)
    return [...this.#past.slice(0, index), ...above]
  }

  #configurationAt(index: number): Configuration {
    const entries = this.entries.slice(0, index - this.base.index)
    const entry = entries.findLast((candidate) => candidate.type === 'configuration')
    return entry === undefined ? this.base.configuration : entry.configuration
  }
}

/** One member: its core while it is up, its disk, and the duties its core has handed out and not taken back. */
export type Seat = {
  readonly id: MemberId
  readonly disk: SeatDisk
  raft: Raft | undefined
  saving: SaveDuty | undefined
  applying: ApplyDuty | undefined
  installing: InstallDuty | undefined
  /** Being read for followers, and for the state machine. */
  fetching: FetchDuty[]
  /** A snapshot that reaches to this index is wanted. */
  wanted: number | undefined
  /** What was offered to the core and may come back as an install. */
  offered: StateAt | undefined
  /** The latest boot heard of each other member since the own start. */
  readonly boots: Map<MemberId, number>
  /** While true `settle` leaves its saves (applies) under way. */
  savesHeld: boolean
  appliesHeld: boolean
  /** While true `settle` gives it no snapshot. */
  snapshotsHeld: boolean
}

/** The configuration of members that have nothing but names. */
export function configurationOf(
  members: readonly MemberId[],
  learners: readonly MemberId[] = [],
): Configuration {
  return {
    members: members.map((peer) => ({
      peer,
      id: peer,
      http: '',
      p2p: '',
      voter: !learners.includes(peer),
      since: 0,
      commandVersion: 1,
    })),
  }
}
