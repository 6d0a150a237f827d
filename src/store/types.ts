// The vocabulary of the store: what a cluster is founded with, who may open what, commands, their outcomes, and records.

import type { ErrorCode } from '../errors.ts'
import type { Configuration } from '../raft/types.ts'
import type { Place } from './places.ts'

/** How long a record lasts from the stamp of its entry on, in milliseconds; the store's default where it is absent. */
export type Ttl = number | 'none'

/** A moment of the clock, in milliseconds since the epoch: for records that lasted until then where they come from. */
export type Until = { readonly until: number }

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
  | {
      readonly type: 'component'
      readonly grants: readonly Grant[]
      /** It may mint tokens within its own grants and lifetime, and revoke those. */
      readonly mint?: true
    }
  /** A Mattermost app on behalf of a user, or as its bot: it opens one store, `self`, which holds that holder's keys. */
  | { readonly type: 'app'; readonly app: string; readonly holder: Holder }

/** Whose keys an app's token opens. */
export type Holder = { readonly type: 'user' | 'bot'; readonly id: string }

/** A token as the replicated state keeps it: never the secret. */
export type Token = {
  /** Unique, shown to people, in logs. Secrets that a rotation has replaced share it until they expire. */
  readonly name: string
  /** SHA-256 of the secret, base64url without padding. */
  readonly hash: string
  readonly principal: Principal
  /** Milliseconds since the epoch. It stands until a command takes it away, some time after that. */
  readonly expires?: number
  /** The name of the component's token that minted it, and with which it goes. */
  readonly mintedBy?: string
  /** A rotation has replaced this secret. */
  readonly replaced?: true
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

/** What is done to one key. */
type KeyTarget = {
  readonly store: string
  /** 1 to 4,096 bytes of UTF-8. */
  readonly key: Uint8Array
}

type SetFields = KeyTarget & {
  readonly value: Uint8Array
  readonly contentType: string
  readonly ttl?: Ttl | Until
}

type IncrementFields = KeyTarget & {
  /** A signed 64-bit number. */
  readonly delta: bigint
  /** Holds only where the key is created. */
  readonly ttl?: Ttl
}

type TouchFields = KeyTarget & { readonly ttl: Ttl }

/** Every command of a client: `token` is the hash of the token it came with, judged again in apply. */
type ByToken = { readonly token: string; readonly once?: Once }

type Conditional = ByToken & { readonly conditions: readonly Condition[] }

/** A write of one key. */
export type KeyCommand =
  | ({ readonly type: 'set' } & SetFields & Conditional)
  | ({ readonly type: 'delete' } & KeyTarget & Conditional)
  | ({ readonly type: 'increment' } & IncrementFields & Conditional)
  | ({ readonly type: 'touch' } & TouchFields & Conditional)

/** What must hold for a transaction to take `then`; it takes `else` where any of them does not. */
export type TransactionCondition =
  /** `revision` 0: the key is absent. */
  | ({ readonly type: 'revision'; readonly revision: number } & KeyTarget)
  | ({ readonly type: 'exists'; readonly exists: boolean } & KeyTarget)
  /** By bytes; the type of the content does not matter. */
  | ({ readonly type: 'value'; readonly value: Uint8Array } & KeyTarget)

/** One step of a transaction. Each sees those before it. */
export type Operation =
  | ({ readonly type: 'get' | 'head' | 'exists' } & KeyTarget)
  | ({ readonly type: 'set' } & SetFields)
  | ({ readonly type: 'delete' } & KeyTarget)
  | ({ readonly type: 'increment' } & IncrementFields)
  | ({ readonly type: 'touch' } & TouchFields)
  | { readonly type: 'deletePrefix'; readonly store: string; readonly prefix: Uint8Array }

/** What an administrator does to stores, tokens and apps; a component that may mint does some of it too. */
export type AdminCommand = ByToken &
  (
    | { readonly type: 'createStore'; readonly definition: StoreDefinition }
    | { readonly type: 'dropStore'; readonly name: string }
    | { readonly type: 'mintToken'; readonly minted: Minted }
    | { readonly type: 'revokeToken'; readonly name: string }
    /** `hash` is that of the new secret; the one before stands for `overlap` milliseconds. */
    | {
        readonly type: 'rotateToken'
        readonly name: string
        readonly hash: string
        readonly overlap: number
      }
    | { readonly type: 'removeApp'; readonly app: string }
  )

export type Minted = {
  /** 1 to 63 printable characters, the first and the last no space. */
  readonly name: string
  readonly hash: string
  readonly principal: Principal
  /** In milliseconds, from the stamp of the entry on. Without one: as long as the token that mints it. */
  readonly ttl?: number
}

/** Writes that their client may send again. */
export type RepeatableCommand =
  | KeyCommand
  /** All keys that begin with these bytes, at most 100,000; an empty prefix means the whole store. */
  | (ByToken & { readonly type: 'deleteRange'; readonly store: string; readonly prefix: Uint8Array })
  | (ByToken & {
      readonly type: 'transaction'
      readonly if: readonly TransactionCondition[]
      readonly then: readonly Operation[]
      readonly else: readonly Operation[]
    })
  | AdminCommand

/** A record that is due, as it was when that was found: it may have been written or renewed since. */
export type DueRecord = { readonly store: number; readonly key: Uint8Array; readonly revision: number }

/** What the leader's own node proposes, without a token. */
export type OwnCommand =
  /** At most 1,000 records and tokens in all, earliest first. `tokens` are hashes. */
  | { readonly type: 'expire'; readonly records: readonly DueRecord[]; readonly tokens: readonly string[] }
  /** Takes away up to 1,000 records of a dropped store. */
  | { readonly type: 'collect'; readonly store: number }

/** One step of a restore. Nothing of it shows until `link`. */
export type RestoreStep =
  /** Only into a cluster without keys; `header` is the backup's. Ends with `drop`, or when nothing is heard of it for long. */
  | { readonly type: 'begin'; readonly header: Uint8Array }
  /** Rows of the backup, in its order and form. Counted from 1: what came before is not taken again. */
  | { readonly type: 'rows'; readonly number: number; readonly rows: Uint8Array }
  /** Shows all of it at once if its rows are so many and come to this digest; drops it otherwise. */
  | { readonly type: 'link'; readonly rows: number; readonly digest: string }
  | { readonly type: 'drop' }

/** Brings a backup in. `restore` is 128 random bits in base64url, drawn by the node that took the request. */
export type RestoreCommand = {
  readonly type: 'restore'
  readonly token: string
  readonly restore: string
  readonly step: RestoreStep
}

/** What is to be done to the replicated state. */
export type Command =
  | RepeatableCommand
  | RestoreCommand
  /** `session` is 128 random bits in base64url, drawn by the node that took the request: apply draws nothing. */
  | { readonly type: 'openSession'; readonly token: string; readonly session: string }
  | OwnCommand

/** What has hit its bound, or which part of a request is at fault, where a refusal of apply has more than one meaning. */
type RefusedField = (typeof refusedFields)[number]

export const refusedFields = [
  'sessions of a principal',
  'open writes of a session',
  'open writes of a principal',
  'bytes of outcomes of a session',
  'bytes of outcomes of a principal',
  'idempotency keys of a principal',
  'trivet-session',
  'stores',
  'apps',
  'tokens',
] as const

/** What one operation of a transaction came to. */
export type OperationResult =
  | { readonly type: 'get'; readonly item: Item | undefined }
  | { readonly type: 'head'; readonly item: ItemHead | undefined }
  | { readonly type: 'exists'; readonly exists: boolean }
  | { readonly type: 'set'; readonly revision: number; readonly created: boolean; readonly changed: boolean }
  | { readonly type: 'deleted'; readonly deleted: boolean }
  | { readonly type: 'incremented'; readonly value: bigint }
  | { readonly type: 'touched'; readonly expires?: number }
  | { readonly type: 'rangeDeleted'; readonly deleted: number }
  /** A get or head of a transaction that was decided before: items are not remembered. `revision` is 0 without one. */
  | { readonly type: 'recalled'; readonly found: boolean; readonly revision: number }

/** What a command came to. Remembered until its origin acknowledges it, so that a repeat answers the same. */
export type Outcome = (
  | { readonly type: 'set'; readonly revision: number; readonly created: boolean; readonly changed: boolean }
  | { readonly type: 'deleted'; readonly revision: number; readonly deleted: boolean }
  | { readonly type: 'sessionOpened' }
  | { readonly type: 'incremented'; readonly revision: number; readonly value: bigint }
  /** `expires` is absent where it lasts for ever from now on. */
  | { readonly type: 'touched'; readonly expires?: number }
  | { readonly type: 'rangeDeleted'; readonly revision: number; readonly deleted: number }
  /** `succeeded`: it took `then`. `revision` is that of its writes; of the state, where it has none. */
  | {
      readonly type: 'transaction'
      readonly revision: number
      readonly succeeded: boolean
      readonly results: readonly OperationResult[]
    }
  | { readonly type: 'storeCreated' | 'storeDropped' | 'tokenMinted' | 'tokenRevoked' | 'appRemoved' }
  /** `expires`: until when the secret before stands; absent where it is gone. */
  | { readonly type: 'tokenRotated'; readonly expires?: number }
  /** All of a backup shows from now on; `revision` is that of the state then. */
  | { readonly type: 'restored'; readonly revision: number }
  /** The node's own command, or a step of a restore, was carried out, as far as there was something to do. */
  | { readonly type: 'done' }
  /** Nothing changed. `revision` is the key's own for `condition-failed`, 0 when it is absent. */
  | {
      readonly type: 'refused'
      readonly code: ErrorCode
      readonly revision?: number
      readonly limit?: number
      readonly field?: RefusedField
      /** Which operation of a transaction, in the branch that was taken. */
      readonly index?: number
    }
) & {
  /** It was decided before, when the same write came for the first time; what gets returned is left out. */
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

/** Whether an outcome is of the type that a caller expects. */
export function isOutcome<Type extends Outcome['type']>(
  outcome: Outcome,
  type: Type,
): outcome is Extract<Outcome, { type: Type }> {
  return outcome.type === type
}

/** The result of applying one command. */
export type Applied = { readonly id: CommandId; readonly index: number; readonly outcome: Outcome }

/** A key's record as readers see it. */
export type Item = {
  readonly key: Uint8Array
  readonly value: Uint8Array
  /** 1 to 255 characters of printable ASCII. */
  readonly contentType: string
  /** The revision that last wrote it. */
  readonly revision: number
  /** The revision that created it. */
  readonly createdRevision: number
  /** Milliseconds since the epoch; undefined when it does not expire. */
  readonly expires: number | undefined
}

/** An item without its value. */
export type ItemHead = Omit<Item, 'value'> & {
  /** Of the value, in bytes. */
  readonly size: number
}

/** What a listing asks for. All bounds are by bytes. */
export type ListQuery = {
  readonly store: Place
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

/** A Mattermost app that has tokens, and the keys of all its users. */
export type AppStatus = { readonly id: string; readonly keys: number; readonly bytes: number }

/** What is over by a given time: the leader's node proposes it as `expire`. */
export type Due = { readonly records: readonly DueRecord[]; readonly tokens: readonly string[] }

/** Reads that all see the state as it was at one revision. To be closed: it pins what it can read. */
export type ConsistentRead = {
  readonly revision: number
  /** Throws `no-such-store` for a store that did not exist when the read was opened. */
  list(query: ListQuery, options?: { signal?: AbortSignal | undefined }): Promise<ListPage>
  close(): Promise<void>
}

/**
 * What may be read of the replicated state on this node, as far as it has been applied here. A store is given by its
 * name, or by what `placeOf` makes of a principal and a name. A node throws `not-ready` while it has no state that is known
 * to be whole.
 */
export interface StateReader {
  /** The revision of the last write applied here. */
  readonly revision: number
  readonly lastApplied: number
  readonly clusterId: string
  /** The token with this hash (base64url SHA-256). */
  token(hash: string): Token | undefined
  /** By name; after a token come the secrets before it that still stand. */
  tokens(): readonly Token[]
  store(store: Place): StoreStatus | undefined
  /** By internal number. Those of apps are not among them. */
  stores(): readonly StoreStatus[]
  /** By id. */
  apps(): readonly AppStatus[]
  /** Undefined when the key, or the store, is missing. */
  get(store: Place, key: Uint8Array): Promise<Item | undefined>
  /**
   * Gets one key after the other and tells `found` of each, in order, before it gets the next: what was found is in memory one at a
   * time. Short rows that LevelDB has at hand are read without leaving the event loop.
   */
  getEach(
    store: Place,
    keys: readonly Uint8Array[],
    found: (item: Item | undefined, at: number) => void,
  ): Promise<void>
  /** Throws `no-such-store`. */
  list(query: ListQuery, options?: { signal?: AbortSignal | undefined }): Promise<ListPage>
  openRead(): Promise<ConsistentRead>
  /** At most `limit` records and tokens that expire at `now` or before, in milliseconds since the epoch, earliest first. */
  due(now: number, limit: number): Promise<Due>
  /** The numbers of dropped stores whose records are still to be collected. */
  dropped(): readonly number[]
}
