// The tables of the state machine in LevelDB: how their keys are made, and every row that is not a key's record.

import assert from 'node:assert/strict'
import type { Configuration } from '../raft/types.ts'
import { asBuffer, seal, sealSize, unseal } from './record.ts'
import { hashRow } from './row-hash.ts'
import { hexOf } from './state-digest.ts'
import type { Principal, StoreDefinition, Token } from './types.ts'

// A row's key begins with its table. These are the replicated state: equal, byte for byte, on all members that have
// applied the same entries. Integers in keys are big-endian, so that LevelDB's order is theirs.
const tables = {
  /** → `Meta`. */
  meta: 0x01,
  /** number u32 → `StoreRow`. */
  stores: 0x02,
  /** hash → `Token`. */
  tokens: 0x03,
  /** peer → its boot and how far it has acknowledged. */
  origins: 0x04,
  /** peer length u8, peer, boot u48, segment u48 → outcomes of 64 consecutive numbers. */
  outcomes: 0x05,
  /** id → a client's session (`state-sessions.ts`). */
  sessions: 0x06,
  /** 128 bits of SHA-256 of principal and key → an idempotency key (`state-idempotency.ts`). */
  idempotencyKeys: 0x07,
  /** expires u48, store number u32, key → the revision of the record that expires then. */
  expiries: 0x08,
  /** 0 → the restore under way, if there is one (`state-restore.ts`); 1 → the header of its backup. */
  restore: 0x09,
  /** store number u32, key → the key's record (`record.ts`). */
  records: 0x10,
} as const

export type ReplicatedTable = keyof typeof tables

const tableOfByte = new Map(
  Object.entries(tables).map(([table, byte]) => [byte as number, table as ReplicatedTable]),
)

/** The table of a replicated row. Throws an operator's sentence for one that this build does not know. */
export function tableOf(key: Uint8Array): ReplicatedTable {
  const table = tableOfByte.get(key[0] ?? 0)
  if (table !== undefined) return table
  throw new Error(
    `The state on this disk has rows of table ${key[0]}, which this build does not know: it was written by another version of Trivet.`,
  )
}

/** The bounds of a table, for an iterator. */
export function tableRange(table: ReplicatedTable): { readonly gte: Buffer; readonly lt: Buffer } {
  return { gte: Buffer.from([tables[table]]), lt: Buffer.from([tables[table] + 1]) }
}

/** The first byte of the keys of rows that are this node's own and not part of the replicated state. */
export const localTable = 0x00

/** The bounds of the replicated state. */
export const replicatedRange: { readonly gte: Buffer } = { gte: Buffer.from([localTable + 1]) }

// Local rows: slot u16, below 0x8000 → which batch last took the slot.
export const batchesRange: { readonly gte: Buffer; readonly lt: Buffer } = {
  gte: Buffer.from([localTable, 0, 0]),
  lt: Buffer.from([localTable, 0x80]),
}
/** → the last batch before LevelDB was closed; there only while it is closed. */
export const closedKey: Buffer = Buffer.from([localTable, 0x80])
/** → how far a snapshot is loaded; there only until it is whole. */
export const loadingKey: Buffer = Buffer.from([localTable, 0x81])
/** The history of changes (`state-history.ts`): its header, and the first bytes of the keys of its tables. */
export const historyTables = {
  header: [localTable, 0x82],
  /** revision u48, n u32 → changes that follow each other, up to the n-th of this revision. */
  events: [localTable, 0x83],
  /** revision u48, row key of a record → the record of that revision, which stands no more. */
  replaced: [localTable, 0x84],
  /** last revision u48 → when it ended, and how much it has. */
  blocks: [localTable, 0x85],
} as const

/** Bounds between which no key of any table that this build knows lies. */
export function unknownRanges(): readonly { readonly gte: Buffer; readonly lt?: Buffer }[] {
  const known = [localTable, ...Object.values(tables)]
  return known.map((byte, at) => {
    const next = known[at + 1]
    return { gte: Buffer.from([byte + 1]), ...(next === undefined ? {} : { lt: Buffer.from([next]) }) }
  })
}

export const maxStoreNumber = 0xffff_fffe
const recordHeadSize = 1 + 4

/** Where the record of a key lies. */
export function recordKey(store: number, key: Uint8Array): Buffer {
  assert(store <= maxStoreNumber, 'A store number is a u32')
  const row = Buffer.allocUnsafe(recordHeadSize + key.length)
  row[0] = tables.records
  row.writeUInt32BE(store, 1)
  row.set(key, recordHeadSize)
  return row
}

/** Whether a record lies under this row key. */
export function isRecord(rowKey: Uint8Array): boolean {
  return rowKey[0] === tables.records
}

/** The user's key in a record's row key; a view into it. */
export function keyOfRecord(rowKey: Uint8Array): Uint8Array {
  return rowKey.subarray(recordHeadSize)
}

/** How long it is. */
export function keySizeOfRecord(rowKey: Uint8Array): number {
  return rowKey.length - recordHeadSize
}

/** Bounds of the rows of all keys of a store that begin with these bytes. */
export function recordsWith(
  store: number,
  prefix: Uint8Array,
): { readonly gte: Buffer; readonly lt: Buffer } {
  return { gte: recordKey(store, prefix), lt: endOfPrefix(store, prefix) }
}

/** The first row key past all that begin with the prefix. */
function endOfPrefix(store: number, prefix: Uint8Array): Buffer {
  for (let length = prefix.length; length > 0; length--) {
    const last = prefix[length - 1] ?? 0
    if (last < 255)
      return recordKey(store, Buffer.concat([prefix.subarray(0, length - 1), Buffer.of(last + 1)]))
  }
  return recordKey(store + 1, Buffer.alloc(0))
}

const expiryFormat = 1
const expiryHeadSize = 1 + 6 + 4

/** A record that expires. */
export type ExpiryRow = {
  /** Milliseconds since the epoch. */
  readonly expires: number
  readonly store: number
  readonly key: Uint8Array
  readonly revision: number
}

export function encodeExpiry({ expires, store, key, revision }: ExpiryRow): SealedRow {
  const rowKey = Buffer.allocUnsafe(expiryHeadSize + key.length)
  rowKey[0] = tables.expiries
  rowKey.writeUIntBE(expires, 1, 6)
  rowKey.writeUInt32BE(store, 7)
  rowKey.set(key, expiryHeadSize)
  const row = Buffer.allocUnsafe(sealSize + 6)
  row.writeUIntBE(revision, sealSize, 6)
  return { key: rowKey, value: seal(rowKey, expiryFormat, row) }
}

/** The key is a view into the row's. */
export function decodeExpiry(rowKey: Uint8Array, value: Uint8Array): ExpiryRow {
  const key = asBuffer(rowKey)
  const row = unseal(rowKey, expiryFormat, value)
  return {
    expires: key.readUIntBE(1, 6),
    store: key.readUInt32BE(7),
    key: key.subarray(expiryHeadSize),
    revision: row.readUIntBE(sealSize, 6),
  }
}

/** The last moment a record can expire at, in milliseconds since the epoch. */
export const lastExpiry = 2 ** 48 - 2

/** Bounds of what expires at this moment or before, for an iterator: earliest first. */
export function expiriesUntil(time: number): { readonly gte: Buffer; readonly lt: Buffer } {
  const lt = Buffer.alloc(7, tables.expiries)
  lt.writeUIntBE(Math.min(Math.max(Math.floor(time), 0), lastExpiry) + 1, 1, 6)
  return { gte: Buffer.from([tables.expiries]), lt }
}

/** Everything of the replicated state that is one value, not a table. */
export type Meta = {
  readonly clusterId: string
  /** The cluster's name, as in `cluster.yml`. */
  readonly cluster: string
  readonly lastApplied: number
  readonly lastAppliedTerm: number
  readonly revision: number
  /** The stamp of the last entry that had one, in milliseconds since the epoch. */
  readonly time: number
  /** The number the next store gets. */
  readonly nextStore: number
  /** The largest value any store takes, in bytes. */
  readonly valueBytes: number
  /** The highest command version every member understands. */
  readonly commandVersion: number
  /** The last configuration applied. */
  readonly configuration: Configuration
  /** The sum of the hashes of all replicated rows but this one (`RowSum`). */
  readonly sum: string
  /** The digest at the last multiple of `checkpointEvery`, to be compared among members. */
  readonly checkpoint: Digest | undefined
}

/** The digest of a whole state, as 32 hex digits: equal on all members that have applied up to `index`. */
export type Digest = { readonly index: number; readonly digest: string }

/** Each member keeps its digest at multiples of this many entries, so that they can be compared though none waits. */
export const checkpointEvery = 1024

/** A store with its internal number and what stands in it. That of an app is named `app:<id>`. */
export type StoreRow = {
  readonly number: number
  readonly definition: StoreDefinition
  readonly keys: number
  /** Sum of key and value bytes. */
  readonly bytes: number
  /** Nobody can open it any more, and its records are being collected. */
  readonly dropped?: true | undefined
  /** Nobody can open it yet: a restore is filling it. */
  readonly hidden?: true | undefined
}

const jsonFormat = 1
const metaFormat = 3

export const metaKey: Buffer = Buffer.from([tables.meta])

export function storeKey(number: number): Buffer {
  const key = Buffer.from([tables.stores, 0, 0, 0, 0])
  key.writeUInt32BE(number, 1)
  return key
}

export function tokenKey(hash: string): Buffer {
  return Buffer.concat([Buffer.from([tables.tokens]), Buffer.from(hash)])
}

export type SealedRow = { readonly key: Buffer; readonly value: Buffer }

/** Covers the first row by what it says, and all others by their sum. */
export function digestOf(meta: Meta): Digest {
  return {
    index: meta.lastApplied,
    digest: hexOf(hashRow(metaKey, Buffer.from(JSON.stringify(contentOf(meta))))),
  }
}

export function encodeMeta(meta: Meta): SealedRow {
  return sealJson(metaKey, { ...contentOf(meta), checkpoint: meta.checkpoint }, metaFormat)
}

// Field by field, so that a row's bytes depend on nothing but its values: JSON keeps the order of insertion.
function contentOf(meta: Meta): object {
  const { clusterId, cluster, lastApplied, lastAppliedTerm, revision, time } = meta
  const { nextStore, valueBytes, commandVersion } = meta
  const members = meta.configuration.members.map(
    ({ peer, id, http, p2p, voter, since, commandVersion: understood }) => ({
      peer,
      id,
      http,
      p2p,
      voter,
      since,
      commandVersion: understood,
    }),
  )
  return {
    clusterId,
    cluster,
    lastApplied,
    lastAppliedTerm,
    revision,
    time,
    nextStore,
    valueBytes,
    commandVersion,
    configuration: { members },
    sum: meta.sum,
  }
}

export function encodeStore({ number, definition, keys, bytes, dropped, hidden }: StoreRow): SealedRow {
  const { name, ttl, maxValueBytes } = definition
  return sealJson(storeKey(number), {
    number,
    definition: { name, ttl, maxValueBytes },
    keys,
    bytes,
    dropped,
    hidden,
  })
}

export function encodeToken({ name, hash, principal, expires, mintedBy, replaced }: Token): SealedRow {
  const fields = { name, hash, principal: principalFields(principal), expires, mintedBy, replaced }
  return sealJson(tokenKey(hash), fields)
}

function principalFields(principal: Principal): object {
  const { type } = principal
  if (type === 'component') {
    const grants = principal.grants.map(({ store, access, prefix }) => ({ store, access, prefix }))
    return { type, grants, mint: principal.mint }
  }
  if (type === 'app') {
    const { app, holder } = principal
    return { type, app, holder: { type: holder.type, id: holder.id } }
  }
  return { type }
}

// What a sealed row holds was written by the encoder beside its decoder, in this format: its shape needs no second look.
export function decodeMeta(value: Uint8Array): Meta {
  return unsealJson(metaKey, value, metaFormat) as Meta
}

export function decodeStore(key: Uint8Array, value: Uint8Array): StoreRow {
  return unsealJson(key, value) as StoreRow
}

export function decodeToken(key: Uint8Array, value: Uint8Array): Token {
  return unsealJson(key, value) as Token
}

function sealJson(key: Buffer, content: object, format = jsonFormat): SealedRow {
  const text = JSON.stringify(content)
  const row = Buffer.allocUnsafe(sealSize + Buffer.byteLength(text))
  row.write(text, sealSize)
  return { key, value: seal(key, format, row) }
}

function unsealJson(key: Uint8Array, value: Uint8Array, format = jsonFormat): unknown {
  return JSON.parse(unseal(key, format, value).toString('utf8', sealSize))
}

const batchFormat = 1

/** Which batch took a slot, and what it brought the state up to. */
export type BatchRow = { readonly number: number; readonly lastApplied: number }

export function encodeBatch(slot: number, batch: BatchRow): SealedRow {
  assert(slot < 0x8000, 'Slots lie below the other local rows')
  return encodeMark(Buffer.from([localTable, slot >> 8, slot & 255]), batch)
}

/** A batch as a row of any key. */
export function encodeMark(key: Buffer, { number, lastApplied }: BatchRow): SealedRow {
  const row = Buffer.allocUnsafe(sealSize + 12)
  row.writeUIntBE(number, sealSize, 6)
  row.writeUIntBE(lastApplied, sealSize + 6, 6)
  return { key, value: seal(key, batchFormat, row) }
}

export function decodeBatch(key: Uint8Array, value: Uint8Array): BatchRow & { readonly slot: number } {
  return { slot: asBuffer(key).readUInt16BE(1), ...decodeMark(key, value) }
}

export function decodeMark(key: Uint8Array, value: Uint8Array): BatchRow {
  const row = unseal(key, batchFormat, value)
  return {
    number: row.readUIntBE(sealSize, 6),
    lastApplied: row.readUIntBE(sealSize + 6, 6),
  }
}

/** A snapshot being loaded: which one, and after which place of it to go on; from the beginning where there is none. */
export type LoadingRow = Digest & { readonly term: number; readonly after: Uint8Array | undefined }

export function encodeLoading({ index, term, digest, after }: LoadingRow): SealedRow {
  const hex = after === undefined ? undefined : asBuffer(after).toString('hex')
  return sealJson(loadingKey, { index, term, digest, after: hex })
}

export function decodeLoading(value: Uint8Array): LoadingRow {
  const { after, ...rest } = unsealJson(loadingKey, value) as Digest & { term: number; after?: string }
  return { ...rest, after: after === undefined ? undefined : Buffer.from(after, 'hex') }
}

export function sessionKey(id: string): Buffer {
  return Buffer.concat([Buffer.from([tables.sessions]), Buffer.from(id)])
}

export function readSessionKey(key: Uint8Array): string {
  return asBuffer(key).toString('utf8', 1)
}

export const restoreKey: Buffer = Buffer.from([tables.restore, 0])
export const restoreHeaderKey: Buffer = Buffer.from([tables.restore, 1])

/** A restore under way. */
export type RestoreRow = {
  readonly id: string
  /** The number of the rows that are to come next. */
  readonly next: number
  /** How many rows have come, and what they come to (`BackupDigest`). */
  readonly rows: number
  readonly digest: string
  /** The place of the last row, in hex. */
  readonly last: string | undefined
  /** The numbers of its stores, in the order of the backup's header. */
  readonly stores: readonly number[]
  /** The stamp of its last step, in milliseconds since the epoch. */
  readonly heardAt: number
}

export function encodeRestore({ id, next, rows, digest, last, stores, heardAt }: RestoreRow): SealedRow {
  return sealJson(restoreKey, { id, next, rows, digest, last, stores, heardAt })
}

export function decodeRestore(value: Uint8Array): RestoreRow {
  return unsealJson(restoreKey, value) as RestoreRow
}

/** The header's own bytes, because the digest covers them. */
export function encodeRestoreHeader(header: Uint8Array): SealedRow {
  const row = Buffer.concat([Buffer.alloc(sealSize), header])
  return { key: restoreHeaderKey, value: seal(restoreHeaderKey, jsonFormat, row) }
}

export function decodeRestoreHeader(value: Uint8Array): Uint8Array {
  return unseal(restoreHeaderKey, jsonFormat, value).subarray(sealSize)
}

/** `hash` of 16 bytes. */
export function idempotencyRowKey(hash: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([tables.idempotencyKeys]), hash])
}

const originFormat = 1

export type OriginRow = { readonly peer: string; readonly boot: number; readonly floor: number }

export function encodeOrigin({ peer, boot, floor }: OriginRow): SealedRow {
  const key = Buffer.concat([Buffer.from([tables.origins]), Buffer.from(peer)])
  const row = Buffer.allocUnsafe(sealSize + 12)
  row.writeUIntBE(boot, sealSize, 6)
  row.writeUIntBE(floor, sealSize + 6, 6)
  return { key, value: seal(key, originFormat, row) }
}

export function decodeOrigin(key: Uint8Array, value: Uint8Array): OriginRow {
  const row = unseal(key, originFormat, value)
  return {
    peer: asBuffer(key).toString('utf8', 1),
    boot: row.readUIntBE(sealSize, 6),
    floor: row.readUIntBE(sealSize + 6, 6),
  }
}

/** Which outcomes a row holds: numbers `segment * 64` to `segment * 64 + 63` of one boot of one peer. */
export type SegmentId = { readonly peer: string; readonly boot: number; readonly segment: number }

export function outcomesKey({ peer, boot, segment }: SegmentId): Buffer {
  const name = Buffer.from(peer)
  const key = Buffer.allocUnsafe(2 + name.length + 12)
  key[0] = tables.outcomes
  let at = key.writeUInt8(name.length, 1)
  key.set(name, at)
  at += name.length
  at = key.writeUIntBE(boot, at, 6)
  key.writeUIntBE(segment, at, 6)
  return key
}

export function readOutcomesKey(rowKey: Uint8Array): SegmentId {
  const key = asBuffer(rowKey)
  const end = 2 + key.readUInt8(1)
  return {
    peer: key.toString('utf8', 2, end),
    boot: key.readUIntBE(end, 6),
    segment: key.readUIntBE(end + 6, 6),
  }
}
