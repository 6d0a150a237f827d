// The binary form of what nodes say most: messages between cores, and forwarded commands.
//
// A body is a run of fixed fields, in the order they are read below. Nothing names sender or receiver: the connection
// has proved both, and the reader fills them in, so that no message can claim another origin.

import assert from 'node:assert/strict'

import type { Entry, MemberId, Message, MessageBody } from '../raft/types.ts'
import type { CommandBatch, NumberedCommand } from '../store/types.ts'
import { encodedSize, readEntry, writeEntry } from '../store/wal-format.ts'
import { WireError, type WireReader, type WireWriter, wholeBytes } from './wire-bytes.ts'

/** Who speaks to whom, as the connection proved it. */
export type Link = { readonly from: MemberId; readonly to: MemberId }

/** The type byte of each message between cores. Never reused. */
export const raftTypes = {
  preVote: 1,
  requestVote: 2,
  vote: 3,
  append: 4,
  appended: 5,
  appendRejected: 6,
  heartbeat: 7,
  heartbeatAnswer: 8,
  readIndex: 9,
  readIndexAnswer: 10,
  timeoutNow: 11,
  commit: 12,
  snapshotNeeded: 13,
} as const satisfies Record<Message['type'], number>

const typeOfByte: ReadonlyMap<number, Message['type']> = new Map(
  Object.entries(raftTypes).map(([type, byte]) => [byte, type as Message['type']]),
)

export function raftTypeOf(byte: number): Message['type'] | undefined {
  return typeOfByte.get(byte)
}

/** Bytes of the body, term included. */
export function raftBodyBytes(message: Message): number {
  const term = wholeBytes
  switch (message.type) {
    case 'preVote':
      return term + 2 * wholeBytes
    case 'requestVote':
      return term + 2 * wholeBytes + 1
    case 'vote':
      return term + wholeBytes + 2
    case 'append': {
      let size = term + 4 * wholeBytes + 4
      for (const entry of message.entries) size += encodedSize(entry)
      return size
    }
    case 'appended':
    case 'commit':
    case 'heartbeatAnswer':
    case 'readIndex':
      return term + wholeBytes
    case 'appendRejected':
      return term + 3 * wholeBytes
    case 'heartbeat':
      return term + 3 * wholeBytes
    case 'snapshotNeeded':
      return term + 2 * wholeBytes
    case 'readIndexAnswer':
      return term + wholeBytes + 1 + (message.index === undefined ? 0 : wholeBytes)
    case 'timeoutNow':
      return term
    default:
      return unreachable(message)
  }
}

export function writeRaftBody(writer: WireWriter, message: Message): void {
  writer.whole(message.term)
  switch (message.type) {
    case 'preVote':
      writer.whole(message.lastIndex)
      writer.whole(message.lastTerm)
      return
    case 'requestVote':
      writer.whole(message.lastIndex)
      writer.whole(message.lastTerm)
      writer.flag(message.transfer)
      return
    case 'vote':
      writer.whole(message.askedTerm)
      writer.flag(message.preVote)
      writer.flag(message.granted)
      return
    case 'append':
      writer.whole(message.since)
      writer.whole(message.prevIndex)
      writer.whole(message.prevTerm)
      writer.whole(message.commitIndex)
      writer.count(message.entries.length)
      for (const entry of message.entries) {
        writer.put((target, offset) => writeEntry(target, offset, entry))
      }
      return
    case 'appended':
      writer.whole(message.matchIndex)
      return
    case 'appendRejected':
      writer.whole(message.prevIndex)
      writer.whole(message.hintIndex)
      writer.whole(message.hintTerm)
      return
    case 'commit':
      writer.whole(message.commitIndex)
      return
    case 'snapshotNeeded':
      writer.whole(message.since)
      writer.whole(message.index)
      return
    case 'heartbeat':
      writer.whole(message.since)
      writer.whole(message.round)
      writer.whole(message.commitIndex)
      return
    case 'heartbeatAnswer':
      writer.whole(message.round)
      return
    case 'readIndex':
      writer.whole(message.id)
      return
    case 'readIndexAnswer':
      writer.whole(message.id)
      writer.flag(message.index !== undefined)
      if (message.index !== undefined) writer.whole(message.index)
      return
    case 'timeoutNow':
      return
    default:
      unreachable(message)
  }
}

export function readRaftMessage(reader: WireReader, type: Message['type'], link: Link): Message {
  const term = reader.whole()
  return { from: link.from, to: link.to, term, ...readBody(reader, type, term) }
}

function readBody(reader: WireReader, type: Message['type'], term: number): MessageBody {
  switch (type) {
    case 'preVote':
      return { type, lastIndex: reader.whole(), lastTerm: reader.whole() }
    case 'requestVote':
      return { type, lastIndex: reader.whole(), lastTerm: reader.whole(), transfer: reader.flag() }
    case 'vote':
      return { type, askedTerm: reader.whole(), preVote: reader.flag(), granted: reader.flag() }
    case 'append':
      return readAppend(reader, term)
    case 'appended':
      return { type, matchIndex: reader.whole() }
    case 'appendRejected':
      return { type, prevIndex: reader.whole(), hintIndex: reader.whole(), hintTerm: reader.whole() }
    case 'commit':
      return { type, commitIndex: reader.whole() }
    case 'heartbeat':
      return { type, since: reader.whole(), round: reader.whole(), commitIndex: reader.whole() }
    case 'snapshotNeeded':
      return { type, since: reader.whole(), index: reader.whole() }
    case 'heartbeatAnswer':
      return { type, round: reader.whole() }
    case 'readIndex':
      return { type, id: reader.whole() }
    case 'readIndexAnswer':
      return { type, id: reader.whole(), index: reader.flag() ? reader.whole() : undefined }
    case 'timeoutNow':
      return { type }
    default:
      return unreachable(type)
  }
}

/** Entries follow `prevIndex` without a gap, and their terms never fall nor pass the leader's: what cannot be a log is refused here. */
function readAppend(reader: WireReader, term: number): MessageBody & { readonly type: 'append' } {
  const since = reader.whole()
  const prevIndex = reader.whole()
  const prevTerm = reader.whole()
  const commitIndex = reader.whole()
  const count = reader.count()
  if (count > reader.left) throw new WireError('more entries than bytes')
  const entries: Entry[] = []
  let lastTerm = prevTerm
  for (let at = 0; at < count; at++) {
    const entry = reader.take((source, offset) => {
      const { entry: value, end } = readEntry(source, offset)
      return { value: value.type === 'commands' ? { ...value, data: ownCopy(value.data) } : value, end }
    })
    if (entry.index !== prevIndex + 1 + at) throw new WireError('entries out of order')
    if (entry.term < lastTerm || entry.term > term) throw new WireError('an entry of an impossible term')
    lastTerm = entry.term
    entries.push(entry)
  }
  return { type: 'append', since, prevIndex, prevTerm, commitIndex, entries }
}

/** The log keeps entries in memory for long: a view would keep whatever was received together with it as well. */
function ownCopy(bytes: Uint8Array): Uint8Array {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  copy.set(bytes)
  return copy
}

export function forwardBodyBytes(batch: CommandBatch): number {
  let size = 3 * wholeBytes + 4
  for (const command of batch.commands) size += wholeBytes + 4 + command.bytes.length
  return size
}

export function writeForwardBody(
  writer: WireWriter,
  { attempt, batch }: { readonly attempt: number; readonly batch: CommandBatch },
  link: Link,
): void {
  assert(batch.peer === link.from, 'commands are forwarded by their origin, over one hop')
  writer.whole(attempt)
  writer.whole(batch.boot)
  writer.whole(batch.acked)
  writer.count(batch.commands.length)
  for (const command of batch.commands) {
    writer.whole(command.number)
    writer.bytes(command.bytes)
  }
}

export function readForward(
  reader: WireReader,
  link: Link,
): { readonly attempt: number; readonly batch: CommandBatch } {
  const attempt = reader.whole()
  const boot = reader.whole()
  const acked = reader.whole()
  const count = reader.count()
  if (count * (wholeBytes + 4) > reader.left) throw new WireError('more commands than bytes')
  const commands: NumberedCommand[] = []
  for (let at = 0; at < count; at++) commands.push({ number: reader.whole(), bytes: reader.bytes() })
  return { attempt, batch: { peer: link.from, boot, acked, commands } }
}

function unreachable(value: never): never {
  throw new assert.AssertionError({ message: `no such message: ${JSON.stringify(value)}` })
}
