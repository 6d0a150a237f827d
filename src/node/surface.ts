// What the surfaces (REST, the embedded store, the command line) may ask of a node.

import type { Role } from '../raft/types.ts'
import type { DurationCounts } from '../store/durations.ts'
import type { ChangedRecord, Position } from '../store/state-changes.ts'
import type { Digest } from '../store/state-rows.ts'
import type { Command, Outcome, StateReader } from '../store/types.ts'
import type { Settled } from './waiters.ts'

/** How long to wait: `deadline` on the clock of `performance.now()`, in milliseconds. */
export type WaitOptions = { readonly deadline: number; readonly signal?: AbortSignal | undefined }

/** Where the time of a write went, in milliseconds, all measured on the node that took the request. */
export type WriteTiming = {
  /** From leaving for the leader to being seen in this node's log; 0 on the leader. */
  readonly forward: number
  /** Waiting here for its turn to be proposed or forwarded. */
  readonly queue: number
  /** Making it durable on this node. */
  readonly fsync: number
  /** From entering this node's log to being known committed. */
  readonly quorum: number
  /** From being known committed to being applied here. */
  readonly apply: number
}

export type Executed = {
  readonly outcome: Outcome
  /** The revision of this node's state after the command was applied. */
  readonly revision: number
  readonly timing: WriteTiming
}

/** A node that shall become a member. */
export type Newcomer = {
  /** The name people use: `n4`. */
  readonly id: string
  readonly http: string
  /** A multiaddr. */
  readonly p2p: string
  /** Its peer id, as `trivet keygen` prints it. */
  readonly peer: string
}

/** `force`: also when the voters left are not known to make a quorum. */
export type ChangeOptions = WaitOptions & { readonly force?: boolean | undefined }

export type MemberStatus = {
  readonly id: string
  readonly peer: string
  readonly http: string
  readonly p2p: string
  /** `unknown` when it has not been heard from lately. */
  readonly role: Role | 'learner' | 'unknown'
  readonly voter: boolean
  readonly version: string | undefined
  readonly term: number | undefined
  readonly commitIndex: number | undefined
  readonly lastApplied: number | undefined
  /** Entries it had still to apply when it was last heard, against the highest commit index known here at that moment. */
  readonly lag: number | undefined
  readonly healthy: boolean
  readonly alarms: readonly string[]
  /** The digest of its state, when it last took one: equal on all members at the same entry. */
  readonly digest: Digest | undefined
  readonly self: boolean
}

export type ClusterStatus = {
  readonly cluster: string
  readonly id: string
  /** The leader's id, when one is known. */
  readonly leader: string | undefined
  readonly term: number
  readonly revision: number
  readonly members: readonly MemberStatus[]
}

/** Something that queues, and its bound (`safety.md`, rule 25). */
export type QueueLevel = {
  readonly queue: string
  /** The member it waits for, where there is a queue for each. */
  readonly peer?: string
  readonly unit: 'bytes' | 'requests'
  readonly size: number
  readonly bound: number
}

/** What a node counts and measures of itself. Counters begin with the process; durations are milliseconds. */
export type NodeMetrics = {
  /** Undefined while the node does not take part, as is `log`. */
  readonly raft:
    | {
        readonly role: Role
        readonly hasLeader: boolean
        readonly term: number
        readonly lastIndex: number
        readonly commitIndex: number
        readonly lastApplied: number
        /** Elections that this node has begun. */
        readonly elections: number
        /** How often it came to know another leader. */
        readonly leaderChanges: number
        readonly voters: number
        readonly learners: number
      }
    | undefined
  /** The write-ahead log. An append is one write with its sync. */
  readonly log:
    | {
        readonly appends: DurationCounts
        readonly writtenBytes: number
        /** That the log holds now. */
        readonly retainedBytes: number
        readonly segments: number
      }
    | undefined
  readonly network: {
    readonly sentBytes: number
    readonly receivedBytes: number
    readonly droppedMessages: number
    readonly refusedConnections: number
    readonly refusedStreams: number
    readonly connectedPeers: number
  }
  readonly snapshots: {
    readonly sentBytes: number
    readonly receivedBytes: number
    readonly installed: number
  }
  readonly repairs: { readonly log: number; readonly state: number }
  readonly queues: readonly QueueLevel[]
  /** Where the data directory lies. */
  readonly freeBytes: number
}

/** Which keys are watched, and from where on. */
export type WatchQuery = {
  /** The hash of the token it came with: judged at the start, and again whenever tokens or stores change. */
  readonly token: string
  readonly store: string
  /** Keys that begin with one of these, and these keys: at most 64 in all. The whole store where there are none. */
  readonly prefixes: readonly Uint8Array[]
  readonly keys: readonly Uint8Array[]
  readonly start: WatchStart
  /** Whether events come with their values. */
  readonly values: boolean
}

export type WatchStart =
  /** What is written from now on. */
  | { readonly type: 'now' }
  /** What was written after this position, as an event's `id` or the revision of a read gives it. */
  | { readonly type: 'after'; readonly position: Position }
  /** Every current key first. */
  | { readonly type: 'snapshot' }

/** Why a stream of events is over. */
export type WatchEnd =
  /** The start is not kept any more; the earliest position that is. */
  | { readonly type: 'compacted'; readonly oldest: number }
  /** Whoever reads it was too slow. */
  | { readonly type: 'lagged' }
  /** The token is no more, or may not see this any more. */
  | { readonly type: 'revoked' }
  | { readonly type: 'store-dropped' }
  /** This node stops, or cannot vouch for what it would tell: another one can. */
  | { readonly type: 'closing' }

export type WatchEvent =
  | {
      readonly type: 'set'
      /** The position after it. Undefined for the keys that a stream begins with. */
      readonly id: Position | undefined
      readonly key: Uint8Array
      readonly revision: number
      readonly record: ChangedRecord
      /** It is the last of several in its revision. */
      readonly last: boolean
    }
  | {
      readonly type: 'delete' | 'expire'
      readonly id: Position
      readonly key: Uint8Array
      readonly revision: number
      readonly last: boolean
    }
  /** Everything up to this revision, and all of it, was told. */
  | { readonly type: 'progress'; readonly id: Position; readonly revision: number }
  | WatchEnd

/**
 * Events in their order, in groups as they come; the last one says why it is over. Iterated once. A stream that nobody
 * iterates takes nothing up.
 */
export type WatchStream = AsyncIterable<readonly WatchEvent[]> & {
  /** Ends it with `closing`, behind what waits to be taken. */
  close(): void
}

export type RestoreOptions = {
  /** 128 random bits in base64url. */
  readonly id: string
  /** The hash of the token that restores. */
  readonly token: string
  readonly signal?: AbortSignal | undefined
}

/** What a restore came to. */
export type Restored = { readonly revision: number; readonly digest: string }

/** The node as its surfaces see it. Every rejection is a `TrivetError`, or the reason of the given signal. */
export interface NodeSurface {
  readonly id: string
  readonly version: string
  readonly state: StateReader
  /** The id of the member that leads, as far as this node knows. */
  readonly leader: string | undefined

  /**
   * Has a command decided, exactly once, whichever node leads. Resolves when it is applied on this node.
   * Rejects with `no-leader`, `overloaded`, `storage-full`, `shutting-down` when it entered no log, and with
   * `outcome-unknown` when it may have.
   */
  execute(command: Command, options: WaitOptions): Promise<Executed>

  /**
   * The same for several commands, each decided by itself: they cost less together. Resolves once each is decided, with what came
   * of it or with what `execute` would have rejected with, in order. Rejects only with the signal's reason.
   */
  executeMany(commands: readonly Command[], options: WaitOptions): Promise<readonly Settled<Executed>[]>

  /**
   * Resolves once reads of `state` reflect every write acknowledged anywhere before the call. Rejects with
   * `no-leader`, `overloaded`, `shutting-down` or `deadline-exceeded`; nothing has happened then.
   */
  barrier(options: WaitOptions): Promise<void>

  /** Resolves once this node has applied `revision`. Rejects with `deadline-exceeded`. */
  waitForRevision(revision: number, options: WaitOptions): Promise<void>

  /**
   * What happens to keys from now on, or from an earlier position on: every event after the start, in order, once. Reflects,
   * as `state` does, every write acknowledged before a `barrier` that came before. Throws `unauthenticated`, `access-denied`,
   * `no-such-store`, `invalid-request` for a position that is still to come, `overloaded`, `not-ready` or `shutting-down`.
   * `signal` ends it without an event.
   */
  watch(query: WatchQuery, options: { readonly signal?: AbortSignal | undefined }): WatchStream

  cluster(): ClusterStatus

  /**
   * Hands leadership to the member of this id, from whichever node. Rejects with `invalid-request` for one that is
   * no voter, `no-leader` and `deadline-exceeded`.
   */
  transferLeadership(to: string, options: WaitOptions): Promise<void>

  /**
   * Makes a node a learner of the cluster, from whichever node; it is promoted once it has caught up. With `replaces` the member
   * of that id goes in the same change. Resolves when the change is committed. Rejects with `invalid-request`, `member-exists`,
   * `not-found`, `quorum-at-risk`, `change-in-progress` or `no-leader`, and nothing has changed then; or with `outcome-unknown`.
   */
  addMember(
    newcomer: Newcomer,
    options: ChangeOptions & { readonly replaces?: string | undefined },
  ): Promise<void>

  /** Removes the member of this id, the leader too. Resolves and rejects as `addMember`. */
  removeMember(id: string, options: ChangeOptions): Promise<void>

  /** As of now; taking it costs little. */
  metrics(): NodeMetrics
  /**
   * The state as of everything applied here at the first read, as a backup: stores, keys, tokens, the revision. Throws when the
   * node has no state, or loses it meanwhile.
   */
  backup(): AsyncGenerator<Uint8Array, void>

  /**
   * Brings a backup into a cluster without keys; nothing of it shows until all of it does. Rejects with `condition-failed`,
   * `change-in-progress`, `invalid-request`, `no-leader` or `storage-full`, and nothing has changed then; or with
   * `outcome-unknown`.
   */
  restore(chunks: AsyncIterable<Uint8Array>, options: RestoreOptions): Promise<Restored>

  /** Why this node is not ready to serve; empty when it is. */
  unreadiness(): readonly string[]

  /** Why this node should be restarted; empty while event loop and disk answer. */
  illness(): readonly string[]
}
