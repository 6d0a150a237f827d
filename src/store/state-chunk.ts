// A chunk of a state on its way to another member: rows, or a piece of one, with the place they have in the whole.

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
  const parts: Uint8Array[] = []
  const opening = Buffer.allocUnsafe(9)
  opening[0] = chunkFormat
  opening.writeUIntBE(index, 1, 6)
  opening.writeUInt16BE(after?.length ?? 0, 7)
  const toNext = Buffer.allocUnsafe(2)
  toNext.writeUInt16BE(next?.length ?? 0, 0)
  parts.push(opening, after ?? new Uint8Array(), toNext, next ?? new Uint8Array())
  for (const piece of pieces) {
    const head = Buffer.allocUnsafe(pieceSize)
    head.writeUInt16BE(piece.key.length, 0)
    head.writeUInt32BE(piece.size, 2)
    head.writeUInt32BE(piece.offset, 6)
    head.writeUInt32BE(piece.bytes.length, 10)
    parts.push(head, piece.key, piece.bytes)
  }
  const bytes = Buffer.concat(parts)
  return { bytes, crc: crc32(bytes) }
}

/** Views into the chunk. Throws `ChunkRefusedError` for bytes that are not as they were sent, or are no chunk. */
export function decodeChunk({ bytes, crc }: Chunk): ChunkContent {
  if (crc32(bytes) !== crc) throw new ChunkRefusedError('A chunk of the snapshot was damaged on its way.')
  const take = taker(asBuffer(bytes))
  const format = take(1)[0]
  if (format !== chunkFormat) {
    throw new ChunkRefusedError(
      `A chunk of the snapshot has format ${format}, and this build reads format ${chunkFormat}.`,
    )
  }
  const index = take(6).readUIntBE(0, 6)
  const after = take(take(2).readUInt16BE(0))
  const next = take(take(2).readUInt16BE(0))
  const pieces: Piece[] = []
  while (take.left() > 0) {
    const head = take(pieceSize)
    const key = take(head.readUInt16BE(0))
    pieces.push({
      key,
      size: head.readUInt32BE(2),
      offset: head.readUInt32BE(6),
      bytes: take(head.readUInt32BE(10)),
    })
  }
  return {
    index,
    after: after.length === 0 ? undefined : after,
    next: next.length === 0 ? undefined : next,
    pieces,
  }
}

function taker(buffer: Buffer) {
  let at = 0
  const take = (length: number): Buffer => {
    if (at + length > buffer.length) throw new ChunkRefusedError('A chunk of the snapshot is cut short.')
    at += length
    return buffer.subarray(at - length, at)
  }
  return Object.assign(take, { left: () => buffer.length - at })
}
