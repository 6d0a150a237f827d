// Commands as bytes: msgpack for one command, and a hand-written frame for the commands that share a log entry.

import assert from 'node:assert/strict'
import { Packr } from 'msgpackr'
import { readFields } from './command-fields.ts'
import {
  givenTtl,
  listOf,
  packAdminFields,
  packCondition,
  packDelta,
  packDue,
  packOnce,
  packOperation,
  packRestoreStep,
  packTransactionCondition,
  packTtl,
  storeNumber,
  unpackAdminFields,
  unpackCondition,
  unpackDelta,
  unpackExpired,
  unpackLifetime,
  unpackOnce,
  unpackOperation,
  unpackRestoreStep,
  unpackTransactionCondition,
  unpackTtl,
} from './command-shapes.ts'
import { asBuffer } from './record.ts'
import type {
  AdminCommand,
  Command,
  CommandBatch,
  Condition,
  KeyCommand,
  NumberedCommand,
  Once,
  Operation,
  RepeatableCommand,
} from './types.ts'

/**
 * The highest command version this build writes and understands (`safety.md`, rule 21). A command is written in the lowest
 * version that has it, so that older members can apply whatever they know:
 *
 *   1  set, delete
 *   2  openSession; set and delete that say how the client repeats them (`once`)
 *   3  all others; set with a time to live
 */
export const commandVersion = 3

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

const typeNumbers = {
  set: 1,
  delete: 2,
  openSession: 3,
  increment: 4,
  touch: 5,
  deleteRange: 6,
  transaction: 7,
  createStore: 8,
  dropStore: 9,
  mintToken: 10,
  revokeToken: 11,
  rotateToken: 12,
  removeApp: 13,
  expire: 14,
  collect: 15,
  restore: 16,
} as const satisfies Record<Command['type'], number>

const types = new Map<unknown, Command['type']>(
  Object.entries(typeNumbers).map(([type, number]) => [number, type as Command['type']]),
)

/** The bytes are a view into a buffer shared with commands encoded about the same time: never write to them. */
export function encodeCommand(command: Command): Uint8Array {
  switch (command.type) {
    case 'set':
      return packSet(command)
    case 'delete':
      return packPlain(command, [])
    case 'increment':
      return packLater(command, [...keyFields(command), packDelta(command.delta), packTtl(command.ttl)])
    case 'touch':
      return packLater(command, [...keyFields(command), packTtl(command.ttl)])
    case 'deleteRange':
      return packLater(command, [command.store, command.prefix])
    case 'transaction':
      return packLater(command, [
        command.if.map(packTransactionCondition),
        command.then.map(packOperation),
        command.else.map(packOperation),
      ])
    case 'createStore':
    case 'dropStore':
    case 'mintToken':
    case 'revokeToken':
    case 'rotateToken':
    case 'removeApp':
      return packLater(command, packAdminFields(command))
    case 'openSession':
      return packr.pack([2, typeNumbers.openSession, command.token, command.session])
    case 'expire':
      return packr.pack([3, typeNumbers.expire, command.records.map(packDue), command.tokens])
    case 'collect':
      return packr.pack([3, typeNumbers.collect, command.store])
    case 'restore':
      return packr.pack([
        3,
        typeNumbers.restore,
        command.token,
        command.restore,
        packRestoreStep(command.step),
      ])
    default:
      throw new assert.AssertionError({ message: `No encoding for command ${command satisfies never}` })
  }
}

/** Whether the state is larger after it, so that it is refused when disks are full; what helps to clear them is not (rule 27). */
export function isGrowing(command: Command): boolean {
  switch (command.type) {
    case 'set':
    case 'increment':
    case 'touch':
    case 'createStore':
    case 'mintToken':
    case 'rotateToken':
      return true
    case 'transaction':
      return [...command.then, ...command.else].some(grows)
    case 'restore':
      return command.step.type !== 'drop'
    case 'delete':
    case 'deleteRange':
    case 'dropStore':
    case 'revokeToken':
    case 'removeApp':
    case 'openSession':
    case 'expire':
    case 'collect':
      return false
    default:
      throw new assert.AssertionError({ message: `No answer for command ${command satisfies never}` })
  }
}

function grows({ type }: Operation): boolean {
  return type === 'set' || type === 'increment' || type === 'touch'
}

/** The version of the command in these bytes, which any build can tell; undefined for bytes that are no command. */
export function commandVersionOf(bytes: Uint8Array): number | undefined {
  const [head = 0, first, , second] = bytes
  // An array of up to 15 fields has its length in the first byte, a longer one in the two after it.
  const version = head >> 4 === 0x9 ? first : head === 0xdc ? second : undefined
  return version !== undefined && version < 0x80 ? version : undefined
}

function packSet(command: Extract<KeyCommand, { type: 'set' }>): Uint8Array {
  const { value, contentType, ttl } = command
  if (ttl === undefined) return packPlain(command, [value, contentType])
  return packLater(command, [...keyFields(command), value, contentType, packTtl(ttl)])
}

/** A command that the first version has, in that or in the second. */
function packPlain(command: KeyCommand, rest: readonly unknown[]): Uint8Array {
  const { type, token, once } = command
  const fields = [typeNumbers[type], token, ...keyFields(command), ...rest]
  return packr.pack(once === undefined ? [1, ...fields] : [2, ...fields, packOnce(once)])
}

/** From the third version on, how a client repeats a command comes last, and is null where it does not. */
function packLater({ type, token, once }: RepeatableCommand, fields: readonly unknown[]): Uint8Array {
  return packr.pack([3, typeNumbers[type], token, ...fields, once === undefined ? null : packOnce(once)])
}

function keyFields({ store, key, conditions }: KeyCommand): readonly unknown[] {
  return [store, key, conditions.map(packCondition)]
}

/**
 * The command in these bytes; key and value are views into them. Throws `UnknownCommandError` for a newer build's
 * command, and an assertion for bytes that are no command: those were checked before they entered the log, so a
 * receiver of forwarded commands calls this once at the door and drops what throws.
 */
export function decodeCommand(bytes: Uint8Array): Command {
  const fields = readFields(asBuffer(bytes)) ?? [...listOf(unpack(bytes), 'A command is an array')]
  const { 0: version, 1: number } = fields
  const type = types.get(number)
  if (type === undefined) throw new UnknownCommandError(version, number)
  switch (version) {
    case 1:
      if (type === 'set' || type === 'delete') return unpackPlain(type, fields, undefined)
      break
    case 2:
      if (type === 'openSession') return unpackOpenSession(fields.slice(2))
      if (type === 'set' || type === 'delete') return unpackPlain(type, fields, unpackOnce(fields.pop()))
      break
    case 3: {
      const rest = fields.slice(2)
      if (type === 'expire' || type === 'collect') return unpackOwn(type, rest)
      if (type === 'restore') return unpackRestore(rest)
      if (type !== 'openSession' && type !== 'delete') return unpackLater(type, rest)
    }
  }
  throw new UnknownCommandError(version, number)
}

type Repeated = { readonly once?: Once }

/** `fields` are all but the last, which says how it is repeated. Most commands come through here, so no field is copied twice. */
function unpackPlain(type: 'set' | 'delete', fields: readonly unknown[], once: Once | undefined): KeyCommand {
  const { 2: token, 3: store, 4: key, 5: conditions, 6: value, 7: contentType, length } = fields
  const common = unpackKeyFields(token, store, key, conditions)
  if (type === 'delete') {
    assert(length === 6, 'A delete brings nothing else')
    return once === undefined ? { type, ...common } : { type, ...common, once }
  }
  assert(length === 8, 'A set brings two fields more')
  assert(value instanceof Uint8Array && typeof contentType === 'string', 'A set brings a value and its type')
  const { token: by, store: into, key: under, conditions: given } = common
  const set = { type, token: by, store: into, key: under, conditions: given, value, contentType }
  return once === undefined ? set : { ...set, once }
}

function unpackKeyFields(token: unknown, store: unknown, key: unknown, conditions: unknown) {
  assert(typeof token === 'string' && typeof store === 'string', 'A command names its token and its store')
  assert(key instanceof Uint8Array, 'A command names its key')
  return {
    token,
    store,
    key,
    conditions: unpackConditions(conditions),
  }
}

function unpackConditions(conditions: unknown): readonly Condition[] {
  const list = listOf(conditions, 'A command lists its conditions')
  return list.length === 0 ? none : list.map(unpackCondition)
}

const none: readonly Condition[] = []

function unpackContent([value, contentType]: readonly unknown[]) {
  assert(value instanceof Uint8Array && typeof contentType === 'string', 'A set brings a value and its type')
  return { value, contentType }
}

function unpackOpenSession([token, session, ...rest]: readonly unknown[]): Command {
  assert(rest.length === 0, 'A command to open a session has four fields')
  assert(typeof token === 'string' && typeof session === 'string', 'Who opens which session is text')
  return { type: 'openSession', token, session }
}

function unpackOwn(type: 'expire' | 'collect', [first, second, ...rest]: readonly unknown[]): Command {
  assert(rest.length === 0, "A node's own command brings no more")
  if (type === 'collect') {
    assert(second === undefined, 'A store is collected by its number')
    return { type, store: storeNumber(first) }
  }
  return { type, ...unpackExpired(first, second) }
}

function unpackRestore([token, restore, step, ...rest]: readonly unknown[]): Command {
  assert(rest.length === 0, 'A step of a restore brings no more')
  assert(typeof token === 'string' && typeof restore === 'string', 'Who restores what is text')
  return { type: 'restore', token, restore, step: unpackRestoreStep(step) }
}

function unpackLater(
  type: Exclude<RepeatableCommand['type'], 'delete'>,
  [token, ...rest]: readonly unknown[],
): RepeatableCommand {
  assert(typeof token === 'string', 'A command names its token')
  const last = rest.at(-1)
  const once = last === null ? {} : { once: unpackOnce(last) }
  const fields = rest.slice(0, -1)
  const brings = (count: number): void => assert(fields.length === count, `${type} has ${count} fields`)
  switch (type) {
    case 'set':
    case 'increment':
    case 'touch': {
      const [store, key, conditions, ...more] = fields
      return unpackKeyed(type, { ...unpackKeyFields(token, store, key, conditions), ...once }, more)
    }
    case 'deleteRange': {
      const [store, prefix] = fields
      brings(2)
      assert(typeof store === 'string' && prefix instanceof Uint8Array, 'A range lies in a store')
      return { type, token, store, prefix, ...once }
    }
    case 'transaction': {
      brings(3)
      const [conditions, then, otherwise] = fields.map((list) =>
        listOf(list, 'A transaction has three lists'),
      )
      return {
        type,
        token,
        if: (conditions ?? []).map(unpackTransactionCondition),
        // biome-ignore lint/suspicious/noThenProperty: the contract's name for it; no array can be called.
        then: (then ?? []).map(unpackOperation),
        else: (otherwise ?? []).map(unpackOperation),
        ...once,
      }
    }
    default:
      brings(adminFieldCounts[type])
      return { token, ...unpackAdminFields(type, fields), ...once }
  }
}

function unpackKeyed(
  type: 'set' | 'increment' | 'touch',
  common: ReturnType<typeof unpackKeyFields> & Repeated,
  fields: readonly unknown[],
): KeyCommand {
  const [first, second, third] = fields
  switch (type) {
    case 'set':
      assert(fields.length === 3, 'A set brings three fields more')
      return { type, ...common, ...unpackContent([first, second]), ...unpackLifetime(third) }
    case 'increment':
      assert(fields.length === 2, 'An increment brings two fields more')
      return { type, ...common, delta: unpackDelta(first), ...unpackTtl(second) }
    case 'touch':
      assert(fields.length === 1, 'A touch brings one field more')
      return { type, ...common, ttl: givenTtl(first) }
    default:
      throw new assert.AssertionError({ message: `No decoding for command ${type satisfies never}` })
  }
}

const adminFieldCounts: Record<AdminCommand['type'], number> = {
  createStore: 3,
  dropStore: 1,
  mintToken: 4,
  revokeToken: 1,
  rotateToken: 3,
  removeApp: 1,
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
