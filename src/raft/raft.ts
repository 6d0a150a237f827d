// The consensus core: a pure state machine. Messages, proposals and ticks go in; duties come out (see `types.ts`).
//
// It follows Ongaro's thesis: elections with pre-vote (9.6) and check-quorum (6.2), the no-op entry (6.4), pipelined
// replication (10.2.1), reads by ReadIndex (6.4), leadership transfer (3.10). Two things are ours: `disconnected()`, by which
// the end of a leader's connections starts an election within milliseconds, and the refusal to lead on a disk that hangs.

import { assert } from './assert.ts'
import { type FetchRequest, Leadership } from './leadership.ts'
import { Log, type RecoveredLog } from './log.ts'
import type { Progress } from './progress.ts'
import { tally } from './quorum.ts'
import type { PendingRead } from './read-rounds.ts'
import type { Duty, Entry, HardState, MemberId, Message, MessageBody, Role } from './types.ts'

/** All times are in ticks; the shell says how long one is. */
export type RaftOptions = {
  readonly self: MemberId
  readonly hardState: HardState
  readonly log: RecoveredLog
  /** The minimum election timeout; one is drawn from 1 to 1.5 times it. */
  readonly electionTicks: number
  readonly heartbeatTicks: number
  /** The longest a follower waits after its leader's connections ended (`safety.md`, rule 12). */
  readonly failoverTicks: number
  /** How long a follower that granted a pre-vote holds back its own. */
  readonly holdTicks: number
  /** A save outstanding for longer makes a leader hand over and anybody refuse to campaign (rule 14). */
  readonly saveStallTicks: number
  /** From 0 up to and without 1; seeded by whoever wants the same run again. */
  readonly random: () => number
  readonly appendBytes: number
  readonly windowBytes: number
  readonly applyBytes: number
  /** Applied entries kept in memory for followers that lag a little. */
  readonly cacheBytes: number
  /** A follower with more than this appended and not applied takes no further entries until it has caught up. */
  readonly maxUnappliedBytes: number
  readonly maxReads: number
  /** The cluster was founded just now: nobody has led it, so nobody need be waited for. */
  readonly fresh?: boolean
}

export type Proposed =
  | { readonly type: 'appended'; readonly index: number; readonly term: number }
  | { readonly type: 'refused'; readonly reason: 'not-leader' | 'transferring' }

export type RaftStatus = {
  readonly role: Role
  readonly term: number
  readonly leader: MemberId | undefined
  readonly lastIndex: number
  readonly savedIndex: number
  readonly commitIndex: number
  readonly appliedIndex: number
  readonly unappliedBytes: number
  /** A leader that is handing over takes no proposals. */
  readonly transferring: boolean
}

type SaveDuty = Extract<Duty, { type: 'save' }>
type ApplyDuty = Extract<Duty, { type: 'apply' }>
type FetchDuty = Extract<Duty, { type: 'fetch' }>

/** A save under way: what becomes true, and which promises may leave, once it is durable. */
type Saving = { readonly duty: SaveDuty; readonly promises: readonly Message[]; ticks: number }

/** Tries to be elected without waiting for a timeout, because the leader is `lost`, or there never was one. */
type Failover = { readonly lost: MemberId | undefined; attempt: number; dueAt: number }

const failoverAttempts = 3

export class Raft {
  readonly #options: RaftOptions
  readonly #self: MemberId
  readonly #log: Log

  /** Figure 2, `currentTerm`: only grows; durable before any promise made in it leaves. */
  #term: number
  /** Figure 2, `votedFor`: durable before the vote leaves; kept when stepping down within the term. */
  #votedFor: MemberId | undefined
  #role: Role = 'follower'
  /** Whom this replica follows in this term; undefined until it is heard from. */
  #leader: MemberId | undefined
  #leadership: Leadership | undefined
  /** Answers to the election or pre-election under way. */
  #answers = new Map<MemberId, boolean>()

  /** Ticks since the start. */
  #now = 0
  /** The tick at which this replica campaigns unless it hears from a leader or grants a vote. */
  #electionAt = 0
  /** The tick at which a leader was last heard; a start counts as one (rule 11). Undefined once that leader is given up. */
  #leaderHeardAt: number | undefined = 0
  /** No own pre-vote before this tick, because another's, or a vote, was granted. */
  #holdUntil = 0
  #failover: Failover | undefined

  /** May leave at once. */
  #messages: Message[] = []
  /** May leave only after the next save. */
  #promises: Message[] = []
  #reads: { id: number; index: number | undefined }[] = []
  /** What the last save handed out said, so that only changes are saved. */
  #handedHardState: HardState
  #saving: Saving | undefined
  #applying: ApplyDuty | undefined
  #fetching: { readonly duty: FetchDuty; readonly request: FetchRequest; readonly term: number } | undefined
  /** A save hung; cleared by the next one that succeeds. */
  #diskStalled = false

  constructor(options: RaftOptions) {
    assert(options.electionTicks > options.heartbeatTicks, 'heartbeats come within an election timeout')
    this.#options = options
    this.#self = options.self
    this.#log = new Log(options.log, { cacheBytes: options.cacheBytes })
    this.#term = options.hardState.term
    this.#votedFor = options.hardState.votedFor
    this.#handedHardState = options.hardState
    this.#resetElectionTimer()
    // Nobody else could lead, so there is nobody to wait for.
    if (this.#isVoter() && this.#voters().length === 1) this.#electionAt = 1
    if (options.fresh === true && this.#isVoter()) {
      this.#leaderHeardAt = undefined
      this.#failover = { lost: undefined, attempt: 0, dueAt: this.#failoverDelay(undefined, 0) }
    }
  }

  get status(): RaftStatus {
    return {
      role: this.#role,
      term: this.#term,
      leader: this.#leader,
      lastIndex: this.#log.lastIndex,
      savedIndex: this.#log.savedIndex,
      commitIndex: this.#log.commitIndex,
      appliedIndex: this.#log.appliedIndex,
      unappliedBytes: this.#log.unappliedBytes,
      transferring: this.#leadership?.transferring ?? false,
    }
  }

  get role(): Role {
    return this.#role
  }

  get term(): number {
    return this.#term
  }

  get leader(): MemberId | undefined {
    return this.#leader
  }

  get log(): Log {
    return this.#log
  }

  /** A save has hung and none has succeeded since. */
  get diskStalled(): boolean {
    return this.#diskStalled
  }

  /** Followers as the leader knows them; undefined on anybody else. */
  get progress(): ReadonlyMap<MemberId, Progress> | undefined {
    return this.#leadership?.progress
  }

  // ── what comes in ────────────────────────────────────────────────────────────────────────────────────────────

  /** One unit of time has passed. */
  tick(): void {
    this.#now++
    this.#watchSave()
    if (this.#leadership !== undefined) this.#tickLeader(this.#leadership)
    else this.#tickFollower()
  }

  /** Takes a message from a member. The transport has verified who sent it. */
  step(message: Message): void {
    assert(
      message.to === this.#self && message.from !== this.#self,
      'a message comes from another member to this one',
    )
    switch (message.type) {
      case 'preVote':
        this.#onPreVote(message)
        return
      case 'requestVote':
        this.#onRequestVote(message)
        return
      case 'readIndex':
        this.#onReadIndex(message)
        return
      case 'readIndexAnswer':
        // True whatever the term: the leader confirmed it after this replica asked, and ids never repeat.
        this.#reads.push({ id: message.id, index: message.index })
        return
      case 'vote':
        if (message.term > this.#term) this.#follow(message.term, undefined)
        else this.#onVote(message)
        return
      case 'append':
      case 'heartbeat':
      case 'commit':
      case 'timeoutNow':
        this.#fromLeader(message)
        return
      case 'appended':
      case 'appendRejected':
      case 'heartbeatAnswer':
        if (message.term > this.#term) this.#follow(message.term, undefined)
        else if (message.term === this.#term) this.#leadership?.step(message, this.#now)
        return
      default:
        message satisfies never
    }
  }

  /** Appends a command to the leader's log. */
  propose(data: Uint8Array): Proposed {
    if (this.#leadership === undefined) return { type: 'refused', reason: 'not-leader' }
    if (this.#leadership.transferring) return { type: 'refused', reason: 'transferring' }
    const index = this.#log.lastIndex + 1
    this.#log.append([{ type: 'commands', index, term: this.#term, data }])
    return { type: 'appended', index, term: this.#term }
  }

  /**
   * Asks for an index that is safe to read at. The answer comes as a `reads` duty, or never if a message is lost: ask
   * again with another id. Ids never repeat, after a restart neither: an answer to an earlier boot's may still come.
   */
  readIndex(id: number): void {
    if (this.#leadership !== undefined) this.#leadership.read({ from: this.#self, id })
    else if (this.#leader !== undefined) this.#send(this.#leader, { type: 'readIndex', id })
    else this.#reads.push({ id, index: undefined })
  }

  /** Bytes of a message from this member arrived, though not yet all of it. */
  heard(peer: MemberId): void {
    if (this.#leadership !== undefined) this.#leadership.heard(peer, this.#now)
    else if (peer === this.#leader) this.#heardLeader()
  }

  /**
   * The last connection to this member ended. If it led, and the end was not of our own making, its followers elect
   * another within `failoverTicks`; each waits by its place among the voters, so that they seldom collide (rule 12).
   */
  disconnected(peer: MemberId, why: { readonly byUs: boolean }): void {
    this.#leadership?.disconnected(peer)
    if (why.byUs || this.#role !== 'follower' || peer !== this.#leader || !this.#isVoter()) return
    this.#leader = undefined
    this.#leaderHeardAt = undefined
    // Whoever was given time to win has won, or lost to this leader. A hold that outlived it would end for all at once.
    this.#holdUntil = this.#now
    this.#failover = { lost: peer, attempt: 0, dueAt: this.#now + this.#failoverDelay(peer, 0) }
  }

  /** Hands leadership to a voter. False when this replica does not lead, or `to` is no other voter. */
  transferLeadership(to: MemberId): boolean {
    if (this.#leadership === undefined || to === this.#self || !this.#voters().includes(to)) return false
    this.#leadership.transferTo(to, this.#now)
    return true
  }

  /** The voter that could take over soonest; undefined when this replica does not lead or nobody could. */
  heir(): MemberId | undefined {
    return this.#leadership?.heir(this.#now)
  }

  // ── what comes out ───────────────────────────────────────────────────────────────────────────────────────────

  /** Hands out what is to be done. Call it after every input, or after a group of them. */
  ready(): Duty[] {
    const duties: Duty[] = []
    this.#leadership?.flush()
    const save = this.#nextSave()
    if (this.#messages.length > 0) {
      duties.push({ type: 'send', messages: this.#messages })
      this.#messages = []
    }
    if (save !== undefined) duties.push(save)
    const apply = this.#nextApply()
    if (apply !== undefined) duties.push(apply)
    const fetch = this.#nextFetch()
    if (fetch !== undefined) duties.push(fetch)
    if (this.#reads.length > 0) {
      duties.push({ type: 'reads', reads: this.#reads })
      this.#reads = []
    }
    return duties
  }

  /** A `save` or `apply` that `ready()` handed out is done. */
  advance(duty: SaveDuty | ApplyDuty): void {
    if (duty.type === 'apply') {
      assert(this.#applying === duty, 'the apply under way is the one that ends')
      this.#applying = undefined
      const last = duty.entries.at(-1)
      assert(last !== undefined, 'an apply has entries')
      this.#log.applied(last.index)
      return
    }
    const saving = this.#saving
    assert(saving?.duty === duty, 'the save under way is the one that ends')
    this.#saving = undefined
    this.#diskStalled = false
    const last = duty.entries.at(-1)
    if (last !== undefined) this.#log.saved(last)
    this.#release(saving.promises)
    this.#leadership?.advanceCommit()
  }

  /** The entries of a `fetch`, read from disk. */
  fetched(duty: FetchDuty, entries: readonly Entry[]): void {
    const fetching = this.#fetching
    assert(fetching?.duty === duty, 'the fetch under way is the one that ends')
    this.#fetching = undefined
    if (fetching.term === this.#term) this.#leadership?.fetched(fetching.request, entries)
  }

  #nextSave(): Duty | undefined {
    if (this.#saving !== undefined) return undefined
    const entries = this.#log.takeUnsaved()
    const hardState: HardState = { term: this.#term, votedFor: this.#votedFor }
    const changed =
      hardState.term !== this.#handedHardState.term || hardState.votedFor !== this.#handedHardState.votedFor
    const promises = this.#promises
    this.#promises = []
    if (entries.length === 0 && !changed) {
      this.#release(promises)
      return undefined
    }
    this.#handedHardState = hardState
    const duty: SaveDuty = { type: 'save', hardState: changed ? hardState : undefined, entries }
    this.#saving = { duty, promises, ticks: 0 }
    return duty
  }

  #nextApply(): Duty | undefined {
    if (this.#applying !== undefined) return undefined
    const entries = this.#log.applicable(this.#options.applyBytes)
    if (entries.length === 0) return undefined
    this.#applying = { type: 'apply', entries }
    return this.#applying
  }

  #nextFetch(): Duty | undefined {
    if (this.#fetching !== undefined) return undefined
    const request = this.#leadership?.takeFetch()
    if (request === undefined) return undefined
    const duty: FetchDuty = {
      type: 'fetch',
      from: request.from,
      to: this.#log.savedIndex,
      maxBytes: this.#options.appendBytes,
    }
    this.#fetching = { duty, request, term: this.#term }
    return duty
  }

  /** Promises rest on durable state now. A candidate's vote for itself is one of them (rule 5). */
  #release(promises: readonly Message[]): void {
    for (const promise of promises) {
      if (promise.to !== this.#self) this.#messages.push(promise)
      else if (promise.type === 'vote') this.#onVote(promise)
    }
  }

  // ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────

  #tickLeader(leadership: Leadership): void {
    const inTime = leadership.tick(this.#now)
    if (!leadership.hasQuorum(this.#now)) {
      this.#follow(this.#term, undefined)
      // Those who could elect another may still follow this leader's last heartbeats; it has heard of none itself.
      this.#leaderHeardAt = undefined
    } else if (this.#diskStalled && !inTime) {
      this.#follow(this.#term, undefined)
    } else if (this.#diskStalled && !leadership.transferring) {
      const heir = leadership.heir(this.#now)
      if (heir === undefined) this.#follow(this.#term, undefined)
      else leadership.transferTo(heir, this.#now)
    }
  }

  #tickFollower(): void {
    // Whoever granted a vote or pre-vote gives that candidate the time to win.
    if (this.#now < this.#holdUntil) return
    const failover = this.#failover
    if (this.#now >= this.#electionAt) {
      this.#failover = undefined
      this.#preCampaign()
    } else if (failover !== undefined && this.#now >= failover.dueAt && this.#role !== 'candidate') {
      // A candidacy that is open is left to win or lose, or to end with the election timeout.
      this.#attemptFailover(failover)
    }
  }

  #attemptFailover(failover: Failover): void {
    failover.attempt++
    if (failover.attempt < failoverAttempts) {
      failover.dueAt = this.#now + this.#failoverDelay(failover.lost, failover.attempt)
    } else {
      this.#failover = undefined
    }
    this.#preCampaign()
  }

  #failoverDelay(lost: MemberId | undefined, attempt: number): number {
    const others = this.#voters()
      .filter((peer) => peer !== lost)
      .sort()
    const place = Math.max(0, others.indexOf(this.#self)) / Math.max(1, others.length - 1)
    const jitter = this.#options.random()
    return Math.max(1, Math.round((1 + place * (this.#options.failoverTicks - 2) + jitter) * 2 ** attempt))
  }

  #watchSave(): void {
    if (this.#saving === undefined) return
    this.#saving.ticks++
    if (this.#saving.ticks >= this.#options.saveStallTicks) this.#diskStalled = true
  }

  #resetElectionTimer(): void {
    const { electionTicks, random } = this.#options
    this.#electionAt = this.#now + electionTicks + Math.floor((random() * electionTicks) / 2)
  }

  #heardLeader(): void {
    this.#leaderHeardAt = this.#now
    this.#failover = undefined
    this.#resetElectionTimer()
  }

  // ── elections ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether this replica believes in a living leader, and so helps nobody to replace it (rule 11). */
  #sticky(): boolean {
    // A leader steps down in the very tick in which check-quorum fails.
    if (this.#leadership !== undefined) return true
    return this.#leaderHeardAt !== undefined && this.#now - this.#leaderHeardAt < this.#options.electionTicks
  }

  #upToDate(lastIndex: number, lastTerm: number): boolean {
    return (
      lastTerm > this.#log.lastTerm || (lastTerm === this.#log.lastTerm && lastIndex >= this.#log.lastIndex)
    )
  }

  #voters(): MemberId[] {
    const { members } = this.#log.configuration.configuration
    return members.filter((member) => member.voter).map((member) => member.peer)
  }

  #isVoter(): boolean {
    return this.#voters().includes(this.#self)
  }

  /** Enters `term` (or stays in it) as a follower. The vote is forgotten only with the term. */
  #follow(term: number, leader: MemberId | undefined): void {
    assert(term >= this.#term, 'terms never go back')
    if (term > this.#term) {
      this.#term = term
      this.#votedFor = undefined
    }
    const leadership = this.#leadership
    this.#leadership = undefined
    this.#role = 'follower'
    this.#leader = leader
    this.#answers.clear()
    this.#resetElectionTimer()
    leadership?.end()
  }

  /** Asks whether an election could be won, without disturbing anybody (thesis 9.6). */
  #preCampaign(): void {
    this.#resetElectionTimer()
    if (!this.#isVoter() || this.#diskStalled) return
    this.#role = 'preCandidate'
    this.#leader = undefined
    this.#answers = new Map([[this.#self, true]])
    const { lastIndex, lastTerm } = this.#log
    for (const peer of this.#voters()) {
      if (peer === this.#self) continue
      this.#messages.push({
        type: 'preVote',
        from: this.#self,
        to: peer,
        term: this.#term + 1,
        lastIndex,
        lastTerm,
      })
    }
    this.#countAnswers()
  }

  /**
   * Stands for election in the next term. The requests are promises too: what they claim of the log must not be lost
   * with a crash while an answer to them is still under way.
   */
  #campaign(transfer: boolean): void {
    this.#resetElectionTimer()
    this.#term++
    this.#votedFor = this.#self
    this.#role = 'candidate'
    this.#leader = undefined
    this.#answers.clear()
    const { lastIndex, lastTerm } = this.#log
    for (const peer of this.#voters()) {
      if (peer !== this.#self) this.#promise(peer, { type: 'requestVote', lastIndex, lastTerm, transfer })
    }
    this.#promise(this.#self, { type: 'vote', preVote: false, askedTerm: this.#term, granted: true })
  }

  #onPreVote(message: Extract<Message, { type: 'preVote' }>): void {
    const granted =
      !this.#sticky() && message.term > this.#term && this.#upToDate(message.lastIndex, message.lastTerm)
    if (granted) this.#holdUntil = this.#now + this.#options.holdTicks
    // Refused or not, the answer carries our term, so that one who fell behind catches up (etcd#8243).
    this.#send(message.from, { type: 'vote', preVote: true, askedTerm: message.term, granted })
  }

  #onRequestVote(message: Extract<Message, { type: 'requestVote' }>): void {
    const disturbs = message.term > this.#term && this.#sticky() && !message.transfer
    if (message.term > this.#term && !disturbs) this.#follow(message.term, undefined)
    const granted =
      message.term === this.#term &&
      this.#leader === undefined &&
      (this.#votedFor === undefined || this.#votedFor === message.from) &&
      this.#upToDate(message.lastIndex, message.lastTerm)
    if (granted) {
      this.#votedFor = message.from
      this.#holdUntil = this.#now + this.#options.holdTicks
      this.#resetElectionTimer()
    }
    this.#promise(message.from, { type: 'vote', preVote: false, askedTerm: message.term, granted })
  }

  #onVote(message: Extract<Message, { type: 'vote' }>): void {
    const asked = this.#role === 'preCandidate' ? this.#term + 1 : this.#term
    const role: Role = message.preVote ? 'preCandidate' : 'candidate'
    if (this.#role !== role || message.askedTerm !== asked) return
    this.#answers.set(message.from, message.granted)
    this.#countAnswers()
  }

  #countAnswers(): void {
    const result = tally(this.#voters(), this.#answers)
    if (result === 'lost') this.#follow(this.#term, undefined)
    if (result !== 'won') return
    if (this.#role === 'preCandidate') this.#campaign(false)
    else this.#lead()
  }

  /** Wins the election: an entry of the own term makes the commit index current (thesis 6.4). */
  #lead(): void {
    assert(
      this.#role === 'candidate' && this.#votedFor === this.#self,
      'only a candidate that voted for itself leads',
    )
    this.#role = 'leader'
    this.#leader = this.#self
    this.#failover = undefined
    this.#answers.clear()
    this.#leadership = new Leadership({
      self: this.#self,
      term: this.#term,
      log: this.#log,
      now: this.#now,
      electionTicks: this.#options.electionTicks,
      heartbeatTicks: this.#options.heartbeatTicks,
      appendBytes: this.#options.appendBytes,
      windowBytes: this.#options.windowBytes,
      maxReads: this.#options.maxReads,
      send: (to, body) => this.#send(to, body),
      answerRead: (read, index) => this.#answerRead(read, index),
    })
    this.#log.append([{ type: 'noop', index: this.#log.lastIndex + 1, term: this.#term }])
  }

  // ── following ────────────────────────────────────────────────────────────────────────────────────────────────

  #fromLeader(message: Extract<Message, { type: 'append' | 'heartbeat' | 'commit' | 'timeoutNow' }>): void {
    if (message.term < this.#term) {
      // A leader of the past may not know; any answer in our term tells it. One that leads again by now learns nothing
      // from round 0, and above all nothing about our log.
      if (message.type === 'heartbeat' || message.type === 'append') {
        this.#send(message.from, { type: 'heartbeatAnswer', round: 0 })
      }
      return
    }
    assert(message.term > this.#term || this.#role !== 'leader', 'a term has one leader')
    if (message.term > this.#term || this.#role !== 'follower' || this.#leader === undefined) {
      this.#follow(message.term, message.from)
    }
    assert(this.#leader === message.from, 'a term has one leader')
    this.#heardLeader()
    switch (message.type) {
      case 'append':
        this.#onAppend(message)
        return
      case 'heartbeat':
        this.#log.commit(Math.min(message.commitIndex, this.#log.lastIndex))
        this.#send(message.from, { type: 'heartbeatAnswer', round: message.round })
        return
      case 'commit':
        this.#log.commit(Math.min(message.commitIndex, this.#log.lastIndex))
        return
      case 'timeoutNow':
        if (this.#isVoter() && !this.#diskStalled) this.#campaign(true)
        return
      default:
        message satisfies never
    }
  }

  #onAppend(message: Extract<Message, { type: 'append' }>): void {
    const { entries, prevIndex, prevTerm } = message
    // Not taken and not answered: the leader asks again with its heartbeats, and by then some of it is applied.
    if (entries.length > 0 && this.#appliesTooSlowly()) return
    const hint = this.#log.take(prevIndex, prevTerm, entries)
    if (hint !== undefined) {
      this.#send(message.from, {
        type: 'appendRejected',
        prevIndex,
        hintIndex: hint.index,
        hintTerm: hint.term,
      })
      return
    }
    const matchIndex = Math.min(entries.at(-1)?.index ?? prevIndex, this.#log.lastIndex)
    this.#log.commit(Math.min(message.commitIndex, matchIndex))
    this.#acknowledge(message.from, matchIndex)
  }

  /** One acknowledgement says what several would: appends that arrive while a save is under way are answered together. */
  #acknowledge(leader: MemberId, matchIndex: number): void {
    const waiting = this.#promises.findLastIndex(
      (promise) => promise.type === 'appended' && promise.to === leader,
    )
    const earlier = this.#promises[waiting]
    if (earlier?.type !== 'appended' || earlier.term !== this.#term) {
      this.#promise(leader, { type: 'appended', matchIndex })
    } else if (matchIndex > earlier.matchIndex) {
      this.#promises[waiting] = { ...earlier, matchIndex }
    }
  }

  /**
   * Whether more is appended than the bound allows, and applying will make room. Entries that no leader has committed
   * yet hold nobody off: only the entries that come after them can commit them, an old leader's above all.
   */
  #appliesTooSlowly(): boolean {
    const { appliedIndex, commitIndex, unappliedBytes } = this.#log
    return unappliedBytes > this.#options.maxUnappliedBytes && appliedIndex < commitIndex
  }

  // ── reads ────────────────────────────────────────────────────────────────────────────────────────────────────

  #onReadIndex(message: Extract<Message, { type: 'readIndex' }>): void {
    if (this.#leadership !== undefined) {
      this.#leadership.heard(message.from, this.#now)
      this.#leadership.read({ from: message.from, id: message.id })
    } else {
      this.#send(message.from, { type: 'readIndexAnswer', id: message.id, index: undefined })
    }
  }

  #answerRead(read: PendingRead, index: number | undefined): void {
    if (read.from === this.#self) this.#reads.push({ id: read.id, index })
    else this.#send(read.from, { type: 'readIndexAnswer', id: read.id, index })
  }

  // ── outboxes ─────────────────────────────────────────────────────────────────────────────────────────────────

  #send(to: MemberId, body: MessageBody): void {
    this.#messages.push({ ...body, from: this.#self, to, term: this.#term })
  }

  #promise(to: MemberId, body: MessageBody): void {
    this.#promises.push({ ...body, from: this.#self, to, term: this.#term })
  }
}
