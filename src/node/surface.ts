// What the surfaces (REST, the embedded store, the command line) may ask of a node.

import type { Role } from '../raft/types.ts'
import type { Digest } from '../store/state-rows.ts'
import type { Command, Outcome, StateReader } from '../store/types.ts'

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

  /**
   * Has a command decided, exactly once, whichever node leads. Resolves when it is applied on this node.
   * Rejects with `no-leader`, `overloaded`, `storage-full`, `shutting-down` when it entered no log, and with
   * `outcome-unknown` when it may have.
   */
  execute(command: Command, options: WaitOptions): Promise<Executed>

  /**
   * Resolves once reads of `state` reflect every write acknowledged anywhere before the call. Rejects with
   * `no-leader`, `overloaded`, `shutting-down` or `deadline-exceeded`; nothing has happened then.
   */
  barrier(options: WaitOptions): Promise<void>

  /** Resolves once this node has applied `revision`. Rejects with `deadline-exceeded`. */
  waitForRevision(revision: number, options: WaitOptions): Promise<void>

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
