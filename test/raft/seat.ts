// One member of an ensemble: its core while it is up, and a disk that keeps only what was saved.

import { assert } from '../../src/raft/assert.ts'
import type { RecoveredLog, TermRun } from '../../src/raft/log.ts'
import type { Raft } from '../../src/raft/raft.ts'
import type { Configuration, Duty, Entry, HardState, MemberId } from '../../src/raft/types.ts'

export type SaveDuty = Extract<Duty, { type: 'save' }>
type ApplyDuty = Extract<Duty, { type: 'apply' }>
type FetchDuty = Extract<Duty, { type: 'fetch' }>

/** What one member's disk holds. A save is one atomic write: all of it is there after a crash, or nothing. */
export class SeatDisk {
  readonly founding: Configuration
  hardState: HardState
  readonly entries: Entry[]
  /** How far the state machine is durable. */
  appliedIndex = 0

  constructor(founding: Configuration, entries: readonly Entry[], hardState: HardState) {
    this.founding = founding
    this.entries = [...entries]
    this.hardState = hardState
  }

  get lastIndex(): number {
    return this.entries.length
  }

  /** The term at an index; 0 before the first entry, undefined beyond the last. */
  term(index: number): number | undefined {
    return index === 0 ? 0 : this.entries[index - 1]?.term
  }

  write(duty: SaveDuty): void {
    if (duty.hardState !== undefined) this.hardState = duty.hardState
    const first = duty.entries[0]
    if (first === undefined) return
    assert(first.index <= this.entries.length + 1, 'a save leaves no gap on disk')
    this.entries.length = first.index - 1
    this.entries.push(...duty.entries)
  }

  recover(): RecoveredLog {
    const terms: TermRun[] = []
    const configurations = [{ index: 0, configuration: this.founding }]
    for (const entry of this.entries) {
      const { index, term } = entry
      if (terms.at(-1)?.term !== term) terms.push({ index, term })
      if (entry.type === 'configuration') configurations.push({ index, configuration: entry.configuration })
    }
    return {
      base: { index: 0, term: 0 },
      lastIndex: this.entries.length,
      terms,
      configurations,
      appliedIndex: this.appliedIndex,
      entries: this.entries.slice(this.appliedIndex),
    }
  }
}

/** One member: its core while it is up, its disk, and the duties its core has handed out and not taken back. */
export type Seat = {
  readonly id: MemberId
  readonly disk: SeatDisk
  raft: Raft | undefined
  saving: SaveDuty | undefined
  applying: ApplyDuty | undefined
  fetching: FetchDuty | undefined
  /** While true `settle` leaves its saves (applies) under way. */
  savesHeld: boolean
  appliesHeld: boolean
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
