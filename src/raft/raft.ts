// The consensus core: a pure state machine. Messages, proposals and ticks go in; duties come out (see `types.ts`).
//
// It follows Ongaro's thesis: elections with pre-vote (9.6) and check-quorum (6.2), the no-op entry (6.4), pipelined
// replication (10.2.1), reads by ReadIndex (6.4), leadership transfer (3.10), membership one server at a time (4), snapshots and
// compaction (5). Ours are: `disconnected()`, by which the end of a leader's connections starts an election within
// milliseconds, the refusal to lead on a disk that hangs, and what a replica may do whose disk has lost something (`loseState()`,
// `rebuilding`).
//
// This file keeps the term, the vote and whom to follow, and turns every input to the room it concerns: `election.ts` times
// and counts, `leadership.ts` leads, `log.ts` holds the entries, `state-feed.ts` says what is applied, `outbox.ts` lets out
// what may leave.

import { assert } from './assert.ts'
import { Election, type ElectionOptions, type Verdict } from './election.ts'
import { type FetchRequest, Leadership } from './leadership.ts'
import { Log, type RecoveredLog } from './log.ts'
import { Outbox, type OutboxOptions, type SaveDuty } from './outbox.ts'
import type { Progress } from './progress.ts'
import type { PendingRead } from './read-rounds.ts'
import {
  type ApplyDuty,
  type FetchDuty,
  type InstallDuty,
  StateFeed,
  type StateFeedOptions,
} from './state-feed.ts'
import type { Configuration, Duty, Entry, MemberId, Message, MessageBody, Role, Snapshot } from './types.ts'

/** All times are in ticks; the shell says how long one is. */
export type RaftOptions = ElectionOptions &
  OutboxOptions &
  StateFeedOptions & {
    readonly log: RecoveredLog
    readonly heartbeatTicks: number
    readonly appendBytes: number
    readonly windowBytes: number
    /** Applied entries kept in memory for followers that lag a little. */
    readonly cacheBytes: number
    /** A follower with more than this appended and not applied takes no further entries until it has caught up. */
    readonly maxUnappliedBytes: number
    readonly maxReads: number
    /**
     * The boot at which log or hard state were found damaged and begun anew. What this replica promised before is not known,
     * so it answers no leader and votes for nobody until a configuration has made a learner of it and says that nothing of an
     * earlier boot counts (`safety.md`, rule 7).
     */
    readonly rebuilding?: number | undefined
  }

export type Proposed =
  | { readonly type: 'appended'; readonly index: number; readonly term: number }
  | { readonly type: 'refused'; readonly reason: 'not-leader' | 'transferring' }

export type Changed =
  | { readonly type: 'appended'; readonly index: number; readonly term: number }
  /** `change-in-progress`: the last change, or the first entry of the leader's own term, is not committed yet. */
  | { readonly type: 'refused'; readonly reason: 'not-leader' | 'transferring' | 'change-in-progress' }

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
  /** The log begins after this index. */
  readonly baseIndex: number
  /** Waits for a snapshot: nothing is applied. */
  readonly stateless: boolean
  /** A snapshot was accepted and is not installed. When this ends without an `install` duty, the log had moved past it. */
  readonly installing: boolean
  /** The boot at which its log was lost; undefined once nothing of an earlier one counts. */
  readonly rebuilding: number | undefined
}

/**
 * A replica that lost its state stays out of elections for so many timeouts without a leader. Then nobody else can win, perhaps
 * because its log is the longest: it leads until another has that log, and hands over.
 */
const patience = 3

export class Raft {
  readonly #options: RaftOptions
  readonly #self: MemberId
  readonly #log: Log
  readonly #election: Election
  readonly #outbox: Outbox
  readonly #feed: StateFeed

  /** Figure 2, `currentTerm`: only grows; durable before any promise made in it leaves. */
  #term: number
  /** Figure 2, `votedFor`: durable before the vote leaves; kept when stepping down within the term. */
  #votedFor: MemberId | undefined
  /** Whom this replica follows in this term; undefined until it is heard from. */
  #leader: MemberId | undefined
  /** While leading; otherwise the election knows the role. */
  #leadership: Leadership | undefined

  /** Ticks since the start. */
  #now = 0
  /** The tick at which a leader was last known. */
  #ledAt = 0
  /** Answers to `readIndex` that are not handed out yet. */
  #reads: { id: number; index: number | undefined }[] = []
  /** Entries being read from disk for a follower. */
  #fetching: { readonly duty: FetchDuty; readonly request: FetchRequest; readonly term: number } | undefined
  /** See `RaftOptions`; undefined once that configuration is committed. */
  #rebuilding: number | undefined

  constructor(options: RaftOptions) {
    assert(options.electionTicks > options.heartbeatTicks, 'heartbeats come within an election timeout')
    this.#options = options
    this.#self = options.self
    this.#log = new Log(options.log, { cacheBytes: options.cacheBytes })
    this.#term = options.hardState.term
    this.#votedFor = options.hardState.votedFor
    this.#election = new Election(options, this.#log)
    this.#outbox = new Outbox(options, this.#log)
    this.#feed = new StateFeed(options, this.#log)
    this.#rebuilding = options.rebuilding
  }

  get status(): RaftStatus {
    return {
      role: this.role,
      term: this.#term,
      leader: this.#leader,
      lastIndex: this.#log.lastIndex,
      savedIndex: this.#log.savedIndex,
      commitIndex: this.#log.commitIndex,
      appliedIndex: this.#log.appliedIndex,
      unappliedBytes: this.#log.unappliedBytes,
      transferring: this.#leadership?.transferring ?? false,
      baseIndex: this.#log.base.index,
      stateless: this.#feed.isStateless,
      installing: this.#feed.isChanging,
      rebuilding: this.#rebuilding,
    }
  }

  get role(): Role {
    return this.#leadership === undefined ? this.#election.role : 'leader'
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
    return this.#outbox.stalled
  }

  /** Followers as the leader knows them; undefined on anybody else. */
  get progress(): ReadonlyMap<MemberId, Progress> | undefined {
    return this.#leadership?.progress
  }

  // ── what comes in ────────────────────────────────────────────────────────────────────────────────────────────

  /** One unit of time has passed. */
  tick(): void {
    this.#now++
    if (this.#leader !== undefined) this.#ledAt = this.#now
    this.#outbox.tick()
    if (this.#leadership !== undefined) this.#tickLeader(this.#leadership)
    else if (this.#election.tick(this.#now) === 'ask') this.#ask()
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
        else this.#decide(this.#election.answered(message))
        return
      case 'append':
      case 'heartbeat':
      case 'commit':
      case 'snapshotNeeded':
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

  /**
   * Appends commands to the leader's log. `awaiting`: the members at which somebody waits for them, all unless given; the
   * others learn with whatever is said to them next that they are committed, or at the next tick.
   */
  propose(data: Uint8Array, awaiting?: readonly MemberId[]): Proposed {
    if (this.#leadership === undefined) return { type: 'refused', reason: 'not-leader' }
    if (this.#leadership.transferring) return { type: 'refused', reason: 'transferring' }
    const index = this.#log.lastIndex + 1
    this.#log.append([{ type: 'commands', index, term: this.#term, data }])
    this.#leadership.awaited(index, awaiting)
    return { type: 'appended', index, term: this.#term }
  }

  /**
   * Changes who belongs to the cluster: one voter more or less, and any number of learners. It holds at once, and is over when
   * it is committed; before that no other begins (thesis 4.1). A leader that is no voter any more leads until then.
   */
  changeConfiguration(configuration: Configuration): Changed {
    const leadership = this.#leadership
    if (leadership === undefined) return { type: 'refused', reason: 'not-leader' }
    if (leadership.transferring) return { type: 'refused', reason: 'transferring' }
    if (!leadership.takesChange) return { type: 'refused', reason: 'change-in-progress' }
    const before = new Set(this.#log.voters)
    const index = this.#log.lastIndex + 1
    this.#log.append([{ type: 'configuration', index, term: this.#term, configuration }])
    const after = new Set(this.#log.voters)
    assert(after.size > 0, 'a configuration has voters')
    assert(before.symmetricDifference(after).size <= 1, 'majorities of two consecutive configurations meet')
    leadership.configurationChanged(this.#now)
    leadership.awaited(index)
    return { type: 'appended', index, term: this.#term }
  }

  /**
   * The state machine is damaged. Nothing more is applied, what is being applied is not handed back. Log and vote are sound,
   * so this replica votes and acknowledges, but hands leadership over and leaves elections to others until it has installed a
   * snapshot (rule 8).
   */
  loseState(): void {
    this.#feed.lose()
  }

  /** The state machine was opened anew and is whole as of `appliedIndex`: it goes on from there. */
  regainState(appliedIndex: number): void {
    this.#feed.regain(appliedIndex)
  }

  /**
   * Offers a snapshot whose content is durable beside the present state. False when it is of no use, because the state has come
   * that far by itself; otherwise an `install` duty follows.
   */
  install(snapshot: Snapshot): boolean {
    if (!this.#feed.offer(snapshot)) return false
    // It may come from a member that has seen a later term. No log holds entries of terms that its replica has not seen.
    if (snapshot.term > this.#term) this.#follow(snapshot.term, undefined)
    if (this.role === 'preCandidate' || this.role === 'candidate') this.#follow(this.#term, undefined)
    return true
  }

  /** The entries up to `index`, which are applied, are no longer in the log on disk. */
  compact(index: number): void {
    this.#log.compact(index)
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
    else if (peer === this.#leader) this.#election.heardLeader(this.#now)
  }

  /** This member was started anew. It may be a learner whose disk was emptied: what it had is to be asked again. */
  restarted(peer: MemberId): void {
    this.#leadership?.restarted(peer, this.#now)
  }

  /**
   * The last connection to this member ended. If it led, and the end was not of our own making, its followers elect
   * another within `failoverTicks`; each waits by its place among the voters, so that they seldom collide (rule 12).
   */
  disconnected(peer: MemberId, why: { readonly byUs: boolean }): void {
    this.#leadership?.disconnected(peer)
    if (why.byUs || this.role !== 'follower' || peer !== this.#leader || !this.#log.mayLead(this.#self))
      return
    this.#leader = undefined
    this.#election.lostLeader(peer, this.#now)
  }

  /** Hands leadership to a voter. False when this replica does not lead, or `to` is no other voter. */
  transferLeadership(to: MemberId): boolean {
    if (this.#leadership === undefined || !this.#otherVoters().includes(to)) return false
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
    this.#endRebuilding()
    const hardState = { term: this.#term, votedFor: this.#votedFor }
    const save = this.#feed.isInstalling ? undefined : this.#outbox.nextSave(hardState)
    const messages = this.#outbox.takeMessages()
    if (messages.length > 0) duties.push({ type: 'send', messages })
    if (save !== undefined) duties.push(save)
    duties.push(...this.#feed.next({ mayInstall: this.role === 'follower' && !this.#outbox.isSaving }))
    const fetch = this.#nextFetch()
    if (fetch !== undefined) duties.push(fetch)
    if (this.#reads.length > 0) {
      duties.push({ type: 'reads', reads: this.#reads })
      this.#reads = []
    }
    return duties
  }

  /** A `save`, `apply` or `install` that `ready()` handed out is done. */
  advance(duty: SaveDuty | ApplyDuty | InstallDuty): void {
    if (duty.type === 'apply') {
      this.#feed.applied(duty)
      return
    }
    if (duty.type === 'install') {
      this.#feed.installed(duty)
      const { index } = duty.base
      if (this.#leader !== undefined) this.#promise(this.#leader, { type: 'appended', matchIndex: index })
      return
    }
    for (const promise of this.#outbox.saved(duty)) {
      if (promise.type === 'vote') this.#decide(this.#election.answered(promise))
    }
    this.#leadership?.advanceCommit()
  }

  /** The entries of a `fetch`, read from disk. */
  fetched(duty: FetchDuty, entries: readonly Entry[]): void {
    if (this.#feed.fetched(duty, entries)) return
    const fetching = this.#fetching
    assert(fetching?.duty === duty, 'the fetch under way is the one that ends')
    this.#fetching = undefined
    if (fetching.term === this.#term) this.#leadership?.fetched(fetching.request, entries)
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

  #tickLeader(leadership: Leadership): void {
    const inTime = leadership.tick(this.#now)
    if (!leadership.hasQuorum(this.#now)) {
      this.#follow(this.#term, undefined)
      // Those who could elect another may still follow this leader's last heartbeats.
      this.#election.lostQuorum()
    } else if (!this.#mustHandOver()) {
      return
    } else if (!inTime) {
      this.#follow(this.#term, undefined)
    } else if (!leadership.transferring) {
      const heir = leadership.heir(this.#now)
      if (heir === undefined) this.#follow(this.#term, undefined)
      else leadership.transferTo(heir, this.#now)
    }
  }

  /** A leader that cannot save or apply, or that a committed configuration has removed (thesis 4.2.2), gives up its place. */
  #mustHandOver(): boolean {
    const { configuration, commitIndex } = this.#log
    const isRemoved = !this.#isVoter() && configuration.index <= commitIndex
    return isRemoved || this.#outbox.stalled || this.#feed.isStateless
  }

  // ── elections ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether this replica believes in a living leader, and so helps nobody to replace it (rule 11). */
  #sticky(): boolean {
    // A leader steps down in the very tick in which check-quorum fails.
    return this.#leadership !== undefined || this.#election.believesInLeader(this.#now)
  }

  #isVoter(): boolean {
    return this.#log.voters.includes(this.#self)
  }

  #otherVoters(): readonly MemberId[] {
    return this.#log.voters.filter((voter) => voter !== this.#self)
  }

  /** Whoever could not make a vote durable or serve what it leads, or has no vote, leaves elections to others. */
  #mayCampaign(): boolean {
    const isRebuilding = this.#rebuilding !== undefined
    if (!this.#log.mayLead(this.#self) || isRebuilding || this.#outbox.stalled || this.#feed.isChanging)
      return false
    return !this.#feed.isStateless || this.#now - this.#ledAt >= patience * this.#options.electionTicks
  }

  /**
   * A committed configuration says that nothing of an earlier boot counts, and this log holds it, so all that was promised then
   * is in this log or void: a candidate that counts on an old vote lacks that configuration, and too many know it to elect it.
   */
  #endRebuilding(): void {
    const boot = this.#rebuilding
    if (boot === undefined) return
    const { applicableIndex, configurations } = this.#log
    const isVoid = configurations.some(
      ({ index, configuration }) =>
        index <= applicableIndex &&
        configuration.members.some(({ peer, since }) => peer === this.#self && since >= boot),
    )
    if (isVoid) this.#rebuilding = undefined
  }

  /** One that is being rebuilt may have promised another leader what it would now deny: it answers who counts nothing of it. */
  #mayAnswer(since: number): boolean {
    return this.#rebuilding === undefined || since >= this.#rebuilding
  }

  /** Enters `term` (or stays in it) as a follower. The vote is forgotten only with the term. */
  #follow(term: number, leader: MemberId | undefined): void {
    assert(term >= this.#term, 'terms never go back')
    if (term > this.#term) {
      this.#term = term
      this.#votedFor = undefined
    }
    if (this.#rebuilding !== undefined && leader !== undefined) this.#votedFor ??= leader
    const leadership = this.#leadership
    this.#leadership = undefined
    this.#leader = leader
    this.#election.follow(this.#now)
    leadership?.end()
  }

  /** Asks whether an election could be won, without disturbing anybody (thesis 9.6). */
  #ask(): void {
    if (!this.#mayCampaign()) return
    this.#leader = undefined
    const term = this.#term + 1
    const verdict = this.#election.ask(term)
    const { lastIndex, lastTerm } = this.#log
    for (const to of this.#otherVoters()) {
      this.#outbox.send({ type: 'preVote', from: this.#self, to, term, lastIndex, lastTerm })
    }
    this.#decide(verdict)
  }

  /**
   * Stands for election in the next term. The requests are promises too: what they claim of the log must not be lost
   * with a crash while an answer to them is still under way.
   */
  #stand(transfer: boolean): void {
    this.#term++
    this.#votedFor = this.#self
    this.#leader = undefined
    this.#election.stand(this.#term, this.#now)
    const { lastIndex, lastTerm } = this.#log
    for (const peer of this.#otherVoters()) {
      this.#promise(peer, { type: 'requestVote', lastIndex, lastTerm, transfer })
    }
    this.#promise(this.#self, { type: 'vote', preVote: false, askedTerm: this.#term, granted: true })
  }

  #decide(verdict: Verdict): void {
    if (verdict === 'stand') this.#stand(false)
    else if (verdict === 'won') this.#lead()
    else if (verdict === 'lost') this.#follow(this.#term, undefined)
  }

  #onPreVote(message: Extract<Message, { type: 'preVote' }>): void {
    const granted =
      !this.#sticky() &&
      this.#rebuilding === undefined &&
      message.term > this.#term &&
      this.#log.isMatchedBy({ index: message.lastIndex, term: message.lastTerm })
    if (granted) this.#election.grantedPreVote(message.from, this.#now)
    // Refused or not, the answer carries our term, so that one who fell behind catches up (etcd#8243).
    this.#send(message.from, { type: 'vote', preVote: true, askedTerm: message.term, granted })
  }

  #onRequestVote(message: Extract<Message, { type: 'requestVote' }>): void {
    const disturbs = message.term > this.#term && this.#sticky() && !message.transfer
    if (message.term > this.#term && !disturbs) this.#follow(message.term, undefined)
    const granted =
      message.term === this.#term &&
      this.#rebuilding === undefined &&
      this.#leader === undefined &&
      (this.#votedFor === undefined || this.#votedFor === message.from) &&
      this.#log.isMatchedBy({ index: message.lastIndex, term: message.lastTerm })
    if (granted) {
      this.#votedFor = message.from
      this.#election.grantedVote(this.#now)
    }
    this.#promise(message.from, { type: 'vote', preVote: false, askedTerm: message.term, granted })
  }

  /** Wins the election: an entry of the own term makes the commit index current (thesis 6.4). */
  #lead(): void {
    assert(
      this.role === 'candidate' && this.#votedFor === this.#self,
      'only a candidate that voted for itself leads',
    )
    this.#leader = this.#self
    this.#election.lead()
    this.#leadership = new Leadership({
      ...this.#options,
      term: this.#term,
      log: this.#log,
      now: this.#now,
      send: (to, body) => this.#send(to, body),
      answerRead: (read, index) => this.#answerRead(read, index),
    })
    this.#log.append([{ type: 'noop', index: this.#log.lastIndex + 1, term: this.#term }])
    this.#leadership.awaited(this.#log.lastIndex)
  }

  // ── following ────────────────────────────────────────────────────────────────────────────────────────────────

  #fromLeader(
    message: Extract<Message, { type: 'append' | 'heartbeat' | 'commit' | 'snapshotNeeded' | 'timeoutNow' }>,
  ): void {
    if (message.term < this.#term) {
      // A leader of the past may not know; any answer in our term tells it. One that leads again by now learns nothing
      // from round 0, and above all nothing about our log.
      if (message.type === 'heartbeat' || message.type === 'append') {
        this.#send(message.from, { type: 'heartbeatAnswer', round: 0 })
      }
      return
    }
    assert(message.term > this.#term || this.role !== 'leader', 'a term has one leader')
    if (message.term > this.#term || this.role !== 'follower' || this.#leader === undefined) {
      this.#follow(message.term, message.from)
    }
    assert(this.#leader === message.from, 'a term has one leader')
    this.#election.heardLeader(this.#now)
    switch (message.type) {
      case 'append':
        if (this.#mayAnswer(message.since)) this.#onAppend(message)
        return
      case 'heartbeat':
        if (!this.#mayAnswer(message.since)) return
        this.#log.commit(Math.min(message.commitIndex, this.#log.lastIndex))
        this.#send(message.from, { type: 'heartbeatAnswer', round: message.round })
        return
      case 'commit':
        this.#log.commit(Math.min(message.commitIndex, this.#log.lastIndex))
        return
      case 'snapshotNeeded':
        if (this.#mayAnswer(message.since)) this.#onSnapshotNeeded(message.from, message.index)
        return
      case 'timeoutNow':
        if (this.#mayCampaign()) this.#stand(true)
        return
      default:
        message satisfies never
    }
  }

  #onAppend(message: Extract<Message, { type: 'append' }>): void {
    const { entries, prevIndex, prevTerm } = message
    // A snapshot decides what the log goes on from. The leader asks again with its heartbeats.
    if (this.#feed.isChanging) return
    // Not taken and not answered: the leader asks again with its heartbeats, and by then some of it is applied.
    const lags = !this.#feed.isStateless && this.#log.lagsInApplying(this.#options.maxUnappliedBytes)
    if (entries.length > 0 && lags) return
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
    this.#promise(message.from, { type: 'appended', matchIndex })
  }

  #onSnapshotNeeded(leader: MemberId, index: number): void {
    if (this.#log.commitIndex >= index) this.#promise(leader, { type: 'appended', matchIndex: index })
    else this.#feed.need(index)
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

  // ── what leaves ──────────────────────────────────────────────────────────────────────────────────────────────

  #send(to: MemberId, body: MessageBody): void {
    this.#outbox.send({ ...body, from: this.#self, to, term: this.#term })
  }

  #promise(to: MemberId, body: MessageBody): void {
    this.#outbox.promise({ ...body, from: this.#self, to, term: this.#term })
  }
}
