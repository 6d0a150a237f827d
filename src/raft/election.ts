// When this replica seeks leadership, and how its attempt stands: every timer, every answer, the belief in a living leader.
//
// It is told what happens and at which tick. It says `ask` when it is time to ask for pre-votes, and `stand`, `won` or
// `lost` when the answers decide. Terms, votes and messages are `raft.ts`'s: nothing in here needs to be durable.

import type { Log } from './log.ts'
import { tally } from './quorum.ts'
import type { MemberId, Message, Role } from './types.ts'

/** All times are in ticks; the shell says how long one is. */
export type ElectionOptions = {
  readonly self: MemberId
  /** The minimum election timeout; one is drawn from 1 to 1.5 times it. */
  readonly electionTicks: number
  /** The longest a follower waits after its leader's connections ended (`safety.md`, rule 12). */
  readonly failoverTicks: number
  /** How long a follower that granted a pre-vote holds back its own. */
  readonly holdTicks: number
  /** From 0 up to and without 1; seeded by whoever wants the same run again. */
  readonly random: () => number
  /** The cluster was founded just now: nobody has led it, so nobody need be waited for. */
  readonly fresh?: boolean
}

/** What the answers so far say: nothing yet, go from pre-votes to votes, lead, or give up. */
export type Verdict = 'open' | 'stand' | 'won' | 'lost'

/** A pre-election or election of this replica's own, for `term`. Only answers that name it are counted. */
type Attempt = {
  readonly role: 'preCandidate' | 'candidate'
  readonly term: number
  readonly answers: Map<MemberId, boolean>
}

/** Tries to be elected without waiting for a timeout, because the leader is `lost`, or there never was one. */
type Failover = { readonly lost: MemberId | undefined; attempt: number; dueAt: number }

const failoverAttempts = 3

export class Election {
  readonly #options: ElectionOptions
  readonly #log: Log
  /** The attempt under way; it ends with its term, with a word of a leader, or with the next attempt. */
  #attempt: Attempt | undefined
  /** The tick at which this replica asks unless it hears from a leader or grants a vote. */
  #timeoutAt = 0
  /** The tick at which a leader was last heard; a start counts as one (rule 11). Undefined once that leader is given up. */
  #leaderHeardAt: number | undefined = 0
  /** No own pre-vote before this tick, because another's, or a vote, was granted. */
  #holdUntil = 0
  #failover: Failover | undefined
  /** The leader whose connections ended: until the next timeout no answer is expected from it. */
  #lost: MemberId | undefined

  /** Begins at tick 0. */
  constructor(options: ElectionOptions, log: Log) {
    this.#options = options
    this.#log = log
    this.#restartTimeout(0)
    const { voters } = log
    if (!voters.includes(options.self)) return
    // Nobody else could lead, so there is nobody to wait for.
    if (voters.length === 1) this.#timeoutAt = 1
    if (options.fresh === true) this.#failOver(undefined, 0)
  }

  /** The part this replica has, as long as it does not lead. */
  get role(): Exclude<Role, 'leader'> {
    return this.#attempt?.role ?? 'follower'
  }

  // ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** One tick of a replica that does not lead. `ask` says that it is time for `ask()`; not asking costs one timeout. */
  tick(now: number): 'ask' | 'wait' {
    // Whoever granted a vote or pre-vote gives that candidate the time to win.
    if (now < this.#holdUntil) return 'wait'
    const failover = this.#failover
    if (now >= this.#timeoutAt) {
      this.#failover = undefined
      this.#lost = undefined
    } else if (failover !== undefined && now >= failover.dueAt && this.role !== 'candidate') {
      // A candidacy that is open is left to win or lose, or to end with the election timeout.
      this.#nextFailover(failover, now)
    } else {
      return 'wait'
    }
    this.#restartTimeout(now)
    return 'ask'
  }

  #restartTimeout(now: number): void {
    const { electionTicks, random } = this.#options
    this.#timeoutAt = now + electionTicks + Math.floor((random() * electionTicks) / 2)
  }

  #failOver(lost: MemberId | undefined, now: number): void {
    this.#leaderHeardAt = undefined
    this.#lost = lost
    this.#failover = { lost, attempt: 0, dueAt: now + this.#failoverDelay(lost, 0) }
  }

  #nextFailover(failover: Failover, now: number): void {
    failover.attempt++
    if (failover.attempt === failoverAttempts) this.#failover = undefined
    else failover.dueAt = now + this.#failoverDelay(failover.lost, failover.attempt)
  }

  #failoverDelay(lost: MemberId | undefined, attempt: number): number {
    const others = this.#log.voters.filter((peer) => peer !== lost).sort()
    const place = Math.max(0, others.indexOf(this.#options.self)) / Math.max(1, others.length - 1)
    const jitter = this.#options.random()
    return Math.max(1, Math.round((1 + place * (this.#options.failoverTicks - 2) + jitter) * 2 ** attempt))
  }

  // ── leaders ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether a leader was heard of so lately that nobody is helped to replace it (rule 11). */
  believesInLeader(now: number): boolean {
    return this.#leaderHeardAt !== undefined && now - this.#leaderHeardAt < this.#options.electionTicks
  }

  /** The leader of this term was heard from. */
  heardLeader(now: number): void {
    this.#leaderHeardAt = now
    this.#failover = undefined
    this.#lost = undefined
    this.#restartTimeout(now)
  }

  /** The connections to the leader ended: its followers elect another soon, each in its turn (rule 12). */
  lostLeader(leader: MemberId, now: number): void {
    // Whoever was given time to win has won, or lost to this leader. A hold that outlived it would end for all at once.
    this.#holdUntil = now
    this.#failOver(leader, now)
  }

  /** This replica led and lost its quorum: it has heard of no other leader itself. */
  lostQuorum(): void {
    this.#leaderHeardAt = undefined
  }

  // ── votes for others ─────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Of two that ask in the same moment each would grant the other's pre-vote, and then stand against it. So the later one
   * in place gives up its own.
   */
  grantedPreVote(to: MemberId, now: number): void {
    if (this.role === 'preCandidate' && to < this.#options.self) this.#attempt = undefined
    this.#holdUntil = now + this.#options.holdTicks
  }

  grantedVote(now: number): void {
    this.#holdUntil = now + this.#options.holdTicks
    this.#restartTimeout(now)
  }

  // ── the own attempt ──────────────────────────────────────────────────────────────────────────────────────────

  /** Begins to ask whether an election in `term` could be won. `stand` when no other voter need be asked. */
  ask(term: number): Verdict {
    this.#attempt = { role: 'preCandidate', term, answers: this.#answers().set(this.#options.self, true) }
    return this.#count(this.#attempt)
  }

  /** Begins to stand in `term`. The own vote is an answer like the others: it counts once durable (rule 5). */
  stand(term: number, now: number): void {
    this.#restartTimeout(now)
    this.#attempt = { role: 'candidate', term, answers: this.#answers() }
  }

  /** The lost leader counts as having refused, so that a vote split among the others ends at once and is tried again. */
  #answers(): Map<MemberId, boolean> {
    return new Map(this.#lost === undefined ? [] : [[this.#lost, false]])
  }

  /** Takes an answer, which says nothing unless it belongs to the attempt under way. */
  answered({ from, preVote, askedTerm, granted }: Extract<Message, { type: 'vote' }>): Verdict {
    const attempt = this.#attempt
    if (attempt?.role !== (preVote ? 'preCandidate' : 'candidate') || attempt.term !== askedTerm)
      return 'open'
    attempt.answers.set(from, granted)
    return this.#count(attempt)
  }

  #count({ role, answers }: Attempt): Verdict {
    const result = tally(this.#log.voters, answers)
    return result === 'won' && role === 'preCandidate' ? 'stand' : result
  }

  /** This replica follows, somebody or nobody yet: its attempt is over. */
  follow(now: number): void {
    this.#attempt = undefined
    this.#restartTimeout(now)
  }

  /** This replica leads: its attempt is over, and nobody is left to be replaced. */
  lead(): void {
    this.#attempt = undefined
    this.#failover = undefined
    this.#lost = undefined
  }
}
