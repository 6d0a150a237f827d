// A backup as bytes: a header, rows in chunks and an end, each in a frame with a checksum, and a digest over all of it.

import { crc32 } from 'node:zlib'
import { TrivetError } from '../errors.ts'
import { asBuffer } from './record.ts'
import { hashRow } from './row-hash.ts'
import { RowSum } from './state-digest.ts'
import type { Holder, Item, Principal, StoreDefinition, Token } from './types.ts'

// Integers are big-endian.
//
//   backup  opening | frame...           a header, any number of chunks, an end, and nothing after it
//   frame   length u32 | CRC-32 u32 | type u8 | content, of that length; the sum covers type and content
//   header  JSON, see BackupHeader
//   rows    row...
//   row     store u32 | revision u48 | created revision u48 | expires u48, 0 for never |
//           key length u16 | type length u8 | value length u32 | key | content type | value
//   end     JSON, see BackupEnd
//
// Stores are counted from 0, in the order of the header. Rows are in the order of their stores and of their keys' bytes.
const opening = Buffer.from('trivet backup 1\n')
const frameTypes = { header: 1, rows: 2, end: 3 } as const
const frameHeadSize = 9
const rowHeadSize = 4 + 6 + 6 + 6 + 2 + 1 + 4

/** A chunk of rows has at most this many bytes, but for one that is a single larger row. */
export const chunkBytes = 1024 * 1024

/** The longest frame that is read: the largest row there can be. */
const longestFrame = 65 * 1024 * 1024

/** What a backup is of, and everything in it that is no key. */
export type BackupHeader = {
  /** The cluster's name and id. */
  readonly cluster: string
  readonly clusterId: string
  readonly revision: number
  /** The stamp of the last entry in it, in milliseconds since the epoch. */
  readonly time: number
  /** Those of apps too, named `app:<id>`. */
  readonly stores: readonly (StoreDefinition & { readonly keys: number; readonly bytes: number })[]
  readonly tokens: readonly Token[]
}

type BackupEnd = { readonly rows: number; readonly digest: string }

export type BackupRow = Item & { readonly store: number }

/** What a reader gets, in this order: one header, rows, one end. The bytes of a frame are views. */
export type BackupPart =
  | { readonly type: 'header'; readonly bytes: Uint8Array }
  | { readonly type: 'rows'; readonly bytes: Uint8Array }
  | ({ readonly type: 'end' } & BackupEnd)

/** The digest of a backup: what its header and its rows come to. The order of the rows does not matter to it. */
export class BackupDigest {
  readonly #sum: RowSum

  /** Of the header in these bytes and no rows; or as it stood, from `hex`. */
  static begin(header: Uint8Array): BackupDigest {
    const digest = new BackupDigest(undefined)
    digest.#sum.add(hashRow(opening, header))
    return digest
  }

  constructor(hex: string | undefined) {
    this.#sum = new RowSum(hex)
  }

  get hex(): string {
    return this.#sum.hex
  }

  /** Takes the row in these bytes in. */
  add(place: Uint8Array, row: Uint8Array): void {
    this.#sum.add(hashRow(place, row))
  }
}

export function damagedBackup(why: string): TrivetError {
  return new TrivetError('invalid-request', `This is no whole backup: ${why}`, { field: 'body' })
}

// ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────

function encodeHeader(header: BackupHeader): Buffer {
  return Buffer.from(JSON.stringify(header))
}

function encodeRow(row: BackupRow): Buffer {
  const { key, contentType, value } = row
  const bytes = Buffer.allocUnsafe(rowHeadSize + key.length + contentType.length + value.length)
  let at = bytes.writeUInt32BE(row.store, 0)
  at = bytes.writeUIntBE(row.revision, at, 6)
  at = bytes.writeUIntBE(row.createdRevision, at, 6)
  at = bytes.writeUIntBE(row.expires ?? 0, at, 6)
  at = bytes.writeUInt16BE(key.length, at)
  at = bytes.writeUInt8(contentType.length, at)
  at = bytes.writeUInt32BE(value.length, at)
  bytes.set(key, at)
  at += key.length
  at += bytes.write(contentType, at, 'latin1')
  bytes.set(value, at)
  return bytes
}

/** What a row is found by, for the digest. */
export function placeOfRow({ store, key }: Pick<BackupRow, 'store' | 'key'>): Buffer {
  const place = Buffer.allocUnsafe(4 + key.length)
  place.writeUInt32BE(store, 0)
  place.set(key, 4)
  return place
}

/**
 * The backup as bytes. Rows come in their order; what the store holds beside them is in the header. Yields at most a
 * chunk at a time.
 */
export async function* encodeBackup(
  header: BackupHeader,
  rows: AsyncIterable<BackupRow>,
): AsyncGenerator<Uint8Array, void> {
  const head = encodeHeader(header)
  const digest = BackupDigest.begin(head)
  yield opening
  yield frame(frameTypes.header, head)
  let chunk: Buffer[] = []
  let bytes = 0
  let count = 0
  for await (const row of rows) {
    const encoded = encodeRow(row)
    digest.add(placeOfRow(row), encoded)
    count += 1
    if (bytes > 0 && bytes + encoded.length > chunkBytes) {
      yield frame(frameTypes.rows, Buffer.concat(chunk))
      chunk = []
      bytes = 0
    }
    chunk.push(encoded)
    bytes += encoded.length
  }
  if (bytes > 0) yield frame(frameTypes.rows, Buffer.concat(chunk))
  const end: BackupEnd = { rows: count, digest: digest.hex }
  yield frame(frameTypes.end, Buffer.from(JSON.stringify(end)))
}

function frame(type: number, content: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeadSize + content.length)
  bytes.writeUInt32BE(content.length, 0)
  bytes.writeUInt8(type, 8)
  bytes.set(content, frameHeadSize)
  bytes.writeUInt32BE(crc32(bytes.subarray(8)), 4)
  return bytes
}

// ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * The parts of a backup, each held against its checksum and in its place; the last one is the end. Throws `invalid-request`
 * for bytes that are no backup, or not a whole one. Whether the rows come to the digest is for whoever takes them to see.
 */
export async function* decodeBackup(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<BackupPart, void> {
  const source = new Source(chunks)
  const found = await source.take(opening.length)
  if (found === undefined || !found.equals(opening)) throw damagedBackup('it does not begin as one')
  let number = 0
  for (;;) {
    const head = await source.take(frameHeadSize)
    if (head === undefined) throw damagedBackup('it ends before its end')
    const length = head.readUInt32BE(0)
    if (length > longestFrame) throw damagedBackup(`frame ${number} claims ${length} bytes`)
    const bytes = await source.take(length)
    if (bytes === undefined) throw damagedBackup(`it ends within frame ${number}`)
    if (crc32(bytes, crc32(head.subarray(8))) !== head.readUInt32BE(4)) {
      throw damagedBackup(`frame ${number} fails its checksum`)
    }
    const type = head.readUInt8(8)
    if ((type === frameTypes.header) !== (number === 0))
      throw damagedBackup('its header is not the first frame')
    if (type === frameTypes.end) {
      const end = readEnd(bytes)
      if (!(await source.ended())) throw damagedBackup('something follows its end')
      yield { type: 'end', ...end }
      return
    }
    if (type === frameTypes.header) yield { type: 'header', bytes }
    else if (type === frameTypes.rows) yield { type: 'rows', bytes }
    else throw damagedBackup(`frame ${number} is of a type that this version does not know`)
    number += 1
  }
}

/** The rows in the bytes of a chunk, with the bytes of each; views. Throws `invalid-request` where they are none. */
export function* decodeRows(
  chunk: Uint8Array,
): Generator<{ readonly row: BackupRow; readonly bytes: Buffer }, void> {
  const source = asBuffer(chunk)
  for (let at = 0; at < source.length; ) {
    if (at + rowHeadSize > source.length) throw damagedBackup('a row is cut short')
    const keyLength = source.readUInt16BE(at + 22)
    const typeLength = source.readUInt8(at + 24)
    const keyAt = at + rowHeadSize
    const valueAt = keyAt + keyLength + typeLength
    const end = valueAt + source.readUInt32BE(at + 25)
    if (end > source.length) throw damagedBackup('a row is cut short')
    const expires = source.readUIntBE(at + 16, 6)
    const row: BackupRow = {
      store: source.readUInt32BE(at),
      revision: source.readUIntBE(at + 4, 6),
      createdRevision: source.readUIntBE(at + 10, 6),
      expires: expires === 0 ? undefined : expires,
      key: source.subarray(keyAt, keyAt + keyLength),
      contentType: source.toString('latin1', keyAt + keyLength, valueAt),
      value: source.subarray(valueAt, end),
    }
    yield { row, bytes: source.subarray(at, end) }
    at = end
  }
}

function readEnd(bytes: Buffer): BackupEnd {
  const { rows, digest } = parsed(bytes, 'end')
  if (!isCount(rows) || typeof digest !== 'string' || !/^[0-9a-f]{32}$/.test(digest)) {
    throw damagedBackup('its end is not one')
  }
  return { rows, digest }
}

/** The header in these bytes, its shape checked field by field. Throws `invalid-request` for anything else. */
export function decodeHeader(bytes: Uint8Array): BackupHeader {
  const { cluster, clusterId, revision, time, stores, tokens } = parsed(bytes, 'header')
  if (typeof cluster !== 'string' || typeof clusterId !== 'string' || !isCount(revision) || !isCount(time)) {
    throw damagedBackup('its header does not say what it is of')
  }
  if (!Array.isArray(stores) || !Array.isArray(tokens))
    throw damagedBackup('its header has no stores or tokens')
  return { cluster, clusterId, revision, time, stores: stores.map(readStore), tokens: tokens.map(readToken) }
}

type Fields = Readonly<Record<string, unknown>>

function readStore(from: unknown): BackupHeader['stores'][number] {
  const { name, ttl, maxValueBytes, keys, bytes } = fieldsOf(from, 'a store')
  const sound = isText(name) && isCount(keys) && isCount(bytes) && isOptional(ttl, isCount)
  if (!sound || !isOptional(maxValueBytes, isCount)) throw damagedBackup('a store in its header is not one')
  return {
    name,
    keys,
    bytes,
    ...(ttl === undefined ? {} : { ttl }),
    ...(maxValueBytes === undefined ? {} : { maxValueBytes }),
  }
}

function readToken(from: unknown): Token {
  const { name, hash, principal, expires, mintedBy, replaced } = fieldsOf(from, 'a token')
  if (!isText(name) || !isText(hash) || !/^[A-Za-z0-9_-]{43}$/.test(hash))
    throw damagedBackup('a token is not one')
  if (!isOptional(expires, isCount) || !isOptional(mintedBy, isText))
    throw damagedBackup(`the token ${name} is not one`)
  return {
    name,
    hash,
    principal: readPrincipal(fieldsOf(principal, 'a principal')),
    ...(expires === undefined ? {} : { expires }),
    ...(mintedBy === undefined ? {} : { mintedBy }),
    ...(replaced === true ? { replaced } : {}),
  }
}

function readPrincipal(from: Fields): Principal {
  const { type, grants, mint, app, holder } = from
  if (type === 'admin' || type === 'monitor') return { type }
  if (type === 'app' && isText(app)) return { type, app, holder: readHolder(fieldsOf(holder, 'a holder')) }
  if (type !== 'component' || !Array.isArray(grants)) throw damagedBackup('a principal is not one')
  const read = grants.map((grant) => {
    const { store, access, prefix } = fieldsOf(grant, 'a grant')
    if (!isText(store) || (access !== 'read' && access !== 'read-write') || !isOptional(prefix, isText)) {
      throw damagedBackup('a grant is not one')
    }
    return { store, access, ...(prefix === undefined ? {} : { prefix }) } as const
  })
  return { type, grants: read, ...(mint === true ? { mint } : {}) }
}

function readHolder({ type, id }: Fields): Holder {
  if ((type !== 'user' && type !== 'bot') || !isText(id)) throw damagedBackup('a holder is not one')
  return { type, id }
}

function parsed(bytes: Uint8Array, what: string): Fields {
  try {
    return fieldsOf(JSON.parse(asBuffer(bytes).toString()), what)
  } catch (cause) {
    throw cause instanceof TrivetError ? cause : damagedBackup(`its ${what} is not JSON`)
  }
}

function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null) throw damagedBackup(`${what} is not an object`)
  return { ...value }
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function isOptional<T>(value: unknown, is: (value: unknown) => value is T): value is T | undefined {
  return value === undefined || is(value)
}

/** Bytes of a stream, so many at a time, however they come. */
class Source {
  readonly #chunks: AsyncIterator<Uint8Array>
  #parts: Uint8Array[] = []
  #bytes = 0

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]()
  }

  /** Exactly so many; undefined when the stream ends before. */
  async take(length: number): Promise<Buffer | undefined> {
    while (this.#bytes < length) {
      if (!(await this.#more())) return undefined
    }
    const all = this.#parts.length === 1 ? this.#parts[0] : Buffer.concat(this.#parts)
    const whole = asBuffer(all ?? new Uint8Array())
    this.#parts = [whole.subarray(length)]
    this.#bytes -= length
    return whole.subarray(0, length)
  }

  /** Whether nothing comes any more. */
  async ended(): Promise<boolean> {
    while (this.#bytes === 0) {
      if (!(await this.#more())) return true
    }
    return false
  }

  async #more(): Promise<boolean> {
    const { value, done } = await this.#chunks.next()
    if (done === true) return false
    this.#parts.push(value)
    this.#bytes += value.length
    return true
  }
}
