// Rows of the state machine as bytes: the seal that shows damage in any row, and the record of a key.

import assert from 'node:assert/strict'
import { crc32 } from 'node:zlib'
import type { Item } from './types.ts'

/**
 * The state machine on this disk is not what was written: a row, or a batch of rows, is damaged or missing. The log
 * and the vote are sound; nothing may be served from this state until it has been replaced (`safety.md`, rule 8).
 */
export class StateDamagedError extends Error {
  override readonly name = 'StateDamagedError'
}

/** Every row begins with its format number (u8) and a CRC-32 (u32) over key, format and the rest. */
export const sealSize = 5

/**
 * Writes format and CRC into the first five bytes of `row`. The key is part of the sum, so that a row found under
 * another key is damage too.
 */
export function seal(key: Uint8Array, format: number, row: Buffer): Buffer {
  row[0] = format
  row.writeUInt32BE(sum(key, row), 1)
  return row
}

/** Throws `StateDamagedError` unless `row` is as it was sealed under this key, in this format. */
export function unseal(key: Uint8Array, format: number, row: Uint8Array): Buffer {
  const buffer = asBuffer(row)
  if (buffer.length < sealSize || buffer.readUInt32BE(1) !== sum(key, buffer)) {
    throw new StateDamagedError(
      `The state on this disk is damaged: the row ${describe(key)} fails its checksum.`,
    )
  }
  if (buffer[0] !== format) {
    throw new Error(
      `The state on this disk has a row of format ${buffer[0]}, and this build reads format ${format}: it was written by another version of Trivet.`,
    )
  }
  return buffer
}

function sum(key: Uint8Array, row: Buffer): number {
  return crc32(row.subarray(sealSize), crc32(key, row[0]))
}

/** The same bytes with Buffer's methods. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}

function describe(key: Uint8Array): string {
  const hex = asBuffer(key.subarray(0, 32)).toString('hex')
  return key.length > 32 ? `${hex}... (${key.length} bytes)` : hex
}

/** What is stored under a key. */
export type StoredRecord = Omit<Item, 'key'>

// seal | revision u48 | created revision u48 | expires u48, 0 for never | content type length u8 | content type | value
const recordFormat = 1
const fixedSize = sealSize + 6 + 6 + 6 + 1

/** A row of its own: it keeps nothing of the value's buffer. `rowKey` is the key in LevelDB. */
export function encodeRecord(rowKey: Uint8Array, record: StoredRecord): Buffer {
  const { value, contentType } = record
  const typeSize = contentType.length
  assert(typeSize <= 255, 'A content type has at most 255 characters')
  const row = Buffer.allocUnsafe(fixedSize + typeSize + value.length)
  row.writeUIntBE(record.revision, 5, 6)
  row.writeUIntBE(record.createdRevision, 11, 6)
  row.writeUIntBE(record.expires ?? 0, 17, 6)
  row[23] = typeSize
  row.write(contentType, fixedSize, 'latin1')
  row.set(value, fixedSize + typeSize)
  return seal(rowKey, recordFormat, row)
}

/** The record in a row; its value is a view into it. Throws `StateDamagedError` when the row is not what was written. */
export function decodeRecord(rowKey: Uint8Array, row: Uint8Array): StoredRecord {
  return readRecord(checkRecord(rowKey, row))
}

/** Throws `StateDamagedError` when the row is not what was written. */
export function checkRecord(rowKey: Uint8Array, row: Uint8Array): Buffer {
  return unseal(rowKey, recordFormat, row)
}

/** The record in a row that was checked, or was never anywhere but in memory. */
export function readRecord(row: Uint8Array): StoredRecord {
  const buffer = asBuffer(row)
  const valueAt = fixedSize + (buffer[23] ?? 0)
  assert(valueAt <= buffer.length, 'A sealed record is whole')
  const expires = buffer.readUIntBE(17, 6)
  return {
    revision: buffer.readUIntBE(5, 6),
    createdRevision: buffer.readUIntBE(11, 6),
    expires: expires === 0 ? undefined : expires,
    contentType: buffer.toString('latin1', fixedSize, valueAt),
    value: buffer.subarray(valueAt),
  }
}
