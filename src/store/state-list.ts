// One page of a store's keys, read from one LevelDB snapshot.

import type { AbstractSnapshot } from 'abstract-level'
import { decodeRecord } from './record.ts'
import { keyOfRecord, recordKey, recordsWith } from './state-rows.ts'
import type { StateLevel } from './state-writer.ts'
import type { Item, ListQuery } from './types.ts'

/** How much one read of the iterator may take of memory at a time, in bytes, besides the item that passes it. */
const readAheadBytes = 256 * 1024
/** LevelDB hands over at most this many rows at once. */
const readAheadRows = 1000

/** The keys of a store that begin with `prefix`, which readers do not see. */
export type Part = { readonly store: number; readonly prefix: Uint8Array }

/** Throws `StateDamagedError` for a record that is not what was written, and the reason of `signal` between reads. */
export async function readPage(
  level: StateLevel,
  from: Part & { readonly snapshot: AbstractSnapshot },
  query: ListQuery,
  signal: AbortSignal | undefined,
): Promise<{ readonly items: readonly Item[]; readonly more: boolean }> {
  const iterator = level.iterator({
    ...rowRange(from, query),
    ...readAhead(query),
    reverse: query.reverse === true,
    snapshot: from.snapshot,
  })
  const items: Item[] = []
  let bytes = 0
  try {
    for (;;) {
      signal?.throwIfAborted()
      // One more than asked for tells whether more follow.
      const rows = await iterator.nextv(Math.min(query.limit + 1 - items.length, readAheadRows))
      if (rows.length === 0) return { items, more: false }
      for (const [rowKey, row] of rows) {
        if (items.length >= query.limit || bytes > query.maxBytes) return { items, more: true }
        const item = itemOf(from, rowKey, row)
        items.push(item)
        bytes += item.key.length + item.value.length
      }
    }
  } finally {
    await iterator.close()
  }
}

// LevelDB's own option, unknown to abstract-level: a variable carries it past the check for excess properties.
function readAhead(query: ListQuery): { readonly highWaterMarkBytes: number } {
  return { highWaterMarkBytes: Math.min(readAheadBytes, query.maxBytes) }
}

/** A record as readers see it; key and value are views into the row. */
export function itemOf({ prefix }: Pick<Part, 'prefix'>, rowKey: Uint8Array, row: Uint8Array): Item {
  return { key: keyOfRecord(rowKey).subarray(prefix.length), ...decodeRecord(rowKey, row) }
}

/** The narrowest range that all of the query's bounds allow. */
function rowRange({ store, prefix: within }: Part, { prefix, start, end, after, reverse }: ListQuery) {
  const row = (key: Uint8Array) => recordKey(store, Buffer.concat([within, key]))
  const all = recordsWith(store, Buffer.concat([within, prefix ?? new Uint8Array()]))
  const lower = [all.gte, ...(start === undefined ? [] : [row(start)])]
  const upper = [all.lt, ...(end === undefined ? [] : [row(end)])]
  if (after !== undefined && reverse === true) upper.push(row(after))
  // The least key above another is that key and a zero byte.
  if (after !== undefined && reverse !== true) lower.push(Buffer.concat([row(after), Buffer.of(0)]))
  return {
    gte: lower.reduce((left, right) => (Buffer.compare(left, right) < 0 ? right : left)),
    lt: upper.reduce((left, right) => (Buffer.compare(left, right) < 0 ? left : right)),
  }
}

/** The promise, unless the signal comes first; its reason then. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const abort = () => reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', abort))
}
