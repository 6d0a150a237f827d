// What travels over HTTP: header names and JSON shapes, shared by server and SDK. Types and constants only; runs in a browser.

import type { ErrorCode } from '../errors.ts'

/** Our own headers, in the spelling people read. HTTP compares them in any case. */
export const headers = {
  /** On every answer: the node that gave it. */
  node: 'Trivet-Node',
  /** On every answer of a node that follows or is a leader: that one's id. A write sent there takes the shortest way. */
  leader: 'Trivet-Leader',
  /** On every answer: an id of the request, also in that node's log. */
  request: 'Trivet-Request',
  /** On every answer: the revision of the state it was made at, to be passed on as `minRevision`. */
  revision: 'Trivet-Revision',
  /** On every error: its code. */
  error: 'Trivet-Error',
  /** `true` on an answer from this node's own state, asked for with `consistency=stale`. */
  stale: 'Trivet-Stale',
  /** `true` when the node is about to stop: the next request should go to another. */
  draining: 'Trivet-Draining',
  /** When the key expires, ISO 8601; absent when it does not. */
  expires: 'Trivet-Expires',
  /** On a request: how long the node may take, a duration from 10ms to 60s. */
  timeout: 'Trivet-Timeout',
  /** On a write: `<id>; seq=<n>; acked=<m>`, its number in a session and up to which number outcomes may be forgotten. */
  session: 'Trivet-Session',
  /** On a write: a name of the client's own for it, 1 to 128 visible ASCII characters. */
  idempotencyKey: 'Idempotency-Key',
  /** `true` on an answer to a write that was decided before, when it came for the first time. */
  replayed: 'Idempotency-Replayed',
} as const

/** The media type of every error's body. */
export const problemType = 'application/problem+json'

/** The type of a value that was stored without one. */
export const defaultContentType = 'application/octet-stream'

/** How many keys a page of a listing may have, and has unless told otherwise. */
export const pageLimits = { keys: 10_000, defaultKeys: 1000 } as const

/** How long a request is worked on: unless told otherwise, and at the least and most. In milliseconds. */
export const timeouts = { default: 5000, least: 10, most: 60_000 } as const

/** The body of every error (RFC 9457). */
export type Problem = {
  /** `urn:trivet:` and the code. */
  readonly type: string
  readonly title: string
  readonly status: number
  /** What went wrong here, in one sentence. */
  readonly detail: string
  readonly code: ErrorCode
  /** Whether the same request may succeed later, unchanged. */
  readonly retryable: boolean
  /** The parameter, header or field that is wrong. */
  readonly field?: string
  /** The limit that was hit, and what was offered, in the limit's unit. */
  readonly limit?: number
  readonly actual?: number
  /** The position of the failing operation in a batch or transaction. */
  readonly index?: number
  /** The key's present revision, with `condition-failed`; 0 when it is absent. */
  readonly revision?: number
  /** Why a node is not ready, or ill. */
  readonly reasons?: readonly string[]
}

/** PUT of a key. */
export type Written = {
  readonly revision: number
  readonly created: boolean
  /** False when the same bytes and type stood there. */
  readonly changed: boolean
}

/** DELETE of a key. */
export type Deleted = { readonly revision: number; readonly deleted: boolean }

/** POST of a key's increment. `value` is decimal text: it may lie beyond what JavaScript counts exactly to. */
export type Incremented = { readonly value: string; readonly revision: number }

/** POST of a key's touch. `expires` is ISO 8601, absent when the key lasts from now on. */
export type Touched = { readonly expires?: string }

/** DELETE of a range: how many keys are gone. */
export type RangeDeleted = { readonly revision: number; readonly deleted: number }

export type ListedKey = {
  readonly key: string
  /** The revision that last wrote it. */
  readonly revision: number
  /** Of the value, in bytes. */
  readonly size: number
  readonly contentType: string
  /** ISO 8601. */
  readonly expires?: string
  /** Base64; only where `values=true` asked for it. */
  readonly value?: string
}

/** The last line of a stream of keys (`Accept: application/x-ndjson`): without one it is incomplete. */
export type StreamEnd =
  | { readonly end: true; readonly revision: number; readonly count: number }
  | { readonly error: Problem }

/** One page of a listing, consistent at `revision`. */
export type KeyPage = {
  readonly keys: readonly ListedKey[]
  /** Asks for the next page with the same query; absent on the last one. */
  readonly cursor?: string
  readonly revision: number
}

export type StoreDescription = {
  readonly name: string
  /** Default time to live of its keys, a duration. */
  readonly ttl?: string
  /** The largest value it takes, in bytes. */
  readonly maxValueBytes: number
  /** How many keys it has, and their keys and values in bytes: shown to admins and whole-store grants. */
  readonly keys?: number
  readonly bytes?: number
}

export type StoreList = { readonly stores: readonly StoreDescription[] }

export type GrantDescription = {
  readonly store: string
  readonly access: 'read' | 'read-write'
  readonly prefix?: string
}

type Flat<Shape> = { [Field in keyof Shape]: Shape[Field] }

/** Whom a token speaks for. */
export type PrincipalDescription = {
  readonly type: 'admin' | 'monitor' | 'component' | 'app'
  /** Of a component: it may mint tokens within its own grants. */
  readonly mint?: boolean
  /** Of an app: its id, and whose keys it opens as `self`. */
  readonly app?: string
  readonly holder?: { readonly type: 'user' | 'bot'; readonly id: string }
}

export type TokenDescription = {
  readonly name: string
  readonly principal: PrincipalDescription
  readonly grants: readonly GrantDescription[]
  /** ISO 8601; absent when it does not expire. */
  readonly expires?: string
  /** The component's token that minted it. */
  readonly mintedBy?: string
  /** A secret that a rotation has replaced, and that stands until it expires. */
  readonly replaced?: boolean
}

export type TokenList = { readonly tokens: readonly TokenDescription[] }

/** POST of a token, and of its rotation. `secret` is shown this once, and not to a write sent again. */
export type Minted = { readonly name: string; readonly secret?: string }

/** POST of a rotation: `expires` tells until when the secret before stands, ISO 8601. */
export type Rotated = { readonly name: string; readonly secret?: string; readonly expires?: string }

export type AppList = {
  readonly apps: readonly { readonly id: string; readonly keys: number; readonly bytes: number }[]
}

/** Who the token of a request speaks for. An admin has no grants: it may open everything. */
export type Me = {
  readonly principal: Flat<PrincipalDescription & { readonly name: string }>
  readonly grants: readonly GrantDescription[]
  /** ISO 8601; absent when it does not expire. */
  readonly expires?: string
}

export type MemberDescription = {
  readonly id: string
  /** `unknown` when it has not been heard from lately. */
  readonly role: 'follower' | 'preCandidate' | 'candidate' | 'leader' | 'learner' | 'unknown'
  readonly voter: boolean
  readonly http: string
  readonly p2p: string
  readonly peer: string
  readonly version?: string
  readonly term?: number
  readonly commitIndex?: number
  readonly lastApplied?: number
  /** Entries it has still to apply. */
  readonly lag?: number
  /** The digest of its state as of the entry at `index`: equal on all members at the same entry. */
  readonly digest?: { readonly index: number; readonly digest: string }
  readonly healthy: boolean
  readonly alarms: readonly string[]
  /** Whether it is the node that answers. */
  readonly self: boolean
}

export type ClusterDescription = {
  readonly cluster: string
  readonly id: string
  /** Absent while none is known. */
  readonly leader?: string
  readonly term: number
  readonly revision: number
  readonly members: readonly MemberDescription[]
}

/** POST /v1/cluster/members: a node that shall become a member, in the place of `replaces` if that is given. */
export type NewMember = {
  readonly id: string
  readonly http: string
  /** A multiaddr. */
  readonly p2p: string
  /** Its peer id, as `trivet keygen` prints it. */
  readonly peer: string
  readonly replaces?: string
}

/** POST /v1/cluster/leader: whom leadership was handed to. */
export type Handover = { readonly leader: string }

/** GET /livez and /readyz. */
export type Health = { readonly status: 'ok' }

/** The media type of batches and transactions besides JSON: the same shapes, with bytes as bytes and 64-bit integers as such. */
export const msgpackType = 'application/msgpack'

/** The media type of a stream of keys. */
export const ndjsonType = 'application/x-ndjson'

/** Bounds of a batch or transaction: operations (and conditions), the body, and the values of one answer. In bytes, but the first. */
export const operationLimits = {
  operations: 1000,
  bodyBytes: 8 * 1024 * 1024,
  answerBytes: 134_217_728,
} as const

/** The forms in which operations travel: `bytes` is base64 text in JSON, a byte string in MessagePack; `count` a 64-bit number. */
type JsonForm = { readonly bytes: string; readonly count: string }
export type MsgpackForm = { readonly bytes: Uint8Array; readonly count: bigint }
export type Form = JsonForm | MsgpackForm

/** What is set: exactly one of the first three. */
type Content<F extends Form> =
  | { readonly value: F['bytes'] }
  /** Stored as `text/plain; charset=utf-8`. */
  | { readonly text: string }
  /** Stored compact, as `application/json`. */
  | { readonly json: unknown }

/** One operation. `ttl` is a duration, or `none`. */
type OperationRequest<F extends Form> =
  | { readonly op: 'get' | 'head' | 'exists' | 'delete'; readonly store: string; readonly key: string }
  | ({
      readonly op: 'set'
      readonly store: string
      readonly key: string
      readonly contentType?: string
      readonly ttl?: string
      /** The moment at which it expires, ISO 8601 in UTC, in the place of `ttl`: for keys that come from elsewhere. */
      readonly expires?: string
    } & Content<F>)
  | {
      readonly op: 'increment'
      readonly store: string
      readonly key: string
      /** 1 unless given. */
      readonly delta?: number | F['count']
      readonly ttl?: string
    }
  | { readonly op: 'touch'; readonly store: string; readonly key: string; readonly ttl: string }

/** What a write of a batch may say besides. */
type BatchWriteOptions = {
  readonly ifRevision?: number
  readonly ifAbsent?: boolean
  /** Its number in the session that the header `Trivet-Session: <id>; acked=<m>` of the batch names. */
  readonly seq?: number
}

/** POST /v1/batch. */
export type BatchRequest<F extends Form> = {
  readonly operations: readonly (OperationRequest<F> & BatchWriteOptions)[]
}

/** What a get found; a head has no `value`. */
type FoundEntry<F extends Form> = {
  readonly found: true
  readonly revision: number
  readonly value?: F['bytes']
  readonly contentType: string
  /** ISO 8601. */
  readonly expires?: string
}

/** What one operation came to, by its `op`. */
export type OperationAnswer<F extends Form> =
  | FoundEntry<F>
  /** In a transaction that was decided before there is no more than a `revision`: values are not remembered. */
  | { readonly found: boolean; readonly revision?: number }
  | { readonly exists: boolean }
  | Written
  | { readonly revision?: number; readonly deleted: boolean | number }
  | { readonly revision?: number; readonly value: F['count'] }
  | Touched

/**
 * POST /v1/batch: one result for each operation, in order, with the status that it would have alone. A failure is its problem;
 * a get or head that found nothing is one too (`no-such-key`), and has `found: false`. `replayed`: it was decided before.
 */
export type BatchAnswer<F extends Form> = {
  readonly results: readonly ((
    | (OperationAnswer<F> & { readonly replayed?: true })
    | (Problem & { readonly found?: false; readonly replayed?: true })
  ) & { readonly status: number })[]
}

/** What a transaction came to. `results` are those of the branch that was taken. */
export type TransactionAnswer<F extends Form> = {
  readonly succeeded: boolean
  readonly revision: number
  readonly results: readonly OperationAnswer<F>[]
}
