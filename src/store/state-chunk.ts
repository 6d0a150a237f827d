// A chunk of a state on its way to another member: rows, or a piece of one, with the place they have in the whole.

import assert from 'node:assert/strict'
import { crc32 } from 'node:zlib'
import { asBuffer } from './record.ts'

/** Bytes that say how far a snapshot was read; they mean something to its owner only. */
export type Cursor = Uint8Array

export type Chunk = {
  readonly bytes: Uint8Array
  /** CRC-32 of the bytes. */
  readonly crc: number
}

/** The receiver has not taken anything of a chunk: it was damaged on its way, or is not the one that comes next. */
export class ChunkRefusedError extends Error {
  override readonly name = 'ChunkRefusedError'
}

/** Part of a row, or the whole of it. */
export type Piece = {
  readonly key: Uint8Array
  /** Of the whole value, in bytes. */
  readonly size: number
  /** Where in the value the piece begins. */
  readonly offset: number
  readonly bytes: Uint8Array
}

/** How far a state was read: up to `sent` bytes of this row's value, or past the row where `sent` is undefined. */
export type Place = { readonly key: Uint8Array; readonly sent: number | undefined }

/** `after` is undefined in the first chunk, `next` in the last. */
export type ChunkContent = {
  /** The index of the snapshot. */
  readonly index: number
  readonly after: Cursor | undefined
  readonly next: Cursor | undefined
  readonly pieces: readonly Piece[]
}

// cursor: sent u32, 0 for a whole row | key
const cursorSize = 4

export function encodeCursor({ key, sent }: Place): Cursor {
  const cursor = Buffer.allocUnsafe(cursorSize + key.length)
  cursor.writeUInt32BE(sent ?? 0, 0)
  cursor.set(key, cursorSize)
  return cursor
}

export function decodeCursor(cursor: Cursor): Place {
  if (cursor.length <= cursorSize) throw new ChunkRefusedError('The place to go on from is not one.')
  const sent = asBuffer(cursor).readUInt32BE(0)
  return { key: cursor.subarray(cursorSize), sent: sent === 0 ? undefined : sent }
}

/** Two keys or two cursors; both may be none. */
export function isSame(left: Uint8Array | undefined, right: Uint8Array | undefined): boolean {
  if (left === undefined || right === undefined) return left === right
  return Buffer.compare(left, right) === 0
}

// chunk: format u8 | index u48 | after length u16, after | next length u16, next | pieces
// piece: key length u16 | size u32 | offset u32 | length u32 | key | bytes
const chunkFormat = 1
const chunkSize = 1 + 6 + 2 + 2
const pieceSize = 2 + 4 + 4 + 4

/** What a chunk that goes on after this cursor has used up before its first piece, in bytes. */
export function openingSize(after: Cursor | undefined): number {
  return chunkSize + (after?.length ?? 0)
}

/** What a piece adds to a chunk besides its bytes; the last one's key comes once more, in the cursor. */
export function sizeOfPiece(key: Uint8Array): { readonly own: number; readonly asLast: number } {
  return { own: pieceSize + key.length, asLast: cursorSize + key.length }
}

export function encodeChunk({ index, after, next, pieces }: ChunkContent): Chunk {
  let size = openingSize(after) + (next?.length ?? 0)
  for (const piece of pieces) size += pieceSize + piece.key.length + piece.bytes.length
  const bytes = Buffer.allocUnsafe(size)
  bytes[0] = chunkFormat
  let at = bytes.writeUIntBE(index, 1, 6)
  for (const cursor of [after, next]) {
    at = bytes.writeUInt16BE(cursor?.length ?? 0, at)
    if (cursor !== undefined) bytes.set(cursor, at)
    at += cursor?.length ?? 0
  }
  for (const piece of pieces) {
    at = bytes.writeUInt16BE(piece.key.length, at)
    at = bytes.writeUInt32BE(piece.size, at)
    at = bytes.writeUInt32BE(piece.offset, at)
    at = bytes.writeUInt32BE(piece.bytes.length, at)
    bytes.set(piece.key, at)
    at += piece.key.length
    bytes.set(piece.bytes, at)
    at += piece.bytes.length
  }
  assert(at === size, 'A chunk is as large as was reckoned')
  return { bytes, crc: crc32(bytes) }
}

/**
 * Where the chunk that follows begins, as this one says, of which nothing is checked: whoever asks for that one ahead learns in time
 * whether it does follow. Undefined for the last one, and for bytes that are no chunk.
 */
export function peekNext({ bytes }: Chunk): Cursor | undefined {
  const buffer = asBuffer(bytes)
  if (buffer.length < chunkSize) return undefined
  const at = 9 + buffer.readUInt16BE(7)
  if (buffer.length < at + 2) return undefined
  const next = buffer.subarray(at + 2, at + 2 + buffer.readUInt16BE(at))
  return next.length === 0 ? undefined : next
}

/** Views into the chunk. Throws `ChunkRefusedError` for bytes that are not as they were sent, or are no chunk. */
export function decodeChunk({ bytes, crc }: Chunk): ChunkContent {
  if (crc32(bytes) !== crc) throw new ChunkRefusedError('A chunk of the snapshot was damaged on its way.')
  const buffer = asBuffer(bytes)
  let at = 0
  // Where so many bytes begin, which are there.
  const take = (length: number): number => {
    at += length
    if (at > buffer.length) throw new ChunkRefusedError('A chunk of the snapshot is cut short.')
    return at - length
  }
  const view = (length: number): Buffer => {
    const from = take(length)
    return buffer.subarray(from, from + length)
  }
  const format = buffer[take(1)]
  if (format !== chunkFormat) {
    throw new ChunkRefusedError(
      `A chunk of the snapshot has format ${format}, and this build reads format ${chunkFormat}.`,
    )
  }
  const index = buffer.readUIntBE(take(6), 6)
  const after = view(buffer.readUInt16BE(take(2)))
  const next = view(buffer.readUInt16BE(take(2)))
  const pieces: Piece[] = []
  while (at < buffer.length) {
    const head = take(pieceSize)
    const key = view(buffer.readUInt16BE(head))
    const size = buffer.readUInt32BE(head + 2)
    const offset = buffer.readUInt32BE(head + 6)
    pieces.push({ key, size, offset, bytes: view(buffer.readUInt32BE(head + 10)) })
  }
  return {
    index,
    after: after.length === 0 ? undefined : after,
    next: next.length === 0 ? undefined : next,
    pieces,
  }
}
