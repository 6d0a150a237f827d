// What exists only while a replica leads: followers' progress, the commit rule, read rounds, handing over.

import { assert } from './assert.ts'
import type { Log } from './log.ts'
import { Progress } from './progress.ts'
import { majority, reachedByMajority } from './quorum.ts'
import { type PendingRead, ReadRounds } from './read-rounds.ts'
import type { Entry, MemberId, Message, MessageBody } from './types.ts'

export type LeadershipOptions = {
  readonly self: MemberId
  readonly term: number
  readonly log: Log
  /** The tick at which leadership began. */
  readonly now: number
  /** A follower silent for this many ticks counts as gone (check-quorum). */
  readonly electionTicks: number
  readonly heartbeatTicks: number
  /** About how many bytes of entries one message carries. */
  readonly appendBytes: number
  /** How many bytes of entries may be under way to one follower. */
  readonly windowBytes: number
  /** How many reads may wait. */
  readonly maxReads: number
  readonly send: (to: MemberId, body: MessageBody) => void
  /** `index` undefined: the read must be asked again. */
  readonly answerRead: (read: PendingRead, index: number | undefined) => void
}

type Transfer = { readonly to: MemberId; readonly since: number; told: boolean }

export type FetchRequest = { readonly member: MemberId; readonly from: number }

export class Leadership {
  readonly #options: LeadershipOptions
  readonly #log: Log
  readonly #progress = new Map<MemberId, Progress>()
  readonly #reads = new ReadRounds()
  #voters: readonly MemberId[] = []
  /** From which boot on each member's word counts (see `Member`). */
  #since: ReadonlyMap<MemberId, number> = new Map()
  #transfer: Transfer | undefined
  #sinceHeartbeat = 0
  #fetches: FetchRequest[] = []
  /** A tick has passed: followers are told of every commit that they do not know. */
  #tellsAll = false
  /** An entry of this term is committed, so the commit index is current (thesis 6.4). */
  #committedInTerm = false

  constructor(options: LeadershipOptions) {
    this.#options = options
    this.#log = options.log
    this.configurationChanged(options.now)
  }

  get transferring(): boolean {
    return this.#transfer !== undefined
  }

  get readsWaiting(): number {
    return this.#reads.size
  }

  /** What is known of each follower, for those who watch. */
  get progress(): ReadonlyMap<MemberId, Progress> {
    return this.#progress
  }

  /** Whether a change of the configuration may begin: the last one is committed, and so is an entry of this term. */
  get takesChange(): boolean {
    // Without the entry of this term two leaders could go by configurations whose majorities do not meet (Ongaro, raft-dev 2015).
    return this.#committedInTerm && this.#log.configuration.index <= this.#log.commitIndex
  }

  /** Follows the configuration that now holds: new members are probed, removed ones are told and then forgotten. */
  configurationChanged(now: number): void {
    const { configuration, index } = this.#log.configuration
    this.#voters = this.#log.voters
    const since = new Map(configuration.members.map((member) => [member.peer, member.since]))
    for (const [peer, progress] of this.#progress) if (!since.has(peer)) progress.leavingAt ??= index
    for (const [peer, boot] of since) {
      if (peer === this.#options.self) continue
      const progress = this.#progress.get(peer)
      // What was acknowledged before the member lost its log is worth nothing any more (rule 7).
      if (progress !== undefined && progress.leavingAt === undefined && this.#since.get(peer) === boot)
        continue
      this.#progress.set(peer, new Progress({ nextIndex: this.#log.lastIndex + 1, now }))
    }
    this.#since = since
  }

  /** One that was removed is followed no longer once it knows, or does not answer. */
  #dropLeaving(now: number): void {
    for (const [peer, { leavingAt, toldCommit, heardAt, gone }] of this.#progress) {
      if (leavingAt === undefined) continue
      const silent = gone || now - heardAt >= this.#options.electionTicks
      if (toldCommit >= leavingAt || silent) this.#progress.delete(peer)
    }
  }

  /** Whether a quorum has been heard from within an election timeout. Without one this leader must step down. */
  hasQuorum(now: number): boolean {
    let heard = 0
    for (const voter of this.#voters) {
      const progress = this.#progress.get(voter)
      if (progress === undefined || now - progress.heardAt < this.#options.electionTicks) heard++
    }
    return heard >= majority(this.#voters.length)
  }

  /** One tick: heartbeats when due, a transfer that takes too long given up. Returns false when it just was. */
  tick(now: number): boolean {
    this.#sinceHeartbeat++
    this.#tellsAll = true
    if (this.#sinceHeartbeat >= this.#options.heartbeatTicks) this.#beginRound()
    this.#dropLeaving(now)
    if (this.#transfer === undefined || now - this.#transfer.since < this.#options.electionTicks) return true
    this.#transfer = undefined
    return false
  }

  heard(peer: MemberId, now: number): void {
    this.#progress.get(peer)?.heard(now)
  }

  /** The connection to this follower ended: what was under way is lost. */
  disconnected(peer: MemberId): void {
    const progress = this.#progress.get(peer)
    if (progress === undefined) return
    progress.probe()
    progress.gone = true
  }

  /** This follower was started anew: what it acknowledged before is not counted on any more. */
  restarted(peer: MemberId, now: number): void {
    const known = this.#progress.get(peer)
    if (known === undefined) return
    const progress = new Progress({ nextIndex: this.#log.lastIndex + 1, now })
    progress.leavingAt = known.leavingAt
    this.#progress.set(peer, progress)
  }

  /** These members are to learn at once when the entry at this index is committed; all of them unless they are named. */
  awaited(index: number, members: Iterable<MemberId> = this.#progress.keys()): void {
    for (const member of members) {
      const progress = this.#progress.get(member)
      if (progress !== undefined) progress.awaitedIndex = Math.max(progress.awaitedIndex, index)
    }
  }

  /** Sends what followers lack, tells them what is committed, begins a round if reads wait. Called once per drive. */
  flush(): void {
    for (const [peer, progress] of this.#progress) this.#replicate(peer, progress)
    this.#tellsAll = false
    if (this.#transfer !== undefined && !this.#transfer.told) {
      const progress = this.#progress.get(this.#transfer.to)
      if (progress !== undefined && progress.matchIndex === this.#log.lastIndex) {
        this.#transfer.told = true
        this.#options.send(this.#transfer.to, { type: 'timeoutNow' })
      }
    }
    if (this.#reads.due) this.#beginRound()
    // A sole voter has answered every round by sending it.
    if (this.#voters.length === 1) this.#advanceRounds()
  }

  #replicate(peer: MemberId, progress: Progress): void {
    const log = this.#log
    if (progress.state !== 'snapshot' && progress.nextIndex <= log.base.index) {
      progress.needSnapshot()
      this.#sayThatSnapshotIsNeeded(peer)
    }
    const probing = progress.state === 'probe'
    while (progress.maySend(this.#options.windowBytes)) {
      if (!probing && progress.nextIndex > log.lastIndex) break
      const entries =
        progress.nextIndex > log.lastIndex ? [] : log.slice(progress.nextIndex, this.#options.appendBytes)
      if (entries === undefined) {
        progress.fetchingFrom = progress.nextIndex
        this.#fetches = this.#fetches.filter((request) => request.member !== peer)
        this.#fetches.push({ member: peer, from: progress.nextIndex })
        return
      }
      this.#sendEntries(peer, progress, entries)
    }
    // Where nobody waits it comes with the next entries: a message of its own costs a follower as much as theirs.
    const commitIndex = Math.min(progress.matchIndex, log.commitIndex)
    const isAwaited = this.#tellsAll || progress.awaitedIndex > progress.toldCommit
    if (isAwaited && commitIndex > progress.toldCommit) {
      progress.toldCommit = commitIndex
      this.#options.send(peer, { type: 'commit', commitIndex })
    }
  }

  #sayThatSnapshotIsNeeded(peer: MemberId): void {
    this.#options.send(peer, {
      type: 'snapshotNeeded',
      since: this.#sinceOf(peer),
      index: this.#log.base.index,
    })
  }

  #sinceOf(peer: MemberId): number {
    return this.#since.get(peer) ?? 0
  }

  #sendEntries(peer: MemberId, progress: Progress, entries: readonly Entry[]): void {
    const log = this.#log
    const prevIndex = progress.nextIndex - 1
    const prevTerm = log.term(prevIndex)
    assert(prevTerm !== undefined, 'the entry before those sent is in the log')
    const { commitIndex } = log
    this.#options.send(peer, {
      type: 'append',
      since: this.#sinceOf(peer),
      prevIndex,
      prevTerm,
      commitIndex,
      entries,
    })
    progress.toldCommit = Math.max(
      progress.toldCommit,
      Math.min(log.commitIndex, entries.at(-1)?.index ?? prevIndex),
    )
    progress.sent(entries)
  }

  /** The next entries to be read from disk for a follower that lags behind the cache. */
  takeFetch(): FetchRequest | undefined {
    let request = this.#fetches.shift()
    while (request !== undefined && !this.#wants(request)) request = this.#fetches.shift()
    return request
  }

  #wants(request: FetchRequest): boolean {
    const progress = this.#progress.get(request.member)
    if (request.from <= this.#log.base.index) return false
    return progress?.fetchingFrom === request.from && progress.nextIndex === request.from
  }

  fetched(request: FetchRequest, entries: readonly Entry[]): void {
    const progress = this.#progress.get(request.member)
    if (progress === undefined || !this.#wants(request)) return
    progress.fetchingFrom = undefined
    assert(entries[0]?.index === request.from, 'what was asked of the disk is what came')
    this.#sendEntries(request.member, progress, entries)
  }

  /** Reads and transfers wait on what these answers say. Returns whether the commit index moved. */
  step(message: Message, now: number): boolean {
    const progress = this.#progress.get(message.from)
    if (progress === undefined) return false
    progress.heard(now)
    switch (message.type) {
      case 'appended':
        if (message.matchIndex > this.#log.lastIndex) return false
        return progress.acknowledged(message.matchIndex) && this.advanceCommit()
      case 'appendRejected':
        progress.rejected(
          message.prevIndex,
          this.#log.sharedWith({ index: message.hintIndex, term: message.hintTerm }),
        )
        return false
      case 'heartbeatAnswer':
        this.#heartbeatAnswered(message.from, progress, message.round)
        return false
      default:
        return false
    }
  }

  #heartbeatAnswered(peer: MemberId, progress: Progress, round: number): void {
    // An answer names a round that was sent; 0 is none, but answers a message of an earlier term.
    if (round === 0 || round > this.#reads.sent) return
    progress.answeredRound = Math.max(progress.answeredRound, round)
    progress.paused = false
    if (progress.state === 'snapshot') this.#sayThatSnapshotIsNeeded(peer)
    else if (progress.stalledAtHeartbeat() && progress.nextIndex > this.#log.base.index) {
      // Messages keep their order, so the answer to this one shows whether those before it arrived.
      this.#sendEntries(peer, progress, [])
    }
    this.#advanceRounds()
  }

  /** Confirms the rounds that a majority has answered. A voter that leads itself has answered every round. */
  #advanceRounds(): void {
    const answered = this.#voters.map((voter) => this.#progress.get(voter)?.answeredRound ?? this.#reads.sent)
    for (const read of this.#reads.confirm(reachedByMajority(answered))) {
      this.#options.answerRead(read, read.index)
    }
  }

  /**
   * Commits what a majority has durably, if the entry there is of this term: an older one is never committed by
   * counting (section 5.4.2, figure 8). This replica counts only what its own disk holds.
   */
  advanceCommit(): boolean {
    const matched = this.#voters.map((voter) => this.#progress.get(voter)?.matchIndex ?? this.#log.savedIndex)
    const index = reachedByMajority(matched)
    if (index <= this.#log.commitIndex || this.#log.term(index) !== this.#options.term) return false
    const moved = this.#log.commit(index)
    if (!this.#committedInTerm) {
      this.#committedInTerm = true
      this.#reads.release(this.#log.commitIndex)
    }
    return moved
  }

  /** Takes a read from this replica or a follower. Past the bound it is answered "ask again". */
  read(read: PendingRead): void {
    // It will wait there until so much is applied.
    this.awaited(this.#log.commitIndex, [read.from])
    if (this.#reads.size >= this.#options.maxReads) this.#options.answerRead(read, undefined)
    else if (this.#committedInTerm) this.#reads.join(read, this.#log.commitIndex)
    else this.#reads.hold(read)
  }

  #beginRound(): void {
    this.#sinceHeartbeat = 0
    const round = this.#reads.begin()
    for (const [peer, progress] of this.#progress) {
      const commitIndex = Math.min(progress.matchIndex, this.#log.commitIndex)
      progress.toldCommit = Math.max(progress.toldCommit, commitIndex)
      this.#options.send(peer, { type: 'heartbeat', since: this.#sinceOf(peer), round, commitIndex })
    }
  }

  /** Begins to hand over; proposals wait until it ends or is given up after an election timeout. */
  transferTo(to: MemberId, now: number): void {
    if (this.#transfer?.to === to) return
    this.#transfer = { to, since: now, told: false }
  }

  /** The voter that could take over soonest: heard from lately, and with the longest log. */
  heir(now: number): MemberId | undefined {
    let best: { peer: MemberId; matchIndex: number } | undefined
    for (const voter of this.#voters) {
      const progress = this.#progress.get(voter)
      if (progress === undefined || progress.gone) continue
      if (now - progress.heardAt >= this.#options.electionTicks) continue
      if (best === undefined || progress.matchIndex > best.matchIndex) {
        best = { peer: voter, matchIndex: progress.matchIndex }
      }
    }
    return best?.peer
  }

  /** Leadership is over: every read that waits must be asked again. */
  end(): void {
    for (const read of this.#reads.drain()) this.#options.answerRead(read, undefined)
  }
}
