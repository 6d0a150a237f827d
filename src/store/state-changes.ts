// The one place where every change of a record passes: its row, its expiry, its store's counts, and what watchers see.

import type { ChangeFeed } from './change-feed.ts'
import { rowName } from './overlay.ts'
import { encodeRecord, type StoredRecord } from './record.ts'
import type { RowHash } from './row-hash.ts'
import type { Ledger } from './state-digest.ts'
import { type ExpiryRow, encodeExpiry, keyOfRecord, keySizeOfRecord } from './state-rows.ts'
import { isOpen, type OpenStore, type StoreTable } from './state-stores.ts'

/** What stands under a key after a `set`. */
export type ChangedRecord = {
  readonly contentType: string
  /** Milliseconds since the epoch; undefined when it does not expire. */
  readonly expires: number | undefined
  /** Undefined where it was not asked for. */
  readonly value: Uint8Array | undefined
}

/** One key changed. */
export type Change = {
  readonly revision: number
  /** Counted from 1 within the revision. */
  readonly n: number
  readonly type: 'set' | 'delete' | 'expire'
  /** The internal number of the store. */
  readonly store: number
  /** As it lies in the store. Never changed, and no part of a larger buffer that would be kept alive with it. */
  readonly key: Uint8Array
  /** Of a `set`. */
  readonly record?: ChangedRecord | undefined
}

/** A change that knows whether more of its revision follow. */
export type ChangeEvent = Change & {
  /** The last change of its revision. */
  readonly last: boolean
}

/** A place in the order of all changes: after the n-th of a revision, or after all of it where `n` is undefined. */
export type Position = { readonly revision: number; readonly n?: number | undefined }

/** Whether a change comes after a position. */
export function isAfter(change: Change, { revision, n }: Position): boolean {
  if (change.revision !== revision) return change.revision > revision
  return n !== undefined && change.n > n
}

/** Whoever is told what is applied, in its order, while it is applied: neither may throw, nor take long. */
export type Follower = {
  /** All changes of one command. Their values are views of rows that never change. */
  readonly changed: (events: readonly ChangeEvent[]) => void
  /** Tokens or stores are not what they were; changes told before were made under the earlier ones. */
  readonly authorityChanged: () => void
}

/** A row's key, and its name in maps. */
export type RowPlace = { readonly key: Buffer; readonly name: string }

/** A record as it stands before a command. */
export type Standing = Omit<StoredRecord, 'value'> & {
  /** Undefined where nobody reads it. */
  readonly value: Uint8Array | undefined
  /** Of the value, in bytes. */
  readonly size: number
  /** The row, or what it has in the digest. */
  readonly row: Uint8Array | RowHash
}

/** What a command makes of one record: `after` takes the place of `before`. */
export type Alteration = {
  readonly store: OpenStore
  readonly place: RowPlace
  readonly before: Standing | undefined
  readonly after: StoredRecord | undefined
}

export class RecordChanges {
  readonly #ledger: Ledger
  readonly #stores: StoreTable
  readonly #feed: ChangeFeed

  constructor(options: {
    readonly ledger: Ledger
    readonly stores: StoreTable
    readonly feed: ChangeFeed
  }) {
    this.#ledger = options.ledger
    this.#stores = options.stores
    this.#feed = options.feed
  }

  /** Carries out what one command makes of records, each named once. A record that is renewed is no change to watchers. */
  carryOut(
    alterations: readonly Alteration[],
    {
      revision,
      time,
      gone = 'delete',
      rows,
    }: {
      readonly revision: number
      /** The stamp of the entry. */
      readonly time: number
      /** Why records go that go. */
      readonly gone?: 'delete' | 'expire' | undefined
      /** Rows that are kept up to date for later commands. */
      readonly rows: Map<string, Uint8Array | undefined>
    },
  ): void {
    for (const alteration of alterations) {
      const value = this.#write(alteration)
      if (rows.has(alteration.place.name)) rows.set(alteration.place.name, value)
      this.#tell(alteration, value, gone)
    }
    this.#feed.done(revision, time)
  }

  /** A record that is renewed is no event, and what becomes of a dropped store's concerns nobody. */
  #tell(
    { store, place, before, after }: Alteration,
    row: Buffer | undefined,
    gone: 'delete' | 'expire',
  ): void {
    if (!isOpen(store) || after?.revision === before?.revision) return
    if (before?.row instanceof Uint8Array) {
      this.#feed.replaced(before, place.key, before.row)
    }
    const key = keyOfRecord(place.key)
    if (after === undefined || row === undefined)
      this.#feed.add({ type: gone, store: store.number, key, created: false })
    else {
      // Of the row, which stays as it is: the command's own bytes belong to the entry.
      const value = row.subarray(row.length - after.value.length)
      const { contentType, expires } = after
      const record = { contentType, expires, value }
      const created = after.createdRevision === after.revision
      this.#feed.add({ type: 'set', store: store.number, key, created, record })
    }
  }

  /** Returns the record's row as it is now. */
  #write({ store, place, before, after }: Alteration): Buffer | undefined {
    const { key, name } = place
    const value = after === undefined ? undefined : encodeRecord(key, after)
    this.#ledger.replace(name, { key, value }, before?.row)
    this.#moveExpiry(expiryOf(store, key, before), expiryOf(store, key, after))
    const keySize = keySizeOfRecord(key)
    this.#stores.count(store, {
      keys: (after === undefined ? 0 : 1) - (before === undefined ? 0 : 1),
      bytes:
        (after === undefined ? 0 : keySize + after.value.length) -
        (before === undefined ? 0 : keySize + before.size),
    })
    return value
  }

  #moveExpiry(before: ExpiryRow | undefined, after: ExpiryRow | undefined): void {
    if (before?.expires === after?.expires && before?.revision === after?.revision) return
    const old = before === undefined ? undefined : encodeExpiry(before)
    const fresh = after === undefined ? undefined : encodeExpiry(after)
    if (old !== undefined && before?.expires !== after?.expires) {
      this.#ledger.replace(rowName(old.key), { key: old.key, value: undefined }, old.value)
    }
    if (fresh === undefined) return
    const stood = before?.expires === after?.expires ? old?.value : undefined
    this.#ledger.replace(rowName(fresh.key), fresh, stood)
  }
}

function expiryOf(
  store: OpenStore,
  rowKey: Buffer,
  record: { readonly expires: number | undefined; readonly revision: number } | undefined,
): ExpiryRow | undefined {
  if (record?.expires === undefined) return undefined
  return { expires: record.expires, store: store.number, key: keyOfRecord(rowKey), revision: record.revision }
}
