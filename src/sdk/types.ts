// What a store is to its user: the interface that a store over the network and one of an embedded node both are.

import type { Deleted, Written } from '../api/protocol.ts'
import type { Cas } from './cas.ts'
import type { Duration } from './duration.ts'
import type { StandardSchema, TypedOptions, TypedStore } from './typed.ts'

/** What can be stored. A string is stored as UTF-8 with type `text/plain; charset=utf-8`, unless told otherwise. */
export type Value = string | Uint8Array | ArrayBuffer

export type Bytes = Uint8Array<ArrayBuffer>

export type CallOptions = { readonly signal?: AbortSignal | undefined }

export type ReadOptions = CallOptions & {
  /** `linearizable` (the default): every write acknowledged before the call is seen. `stale`: what this node has. */
  readonly consistency?: 'linearizable' | 'stale' | undefined
  /** Wait until the node has applied this revision: a `stale` read then sees at least that. */
  readonly minRevision?: number | undefined
}

export type DeleteOptions = CallOptions & {
  /** Only if the key's revision is this one; otherwise `condition-failed`, with the current revision. */
  readonly ifRevision?: number | undefined
}

/** How long a key lives from the write on. `none`: for ever, whatever the store's default says. */
export type Ttl = Duration | 'none'

export type SetOptions = DeleteOptions & {
  /** The media type to store beside the value. */
  readonly contentType?: string | undefined
  /** Only if the key is missing; otherwise `condition-failed`. Excludes `ifRevision`. */
  readonly ifAbsent?: boolean | undefined
  /** The store's default unless given. */
  readonly ttl?: Ttl | undefined
}

/** `ttl` holds only where the key is created: one that stands keeps its expiry. */
export type IncrementOptions = Pick<SetOptions, 'ifRevision' | 'ifAbsent' | 'ttl' | 'signal'>

export type TouchOptions = DeleteOptions & { readonly ttl: Ttl }

/** Bounds are by the bytes of UTF-8, not by JavaScript's order of strings. */
export type KeysOptions = ReadOptions & {
  readonly prefix?: string | undefined
  /** Inclusive. */
  readonly start?: string | undefined
  /** Exclusive. */
  readonly end?: string | undefined
  /** Last key first. */
  readonly reverse?: boolean | undefined
}

export type Entry = {
  readonly key: string
  readonly value: Bytes
  /** The revision that last wrote the key: what `ifRevision` compares with. */
  readonly revision: number
  readonly contentType: string
  /** Absent when it does not expire. */
  readonly expires?: Date
}

/** One of the entries of `setMany`. */
export type NewEntry = {
  readonly key: string
  readonly value: Value
  readonly contentType?: string | undefined
  readonly ttl?: Ttl | undefined
}

/** Everything, or what begins with a prefix: a whole store is emptied only by who says so. */
export type Range = { readonly prefix: string } | { readonly all: true }

/** `prefix` and `key`: one or several, up to 64 together; everything when neither is given. */
export type WatchOptions = CallOptions & {
  readonly prefix?: string | readonly string[] | undefined
  readonly key?: string | readonly string[] | undefined
  /** Begin after this revision, or after the event of this `id`; with what happens from now on unless given. */
  readonly from?: number | string | undefined
  /** Begin with every present key as a `set`, and a `progress` after the last. Excludes `from`. */
  readonly snapshot?: boolean | undefined
}

export type WatchEvent =
  | (Entry & {
      readonly type: 'set'
      /** Absent on the keys of a snapshot: one cannot resume within it. */
      readonly id?: string
    })
  | {
      readonly type: 'delete' | 'expire'
      readonly key: string
      readonly revision: number
      readonly id: string
    }
  /**
   * The history since the last event is no longer kept. A new snapshot follows: whoever mirrors the store drops what it has, because
   * deletions in between are not told.
   */
  | { readonly type: 'reset' }
  /** Every event up to `revision` has been yielded. */
  | { readonly type: 'progress'; readonly revision: number; readonly id: string }

/**
 * A named keyspace. A missing key is `undefined` or `false`, never an error. Every method rejects with a `TrivetError`
 * when the store refuses or cannot be asked, and with the signal's reason when aborted. A write goes through the client's
 * session and is sent again until its outcome is known, and applied once; only when time or the signal ends that early does
 * it say `outcome-unknown`, because it may still take effect.
 */
export interface Store extends AsyncDisposable {
  readonly name: string
  get(key: string, options?: ReadOptions): Promise<Bytes | undefined>
  /** Rejects with a `TypeError` when the value is not UTF-8. */
  getText(key: string, options?: ReadOptions): Promise<string | undefined>
  /** Rejects with a `SyntaxError` when the value is not JSON. `T` is the caller's word for what was stored. */
  getJson<T = unknown>(key: string, options?: ReadOptions): Promise<T | undefined>
  getEntry(key: string, options?: ReadOptions): Promise<Entry | undefined>
  set(key: string, value: Value, options?: SetOptions): Promise<Written>
  /** Stores `JSON.stringify(value)` as `application/json`. Throws a `TypeError` for what JSON has no text for. */
  setJson(key: string, value: unknown, options?: Omit<SetOptions, 'contentType'>): Promise<Written>
  /** Deleting what is missing is no error. */
  delete(key: string, options?: DeleteOptions): Promise<Deleted>
  exists(key: string, options?: ReadOptions): Promise<boolean>
  /** Sets, renews or clears the time to live, and nothing else. Undefined when the key is missing. */
  touch(key: string, options: TouchOptions): Promise<{ readonly expires?: Date } | undefined>
  /**
   * Adds to a signed 64-bit number kept as decimal text; a missing key counts as 0. Rejects with `not-a-number` or
   * `overflow`. Resolves with the sum.
   */
  increment(key: string, delta?: number | bigint, options?: IncrementOptions): Promise<bigint>
  /** The keys in the order of their bytes, all from one revision. Rejects half way rather than going on from another. */
  getKeys(options?: KeysOptions): AsyncIterable<string>
  /** The same with the values. */
  entries(options?: KeysOptions): AsyncIterable<Entry>
  /** One value for each key, in order, all from one revision; at most 1,000. */
  getMany(keys: Iterable<string>, options?: CallOptions): Promise<(Bytes | undefined)[]>
  /** All of them or none; at most 1,000. */
  setMany(
    entries: Iterable<NewEntry | readonly [key: string, value: Value]>,
    options?: CallOptions,
  ): Promise<{ readonly revision: number }>
  /** All of them or none; at most 1,000. `deleted` counts those that stood. */
  deleteMany(
    keys: Iterable<string>,
    options?: CallOptions,
  ): Promise<{ readonly revision: number; readonly deleted: number }>
  /** Deletes all keys of a range at once, up to 100,000 of them (`range-too-large`). */
  deleteRange(
    range: Range,
    options?: CallOptions,
  ): Promise<{ readonly revision: number; readonly deleted: number }>
  /** Compare and swap, by revision: a swap fails when the key was written at all since `current`. */
  cas(key: string): Cas
  /**
   * What happens to keys, in order, each change once. Goes on across nodes by itself, until the signal aborts (rejecting with its
   * reason), the loop is left, or the cluster ends it: `unauthenticated` when the token was revoked, `no-such-store` when the store
   * was dropped.
   */
  watch(options?: WatchOptions): AsyncIterable<WatchEvent>
  /** The same store with values of one shape, kept as JSON and checked by a schema (Standard Schema: zod, valibot, arktype and others). */
  typed<Input, Output>(
    schema: StandardSchema<Input, Output>,
    options?: TypedOptions,
  ): TypedStore<Input, Output>
  /** Afterwards every method rejects with `invalid-store`. Calls under way end as they would have; a watch ends. Twice is fine. */
  close(): Promise<void>
}
