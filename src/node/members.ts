// This node's part in who belongs to the cluster: whom it admits, whom it tells, what it changes, and whether it belongs itself.

import { isDeepStrictEqual } from 'node:util'
import type { Logger } from 'pino'
import type { Member, MemberId } from '../raft/types.ts'
import { Acquaintances, type Known, knownFrom } from './acquaintances.ts'
import type { Identity } from './founding.ts'
import { requestChange } from './member-requests.ts'
import type { Wish } from './membership.ts'
import { MembershipKeeper } from './membership-keeper.ts'
import type { Replica } from './replica.ts'
import type { NodeAddress } from './settings.ts'
import type { WaitOptions } from './surface.ts'
import type { Answer, Membership, Peer, PeerMessage, Question, Transport } from './transport.ts'

type Status = Extract<PeerMessage, { type: 'status' }>

export type MembersPorts = {
  /** The nodes of the configuration file. */
  readonly nodes: readonly NodeAddress[]
  readonly identity: () => Identity
  readonly transport: Transport
  /** The clock of `performance.now()`. */
  readonly now: () => number
  /** A signal that aborts after so many milliseconds. */
  readonly timeout: (ms: number) => AbortSignal
  readonly electionMs: number
  /** What a member said of itself lately, this node too. */
  readonly status: (peer: MemberId) => Status | undefined
  /** Resolves with the next change of role, term or leader, or after `ms`. */
  readonly statusChange: (ms: number) => Promise<void>
  readonly logger: Logger
}

export type MemberQuestion = Extract<Question, { type: 'changeMembers' | 'drain' }>

/** How long a node that is to be removed takes no requests, unless it is removed meanwhile; and how long it finishes those it has. */
const drainMs = { closed: 5000, finishing: 2000 } as const

export class Members {
  readonly #ports: MembersPorts
  readonly #self: MemberId
  readonly #acquaintances: Acquaintances
  #replica: Replica | undefined
  #keeper: MembershipKeeper | undefined
  /** Takes no requests until then, because it is about to be removed. */
  #drainingUntil = 0
  #wasRemoved = false
  /** The latest boot that each member was heard under. */
  readonly #boots = new Map<MemberId, number>()
  /** What `index` was when it was last looked at. */
  #lastIndex = 0

  constructor(ports: MembersPorts) {
    this.#ports = ports
    this.#self = ports.transport.self
    this.#acquaintances = new Acquaintances(this.#self)
  }

  /** From now on this replica's log says who belongs. */
  follow(replica: Replica): void {
    const { transport, now, electionMs, logger } = this.#ports
    this.#replica = replica
    this.#keeper = new MembershipKeeper({
      self: this.#self,
      replica,
      now,
      electionMs,
      status: (peer) =>
        peer === this.#self || transport.isConnected(peer) ? this.#ports.status(peer) : undefined,
      drain: (member) => this.#drainMember(member),
      note: (sentence, about) => logger.info(about, sentence),
    })
    this.configurationChanged()
  }

  /** To be called with every tick of the replica. */
  tick(): void {
    this.#keeper?.tick()
    if (this.index === this.#lastIndex) return
    this.#lastIndex = this.index
    this.configurationChanged()
  }

  close(): void {
    this.#keeper?.close()
  }

  // ── who belongs ──────────────────────────────────────────────────────────────────────────────────────────────

  /** The members by the configuration that holds here. */
  get present(): readonly Member[] {
    return this.#replica?.raft.log.configuration.configuration.members ?? this.#known.members
  }

  /** The index of the last configuration that is known here to be committed. */
  get index(): number {
    return this.#known.index
  }

  /** The members by the newest configuration that is known here: by the own log, or by the word of a member. */
  get newest(): readonly Member[] {
    const told = this.#acquaintances.newest(this.#known)
    const holding = this.#replica?.raft.log.configuration.index ?? 0
    return told.index > holding ? told.members : this.present
  }

  /** For a node that joins; undefined while this one does not take part. */
  membership(joining: MemberId): Membership | undefined {
    const identity = this.#ports.identity()
    if (this.#replica === undefined || identity.type !== 'founded') return undefined
    const heard = this.#boots.get(joining) ?? 0
    const boot = Math.max(heard, this.#replica.machine?.bootOf(joining) ?? 0)
    return { founding: identity.founding, ...this.#replica.raft.log.configuration, boot }
  }

  /** The last configuration that is known here to be committed. What the log begins with is. */
  get #known(): Known {
    const log = this.#replica?.raft.log
    const committed = log?.configurations.findLast((at, place) => place === 0 || at.index <= log.commitIndex)
    if (committed !== undefined) return knownFrom(committed)
    const identity = this.#ports.identity()
    switch (identity.type) {
      case 'empty':
        return { index: 0, members: [] }
      case 'founded':
        return { index: 0, members: identity.founding.configuration.members }
      case 'rebuilding':
        return { index: 0, members: identity.configuration?.members ?? [] }
      default:
        return identity satisfies never
    }
  }

  /**
   * Whom to admit: everybody in a configuration of the own log, and whom such a peer names as a member; while none is known,
   * the nodes of the file (rule 15). Whom to dial: those who belong now, unless this node does not.
   */
  peers(): Peer[] {
    const { nodes, identity } = this.#ports
    const peers = new Map<MemberId, { readonly peer: MemberId; id: string; addresses: Set<string> }>()
    const admit = ({ peer, id }: Pick<NodeAddress, 'peer' | 'id'>, ...addresses: string[]) => {
      if (peer === this.#self) return
      const known = peers.get(peer) ?? { peer, id, addresses: new Set() }
      peers.set(peer, known)
      known.id = id
      for (const address of addresses) known.addresses.add(address)
    }
    const isKnowing = identity().type === 'founded' || this.present.length > 0
    if (!isKnowing) for (const node of nodes) admit(node, node.p2p)
    else {
      const configurations = this.#replica?.raft.log.configurations ?? []
      const past = configurations.flatMap((at) => at.configuration.members)
      for (const member of [...past, ...this.#acquaintances.named]) admit(member)
      const fromFile = new Map(nodes.map((node) => [node.peer, node.p2p]))
      for (const member of this.#isRemoved ? [] : [...this.present, ...this.newest]) {
        const listed = fromFile.get(member.peer)
        admit(member, member.p2p, ...(listed === undefined ? [] : [listed]))
      }
    }
    return [...peers.values()].map((peer) => ({ ...peer, addresses: [...peer.addresses] }))
  }

  name(peer: MemberId): string {
    const known = [...this.newest, ...this.present, ...this.#ports.nodes].find((node) => node.peer === peer)
    return known?.id ?? peer
  }

  /** The configuration that holds, or the last committed one, is another. */
  configurationChanged(): void {
    this.#retain()
    this.#apply()
  }

  #retain(): void {
    const configurations = this.#replica?.raft.log.configurations ?? []
    const past = configurations.flatMap((at) => at.configuration.members)
    const admitted = new Set([...past, ...this.#acquaintances.named].map(({ peer }) => peer))
    this.#acquaintances.retain(this.#known, admitted)
  }

  #apply(): void {
    this.#noteRemoval()
    this.#ports.transport.setPeers(this.peers())
  }

  // ── what peers say ───────────────────────────────────────────────────────────────────────────────────────────

  /** `boot` is the one it was said under. */
  heard(from: MemberId, status: Status, boot: number): void {
    this.#boots.set(from, Math.max(boot, this.#boots.get(from) ?? 0))
    const own = this.#known
    if (this.#acquaintances.heard(status.configurationIndex, own.index)) {
      this.#ports.transport.send(from, { type: 'members', index: own.index, members: own.members })
    }
    this.#noteRemoval()
  }

  told(from: MemberId, { index, members }: Extract<PeerMessage, { type: 'members' }>): void {
    const before = this.newest
    if (index <= this.index || !this.#acquaintances.told(from, { index, members })) return
    // One that compacted its log goes by the same configuration at a higher index: no news for people.
    if (!isDeepStrictEqual(members, before)) {
      this.#ports.logger.info(
        { peer: this.name(from), index, members: members.map(({ id }) => id) },
        'a member told of a newer configuration',
      )
    }
    this.#apply()
  }

  /** A peer says that this node is no member. */
  turnedAway(peer: MemberId): void {
    this.#acquaintances.denied(peer)
  }

  connected(peer: MemberId): void {
    this.#acquaintances.accepted(peer)
  }

  // ── whether this node belongs ────────────────────────────────────────────────────────────────────────────────

  /** Why this node takes no requests though it runs; undefined when it does. */
  get closedBecause(): string | undefined {
    if (this.#replica === undefined) return undefined
    if (this.#isRemoved) return 'this node was removed from the cluster'
    if (this.#ports.now() < this.#drainingUntil) return 'this node is about to be removed from the cluster'
    const { deniers } = this.#acquaintances
    if (deniers.length === 0 || this.#replica.raft.leader !== undefined) return undefined
    return `${deniers.map((peer) => this.name(peer)).join(', ')} say that this node is no member of the cluster`
  }

  get #isRemoved(): boolean {
    return this.#replica !== undefined && this.#acquaintances.isRemoved(this.#known)
  }

  #noteRemoval(): void {
    const isRemoved = this.#isRemoved
    if (isRemoved === this.#wasRemoved) return
    this.#wasRemoved = isRemoved
    if (isRemoved) {
      this.#ports.logger.warn(
        'this node was removed from the cluster: it keeps its data, takes no part any more, and can be stopped',
      )
      this.#ports.transport.setPeers(this.peers())
    } else this.#ports.logger.info('this node belongs to the cluster again')
  }

  // ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Has the leader see to a wish; resolves once it is committed, and known here if that is soon. See `requestChange`. */
  async change(wish: Wish, options: WaitOptions): Promise<void> {
    const { now, statusChange, timeout, transport } = this.#ports
    const index = await requestChange(wish, options, {
      self: this.#self,
      now,
      leader: () => this.#replica?.raft.leader,
      change: (wanted, how) => this.#change(wanted, how),
      ask: (peer, question, signal) => transport.ask(peer, question, { signal }),
      timeout,
      statusChange,
    })
    // So that who asks this node next sees what was done. A node that is removed may never hear of it.
    const enough = Math.min(options.deadline, now() + 500)
    while (this.index < index && now() < enough) await statusChange(10)
  }

  async answer(question: MemberQuestion): Promise<Answer> {
    if (question.type === 'drain') {
      await this.#drain()
      return { type: 'done' }
    }
    const { wish, again, timeoutMs } = question
    return this.#change(wish, { again, deadline: this.#ports.now() + timeoutMs })
  }

  async #change(wish: Wish, options: { readonly again: boolean; readonly deadline: number }) {
    return (
      this.#keeper?.change(wish, options) ??
      ({ type: 'notChanged', code: 'no-leader', detail: 'This node does not take part yet' } as const)
    )
  }

  async #drainMember({ peer, id }: Member): Promise<void> {
    const { transport, timeout, logger } = this.#ports
    if (peer === this.#self) return this.#drain()
    if (!transport.isConnected(peer)) return
    const signal = timeout(drainMs.finishing + 500)
    try {
      await transport.ask(peer, { type: 'drain' }, { signal })
    } catch (error) {
      logger.info({ err: error }, `${id} did not say that its requests are finished before its removal`)
    }
  }

  /** Takes no more requests for a while; resolves once those taken are finished, or after a while. */
  async #drain(): Promise<void> {
    const { now, statusChange } = this.#ports
    this.#drainingUntil = now() + drainMs.closed
    const enough = now() + drainMs.finishing
    const isBusy = () => {
      const waiting = this.#replica?.waiting
      return waiting !== undefined && waiting.commands + waiting.reads > 0
    }
    while (isBusy() && now() < enough) await statusChange(5)
  }
}
