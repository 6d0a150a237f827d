// The one place where every change of a record passes: its row, its expiry, its store's counts, and what watchers see.

import type { Row } from './overlay.ts'
import { rowName } from './overlay.ts'
import { encodeRecord, type StoredRecord } from './record.ts'
import type { Ledger, RowHash } from './state-digest.ts'
import { type ExpiryRow, encodeExpiry, keyOfRecord } from './state-rows.ts'
import type { OpenStore, StoreTable } from './state-stores.ts'

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

/** A change of one record, as a watcher sees it. */
export type Change = {
  readonly revision: number
  /** Counted from 1 within the revision. */
  readonly n: number
  readonly type: 'set' | 'delete' | 'expire'
  /** The store's internal number. */
  readonly store: number
  /** As it lies in the store: an app's key has its holder before it (`places.ts`). */
  readonly key: Uint8Array
  /** What stands there from now on, for `set`. */
  readonly record?: StoredRecord
}

/**
 * Is told of all changes of one revision, in their order, while their entry is applied. Their bytes are to be copied.
 * `write` takes rows of the node's own into the batch that will hold the entry.
 */
export type OnChanges = (changes: readonly Change[], write: (row: Row) => void) => void

export class RecordChanges {
  readonly #ledger: Ledger
  readonly #stores: StoreTable
  readonly #onChanges: OnChanges | undefined
  readonly #writeLocal: (row: Row) => void

  constructor(options: {
    readonly ledger: Ledger
    readonly stores: StoreTable
    readonly onChanges: OnChanges | undefined
    readonly writeLocal: (row: Row) => void
  }) {
    this.#ledger = options.ledger
    this.#stores = options.stores
    this.#onChanges = options.onChanges
    this.#writeLocal = options.writeLocal
  }

  /** Carries out what one command makes of records, each named once. A record that is renewed is no change to watchers. */
  carryOut(
    alterations: readonly Alteration[],
    {
      revision,
      gone = 'delete',
      rows,
    }: {
      readonly revision: number
      /** Why records go that go. */
      readonly gone?: 'delete' | 'expire' | undefined
      /** Rows that are kept up to date for later commands. */
      readonly rows: Map<string, Uint8Array | undefined>
    },
  ): void {
    for (const alteration of alterations) {
      const value = this.#write(alteration)
      if (rows.has(alteration.place.name)) rows.set(alteration.place.name, value)
    }
    if (this.#onChanges === undefined) return
    const changes: Change[] = []
    for (const { store, place, before, after } of alterations) {
      if (store.dropped === true || after?.revision === before?.revision) continue
      const n = changes.length + 1
      const change = { revision, n, store: store.number, key: keyOfRecord(place.key) }
      if (after === undefined) changes.push({ ...change, type: gone })
      else changes.push({ ...change, type: 'set', record: after })
    }
    if (changes.length > 0) this.#onChanges(changes, this.#writeLocal)
  }

  /** Returns the record's row as it is now. */
  #write({ store, place, before, after }: Alteration): Buffer | undefined {
    const { key, name } = place
    const value = after === undefined ? undefined : encodeRecord(key, after)
    this.#ledger.replace(name, { key, value }, before?.row)
    this.#moveExpiry(expiryOf(store, key, before), expiryOf(store, key, after))
    const keySize = keyOfRecord(key).length
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
