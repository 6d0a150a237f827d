// What a replica needs of a network, and what nodes say to each other. libp2p implements it in `libp2p.ts`.

import type { ErrorCode } from '../errors.ts'
import type { Configuration, Member, MemberId, Message, Role } from '../raft/types.ts'
import type { Digest } from '../store/state-rows.ts'
import type { CommandBatch, Founding } from '../store/types.ts'
import type { Wish } from './membership.ts'
import type { ChangeAnswer } from './membership-keeper.ts'

/** Everything that travels between two nodes of a cluster. */
export type PeerMessage =
  | { readonly type: 'raft'; readonly message: Message }
  /**
   * Commands for the leader. The receiver proposes them or refuses them; it never passes them on. `attempt` only grows, so
   * that a copy of what was received before is recognised and ignored.
   */
  | { readonly type: 'forward'; readonly attempt: number; readonly batch: CommandBatch }
  /** Of this attempt of the receiver's present boot, these commands entered no log here and will not. */
  | {
      readonly type: 'forwardRefused'
      readonly attempt: number
      readonly numbers: readonly number[]
      readonly code: ErrorCode
    }
  /** What a node says of itself, about twice a second, to whoever is connected. */
  | {
      readonly type: 'status'
      readonly version: string
      readonly role: Role
      readonly term: number
      readonly commitIndex: number
      readonly lastApplied: number
      /** The sender's wall clock, in milliseconds since the epoch. */
      readonly clock: number
      readonly freeBytes: number
      readonly alarms: readonly string[]
      /** Where the sender is reached, by its own account. */
      readonly http: string
      readonly p2p: string
      /** The highest command version that its program understands. */
      readonly commandVersion: number
      /** The index of the last configuration that it knows to be committed. */
      readonly configurationIndex: number
      /** Its boot, while it makes up for a log that it lost: nothing that it said before counts (rule 7). */
      readonly rebuilding?: number
      /** Its log is sound, its state is not yet: it votes and acknowledges, but does not serve (rule 8). */
      readonly repairing: boolean
      /** The digest of its state as of the entry at `index`, when it last took one. */
      readonly digest?: Digest
    }
  /** Who belongs to the cluster by the committed configuration at `index`: told to one that knows an older one only (rule 15). */
  | { readonly type: 'members'; readonly index: number; readonly members: readonly Member[] }
  /** Asks the leader to hand over to `to` (a member's id, as people write it). */
  | { readonly type: 'transferLeadership'; readonly to: string }

/** What one node asks another outside of the log's life: founding, joining, membership. Answered once each. */
export type Question =
  /** What do you know? */
  | { readonly type: 'whoAreYou' }
  /** Make this founding durable, if you are empty; say so once it is. */
  | { readonly type: 'found'; readonly founding: Founding }
  /** Every member has the founding: take part. Answered once that is durable. */
  | { readonly type: 'begin'; readonly clusterId: string }
  /**
   * For the leader: see to this change of the members. `again`: it was asked for before, and nobody knows what came of it.
   * `timeoutMs`: how long the asker waits for the answer.
   */
  | {
      readonly type: 'changeMembers'
      readonly wish: Wish
      readonly again: boolean
      readonly timeoutMs: number
    }
  /** You are about to be removed: take no more requests. Answered once those taken are finished, or after a short while. */
  | { readonly type: 'drain' }
  /** Hold your state as it is now ready to be sent, and say what it is. Answered with `snapshot`. */
  | { readonly type: 'holdSnapshot' }
  /** The part of that snapshot that follows `after` (base64), the first part without it. Answered with `chunk`. */
  | { readonly type: 'sendChunk'; readonly index: number; readonly after?: string }

/** What a new member needs to begin: what its cluster was founded with, and the configuration that holds, from its index on. */
export type Membership = {
  readonly founding: Founding
  readonly index: number
  readonly configuration: Configuration
  /**
   * The latest boot of the new member that is known; 0 for none. With an emptied disk it has forgotten that, and what it asks and
   * commands from now on must not be taken for what it did then (rules 16 and 19).
   */
  readonly boot: number
}

export type Answer =
  /**
   * `clusterId` undefined: empty. `begun`: has taken part in elections, or may. `membership`: only for one who is a member of
   * the cluster.
   */
  | {
      readonly type: 'identity'
      readonly id: string
      readonly clusterId: string | undefined
      readonly begun: boolean
      readonly membership?: Membership
    }
  | ChangeAnswer
  | {
      readonly type: 'snapshot'
      readonly index: number
      readonly term: number
      readonly configuration: Configuration
      readonly digest: string
    }
  /** See `store/state-chunk.ts`. */
  | { readonly type: 'chunk'; readonly bytes: Uint8Array; readonly crc: number }
  | { readonly type: 'done' }
  | { readonly type: 'refused'; readonly reason: string }

/** Who a node says it is when a stream opens. The peer id itself is proved by the connection. */
export type Hello = {
  /** Undefined while the node is empty. */
  readonly clusterId: string | undefined
  /** The name people use: `n1`. */
  readonly id: string
  /** Raised at every start; 0 while the node is empty. */
  readonly boot: number
}

/**
 * A peer to keep a connection to: every address is tried in turn. Its peer id is admitted; no other is. Without addresses
 * it is admitted and not dialled.
 */
export type Peer = { readonly peer: MemberId; readonly id: string; readonly addresses: readonly string[] }

export type TransportHandlers = {
  /** A whole message arrived. `boot` is the sender's, from its hello. */
  readonly message: (from: MemberId, message: PeerMessage, boot: number) => void
  /** Part of a long message arrived: the sender is alive. */
  readonly progress: (from: MemberId) => void
  /** Messages to this peer can leave. */
  readonly connected: (peer: MemberId) => void
  /** The last connection to this peer ended. `byUs`: we closed it (stop, overflow, duplicate, removal). */
  readonly disconnected: (peer: MemberId, why: { readonly byUs: boolean }) => void
  readonly question: (from: MemberId, question: Question) => Promise<Answer>
  /** A peer refused us, or we refused one: said once per cause and minute. */
  readonly refused: (peer: MemberId | undefined, reason: string) => void
  /** A peer says that this node is no member of its cluster. */
  readonly turnedAway: (peer: MemberId) => void
}

/** Counters since the start of the process, and what waits. */
export type TransportCounters = {
  /** Connections refused because the peer id is no member's, or the handshake never came. */
  readonly refusedConnections: number
  /** Streams ended because of bytes that are no message, an unknown version or another cluster's id. */
  readonly refusedStreams: number
  /** Messages dropped because an outbox was full or nobody was connected. */
  readonly droppedMessages: number
  /** On all streams, frames and all. */
  readonly sentBytes: number
  readonly receivedBytes: number
  /** What waits now for each peer. */
  readonly outboxes: readonly {
    readonly peer: MemberId
    readonly lane: 'control' | 'bulk'
    readonly bytes: number
  }[]
}

export interface Transport {
  /** This node's peer id. */
  readonly self: MemberId
  /** Listens and dials. Rejects with an operator's sentence when the address cannot be listened on. */
  start(handlers: TransportHandlers): Promise<void>
  /** Tells later hellos, once the node is founded. Streams that stand are opened anew. */
  introduce(hello: Hello): void
  /** Replaces whom to admit and keep connected to. Connections to others are closed. */
  setPeers(peers: readonly Peer[]): void
  /** False when it was dropped at once: not connected, or the outbox is full. True promises nothing. */
  send(to: MemberId, message: PeerMessage): boolean
  /** Asks one question over a connection of its own or a standing one. Rejects when it cannot be asked or answered. */
  ask(peer: MemberId, question: Question, options: { readonly signal: AbortSignal }): Promise<Answer>
  isConnected(peer: MemberId): boolean
  counters(): TransportCounters
  close(): Promise<void>
}
