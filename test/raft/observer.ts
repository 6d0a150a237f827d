// The promises of Raft (figure 3) and of `safety.md`, checked after every step of every core, with all disks in view.

import { assert } from '../../src/raft/assert.ts'
import type { Progress } from '../../src/raft/progress.ts'
import type { Raft } from '../../src/raft/raft.ts'
import type { Entry, MemberId, Message } from '../../src/raft/types.ts'
import type { InstallDuty, SaveDuty, Seat } from './seat.ts'

/** An entry as first seen anywhere: whoever has (index, term) must have this one, after an entry of this term. */
type Known = { readonly entry: Entry; readonly previousTerm: number }

/** `by`: the term of the leader that committed it; every leader of a later term has it. */
type Committed = { readonly term: number; readonly by: number }

/** What was seen of a core last; nothing of it outlives a crash. */
type Seen = {
  term: number
  leading: boolean
  lastIndex: number
  lastTerm: number
  commitIndex: number
  /** A member that comes back, or lost its log, begins anew with another progress. */
  matched: WeakMap<Progress, number>
}

/** Thrown when a promise is broken; its message names the promise. */
class SafetyViolation extends Error {
  override readonly name = 'SafetyViolation'
}

function must(holds: boolean, promise: string, facts: () => string): void {
  if (!holds) throw new SafetyViolation(`${promise}: ${facts()}`)
}

export class Observer {
  readonly #seats: ReadonlyMap<MemberId, Seat>
  readonly #known = new Map<string, Known>()
  readonly #leaders = new Map<number, MemberId>()
  /** `voter/term` → whom it voted for. One whose log was lost may vote again in a term that it voted in. */
  readonly #votes = new Map<string, { readonly candidate: MemberId; readonly losses: number }[]>()
  /** How often each member lost its log. */
  readonly #losses = new Map<MemberId, number>()
  /** The term of the entry that each member last made durable at an index: what it promised, though the disk may be lost. */
  readonly #durable = new Map<MemberId, number[]>()
  /** By index - 1. */
  readonly #committed: Committed[] = []
  readonly #applied: Entry[] = []
  /** Read id → what was committed when it was asked. */
  readonly #reads = new Map<number, number>()
  readonly #seen = new Map<MemberId, Seen>()

  constructor(seats: ReadonlyMap<MemberId, Seat>) {
    this.#seats = seats
    for (const { id, disk } of seats.values()) {
      for (const entry of disk.entries) this.#know(entry, disk.term(entry.index - 1))
      this.#durable.set(
        id,
        disk.entries.map(({ term }) => term),
      )
    }
  }

  /** How many members that lost their log may answer for themselves again. */
  rebuilt = 0

  /** How much is committed anywhere. */
  get commitIndex(): number {
    return this.#committed.length
  }

  crashed(id: MemberId): void {
    this.#seen.delete(id)
  }

  /** A member lost its log: it no longer knows what it promised, but others counted it. */
  lostLog(id: MemberId): void {
    this.#losses.set(id, (this.#losses.get(id) ?? 0) + 1)
  }

  /** After every input, and before anything that came of it is handed on. */
  looked(seat: Seat, raft: Raft): void {
    const { log, term, role } = raft
    const seen = this.#seenOf(seat, raft)
    must(term >= seen.term, 'terms only grow', () => `${seat.id} went from ${seen.term} to ${term}`)
    must(
      seat.disk.term(log.savedIndex) === log.term(log.savedIndex),
      'what counts as saved is on the disk',
      () => `${seat.id} up to ${log.savedIndex}`,
    )
    if (seen.lastIndex !== log.lastIndex || seen.lastTerm !== log.lastTerm) this.#matchLog(seat, raft)
    if (role === 'leader') this.#lookAtLeader(seat, raft, seen)
    if (log.commitIndex !== seen.commitIndex) this.#lookAtCommit(seat, raft, seen)
    seen.term = term
    seen.leading = role === 'leader'
    seen.lastIndex = log.lastIndex
    seen.lastTerm = log.lastTerm
    seen.commitIndex = log.commitIndex
  }

  #seenOf(seat: Seat, raft: Raft): Seen {
    let seen = this.#seen.get(seat.id)
    if (seen === undefined) {
      const { term } = seat.disk.hardState
      must(
        raft.term === term,
        'a start goes on from the disk',
        () => `${seat.id} has ${raft.term}, not ${term}`,
      )
      seen = { term, leading: false, lastIndex: 0, lastTerm: 0, commitIndex: 0, matched: new WeakMap() }
      this.#seen.set(seat.id, seen)
    }
    return seen
  }

  #know(entry: Entry, previousTerm: number | undefined): void {
    assert(previousTerm !== undefined, 'a log has no gaps')
    const key = `${entry.index}/${entry.term}`
    const known = this.#known.get(key)
    if (known === undefined) this.#known.set(key, { entry, previousTerm })
    else {
      must(known.entry === entry, 'log matching: one entry for an index and term', () => key)
      must(
        known.previousTerm === previousTerm,
        'log matching: one history before an index and term',
        () => `${key} follows terms ${known.previousTerm} and ${previousTerm}`,
      )
    }
  }

  /** Log matching (section 5.3): what lies above the commit index is compared with what is known of each index and term. */
  #matchLog(seat: Seat, raft: Raft): void {
    const { log } = raft
    let from = Math.max(log.commitIndex, log.appliedIndex) + 1
    while (from <= log.lastIndex) {
      const entries = log.slice(from, Number.MAX_SAFE_INTEGER) ?? this.#onDisk(seat, from)
      for (const entry of entries) {
        must(entry.index === from, 'entries stand at their index', () => `${seat.id} at ${from}`)
        must(log.term(from) === entry.term, 'runs of terms tell the truth', () => `${seat.id} at ${from}`)
        this.#know(entry, log.term(from - 1))
        from++
      }
    }
  }

  /** What is no longer in memory is on the disk. */
  #onDisk(seat: Seat, index: number): readonly Entry[] {
    const entry = seat.disk.entry(index)
    assert(entry !== undefined, `what is not in the memory of ${seat.id} is on its disk`)
    return [entry]
  }

  /** The term of an entry of this log, or of one that only its state covers. */
  #termAt(seat: Seat, raft: Raft, index: number): number | undefined {
    return index < raft.log.base.index ? seat.disk.term(index) : raft.log.term(index)
  }

  #lookAtLeader(seat: Seat, raft: Raft, seen: Seen): void {
    const { log, term } = raft
    const other = this.#leaders.get(term)
    must(
      other === undefined || other === seat.id,
      'election safety',
      () => `${other} and ${seat.id} lead ${term}`,
    )
    if (!seen.leading || seen.term !== term) {
      this.#leaders.set(term, seat.id)
      seen.matched = new WeakMap()
      const { hardState } = seat.disk
      must(
        hardState.term === term && hardState.votedFor === seat.id,
        'a candidate counts its own vote when that is durable (rule 5)',
        () => `${seat.id} leads ${term} and has saved ${hardState.term}/${hardState.votedFor}`,
      )
      this.#mustHaveWon(raft, seat.id)
      this.#committed.forEach((committed, at) => {
        must(
          committed.by >= term || this.#termAt(seat, raft, at + 1) === committed.term,
          'leader completeness',
          () => `${seat.id} leads ${term} without ${at + 1}/${committed.term}`,
        )
      })
    } else {
      must(
        log.lastIndex >= seen.lastIndex && this.#termAt(seat, raft, seen.lastIndex) === seen.lastTerm,
        'a leader only appends',
        () => `${seat.id} had ${seen.lastIndex}/${seen.lastTerm}`,
      )
    }
    for (const [peer, progress] of raft.progress ?? []) {
      const { matchIndex, nextIndex } = progress
      must(nextIndex > matchIndex, 'next is above match', () => `${seat.id} about ${peer}`)
      must(
        matchIndex >= (seen.matched.get(progress) ?? 0),
        'matchIndex never goes back',
        () => `${seat.id} about ${peer}`,
      )
      seen.matched.set(progress, matchIndex)
      const disk = this.#seats.get(peer)?.disk
      if (disk === undefined || disk.hardState.term > term || disk.rebuilding !== undefined) continue
      must(
        disk.term(matchIndex) === this.#termAt(seat, raft, matchIndex),
        'matchIndex is durable at the follower',
        () =>
          `${seat.id} believes that ${peer} has ${matchIndex}/${this.#termAt(seat, raft, matchIndex)}, not ${disk.term(matchIndex)}`,
      )
    }
  }

  #mustHaveWon(raft: Raft, id: MemberId): void {
    const voters = raft.log.configuration.configuration.members.filter((member) => member.voter)
    const votes = voters.filter(({ peer }) => peer === id || this.#votedFor(peer, raft.term, id))
    must(
      votes.length * 2 > voters.length,
      'a majority voted for who leads',
      () => `${id} in term ${raft.term}`,
    )
  }

  #votedFor(peer: MemberId, term: number, candidate: MemberId): boolean {
    return (this.#votes.get(`${peer}/${term}`) ?? []).some((vote) => vote.candidate === candidate)
  }

  /** A vote leaves: the only one in its term, as far as its voter can know. */
  #voted(voter: MemberId, term: number, candidate: MemberId): void {
    const key = `${voter}/${term}`
    const losses = this.#losses.get(voter) ?? 0
    const votes = this.#votes.get(key) ?? []
    const other = votes.find((vote) => vote.losses === losses && vote.candidate !== candidate)
    must(other === undefined, 'one vote in a term', () => `${key}: ${other?.candidate}, ${candidate}`)
    this.#votes.set(key, [...votes, { candidate, losses }])
  }

  #lookAtCommit(seat: Seat, raft: Raft, seen: Seen): void {
    const { log, term } = raft
    must(log.commitIndex > seen.commitIndex, 'the commit index only grows', () => seat.id)
    for (let index = seen.commitIndex + 1; index <= log.commitIndex; index++) {
      const committed = this.#committed[index - 1]
      const entryTerm = this.#termAt(seat, raft, index)
      assert(entryTerm !== undefined, 'what is committed is in the log')
      if (committed !== undefined) {
        must(
          committed.term === entryTerm,
          'state-machine safety',
          () => `${seat.id} commits ${index}/${entryTerm}, others ${index}/${committed.term}`,
        )
        continue
      }
      if (raft.role === 'leader') this.#mustBeDurable(raft, index, entryTerm)
      else if (index > seat.disk.appliedIndex) {
        must(false, 'a follower learns of commits from a leader', () => `${seat.id} commits ${index}`)
      }
      this.#committed.push({ term: entryTerm, by: term })
    }
  }

  #mustBeDurable(raft: Raft, index: number, term: number): void {
    must(
      raft.log.term(raft.log.commitIndex) === raft.term,
      'only an entry of the own term is committed by counting (section 5.4.2)',
      () => `${raft.log.commitIndex} in term ${raft.term}`,
    )
    const voters = raft.log.configuration.configuration.members.filter((member) => member.voter)
    const having = voters.filter(({ peer }) => this.#durable.get(peer)?.[index - 1] === term)
    must(
      having.length * 2 > voters.length,
      'what is committed is durable on a quorum',
      () => `${index}/${term} is on ${having.map((member) => member.peer).join(', ') || 'no disk'}`,
    )
  }

  /** Before a save reaches the disk. */
  saves(seat: Seat, duty: SaveDuty): void {
    const { hardState } = seat.disk
    if (duty.hardState !== undefined) {
      const { term, votedFor } = duty.hardState
      must(
        term > hardState.term ||
          (term === hardState.term && (hardState.votedFor === undefined || votedFor === hardState.votedFor)),
        'the durable term never goes back, nor is a vote changed',
        () => `${seat.id} had ${hardState.term}/${hardState.votedFor}, saves ${term}/${votedFor}`,
      )
    }
    const first = duty.entries[0]
    if (first === undefined) return
    this.#madeDurable(
      seat.id,
      first.index,
      duty.entries.map(({ term }) => term),
    )
    for (let index = first.index; index <= seat.disk.lastIndex; index++) {
      const committed = this.#committed[index - 1]
      if (committed === undefined || seat.disk.term(index) !== committed.term) continue
      const replacement = duty.entries[index - first.index]
      must(
        replacement?.term === committed.term,
        'a committed entry is never replaced on a disk',
        () => `${index}/${committed.term} at ${seat.id}`,
      )
    }
    for (const [at, entry] of duty.entries.entries()) {
      this.#know(entry, at === 0 ? seat.disk.term(entry.index - 1) : duty.entries[at - 1]?.term)
    }
  }

  #madeDurable(id: MemberId, first: number, terms: readonly number[]): void {
    const durable = this.#durable.get(id)
    assert(durable !== undefined, `${id} has a disk`)
    for (const [at, term] of terms.entries()) durable[first - 1 + at] = term
  }

  /** Before a snapshot takes the place of a log, or of its beginning. */
  installs(seat: Seat, { base, keeps }: InstallDuty): void {
    const { disk } = seat
    must(
      base.index === 0 || this.#committed[base.index - 1]?.term === base.term,
      'a snapshot is of committed entries',
      () => `${seat.id} at ${base.index}/${base.term}`,
    )
    must(
      disk.stateless || base.index > disk.appliedIndex,
      'a snapshot never overwrites newer state (rule 6)',
      () => `${seat.id} at ${base.index}, has ${disk.appliedIndex}`,
    )
    this.#madeDurable(
      seat.id,
      1,
      this.#committed.slice(0, base.index).map(({ term }) => term),
    )
    if (keeps) return
    must(disk.term(base.index) !== base.term, 'a log that goes on after the snapshot is kept', () => seat.id)
  }

  /** As a message leaves: nothing is promised that the disk does not hold. */
  sent(seat: Seat, message: Message): void {
    const { hardState } = seat.disk
    const promised = (what: string, kept: boolean): void =>
      must(kept, `${what} leaves only when it is durable`, () => `${seat.id} in term ${message.term}`)
    switch (message.type) {
      case 'vote': {
        if (message.preVote || !message.granted) return
        this.#voted(seat.id, message.askedTerm, message.to)
        const same = hardState.term === message.askedTerm && hardState.votedFor === message.to
        promised('a vote', same || hardState.term > message.askedTerm)
        return
      }
      case 'requestVote': {
        this.#voted(seat.id, message.term, seat.id)
        const same = hardState.term === message.term && hardState.votedFor === seat.id
        promised('a candidacy', same || hardState.term > message.term)
        promised('the log of a candidacy', !same || seat.disk.term(message.lastIndex) === message.lastTerm)
        return
      }
      case 'appended':
        promised('the term of an acknowledgement', hardState.term >= message.term)
        promised(
          'an acknowledgement',
          hardState.term > message.term || seat.disk.lastIndex >= message.matchIndex,
        )
        return
      case 'append':
        for (const entry of message.entries) {
          must(
            this.#known.get(`${entry.index}/${entry.term}`)?.entry === entry,
            'what is sent is known',
            () => seat.id,
          )
        }
        return
      case 'commit':
      case 'heartbeat':
        must(message.commitIndex <= this.#committed.length, 'a commit that is told is one', () => seat.id)
        return
      default:
        return
    }
  }

  applied(seat: Seat, entries: readonly Entry[]): void {
    for (const entry of entries) {
      const at = entry.index - 1
      const other = this.#applied[at]
      must(
        other === undefined || other === entry,
        'state-machine safety: one entry is applied at an index',
        () => `${seat.id} at ${entry.index}`,
      )
      must(
        seat.disk.term(entry.index) === entry.term,
        'only what is durable here is applied (rule 5)',
        () => `${seat.id} at ${entry.index}`,
      )
      must(
        this.#committed[at]?.term === entry.term,
        'only what is committed is applied',
        () => `${seat.id} at ${entry.index}`,
      )
      this.#applied[at] = entry
    }
  }

  readAsked(id: number): void {
    this.#reads.set(id, this.#committed.length)
  }

  readAnswered(id: number, index: number | undefined): void {
    const floor = this.#reads.get(id)
    assert(floor !== undefined, 'only what was asked is answered')
    must(
      index === undefined || (index >= floor && index <= this.#committed.length),
      'a read sees everything committed before it was asked (rule 19)',
      () => `read ${id} got ${index}, ${floor} was committed`,
    )
  }
}
