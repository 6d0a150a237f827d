// The vocabulary of the store: what a cluster is founded with, who may open what, commands, their outcomes, and records.

import type { ErrorCode } from '../errors.ts'
import type { Configuration } from '../raft/types.ts'

/** A named keyspace, as an operator defines it. */
export type StoreDefinition = {
  /** `[a-z][a-z0-9]*([-_][a-z0-9]+)*`, at most 63 characters. */
  readonly name: string
  /** Default time to live of its keys, in milliseconds. */
  readonly ttl?: number
  /** The largest value it takes, in bytes; the cluster's limit when absent. */
  readonly maxValueBytes?: number
}

/** What a component may do in one store. */
export type Grant = {
  readonly store: string
  readonly access: 'read' | 'read-write'
  /** Only keys that begin with these bytes (as UTF-8). */
  readonly prefix?: string
}

export type Principal =
  | { readonly type: 'admin' }
  | { readonly type: 'monitor' }
  | { readonly type: 'component'; readonly grants: readonly Grant[] }

/** A token as the replicated state keeps it: never the secret. */
export type Token = {
  /** Unique, shown to people, in logs. */
  readonly name: string
  /** SHA-256 of the secret, base64url without padding. */
  readonly hash: string
  readonly principal: Principal
}

/** The first record of every log: what the cluster is at index 0. Identical on all members. */
export type Founding = {
  /** Random, 128 bits as 32 hex digits. */
  readonly clusterId: string
  /** The operator's name for it, `cluster` in `cluster.yml`. */
  readonly name: string
  readonly configuration: Configuration
  readonly stores: readonly StoreDefinition[]
  readonly tokens: readonly Token[]
  /** The largest value any store takes, in bytes. */
  readonly valueBytes: number
  /** Milliseconds since the epoch; the first stamp of the log. */
  readonly foundedAt: number
  /** The highest command version every founding member understands (`safety.md`, rule 21). */
  readonly commandVersion: number
}

/** What must hold of the key's present record for a write to happen. All of a command's conditions must. */
export type Condition =
  /** Its revision is one of these; an empty list never holds. */
  | { readonly type: 'revision'; readonly revisions: readonly number[] }
  | { readonly type: 'exists' }
  | { readonly type: 'absent' }

/** How a client names a write that it may send again: within a session, or by a key of its own choice (rule 18). */
export type Once =
  | {
      readonly type: 'session'
      readonly session: string
      /** Counted up by the client, from 1. */
      readonly seq: number
      /** Below `seq`. The client has the answers of all writes up to it: their outcomes may be forgotten. */
      readonly acked: number
    }
  | {
      readonly type: 'key'
      /** 1 to 128 visible ASCII characters. */
      readonly key: string
      /** SHA-256 of what is asked for: the same key with another digest is another request. */
      readonly digest: Uint8Array
    }

/** A write of one key. `token` is the hash of the token it came with, judged again in apply. */
export type KeyCommand =
  | {
      readonly type: 'set'
      readonly token: string
      readonly store: string
      /** 1 to 4,096 bytes of UTF-8. */
      readonly key: Uint8Array
      readonly value: Uint8Array
      readonly contentType: string
      readonly conditions: readonly Condition[]
      readonly once?: Once
    }
  | {
      readonly type: 'delete'
      readonly token: string
      readonly store: string
      readonly key: Uint8Array
      readonly conditions: readonly Condition[]
      readonly once?: Once
    }

/** What a client wants done to the replicated state. */
export type Command =
  | KeyCommand
  /** `session` is 128 random bits in base64url, drawn by the node that took the request: apply draws nothing. */
  | { readonly type: 'openSession'; readonly token: string; readonly session: string }

/** What has hit its bound, or which part of a request is at fault, where a refusal of apply has more than one meaning. */
type RefusedField = (typeof refusedFields)[number]

export const refusedFields = [
  'sessions of a principal',
  'open writes of a session',
  'open writes of a principal',
  'idempotency keys of a principal',
  'trivet-session',
] as const

/** What a command came to. Remembered until its origin acknowledges it, so that a repeat answers the same. */
export type Outcome = (
  | { readonly type: 'set'; readonly revision: number; readonly created: boolean; readonly changed: boolean }
  | { readonly type: 'deleted'; readonly revision: number; readonly deleted: boolean }
  | { readonly type: 'sessionOpened' }
  /** Nothing changed. `revision` is the key's own for `condition-failed`, 0 when it is absent. */
  | {
      readonly type: 'refused'
      readonly code: ErrorCode
      readonly revision?: number
      readonly limit?: number
      readonly field?: RefusedField
    }
) & {
  /** It was decided before, when the client sent the same write for the first time. */
  readonly replayed?: true
}

/**
 * Who sent a command on its way: the node that took the request, its boot, and a number counted up within the boot.
 * A command is applied once per (peer, boot, number), however often it is proposed (`safety.md`, rule 16).
 */
export type CommandId = { readonly peer: string; readonly boot: number; readonly number: number }

/** A command on its way to the log, encoded once by its origin. */
export type NumberedCommand = { readonly number: number; readonly bytes: Uint8Array }

/** Commands of one origin that travel together. Every number up to `acked` is answered: its outcome may be forgotten. */
export type CommandBatch = {
  readonly peer: string
  readonly boot: number
  readonly acked: number
  readonly commands: readonly NumberedCommand[]
}

/** The result of applying one command. */
export type Applied = { readonly id: CommandId; readonly index: number; readonly outcome: Outcome }

/** A key's record as readers see it. */
export type Item = {
  readonly key: Uint8Array
  readonly value: Uint8Array
  readonly contentType: string
  /** The revision that last wrote it. */
  readonly revision: number
  /** The revision that created it. */
  readonly createdRevision: number
  /** Milliseconds since the epoch; undefined when it does not expire. */
  readonly expires: number | undefined
}

/** What a listing asks for. All bounds are by bytes. */
export type ListQuery = {
  readonly store: string
  readonly prefix?: Uint8Array | undefined
  /** Inclusive. */
  readonly start?: Uint8Array | undefined
  /** Exclusive. */
  readonly end?: Uint8Array | undefined
  /** Exclusive: the last key of the page before, in the direction of the listing. */
  readonly after?: Uint8Array | undefined
  readonly reverse?: boolean | undefined
  /** At most this many items. */
  readonly limit: number
  /** Stop after the item that takes the sum of key and value bytes past this. */
  readonly maxBytes: number
}

/** One page, consistent at `revision`. */
export type ListPage = {
  readonly items: readonly Item[]
  readonly revision: number
  /** Whether more keys follow. */
  readonly more: boolean
}

export type StoreStatus = StoreDefinition & {
  /** Its internal number: never reused, so that a store of the same name made later is another one. */
  readonly number: number
  readonly keys: number
  /** Sum of key and value bytes. */
  readonly bytes: number
}

/**
 * What may be read of the replicated state on this node, as far as it has been applied here. A node throws `not-ready` while
 * it has no state that is known to be whole.
 */
export interface StateReader {
  /** The revision of the last write applied here. */
  readonly revision: number
  readonly lastApplied: number
  readonly clusterId: string
  /** The token with this hash (base64url SHA-256). */
  token(hash: string): Token | undefined
  store(name: string): StoreStatus | undefined
  stores(): readonly StoreStatus[]
  /** Undefined when the key, or the store, is missing. */
  get(store: string, key: Uint8Array): Promise<Item | undefined>
  /** Throws `no-such-store`. */
  list(query: ListQuery, options?: { signal?: AbortSignal | undefined }): Promise<ListPage>
}
