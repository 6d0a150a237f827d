// The rows of the history in LevelDB: events in chunks, records that stand no more, blocks, and the header.

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

const rowFormat = 2
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

/** `rowKey`: where the record lay. Its own checksum covers that key, so it is kept as it was. */
export function replacedKey(revision: number, rowKey: Uint8Array): Buffer {
  const key = revisionKey(historyTables.replaced, revision, rowKey.length)
  key.set(rowKey, 8)
  return key
}

// A chunk's key is the revision and the number of its last event; the row: seal | event...
// event: type u8, with a bit for the last of its revision and one for a value that is kept here | revision u48 | n u32 |
// store u32 | key length u16 | key; a set also: expires u48, 0 for never | value size u32 | content type length u8 |
// content type | the value, if it is kept here.
const types = ['set', 'delete', 'expire'] as const
const lastBit = 0x80
const valueBit = 0x40
const eventSize = 1 + 6 + 4 + 4 + 2
const recordSize = 6 + 4 + 1
const chunkKeySize = 2 + 6 + 4

/** A chunk takes no more events once it has so many bytes. */
const chunkBytes = 64 * 1024

/** An event as it is kept: with its value or without. */
export type KeptEvent = Omit<ChangeEvent, 'record'> & {
  /** `size`: of the value, in bytes. */
  readonly record: (ChangedRecord & { readonly size: number }) | undefined
}

/** Events that follow each other, as one row: what a row costs LevelDB is far more than what an event does. */
export class EventChunk {
  /** What a chunk takes besides its events, in bytes. */
  static readonly overhead: number = chunkKeySize + sealSize
  #row = Buffer.allocUnsafe(chunkBytes / 32)
  #size = sealSize
  #last = { revision: 0, n: 0 }

  get isFull(): boolean {
    return this.#size >= chunkBytes
  }

  /** Returns how many bytes the event takes. */
  add(event: ChangeEvent, withValue: boolean): number {
    const { revision, n, type, key, record } = event
    const value = record?.value
    const kept = withValue ? value : undefined
    const typeSize = record?.contentType.length ?? 0
    const tail = record === undefined ? 0 : recordSize + typeSize + (kept?.length ?? 0)
    const size = eventSize + key.length + tail
    this.#makeRoom(size)
    const row = this.#row
    let at = this.#size
    row[at] = types.indexOf(type) | (event.last ? lastBit : 0) | (kept === undefined ? 0 : valueBit)
    at = row.writeUIntBE(revision, at + 1, 6)
    at = row.writeUInt32BE(n, at)
    at = row.writeUInt32BE(event.store, at)
    at = row.writeUInt16BE(key.length, at)
    row.set(key, at)
    at += key.length
    if (record !== undefined) {
      at = row.writeUIntBE(record.expires ?? 0, at, 6)
      at = row.writeUInt32BE(value?.length ?? 0, at)
      row[at] = typeSize
      at += 1 + row.write(record.contentType, at + 1, 'latin1')
      if (kept !== undefined) row.set(kept, at)
    }
    this.#size += size
    this.#last = { revision, n }
    return size
  }

  /** The row, once the last event is in it. */
  seal(): Row {
    const key = revisionKey(historyTables.events, this.#last.revision, 4)
    key.writeUInt32BE(this.#last.n, 8)
    return { key, value: seal(key, rowFormat, this.#row.subarray(0, this.#size)) }
  }

  #makeRoom(bytes: number): void {
    if (this.#size + bytes <= this.#row.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * this.#row.length, this.#size + bytes))
    larger.set(this.#row.subarray(0, this.#size))
    this.#row = larger
  }
}

/** The events of a chunk, in their order; their keys and values are views into the row. */
export function decodeChunk(rowKey: Uint8Array, value: Uint8Array): readonly KeptEvent[] {
  const row = unseal(rowKey, rowFormat, value)
  const events: KeptEvent[] = []
  for (let at = sealSize; at < row.length; ) {
    const flags = row[at] ?? 0
    const type = types[flags & ~(lastBit | valueBit)]
    assert(type !== undefined, 'An event in a sealed chunk has a type')
    const keyAt = at + eventSize
    const keyEnd = keyAt + row.readUInt16BE(keyAt - 2)
    const common = {
      revision: row.readUIntBE(at + 1, 6),
      n: row.readUInt32BE(at + 7),
      type,
      last: (flags & lastBit) !== 0,
      store: row.readUInt32BE(at + 11),
      key: row.subarray(keyAt, keyEnd),
    }
    at = keyEnd
    let record: KeptEvent['record']
    if (type === 'set') {
      const expires = row.readUIntBE(at, 6)
      const size = row.readUInt32BE(at + 6)
      const typeAt = at + recordSize
      const valueAt = typeAt + (row[typeAt - 1] ?? 0)
      at = valueAt + ((flags & valueBit) === 0 ? 0 : size)
      record = {
        contentType: row.toString('latin1', typeAt, valueAt),
        expires: expires === 0 ? undefined : expires,
        value: (flags & valueBit) === 0 ? undefined : row.subarray(valueAt, at),
        size,
      }
    }
    events.push({ ...common, record })
  }
  return events
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
