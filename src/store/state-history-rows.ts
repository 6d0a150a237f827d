// The rows of the history in LevelDB: events, the records that they wrote and that stand no more, blocks, and the header.

import assert from 'node:assert/strict'
import type { Row } from './overlay.ts'
import { asBuffer, seal, sealSize, unseal } from './record.ts'
import type { ChangedRecord, ChangeEvent } from './state-changes.ts'
import { historyTables } from './state-rows.ts'

/** Consecutive revisions, dropped together. What was moved into the history counts in the block of its time. */
export type Block = {
  /** Its last revision. */
  readonly last: number
  /** The stamp of its last event. */
  readonly time: number
  readonly bytes: number
}

/** What a batch says of the history: all events after `since` and up to `through` are there. */
export type Header = {
  readonly since: number
  readonly through: number
  /** The block that takes events: the stamp of its first, undefined while it has none, and what it has. */
  readonly openedAt: number | undefined
  readonly bytes: number
}

const rowFormat = 1
const headerSize = sealSize + 4 * 6
const blockSize = sealSize + 2 * 6

export const headerKey = Buffer.from(historyTables.header)

function revisionKey(table: readonly [number, number], revision: number, tail = 0): Buffer {
  const key = Buffer.allocUnsafe(8 + tail)
  key[0] = table[0]
  key[1] = table[1]
  key.writeUIntBE(revision, 2, 6)
  return key
}

function eventKey(revision: number, n: number): Buffer {
  const key = revisionKey(historyTables.events, revision, 4)
  key.writeUInt32BE(n, 8)
  return key
}

/** `rowKey`: where the record lay. Its own checksum covers that key, so it is kept as it was. */
export function replacedKey(revision: number, rowKey: Uint8Array): Buffer {
  const key = revisionKey(historyTables.replaced, revision, rowKey.length)
  key.set(rowKey, 8)
  return key
}

// event: seal | type u8, with a bit for the last of its revision | store u32 | expires u48, 0 for never | value size u32 |
// content type length u8, content type | key. A delete or expiry has the key right behind the store.
const types = ['set', 'delete', 'expire'] as const
const lastBit = 0x80
const eventSize = sealSize + 1 + 4
const setSize = eventSize + 6 + 4 + 1

/** An event as it is kept: without its value. */
export type KeptEvent = Omit<ChangeEvent, 'record'> & {
  /** `size`: of the value, in bytes. */
  readonly record: (ChangedRecord & { readonly size: number }) | undefined
}

export function encodeEvent({
  revision,
  n,
  type,
  last,
  store,
  key,
  record,
}: ChangeEvent): Row & { value: Buffer } {
  const row =
    record === undefined
      ? Buffer.allocUnsafe(eventSize + key.length)
      : Buffer.allocUnsafe(setSize + record.contentType.length + key.length)
  row[sealSize] = types.indexOf(type) | (last ? lastBit : 0)
  row.writeUInt32BE(store, sealSize + 1)
  if (record !== undefined) {
    row.writeUIntBE(record.expires ?? 0, eventSize, 6)
    row.writeUInt32BE(record.value?.length ?? 0, eventSize + 6)
    row[eventSize + 10] = record.contentType.length
    row.write(record.contentType, setSize, 'latin1')
  }
  row.set(key, row.length - key.length)
  const place = eventKey(revision, n)
  return { key: place, value: seal(place, rowFormat, row) }
}

/** Which store an event is of, before anything else is looked at. */
function storeOf(row: Uint8Array): number {
  return row.length < eventSize ? 0 : asBuffer(row).readUInt32BE(sealSize + 1)
}

export function decodeEvent(rowKey: Uint8Array, value: Uint8Array): KeptEvent {
  const row = unseal(rowKey, rowFormat, value)
  const flags = row[sealSize] ?? 0
  const type = types[flags & ~lastBit]
  assert(type !== undefined, 'A sealed event has a type')
  const place = asBuffer(rowKey)
  const expires = type === 'set' ? row.readUIntBE(eventSize, 6) : 0
  const keyAt = type === 'set' ? setSize + (row[eventSize + 10] ?? 0) : eventSize
  return {
    revision: place.readUIntBE(2, 6),
    n: place.readUInt32BE(8),
    type,
    last: (flags & lastBit) !== 0,
    store: storeOf(row),
    key: row.subarray(keyAt),
    record:
      type === 'set'
        ? {
            contentType: row.toString('latin1', setSize, keyAt),
            expires: expires === 0 ? undefined : expires,
            value: undefined,
            size: row.readUInt32BE(eventSize + 6),
          }
        : undefined,
  }
}

/** The rows of one of the tables, from the first to the last of these revisions. */
export function rangeOf(table: readonly [number, number], first: number, last: number) {
  return { gte: revisionKey(table, first), lt: revisionKey(table, last + 1) }
}

export function encodeHeader({ since, through, openedAt, bytes }: Header): Row {
  const row = Buffer.allocUnsafe(headerSize)
  let at = row.writeUIntBE(since, sealSize, 6)
  at = row.writeUIntBE(through, at, 6)
  at = row.writeUIntBE(openedAt ?? 0, at, 6)
  row.writeUIntBE(bytes, at, 6)
  return { key: headerKey, value: seal(headerKey, rowFormat, row) }
}

export function decodeHeader(value: Uint8Array): Header {
  const row = unseal(headerKey, rowFormat, value)
  const field = (at: number): number => row.readUIntBE(sealSize + 6 * at, 6)
  return {
    since: field(0),
    through: field(1),
    openedAt: field(2) === 0 ? undefined : field(2),
    bytes: field(3),
  }
}

export function encodeBlock({ last, time, bytes }: Block): Row {
  const key = revisionKey(historyTables.blocks, last)
  const row = Buffer.allocUnsafe(blockSize)
  row.writeUIntBE(time, sealSize, 6)
  row.writeUIntBE(bytes, sealSize + 6, 6)
  return { key, value: seal(key, rowFormat, row) }
}

export function decodeBlock(key: Uint8Array, value: Uint8Array): Block {
  const row = unseal(key, rowFormat, value)
  return {
    last: asBuffer(key).readUIntBE(2, 6),
    time: row.readUIntBE(sealSize, 6),
    bytes: row.readUIntBE(sealSize + 6, 6),
  }
}
