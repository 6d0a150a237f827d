// The vocabulary of the consensus core: members, entries, messages between cores, and duties for the shell.

/** Who a replica is to the core: the libp2p peer id of its node. A node that lost its disk comes back with another one. */
export type MemberId = string

/** One member of the cluster. The core looks only at `peer` and `voter`; the rest travels with the configuration. */
export type Member = {
  /** The identity: a peer id, never reused. */
  readonly peer: MemberId
  /** The name people use, as in `cluster.yml`: `n1`. */
  readonly id: string
  /** Where clients reach it: `http://127.0.0.1:7001`. */
  readonly http: string
  /** Where peers reach it, a multiaddr: `/ip4/127.0.0.1/tcp/7101`. */
  readonly p2p: string
  /** False for a learner: it receives entries but is counted in no quorum. */
  readonly voter: boolean
  /**
   * What this member says counts only from this boot of it on. Raised by the change that demotes a member which lost its
   * log: what an earlier boot promised is forgotten with it (`safety.md`, rule 7). 0 at first; never lowered.
   */
  readonly since: number
  /** The highest command version its program understands (`safety.md`, rule 21). */
  readonly commandVersion: number
}

/** Who belongs to the cluster. It holds from the moment its entry is appended, committed or not (thesis 4.1). */
export type Configuration = { readonly members: readonly Member[] }

export type Position = { readonly index: number; readonly term: number }

/** A log entry. `commands` is opaque to the core: the state machine decodes it (see `store/commands.ts`). */
export type Entry =
  | { readonly type: 'noop'; readonly index: number; readonly term: number }
  | { readonly type: 'commands'; readonly index: number; readonly term: number; readonly data: Uint8Array }
  | {
      readonly type: 'configuration'
      readonly index: number
      readonly term: number
      readonly configuration: Configuration
    }

/** What must survive a crash besides the log (figure 2, "persistent state"). */
export type HardState = {
  /** Latest term this replica has seen; only grows. 0 means that it has never taken part (founding is not finished). */
  readonly term: number
  /** Whom it voted for in that term. */
  readonly votedFor: MemberId | undefined
}

export type Role = 'follower' | 'preCandidate' | 'candidate' | 'leader'

/**
 * Messages between cores. `from` and `to` are filled by the sender and verified by the transport against the
 * peer id that the connection proved.
 */
export type Message = { readonly from: MemberId; readonly to: MemberId; readonly term: number } & MessageBody

export type MessageBody =
  /** Asks whether an election could be won; binds nobody. `term` is the term the sender would campaign in. (thesis 9.6) */
  | { readonly type: 'preVote'; readonly lastIndex: number; readonly lastTerm: number }
  /** Asks for a vote in `term`. `transfer` says that the leader itself asked for this election, so stickiness passes. */
  | {
      readonly type: 'requestVote'
      readonly lastIndex: number
      readonly lastTerm: number
      readonly transfer: boolean
    }
  /**
   * Answers either. `askedTerm` is the term the question named, so that a late answer is never counted in another
   * election; `term` is the answerer's own.
   */
  | {
      readonly type: 'vote'
      readonly preVote: boolean
      readonly askedTerm: number
      readonly granted: boolean
    }
  /**
   * Entries after (`prevIndex`, `prevTerm`). Empty ones carry a commit index or probe for the matching prefix. `since` is
   * the receiver's in the configuration that the leader goes by (see `Member`): one that is being rebuilt answers only
   * when that says that nothing of an earlier boot is counted any more.
   */
  | {
      readonly type: 'append'
      readonly since: number
      readonly prevIndex: number
      readonly prevTerm: number
      readonly commitIndex: number
      readonly entries: readonly Entry[]
    }
  /** The receiver's log equals the leader's up to `matchIndex`, durably. */
  | { readonly type: 'appended'; readonly matchIndex: number }
  /**
   * The receiver has no entry (`prevIndex`, `prevTerm`). The hint is its last position at or below `prevIndex` whose term
   * is at or below `prevTerm`: nothing above it can match, so one round trip skips a whole term.
   */
  | {
      readonly type: 'appendRejected'
      readonly prevIndex: number
      readonly hintIndex: number
      readonly hintTerm: number
    }
  /** Everything up to `commitIndex`, which the receiver has acknowledged in this term, is committed. Not answered. */
  | { readonly type: 'commit'; readonly commitIndex: number }
  /** Sent every heartbeat interval and whenever a read waits. `round` only grows within a term. `since` as in `append`. */
  | {
      readonly type: 'heartbeat'
      readonly since: number
      readonly round: number
      readonly commitIndex: number
    }
  /**
   * The sender still follows the leader of `term`, and did so after `round` was sent. Round 0, which no leader sends,
   * answers any message of an earlier term: it tells that the term is over, and nothing else.
   */
  | { readonly type: 'heartbeatAnswer'; readonly round: number }
  /**
   * The sender's log begins after what the receiver has: everything up to `index` can only be had as a snapshot. Answered
   * with `appended` once the receiver's state covers it, or at once when its log does. Repeated with the heartbeats.
   */
  | { readonly type: 'snapshotNeeded'; readonly since: number; readonly index: number }
  /** A member asks for a commit index that is current (thesis 6.4). `id` is the asker's own, never used twice, by no boot. */
  | { readonly type: 'readIndex'; readonly id: number }
  /** `index` is safe to read at once applied; undefined when the receiver cannot tell (not the leader): ask again. */
  | { readonly type: 'readIndexAnswer'; readonly id: number; readonly index: number | undefined }
  /** The leader hands over: campaign at once. (thesis 3.10) */
  | { readonly type: 'timeoutNow' }

/** The state that a snapshot brings: everything up to a committed position, and the configuration that holds there. */
export type Snapshot = Position & { readonly configuration: Configuration }

/**
 * What the core wants done. `send`, `reads` and `snapshot` are done by being handed out. `save`, `apply` and `install` are
 * handed back to `advance()` once finished, a `fetch` to `fetched()`, and until then no second one of its type is handed out
 * (a `fetch` for followers and one for the own state machine may both be under way).
 */
export type Duty =
  /** Messages that may leave at once. */
  | { readonly type: 'send'; readonly messages: readonly Message[] }
  /**
   * Make hard state and entries durable, in one write. Entries may start below the log's end: they replace what
   * stood there. Promises that rest on the write are inside the core and leave after `advance()`.
   */
  | { readonly type: 'save'; readonly hardState: HardState | undefined; readonly entries: readonly Entry[] }
  /** Apply these entries: committed, and durable in this replica's own log (`safety.md`, rule 5). */
  | { readonly type: 'apply'; readonly entries: readonly Entry[] }
  /** A snapshot that reaches at least to `index` is needed here. The shell gets one and offers it to `install()`. */
  | { readonly type: 'snapshot'; readonly index: number }
  /**
   * Make the snapshot the one that log and state begin with, durably; then hand this back. No save and no apply is under way
   * meanwhile. The log goes on after `base` with the entries it has there if `keeps`, else it is empty.
   */
  | { readonly type: 'install'; readonly base: Snapshot; readonly keeps: boolean }
  /** Read entries `from`..`to` (inclusive, both) from disk, about `maxBytes` of them, at least one; hand back with `entries`. */
  | { readonly type: 'fetch'; readonly from: number; readonly to: number; readonly maxBytes: number }
  /** Answers to `readIndex`: readable once applied up to `index`; undefined when it must be asked again. */
  | {
      readonly type: 'reads'
      readonly reads: readonly { readonly id: number; readonly index: number | undefined }[]
    }
