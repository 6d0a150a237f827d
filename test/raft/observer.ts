// The promises of Raft (figure 3) and of `safety.md`, checked after every step of every core, with all disks in view.

import { assert } from '../../src/raft/assert.ts'
import type { Raft } from '../../src/raft/raft.ts'
import type { Entry, MemberId, Message } from '../../src/raft/types.ts'
import type { SaveDuty, Seat } from './seat.ts'

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
  readonly matched: Map<MemberId, number>
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
  /** `voter/term` → whom it voted for. */
  readonly #votes = new Map<string, MemberId>()
  /** By index - 1. */
  readonly #committed: Committed[] = []
  readonly #applied: Entry[] = []
  /** Read id → what was committed when it was asked. */
  readonly #reads = new Map<number, number>()
  readonly #seen = new Map<MemberId, Seen>()

  constructor(seats: ReadonlyMap<MemberId, Seat>) {
    this.#seats = seats
    for (const { disk } of seats.values())
      for (const entry of disk.entries) this.#know(entry, disk.term(entry.index - 1))
  }

  /** How much is committed anywhere. */
  get commitIndex(): number {
    return this.#committed.length
  }

  crashed(id: MemberId): void {
    this.#seen.delete(id)
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
      seen = { term, leading: false, lastIndex: 0, lastTerm: 0, commitIndex: 0, matched: new Map() }
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
      const entries = log.slice(from, Number.MAX_SAFE_INTEGER)
      assert(entries !== undefined, `what is not applied is in the memory of ${seat.id}`)
      for (const entry of entries) {
        must(entry.index === from, 'entries stand at their index', () => `${seat.id} at ${from}`)
        must(log.term(from) === entry.term, 'runs of terms tell the truth', () => `${seat.id} at ${from}`)
        this.#know(entry, log.term(from - 1))
        from++
      }
    }
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
      seen.matched.clear()
      const { hardState } = seat.disk
      must(
        hardState.term === term && hardState.votedFor === seat.id,
        'a candidate counts its own vote when that is durable (rule 5)',
        () => `${seat.id} leads ${term} and has saved ${hardState.term}/${hardState.votedFor}`,
      )
      this.#mustHaveWon(raft, seat.id)
      this.#committed.forEach((committed, at) => {
        must(
          committed.by >= term || log.term(at + 1) === committed.term,
          'leader completeness',
          () => `${seat.id} leads ${term} without ${at + 1}/${committed.term}`,
        )
      })
    } else {
      must(
        log.lastIndex >= seen.lastIndex && log.term(seen.lastIndex) === seen.lastTerm,
        'a leader only appends',
        () => `${seat.id} had ${seen.lastIndex}/${seen.lastTerm}`,
      )
    }
    for (const [peer, { matchIndex, nextIndex }] of raft.progress ?? []) {
      must(nextIndex > matchIndex, 'next is above match', () => `${seat.id} about ${peer}`)
      must(
        matchIndex >= (seen.matched.get(peer) ?? 0),
        'matchIndex never goes back',
        () => `${seat.id} about ${peer}`,
      )
      seen.matched.set(peer, matchIndex)
      const disk = this.#seats.get(peer)?.disk
      if (disk === undefined || disk.hardState.term > term) continue
      must(
        disk.term(matchIndex) === log.term(matchIndex),
        'matchIndex is durable at the follower',
        () => `${seat.id} believes that ${peer} has ${matchIndex}`,
      )
    }
  }

  #mustHaveWon(raft: Raft, id: MemberId): void {
    const voters = raft.log.configuration.configuration.members.filter((member) => member.voter)
    const votes = voters.filter(({ peer }) => peer === id || this.#votes.get(`${peer}/${raft.term}`) === id)
    must(
      votes.length * 2 > voters.length,
      'a majority voted for who leads',
      () => `${id} in term ${raft.term}`,
    )
  }

  #lookAtCommit(seat: Seat, raft: Raft, seen: Seen): void {
    const { log, term } = raft
    must(log.commitIndex > seen.commitIndex, 'the commit index only grows', () => seat.id)
    for (let index = seen.commitIndex + 1; index <= log.commitIndex; index++) {
      const committed = this.#committed[index - 1]
      const entryTerm = log.term(index)
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
    const having = voters.filter(({ peer }) => this.#seats.get(peer)?.disk.term(index) === term)
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

  /** As a message leaves: nothing is promised that the disk does not hold. */
  sent(seat: Seat, message: Message): void {
    const { hardState } = seat.disk
    const promised = (what: string, kept: boolean): void =>
      must(kept, `${what} leaves only when it is durable`, () => `${seat.id} in term ${message.term}`)
    switch (message.type) {
      case 'vote': {
        if (message.preVote || !message.granted) return
        const key = `${seat.id}/${message.askedTerm}`
        const other = this.#votes.get(key)
        must(
          other === undefined || other === message.to,
          'one vote in a term',
          () => `${key}: ${other}, ${message.to}`,
        )
        this.#votes.set(key, message.to)
        const same = hardState.term === message.askedTerm && hardState.votedFor === message.to
        promised('a vote', same || hardState.term > message.askedTerm)
        return
      }
      case 'requestVote': {
        const key = `${seat.id}/${message.term}`
        const other = this.#votes.get(key)
        must(other === undefined || other === seat.id, 'one vote in a term', () => `${key}: ${other}, itself`)
        this.#votes.set(key, seat.id)
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
