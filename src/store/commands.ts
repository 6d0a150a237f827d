// Commands as bytes: msgpack for one command, and a hand-written frame for the commands that share a log entry.

import assert from 'node:assert/strict'
import { Packr } from 'msgpackr'
import type { Command, CommandBatch, Condition, KeyCommand, NumberedCommand, Once } from './types.ts'

/**
 * The highest command version this build writes and understands (`safety.md`, rule 21). A command is written in the lowest
 * version that has it, so that older members can apply whatever they know:
 *
 *   1  set, delete
 *   2  openSession; set and delete that say how the client repeats them (`once`)
 */
export const commandVersion = 2

/**
 * A command of a version or type this build does not know. Guessing would make this replica differ from the others,
 * so the node stops and waits to be updated.
 */
export class UnknownCommandError extends Error {
  override readonly name = 'UnknownCommandError'
  constructor(version: unknown, type: unknown) {
    super(
      `The log holds a command of version ${version} and type ${type}, which this build does not know. Install a newer Trivet on this node.`,
    )
  }
}

// A command is an array: version, type, then the type's fields in order. Arrays cost no names on the wire, and without
// records and shared structures every command can be read alone.
const packr = new Packr({ useRecords: false, moreTypes: false, int64AsType: 'number' })

const typeNumbers = { set: 1, delete: 2, openSession: 3 } as const
const conditionNumbers = { exists: 1, absent: 2, revision: 3 } as const
const onceNumbers = { session: 1, key: 2 } as const

/** The bytes are a view into a buffer shared with commands encoded about the same time: never write to them. */
export function encodeCommand(command: Command): Uint8Array {
  switch (command.type) {
    case 'set':
      return packKeyCommand(command, [command.value, command.contentType])
    case 'delete':
      return packKeyCommand(command, [])
    case 'openSession':
      return packr.pack([2, typeNumbers.openSession, command.token, command.session])
    default:
      throw new assert.AssertionError({ message: `No encoding for command ${command satisfies never}` })
  }
}

/** Whether the state is larger after it, so that it is refused when disks are full; what helps to clear them is not (rule 27). */
export function isGrowing(command: Command): boolean {
  switch (command.type) {
    case 'set':
      return true
    case 'delete':
    case 'openSession':
      return false
    default:
      throw new assert.AssertionError({ message: `No answer for command ${command satisfies never}` })
  }
}

/** The version of the command in these bytes, which any build can tell; undefined for bytes that are no command. */
export function commandVersionOf(bytes: Uint8Array): number | undefined {
  const [head = 0, first, , second] = bytes
  // An array of up to 15 fields has its length in the first byte, a longer one in the two after it.
  const version = head >> 4 === 0x9 ? first : head === 0xdc ? second : undefined
  return version !== undefined && version < 0x80 ? version : undefined
}

function packKeyCommand(command: KeyCommand, rest: readonly unknown[]): Uint8Array {
  const { type, token, store, key, once } = command
  const conditions = command.conditions.map(packCondition)
  const fields = [typeNumbers[type], token, store, key, conditions, ...rest]
  return packr.pack(once === undefined ? [1, ...fields] : [2, ...fields, packOnce(once)])
}

/**
 * The command in these bytes; key and value are views into them. Throws `UnknownCommandError` for a newer build's
 * command, and an assertion for bytes that are no command: those were checked before they entered the log, so a
 * receiver of forwarded commands calls this once at the door and drops what throws.
 */
export function decodeCommand(bytes: Uint8Array): Command {
  const fields: unknown = unpack(bytes)
  assert(Array.isArray(fields), 'A command is an array')
  const [version, type, ...rest]: readonly unknown[] = fields
  if (version !== 1 && version !== 2) throw new UnknownCommandError(version, type)
  if (type === typeNumbers.openSession && version === 2) {
    const [token, session] = rest
    assert(rest.length === 2, 'A command to open a session has four fields')
    assert(typeof token === 'string' && typeof session === 'string', 'Who opens which session is text')
    return { type: 'openSession', token, session }
  }
  if (type !== typeNumbers.set && type !== typeNumbers.delete) throw new UnknownCommandError(version, type)
  return unpackKeyCommand(type, version === 2 ? { once: unpackOnce(rest.pop()) } : {}, rest)
}

function unpackKeyCommand(
  type: 1 | 2,
  once: { readonly once?: Once },
  [token, store, key, conditions, ...rest]: readonly unknown[],
): KeyCommand {
  assert(typeof token === 'string' && typeof store === 'string', 'A command names its token and its store')
  assert(key instanceof Uint8Array, 'A command names its key')
  assert(Array.isArray(conditions), 'A command lists its conditions')
  const common = { token, store, key, conditions: conditions.map(unpackCondition), ...once }
  if (type === typeNumbers.delete) {
    assert(rest.length === 0, 'A delete brings nothing else')
    return { type: 'delete', ...common }
  }
  const [value, contentType] = rest
  assert(rest.length === 2, 'A set brings two fields more')
  assert(value instanceof Uint8Array && typeof contentType === 'string', 'A set brings a value and its type')
  return { type: 'set', ...common, value, contentType }
}

function packOnce(once: Once): readonly unknown[] {
  return once.type === 'session'
    ? [onceNumbers.session, once.session, once.seq, once.acked]
    : [onceNumbers.key, once.key, once.digest]
}

function unpackOnce(once: unknown): Once {
  assert(Array.isArray(once), 'How a write is repeated is an array')
  const [type, ...rest]: readonly unknown[] = once
  if (type === onceNumbers.session) {
    const [session, seq, acked] = rest
    assert(rest.length === 3 && typeof session === 'string', 'A write of a session names it')
    assert(isCount(seq) && isCount(acked) && acked < seq, 'A session counts its writes up')
    return { type: 'session', session, seq, acked }
  }
  const [key, digest] = rest
  assert(type === onceNumbers.key && rest.length === 2, 'A write is repeated in one of two ways')
  assert(typeof key === 'string' && /^[\x21-\x7e]{1,128}$/.test(key), 'An idempotency key is visible ASCII')
  assert(digest instanceof Uint8Array && digest.length === 32, 'A digest is SHA-256')
  return { type: 'key', key, digest }
}

function isCount(value: unknown): value is number {
  return isNumber(value) && Number.isSafeInteger(value) && value >= 0
}

function unpack(bytes: Uint8Array): unknown {
  try {
    return packr.unpack(bytes)
  } catch (cause) {
    throw new assert.AssertionError({
      message: `A command of ${bytes.length} bytes is not msgpack: ${cause}`,
    })
  }
}

function packCondition(condition: Condition): readonly number[] {
  return condition.type === 'revision'
    ? [conditionNumbers.revision, ...condition.revisions]
    : [conditionNumbers[condition.type]]
}

function unpackCondition(condition: unknown): Condition {
  assert(Array.isArray(condition), 'A condition is an array')
  const [type, ...revisions]: readonly unknown[] = condition
  if (type === conditionNumbers.exists && revisions.length === 0) return { type: 'exists' }
  if (type === conditionNumbers.absent && revisions.length === 0) return { type: 'absent' }
  assert(type === conditionNumbers.revision && revisions.every(isNumber), 'A condition is one of three kinds')
  return { type: 'revision', revisions }
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number'
}

// The frame of an entry's data. Integers are big-endian; `varint` is seven bits a byte, lowest first.
//
//   entry    format u8 | time u48 | batches u32 | batch...
//   batch    peer length u8 | peer | boot u48 | acked u48 | commands u32 | command...
//   command  number varint | length varint | bytes

const entryFormat = 1

/** What an entry's data takes before its first batch, in bytes. */
export const entryHeaderSize = 11

/** What a batch takes before its first command, in bytes. */
export function batchHeaderSize(peer: string): number {
  return 17 + Buffer.byteLength(peer)
}

/** What a command takes in its batch, in bytes. */
export function numberedCommandSize(command: NumberedCommand): number {
  const { length } = command.bytes
  return varintSize(command.number) + varintSize(length) + length
}

/** The exact length of `encodeEntryData`'s answer. The three sizes above add up to it. */
export function entryDataSize(batches: readonly CommandBatch[]): number {
  let size = entryHeaderSize
  for (const { peer, commands } of batches) {
    size += batchHeaderSize(peer)
    for (const command of commands) size += numberedCommandSize(command)
  }
  return size
}

/** What a `commands` entry carries. `time` is the leader's stamp, in milliseconds since the epoch. */
export type EntryData = { readonly time: number; readonly batches: readonly CommandBatch[] }

/** The bytes are a buffer of their own. */
export function encodeEntryData({ time, batches }: EntryData): Uint8Array {
  // Entries live long in the log's memory: one taken from the pool would keep its neighbours alive.
  const data = Buffer.allocUnsafeSlow(entryDataSize(batches))
  let at = data.writeUInt8(entryFormat, 0)
  at = data.writeUIntBE(time, at, 6)
  at = data.writeUInt32BE(batches.length, at)
  for (const { peer, boot, acked, commands } of batches) {
    const peerLength = Buffer.byteLength(peer)
    at = data.writeUInt8(peerLength, at)
    at += data.write(peer, at)
    at = data.writeUIntBE(boot, at, 6)
    at = data.writeUIntBE(acked, at, 6)
    at = data.writeUInt32BE(commands.length, at)
    for (const { number, bytes } of commands) {
      at = writeVarint(data, number, at)
      at = writeVarint(data, bytes.length, at)
      data.set(bytes, at)
      at += bytes.length
    }
  }
  assert(at === data.length, 'The size of an entry is known beforehand')
  return data
}

/** The commands' bytes are views into `data`. Bytes that are no entry are a broken invariant. */
export function decodeEntryData(data: Uint8Array): EntryData {
  const source = new Source(data)
  const format = source.uint(1)
  assert(format === entryFormat, `An entry's data has format ${entryFormat}, not ${format}`)
  const time = source.uint(6)
  const batches: CommandBatch[] = []
  for (let left = source.uint(4); left > 0; left--) {
    const peer = source.text(source.uint(1))
    const boot = source.uint(6)
    const acked = source.uint(6)
    const commands: NumberedCommand[] = []
    for (let more = source.uint(4); more > 0; more--) {
      commands.push({ number: source.varint(), bytes: source.bytes(source.varint()) })
    }
    batches.push({ peer, boot, acked, commands })
  }
  source.end()
  return { time, batches }
}

/** Reads fields one after the other and never past the end. */
class Source {
  readonly #data: Buffer
  #at = 0

  constructor(data: Uint8Array) {
    this.#data = Buffer.from(data.buffer, data.byteOffset, data.length)
  }

  uint(width: 1 | 4 | 6): number {
    return this.#data.readUIntBE(this.#take(width), width)
  }

  varint(): number {
    let value = 0
    for (let scale = 1; scale < Number.MAX_SAFE_INTEGER; scale *= 128) {
      const byte = this.#data[this.#take(1)] ?? 0
      value += (byte & 127) * scale
      if (byte < 128) break
    }
    assert(Number.isSafeInteger(value), 'A number in an entry is a safe integer')
    return value
  }

  bytes(length: number): Uint8Array {
    const start = this.#take(length)
    return this.#data.subarray(start, start + length)
  }

  text(length: number): string {
    const start = this.#take(length)
    return this.#data.toString('utf8', start, start + length)
  }

  end(): void {
    assert(this.#at === this.#data.length, `An entry's data ends where its last command does`)
  }

  #take(length: number): number {
    const start = this.#at
    this.#at += length
    assert(this.#at <= this.#data.length, `An entry's data of ${this.#data.length} bytes is cut short`)
    return start
  }
}

function varintSize(value: number): number {
  let size = 1
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++
  return size
}

function writeVarint(target: Buffer, value: number, at: number): number {
  assert(Number.isSafeInteger(value) && value >= 0, 'A varint is a safe integer')
  let rest = value
  let next = at
  for (; rest >= 128; rest = Math.floor(rest / 128)) target[next++] = (rest % 128) | 128
  target[next++] = rest
  return next
}
