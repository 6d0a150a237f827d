// The bytes of the log: how an entry is written, on disk and on the wire alike, and how batches of them stand in a segment.
//
// Integers of a batch header are little-endian; those inside a body are varints (7 bits a byte, lowest first).
//
//   entry           u8 type   1 noop, 2 commands, 3 configuration
//                   varint index, varint term
//                   for 2 and 3: varint length, then the commands' bytes or the configuration as JSON
//   hard state      u8 16, varint term, varint length, the member voted for in UTF-8 (empty: no vote)
//
//   batch, at a multiple of 512 bytes:
//    0  u32  magic
//    4  u32  CRC-32 of bytes 8 to 48, begun with the segment's salt
//    8  u32  CRC-32 of the body with its padding, begun with the salt
//   12  u32  length of the body
//   16  u32  mask
//   20  u32  number of the segment this batch was written to
//   24  u32  offset it was written to
//   28  u32  segment, and
//   32  u32  offset up to which everything was known durable when it was written
//   36  u32  entries in the body
//   40  f64  index of the first entry, 0 without entries
//   48       body: at most one hard state, then entries with consecutive indexes; zeros up to a multiple of 512
//
// Two things keep bytes inside a value from passing for a batch. A header names its own place, so that a copy of a
// segment stored as a value is none; and in the body, the first word of each 512 bytes is XORed with the mask, which
// is chosen so that none of them is the magic. The second holds against any bytes at all.

import assert from 'node:assert/strict'
import { crc32 } from 'node:zlib'
import type { Configuration, Entry, HardState } from '../raft/types.ts'

/** Batches start at multiples of this, the unit a disk writes whole or not at all. */
export const sectorBytes = 512

export const batchHeaderBytes = 48

/** Not text, not zeros, and no small number. */
const magic = 0xd3747276

/** A place in the log. Places only grow, unlike indexes. */
export type Place = { readonly segment: number; readonly offset: number }

/** The bytes are no entry that this version writes. */
export class MalformedEntryError extends Error {
  override readonly name = 'MalformedEntryError'
}

const tags = { noop: 1, commands: 2, configuration: 3, hardState: 16 } as const

/** How many bytes `writeEntry` takes for it. */
export function encodedSize(entry: Entry): number {
  const head = 1 + varintSize(entry.index) + varintSize(entry.term)
  switch (entry.type) {
    case 'noop':
      return head
    case 'commands':
      return head + varintSize(entry.data.length) + entry.data.length
    case 'configuration': {
      const length = Buffer.byteLength(JSON.stringify(entry.configuration))
      return head + varintSize(length) + length
    }
    default:
      return entry satisfies never
  }
}

/** Writes the entry at `offset`, where `encodedSize` bytes must be free, and returns the offset after it. */
export function writeEntry(buffer: Uint8Array, offset: number, entry: Entry): number {
  buffer[offset] = tags[entry.type]
  const body = writeVarint(buffer, writeVarint(buffer, offset + 1, entry.index), entry.term)
  switch (entry.type) {
    case 'noop':
      return body
    case 'commands':
      return writeBytes(buffer, body, entry.data)
    case 'configuration':
      return writeBytes(buffer, body, Buffer.from(JSON.stringify(entry.configuration)))
    default:
      return entry satisfies never
  }
}

/**
 * Reads the entry at `offset`; `end` is the offset after it. The data of commands is a view of `buffer`, not a copy.
 * Throws `MalformedEntryError` for anything `writeEntry` would not have written.
 */
export function readEntry(
  buffer: Uint8Array,
  offset: number,
): { readonly entry: Entry; readonly end: number } {
  const index = readVarint(buffer, offset + 1)
  const term = readVarint(buffer, index.end)
  const position = { index: index.value, term: term.value }
  switch (buffer[offset]) {
    case tags.noop:
      return { entry: { type: 'noop', ...position }, end: term.end }
    case tags.commands: {
      const { bytes, end } = readBytes(buffer, term.end)
      return { entry: { type: 'commands', index: position.index, term: position.term, data: bytes }, end }
    }
    case tags.configuration: {
      const { bytes, end } = readBytes(buffer, term.end)
      return { entry: { type: 'configuration', ...position, configuration: readConfiguration(bytes) }, end }
    }
    default:
      throw new MalformedEntryError(`an entry has the unknown type ${buffer[offset]}`)
  }
}

function readConfiguration(bytes: Uint8Array): Configuration {
  try {
    const configuration: unknown = JSON.parse(Buffer.from(bytes).toString())
    if (isConfiguration(configuration)) return configuration
  } catch (cause) {
    throw new MalformedEntryError('a configuration is no JSON', { cause })
  }
  throw new MalformedEntryError('a configuration has no such members')
}

function isConfiguration(value: unknown): value is Configuration {
  return isRecord(value) && Array.isArray(value['members']) && value['members'].every(isMember)
}

function isMember(value: unknown): boolean {
  const texts = ['peer', 'id', 'http', 'p2p']
  const numbers = ['since', 'commandVersion']
  return (
    isRecord(value) &&
    texts.every((name) => typeof value[name] === 'string') &&
    typeof value['voter'] === 'boolean' &&
    numbers.every((name) => Number.isSafeInteger(value[name]))
  )
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

/** How many bytes `writeHardState` takes for it. */
export function hardStateSize(hardState: HardState): number {
  const length = Buffer.byteLength(hardState.votedFor ?? '')
  return 1 + varintSize(hardState.term) + varintSize(length) + length
}

/** Writes the hard state at `offset` and returns the offset after it. */
export function writeHardState(buffer: Uint8Array, offset: number, hardState: HardState): number {
  buffer[offset] = tags.hardState
  return writeBytes(
    buffer,
    writeVarint(buffer, offset + 1, hardState.term),
    Buffer.from(hardState.votedFor ?? ''),
  )
}

/** What a batch holds. */
export type BatchBody = { readonly hardState: HardState | undefined; readonly entries: readonly Entry[] }

/** Decodes a body that `openBatch` returned. Data are views of it. Throws `MalformedEntryError`. */
export function readBody(body: Uint8Array): BatchBody {
  let hardState: HardState | undefined
  const entries: Entry[] = []
  let offset = 0
  while (offset < body.length) {
    if (body[offset] === tags.hardState && offset === 0) {
      const term = readVarint(body, 1)
      const { bytes, end } = readBytes(body, term.end)
      hardState = {
        term: term.value,
        votedFor: bytes.length === 0 ? undefined : Buffer.from(bytes).toString(),
      }
      offset = end
    } else {
      const { entry, end } = readEntry(body, offset)
      entries.push(entry)
      offset = end
    }
  }
  return { hardState, entries }
}

/** What a header says of its batch. */
export type BatchHeader = {
  /** Of the body, without padding. */
  readonly bodyBytes: number
  readonly mask: number
  /** Everything up to here was known durable when the batch was written. */
  readonly durable: Place
  readonly firstIndex: number
  readonly count: number
}

/** Rounded up to whole sectors. */
export function wholeSectors(bytes: number): number {
  return Math.ceil(bytes / sectorBytes) * sectorBytes
}

/** What a batch takes on disk. */
export function batchBytes(bodyBytes: number): number {
  return wholeSectors(batchHeaderBytes + bodyBytes)
}

/** Where a batch should stand, and the salt of that segment. */
export type Seat = Place & { readonly salt: number }

/**
 * Makes a batch of the body that stands at `start + batchHeaderBytes` in `buffer`: pads it with zeros, chooses the
 * mask, and writes the header. The buffer must have room for whole sectors.
 */
export function sealBatch(
  buffer: Buffer,
  start: number,
  seat: Seat,
  header: Omit<BatchHeader, 'mask'>,
): void {
  assert(seat.offset % sectorBytes === 0 && seat.offset + buffer.length < 2 ** 32, 'a batch has a place')
  const end = start + batchBytes(header.bodyBytes)
  buffer.fill(0, start + batchHeaderBytes + header.bodyBytes, end)
  const mask = chooseMask(buffer, start, end)
  applyMask(buffer, start, end, mask)
  buffer.writeUInt32LE(magic, start)
  buffer.writeUInt32LE(crc32(buffer.subarray(start + batchHeaderBytes, end), seat.salt), start + 8)
  buffer.writeUInt32LE(header.bodyBytes, start + 12)
  buffer.writeUInt32LE(mask, start + 16)
  buffer.writeUInt32LE(seat.segment, start + 20)
  buffer.writeUInt32LE(seat.offset, start + 24)
  buffer.writeUInt32LE(header.durable.segment, start + 28)
  buffer.writeUInt32LE(header.durable.offset, start + 32)
  buffer.writeUInt32LE(header.count, start + 36)
  buffer.writeDoubleLE(header.firstIndex, start + 40)
  buffer.writeUInt32LE(crc32(buffer.subarray(start + 8, start + batchHeaderBytes), seat.salt), start + 4)
}

/** The header at `start`, when the sector there is one written for this seat; of its body nothing is known yet. */
export function readBatchHeader(buffer: Buffer, start: number, seat: Seat): BatchHeader | undefined {
  if (!isHeaderSound(buffer, start, seat) || buffer.readUInt32LE(start + 24) !== seat.offset) return undefined
  return {
    bodyBytes: buffer.readUInt32LE(start + 12),
    mask: buffer.readUInt32LE(start + 16),
    durable: readDurable(buffer, start),
    count: buffer.readUInt32LE(start + 36),
    firstIndex: buffer.readDoubleLE(start + 40),
  }
}

/**
 * What was durable when the header at `start` was written, wherever in its segment that was to stand: a disk that put a
 * batch in another's place has not made it a liar.
 */
export function readClaim(buffer: Buffer, start: number, segment: Omit<Seat, 'offset'>): Place | undefined {
  return isHeaderSound(buffer, start, segment) ? readDurable(buffer, start) : undefined
}

function isHeaderSound(buffer: Buffer, start: number, { segment, salt }: Omit<Seat, 'offset'>): boolean {
  if (start + sectorBytes > buffer.length || buffer.readUInt32LE(start) !== magic) return false
  const crc = crc32(buffer.subarray(start + 8, start + batchHeaderBytes), salt)
  return buffer.readUInt32LE(start + 4) === crc && buffer.readUInt32LE(start + 20) === segment
}

function readDurable(buffer: Buffer, start: number): Place {
  return { segment: buffer.readUInt32LE(start + 28), offset: buffer.readUInt32LE(start + 32) }
}

/** Whether the body that belongs to `header` is whole and unharmed in `buffer`. Changes nothing. */
export function isBodySound(buffer: Buffer, start: number, seat: Seat, header: BatchHeader): boolean {
  const end = start + batchBytes(header.bodyBytes)
  if (end > buffer.length) return false
  return buffer.readUInt32LE(start + 8) === crc32(buffer.subarray(start + batchHeaderBytes, end), seat.salt)
}

/** Takes the mask off a sound body, in place, and returns the body: once only for the same bytes. */
export function openBatch(buffer: Buffer, start: number, header: BatchHeader): Uint8Array {
  applyMask(buffer, start, start + batchBytes(header.bodyBytes), header.mask)
  const body = start + batchHeaderBytes
  return buffer.subarray(body, body + header.bodyBytes)
}

/** 0 unless a sector of the body happens to begin with the magic; then a number that makes it begin otherwise. */
function chooseMask(buffer: Buffer, start: number, end: number): number {
  let collides = false
  for (let at = start + sectorBytes; at < end; at += sectorBytes) {
    if (buffer.readUInt32LE(at) === magic) collides = true
  }
  if (!collides) return 0
  const refused = new Set<number>()
  for (let at = start + sectorBytes; at < end; at += sectorBytes) {
    refused.add((buffer.readUInt32LE(at) ^ magic) >>> 0)
  }
  let mask = 1
  while (refused.has(mask)) mask += 1
  return mask
}

function applyMask(buffer: Buffer, start: number, end: number, mask: number): void {
  if (mask === 0) return
  for (let at = start + sectorBytes; at < end; at += sectorBytes) {
    buffer.writeUInt32LE((buffer.readUInt32LE(at) ^ mask) >>> 0, at)
  }
}

function varintSize(value: number): number {
  let size = 1
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size += 1
  return size
}

function writeVarint(buffer: Uint8Array, offset: number, value: number): number {
  assert(Number.isSafeInteger(value) && value >= 0, 'a varint is a natural number')
  let at = offset
  let rest = value
  // Above 31 bits the bit operators of JavaScript lose the top.
  while (rest >= 2 ** 31) {
    buffer[at++] = (rest % 128) | 128
    rest = Math.floor(rest / 128)
  }
  while (rest >= 128) {
    buffer[at++] = (rest & 127) | 128
    rest >>>= 7
  }
  buffer[at] = rest
  return at + 1
}

function readVarint(buffer: Uint8Array, offset: number): { readonly value: number; readonly end: number } {
  let value = 0
  let scale = 1
  for (let at = offset; at < buffer.length && at < offset + 8; at++) {
    const byte = buffer[at] ?? 0
    value += (byte & 127) * scale
    scale *= 128
    if (byte < 128) {
      if (!Number.isSafeInteger(value)) break
      return { value, end: at + 1 }
    }
  }
  throw new MalformedEntryError('a number is cut short or too large')
}

function writeBytes(buffer: Uint8Array, offset: number, bytes: Uint8Array): number {
  const start = writeVarint(buffer, offset, bytes.length)
  buffer.set(bytes, start)
  return start + bytes.length
}

function readBytes(buffer: Uint8Array, offset: number): { readonly bytes: Uint8Array; readonly end: number } {
  const { value: length, end: start } = readVarint(buffer, offset)
  if (start + length > buffer.length) throw new MalformedEntryError('an entry is cut short')
  return { bytes: buffer.subarray(start, start + length), end: start + length }
}
