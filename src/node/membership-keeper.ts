// Changes the members while this node leads: what operators wish, one at a time, and what a leader sees to by itself.
//
// By itself it promotes a learner that has caught up, follows a member to new addresses or to another program, and takes
// the vote of one that lost its log (`safety.md`, rule 7). Nothing of this is remembered elsewhere than in the
// configuration and in what members say of themselves, so that the next leader goes on where this one stopped.

import type { ErrorCode } from '../errors.ts'
import type { Changed, Raft } from '../raft/raft.ts'
import type { Configuration, Member, MemberId } from '../raft/types.ts'
import { type Composed, type Correction, compose, type Wish } from './membership.ts'
import type { PeerMessage } from './transport.ts'

type Status = Extract<PeerMessage, { type: 'status' }>

/** What is used of a replica. */
type ChangingReplica = {
  readonly raft: Pick<Raft, 'role' | 'term'> & {
    readonly log: Pick<Raft['log'], 'configuration' | 'commitIndex' | 'lastIndex' | 'term'>
    readonly progress: ReadonlyMap<MemberId, { readonly matchIndex: number }> | undefined
  }
  changeConfiguration(configuration: Configuration): Changed
}

export type KeeperPorts = {
  readonly self: MemberId
  readonly replica: ChangingReplica
  /** The clock of `performance.now()`. */
  readonly now: () => number
  readonly electionMs: number
  /** What a member said of itself lately, this node too; undefined for one that is silent or not connected. */
  readonly status: (peer: MemberId) => Status | undefined
  /** Has a member take no more requests and finish those it has. Resolves in any case, after a short while at most. */
  readonly drain: (member: Member) => Promise<void>
  readonly note: (sentence: string, about: object) => void
}

/** What became of a wish. */
export type ChangeAnswer =
  /** Committed, by the configuration at this index or by an earlier one. */
  | { readonly type: 'changed'; readonly index: number }
  /** `no-leader`: nothing was appended here. `outcome-unknown`: it was, and may come to be committed or not. */
  | {
      readonly type: 'notChanged'
      readonly code: ErrorCode
      readonly detail: string
      readonly field?: 'id' | 'http' | 'p2p' | 'peer'
    }

/** How often the members are looked at, in milliseconds. */
const lookEvery = 50

/** How long a wish waits for members that it counts on to be heard, in milliseconds: a few of their statuses. */
const silenceMs = 2000

/** A refused correction is told of again after this time, in milliseconds. */
const noteAgainAfter = 60_000

export class MembershipKeeper {
  readonly #ports: KeeperPorts
  readonly #learners = new Map<MemberId, CatchUp>()
  readonly #notedAt = new Map<string, number>()
  /** What an operator wishes and is not over yet. */
  #wish: Wish | undefined
  #lookAt = 0
  #waiters: (() => void)[] = []
  #closed = false

  constructor(ports: KeeperPorts) {
    this.#ports = ports
  }

  /**
   * Sees a wish through, if this node leads. `again`: it was asked for before and nobody knows what came of it, so that
   * finding it done is no mistake. `deadline` on the clock of `performance.now()`. Never rejects.
   */
  async change(
    wish: Wish,
    options: { readonly again: boolean; readonly deadline: number },
  ): Promise<ChangeAnswer> {
    if (this.#wish !== undefined) return inProgress(`the wish to ${sentenceOf(this.#wish)} is being seen to`)
    this.#wish = wish
    try {
      const composed = await this.#composeOnceHeard(wish, options.deadline)
      if (composed.type !== 'changed') return this.#settled(wish, composed, options.again)
      const leaving = this.#leaving(wish)
      if (leaving !== undefined && this.#leads) await this.#ports.drain(leaving)
      return await this.#propose(wish, options)
    } finally {
      this.#wish = undefined
    }
  }

  /** To be called with every tick of the replica. */
  tick(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
    if (!this.#leads) {
      this.#learners.clear()
      return
    }
    const now = this.#ports.now()
    this.#watchLearners(now)
    if (now < this.#lookAt || this.#wish !== undefined) return
    this.#lookAt = now + lookEvery
    this.#correct(now)
  }

  /** Who waits here is answered. */
  close(): void {
    this.#closed = true
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }

  get #leads(): boolean {
    return !this.#closed && this.#ports.replica.raft.role === 'leader'
  }

  get #configuration(): Configuration {
    return this.#ports.replica.raft.log.configuration.configuration
  }

  /** Resolves with the next tick. */
  #nextTick(): Promise<void> {
    return this.#closed ? Promise.resolve() : new Promise((resolve) => this.#waiters.push(resolve))
  }

  // ── what operators wish ──────────────────────────────────────────────────────────────────────────────────────

  async #propose(
    wish: Wish,
    options: { readonly again: boolean; readonly deadline: number },
  ): Promise<ChangeAnswer> {
    for (;;) {
      if (!this.#leads) return notLeading
      const composed = this.#compose(wish)
      if (composed.type !== 'changed') return this.#settled(wish, composed, options.again)
      const changed = this.#ports.replica.changeConfiguration(composed.configuration)
      if (changed.type === 'appended') {
        this.#ports.note(`changing the members: ${sentenceOf(wish)}`, { index: changed.index })
        return this.#committed(changed, options.deadline)
      }
      if (changed.reason === 'not-leader') return notLeading
      // The leader's own corrections and its first commit are matters of milliseconds.
      if (this.#ports.now() >= options.deadline) return inProgress('another change is not committed yet')
      await this.#nextTick()
    }
  }

  async #committed(
    { index, term }: { readonly index: number; readonly term: number },
    deadline: number,
  ): Promise<ChangeAnswer> {
    const { raft } = this.#ports.replica
    for (;;) {
      const { log } = raft
      // Below the log's base everything is committed; while the term lasts it is this leader's own.
      if (log.commitIndex >= index && (log.term(index) ?? raft.term) === term)
        return { type: 'changed', index }
      if (!this.#leads || raft.term !== term) {
        return unknown('This node has stopped leading while the change was not committed')
      }
      if (this.#ports.now() >= deadline) return unknown('The change is in the log but not committed yet')
      await this.#nextTick()
    }
  }

  #compose(change: Wish | Correction): Composed {
    return compose(this.#configuration, change, (peer) => this.#isWell(peer))
  }

  /**
   * What a member says of itself takes a moment to arrive: one that has just become ready, and was seen to be so by who
   * wishes, may not have been heard here. So silence refuses a wish only when it lasts.
   */
  async #composeOnceHeard(wish: Wish, deadline: number): Promise<Composed> {
    const enough = Math.min(deadline, this.#ports.now() + silenceMs)
    for (;;) {
      const composed = this.#compose(wish)
      const mayPass = composed.type === 'refused' && composed.awaits !== undefined
      if (!mayPass || !this.#leads || this.#ports.now() >= enough) return composed
      await this.#nextTick()
    }
  }

  /** The member that a wish removes. */
  #leaving(wish: Wish): Member | undefined {
    if (wish.type === 'add') return undefined
    const id = wish.type === 'remove' ? wish.id : wish.replaces
    return this.#configuration.members.find((member) => member.id === id)
  }

  #settled(wish: Wish, composed: Exclude<Composed, { type: 'changed' }>, again: boolean): ChangeAnswer {
    const { index } = this.#ports.replica.raft.log.configuration
    if (composed.type === 'unchanged' || (again && isDone(this.#configuration, wish)))
      return { type: 'changed', index }
    const { code, detail, field } = composed
    return field === undefined
      ? { type: 'notChanged', code, detail }
      : { type: 'notChanged', code, detail, field }
  }

  #isWell(peer: MemberId): boolean {
    if (peer === this.#ports.self) return true
    const status = this.#ports.status(peer)
    return status !== undefined && status.rebuilding === undefined
  }

  // ── what a leader sees to by itself ──────────────────────────────────────────────────────────────────────────

  #watchLearners(now: number): void {
    const { progress, log } = this.#ports.replica.raft
    const learners = new Set<MemberId>()
    for (const { peer, voter, since } of this.#configuration.members) {
      const follower = progress?.get(peer)
      if (voter || follower === undefined) continue
      learners.add(peer)
      const known = this.#learners.get(peer)
      // One whose log was lost begins anew.
      const catchUp = known?.since === since ? known : new CatchUp(since, this.#ports.electionMs)
      this.#learners.set(peer, catchUp)
      catchUp.look({ now, matchIndex: follower.matchIndex, lastIndex: log.lastIndex })
    }
    for (const peer of this.#learners.keys()) if (!learners.has(peer)) this.#learners.delete(peer)
  }

  #correct(now: number): void {
    const { raft } = this.#ports.replica
    // Whatever is proposed now would be refused: the last change is not committed.
    if (raft.log.configuration.index > raft.log.commitIndex) return
    for (const correction of this.#corrections()) {
      const composed = this.#compose(correction)
      if (composed.type === 'unchanged') continue
      const { id } = this.#configuration.members.find(({ peer }) => peer === correction.peer) ?? { id: '' }
      if (composed.type === 'refused') {
        this.#noteOnce(now, `cannot ${correction.type} ${id}: ${composed.detail}`)
        continue
      }
      const changed = this.#ports.replica.changeConfiguration(composed.configuration)
      if (changed.type === 'refused') return
      this.#ports.note(`changing the members: ${correction.type} ${id}`, { index: changed.index })
      return
    }
  }

  #corrections(): Correction[] {
    const demotions: Correction[] = []
    const updates: Correction[] = []
    const promotions: Correction[] = []
    for (const member of this.#configuration.members) {
      const { peer } = member
      const status = this.#ports.status(peer)
      if (status === undefined) continue
      const { rebuilding, http, p2p, commandVersion } = status
      if (rebuilding !== undefined && rebuilding > member.since) {
        demotions.push({ type: 'demote', peer, since: rebuilding })
        continue
      }
      if (http !== member.http || p2p !== member.p2p || commandVersion !== member.commandVersion) {
        updates.push({ type: 'update', peer, http, p2p, commandVersion })
      }
      const isReady = this.#learners.get(peer)?.isCaughtUp(status.lastApplied) === true
      if (!member.voter && isReady && !status.repairing) promotions.push({ type: 'promote', peer })
    }
    return [...demotions, ...updates, ...promotions]
  }

  #noteOnce(now: number, sentence: string): void {
    for (const [said, at] of this.#notedAt) if (now - at > noteAgainAfter) this.#notedAt.delete(said)
    if (this.#notedAt.has(sentence)) return
    this.#notedAt.set(sentence, now)
    this.#ports.note(sentence, {})
  }
}

/**
 * Whether a learner keeps up (thesis 4.2.1): it is sent the log in rounds, each up to where the log ended when the round
 * began. Once a round takes less than an election timeout, a promotion would not hold the cluster up.
 */
export class CatchUp {
  /** The learner's, in the configuration. */
  readonly since: number
  readonly #enough: number
  #target: number | undefined
  #beganAt = 0
  /** Where the first of the short rounds ended. */
  #reached: number | undefined

  constructor(since: number, electionMs: number) {
    this.since = since
    this.#enough = electionMs
  }

  look({
    now,
    matchIndex,
    lastIndex,
  }: {
    readonly now: number
    readonly matchIndex: number
    readonly lastIndex: number
  }): void {
    if (this.#target !== undefined) {
      if (now - this.#beganAt >= this.#enough) this.#reached = undefined
      if (matchIndex < this.#target) return
      if (now - this.#beganAt < this.#enough) this.#reached ??= this.#target
    }
    this.#target = lastIndex
    this.#beganAt = now
  }

  /** Rounds are short, and its state has come to where they began to be. */
  isCaughtUp(lastApplied: number): boolean {
    return this.#reached !== undefined && lastApplied >= this.#reached
  }
}

/** Whether the configuration is as the wish would make it. */
function isDone({ members }: Configuration, wish: Wish): boolean {
  const has = (peer: MemberId, id: string) =>
    members.some((member) => member.peer === peer && member.id === id)
  switch (wish.type) {
    case 'add':
      return has(wish.newcomer.peer, wish.newcomer.id)
    case 'remove':
      return !members.some((member) => member.id === wish.id)
    case 'replace':
      return has(wish.newcomer.peer, wish.newcomer.id)
    default:
      return wish satisfies never
  }
}

function sentenceOf(wish: Wish): string {
  switch (wish.type) {
    case 'add':
      return `add ${wish.newcomer.id}`
    case 'remove':
      return `remove ${wish.id}`
    case 'replace':
      return `replace ${wish.replaces} by ${wish.newcomer.id}`
    default:
      return wish satisfies never
  }
}

const notLeading: ChangeAnswer = {
  type: 'notChanged',
  code: 'no-leader',
  detail: 'The node that was asked does not lead',
}

function inProgress(why: string): ChangeAnswer {
  return { type: 'notChanged', code: 'change-in-progress', detail: `Members change one at a time: ${why}` }
}

function unknown(why: string): ChangeAnswer {
  return { type: 'notChanged', code: 'outcome-unknown', detail: `${why}: it may still take effect` }
}
