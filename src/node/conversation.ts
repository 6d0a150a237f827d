// What a node says to its peers, and to which of its rooms what they say belongs.

import type { Logger } from 'pino'
import type { MemberId } from '../raft/types.ts'
import { commandVersion } from '../store/commands.ts'
import { version } from '../version.ts'
import type { ClusterView } from './cluster-view.ts'
import type { FoundingQuestion, Identity } from './founding.ts'
import type { Members } from './members.ts'
import type { Replica } from './replica.ts'
import type { NodeAddress } from './settings.ts'
import type { SnapshotQuestion } from './snapshot-sender.ts'
import type { SpaceKeeper } from './space-keeper.ts'
import type { StateKeeper } from './state-keeper.ts'
import type { Storage } from './storage.ts'
import type { Answer, PeerMessage, Question, Transport } from './transport.ts'

type Status = Extract<PeerMessage, { type: 'status' }>

/** What takes part in the cluster, once this node does. */
export type Participant = { readonly replica: Replica; readonly keeper: StateKeeper }

export type ConversationPorts = {
  readonly own: NodeAddress
  readonly transport: Transport
  readonly storage: Storage
  readonly members: Members
  readonly view: ClusterView
  readonly space: Pick<SpaceKeeper, 'freeBytes' | 'alarms'>
  /** Undefined while this node does not take part. */
  readonly participant: () => Participant | undefined
  /** Answers about founding and joining. */
  readonly entry: (from: MemberId, question: FoundingQuestion) => Promise<Answer>
  /** Why this node should be started again, if it should. */
  readonly illness: () => readonly string[]
  /** Milliseconds since the epoch. */
  readonly clock: () => number
  readonly logger: Logger
}

export class Conversation {
  readonly #ports: ConversationPorts

  constructor(ports: ConversationPorts) {
    this.#ports = ports
  }

  /** Resolves once peers can be heard. Rejects with an operator's sentence when the address cannot be had. */
  async begin(): Promise<void> {
    const { transport, members, participant, logger } = this.#ports
    this.introduce()
    await transport.start({
      message: (from, message, boot) => this.#heard(from, message, boot),
      progress: (from) => participant()?.replica.heard(from),
      connected: (peer) => this.#connected(peer),
      disconnected: (peer, why) => {
        logger.info({ peer: members.name(peer), byUs: why.byUs }, 'peer disconnected')
        participant()?.replica.disconnected(peer, why)
      },
      question: (from, question) => this.#answer(from, question),
      refused: (peer, reason) => {
        logger.warn({ peer: peer === undefined ? undefined : members.name(peer) }, reason)
      },
      turnedAway: (peer) => members.turnedAway(peer),
    })
    transport.setPeers(members.peers())
  }

  /** From now on peers are told this when they connect: the cluster may just have become known. */
  introduce(): void {
    const { own, storage, transport } = this.#ports
    const { identity, opened, stateless } = storage
    transport.introduce({
      clusterId: clusterOf(identity),
      id: own.id,
      boot: (opened ?? stateless)?.wal.recovered.boot ?? 0,
    })
  }

  /** What this node says of itself; undefined while it does not take part. */
  get status(): Status | undefined {
    const { own, storage, members, space, participant, illness, clock } = this.#ports
    const present = participant()
    if (present === undefined) return undefined
    const { replica, keeper } = present
    const { role, term, commitIndex, rebuilding, stateless } = replica.status
    const machine = storage.opened?.machine
    const digest = machine?.digestAt
    return {
      type: 'status',
      version,
      role,
      term,
      commitIndex,
      lastApplied: machine?.lastApplied ?? 0,
      clock: clock(),
      freeBytes: space.freeBytes,
      alarms: [...illness(), ...space.alarms, ...keeper.alarms],
      http: own.http,
      p2p: own.p2p,
      commandVersion,
      configurationIndex: members.index,
      repairing: stateless || keeper.closedBecause !== undefined,
      ...(rebuilding === undefined ? {} : { rebuilding }),
      ...(digest === undefined ? {} : { digest }),
    }
  }

  /** Says so to all members. */
  tellStatus(): void {
    const { transport, members } = this.#ports
    const { status } = this
    if (status === undefined) return
    for (const { peer } of members.newest) if (peer !== transport.self) transport.send(peer, status)
  }

  #connected(peer: MemberId): void {
    const { transport, members, participant, logger } = this.#ports
    logger.info({ peer: members.name(peer) }, 'peer connected')
    members.connected(peer)
    const { status } = this
    if (status === undefined) return
    participant()?.replica.connected(peer)
    transport.send(peer, status)
  }

  #heard(from: MemberId, message: PeerMessage, boot: number): void {
    const { members, view, participant, logger } = this.#ports
    const present = participant()
    if (present === undefined) return
    const { replica, keeper } = present
    switch (message.type) {
      case 'raft':
        replica.step(message.message, boot)
        return
      case 'forward':
        if (message.batch.peer === from) replica.forwarded(from, message)
        else logger.warn({ peer: members.name(from) }, 'dropped commands sent in the name of another node')
        return
      case 'forwardRefused':
        replica.forwardRefused({ from, ...message })
        return
      case 'status':
        view.heard(from, message, replica.status.commitIndex)
        members.heard(from, message, boot)
        keeper.heard(from, message)
        return
      case 'members':
        members.told(from, message)
        return
      case 'transferLeadership': {
        const target = members.present.find((member) => member.id === message.to)
        if (target !== undefined) replica.transferLeadership(target.peer)
        return
      }
      default:
        message satisfies never
    }
  }

  #answer(from: MemberId, question: Question): Promise<Answer> {
    switch (question.type) {
      case 'changeMembers':
      case 'drain':
        return this.#ports.members.answer(question)
      case 'holdSnapshot':
      case 'sendChunk':
        return this.#sendSnapshot(from, question)
      default:
        return this.#ports.entry(from, question)
    }
  }

  /** Only to whom the newest configuration known here has as a member: one that was removed is still admitted for a while. */
  async #sendSnapshot(from: MemberId, question: SnapshotQuestion): Promise<Answer> {
    const { own, members, participant } = this.#ports
    const keeper = participant()?.keeper
    if (keeper === undefined || !members.newest.some(({ peer }) => peer === from)) {
      return { type: 'refused', reason: `${own.id} sends no snapshot: it does not know you as a member` }
    }
    return keeper.answer(from, question)
  }
}

function clusterOf(identity: Identity): string | undefined {
  switch (identity.type) {
    case 'empty':
      return undefined
    case 'founded':
      return identity.founding.clusterId
    case 'rebuilding':
      return identity.clusterId
    default:
      return identity satisfies never
  }
}
