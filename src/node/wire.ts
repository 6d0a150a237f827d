// What nodes say to each other, as bytes: the one place where messages are encoded, and where bytes from peers are checked.
//
// Every message opens with a format number and a type. Messages between cores and forwarded commands have a binary
// form (`wire-raft.ts`); the rest is MessagePack, plain data only, checked against a schema. Unknown fields of a
// known message are dropped, so that a later version may add some; anything else that is not understood is an error.

import assert from 'node:assert/strict'

import { Packr } from 'msgpackr'
import type Type from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { Clean } from 'typebox/value'

import { type ScanRules, scanPlainData } from '../msgpack-scan.ts'
import type { Answer, Hello, PeerMessage, Question } from './transport.ts'
import { WireError, WireReader, WireWriter } from './wire-bytes.ts'
import {
  forwardBodyBytes,
  type Link,
  raftBodyBytes,
  raftTypeOf,
  raftTypes,
  readForward,
  readRaftMessage,
  writeForwardBody,
  writeRaftBody,
} from './wire-raft.ts'
import {
  answerShape,
  forwardRefusedShape,
  helloShape,
  membersShape,
  questionShape,
  refusalShape,
  statusShape,
  transferShape,
} from './wire-shapes.ts'

export { WireError } from './wire-bytes.ts'
export type { Link } from './wire-raft.ts'

const formatNumber = 1

/** The deepest message is a founding: question, founding, token, principal, grants, grant. */
const plainMessages: ScanRules = { maxDepth: 10, refuse: (fault) => new WireError(fault) }

/** Format number and type. */
const openingBytes = 2

/** Type bytes beside those of `raftTypes`. Never reused. */
const types = {
  forward: 32,
  forwardRefused: 33,
  status: 34,
  transferLeadership: 35,
  members: 36,
  hello: 64,
  refusal: 65,
  question: 80,
  answer: 81,
  chunk: 82,
} as const

/** Why a node does not talk: it is of another cluster, it is empty, or the peer's key is no member's. */
export type Refusal = { readonly cause: 'other-cluster' | 'empty' | 'stranger'; readonly reason: string }

/** The peer refused to talk, and said why. */
export class RefusalError extends Error {
  override readonly name = 'RefusalError'
  readonly refusal: Refusal

  constructor(refusal: Refusal) {
    super(refusal.reason)
    this.refusal = refusal
  }
}

/** The first message on a stream, each way. */
export type Greeting =
  | { readonly type: 'hello'; readonly hello: Hello }
  | { readonly type: 'refusal'; readonly refusal: Refusal }

/** Neither records nor extension types: any MessagePack decoder reads what this writes. */
const packr = new Packr({ useRecords: false, variableMapSize: true })

export function encodePeerMessage(message: PeerMessage, link: Link): Buffer {
  switch (message.type) {
    case 'raft': {
      const { message: inner } = message
      assert(inner.from === link.from && inner.to === link.to, 'a message names its own sender and receiver')
      const writer = openMessage(raftTypes[inner.type], raftBodyBytes(inner))
      writeRaftBody(writer, inner)
      return writer.finish()
    }
    case 'forward': {
      const writer = openMessage(types.forward, forwardBodyBytes(message.batch))
      writeForwardBody(writer, message, link)
      return writer.finish()
    }
    case 'forwardRefused':
      return packMessage(types.forwardRefused, forwardRefusedShape, {
        attempt: message.attempt,
        numbers: [...message.numbers],
        code: message.code,
      })
    case 'status': {
      const { type: _, ...fields } = message
      return packMessage(types.status, statusShape, { ...fields, alarms: [...message.alarms] })
    }
    case 'transferLeadership':
      return packMessage(types.transferLeadership, transferShape, { to: message.to })
    case 'members':
      return packMessage(types.members, membersShape, { index: message.index, members: message.members })
    default:
      return unreachable(message)
  }
}

/** At least so many bytes will a message take: exact for those that can be large. Cheap beside encoding one. */
export function leastBytes(message: PeerMessage): number {
  if (message.type === 'raft') return openingBytes + raftBodyBytes(message.message)
  return message.type === 'forward' ? openingBytes + forwardBodyBytes(message.batch) : openingBytes
}

/** Throws `WireError` for bytes that are no message between members. The result may view `bytes`, which must stay as they are. */
export function decodePeerMessage(bytes: Buffer, link: Link): PeerMessage {
  const type = typeOf(bytes)
  const raftType = raftTypeOf(type)
  if (raftType !== undefined) {
    const reader = new WireReader(bytes, openingBytes)
    const message = readRaftMessage(reader, raftType, link)
    reader.finish()
    return { type: 'raft', message }
  }
  switch (type) {
    case types.forward: {
      const reader = new WireReader(bytes, openingBytes)
      const forward = readForward(reader, link)
      reader.finish()
      return { type: 'forward', ...forward }
    }
    case types.forwardRefused:
      return { type: 'forwardRefused', ...unpackMessage(bytes, forwardRefusedShape) }
    case types.status:
      return { type: 'status', ...unpackMessage(bytes, statusShape) }
    case types.transferLeadership:
      return { type: 'transferLeadership', ...unpackMessage(bytes, transferShape) }
    case types.members:
      return { type: 'members', ...unpackMessage(bytes, membersShape) }
    default:
      throw new WireError(`message type ${type}, which members do not send`)
  }
}

export function encodeGreeting(greeting: Greeting): Buffer {
  if (greeting.type === 'refusal') {
    const { cause, reason } = greeting.refusal
    return packMessage(types.refusal, refusalShape, { cause, reason: reason.slice(0, 2_048) })
  }
  const { clusterId, id, boot } = greeting.hello
  return packMessage(
    types.hello,
    helloShape,
    clusterId === undefined ? { id, boot } : { clusterId, id, boot },
  )
}

/** Throws `WireError` for bytes that are neither hello nor refusal. */
export function decodeGreeting(bytes: Buffer): Greeting {
  const type = typeOf(bytes)
  if (type === types.refusal) return { type: 'refusal', refusal: unpackMessage(bytes, refusalShape) }
  if (type !== types.hello) throw new WireError(`message type ${type} where a greeting belongs`)
  const { clusterId, id, boot } = unpackMessage(bytes, helloShape)
  return { type: 'hello', hello: { clusterId, id, boot } }
}

export function encodeQuestion(question: Question): Buffer {
  return packMessage(types.question, questionShape, question)
}

/** Throws `WireError` for bytes that are no question. */
export function decodeQuestion(bytes: Buffer): Question {
  const type = typeOf(bytes)
  if (type !== types.question) throw new WireError(`message type ${type} where a question belongs`)
  return unpackMessage(bytes, questionShape)
}

export function encodeAnswer(answer: Answer): Buffer {
  if (answer.type === 'refused') {
    const reason = answer.reason.slice(0, 2_048)
    return packMessage(types.answer, answerShape, { type: 'refused', reason })
  }
  if (answer.type === 'notChanged') {
    return packMessage(types.answer, answerShape, { ...answer, detail: answer.detail.slice(0, 2_048) })
  }
  if (answer.type === 'chunk') {
    const writer = openMessage(types.chunk, 8 + answer.bytes.length)
    writer.count(answer.crc)
    writer.bytes(answer.bytes)
    return writer.finish()
  }
  if (answer.type === 'identity' && answer.clusterId === undefined) {
    const { clusterId: _, ...rest } = answer
    return packMessage(types.answer, answerShape, rest)
  }
  return packMessage(types.answer, answerShape, answer)
}

/** Throws `RefusalError` when the peer sent a refusal instead, and `WireError` for bytes that are no answer. */
export function decodeAnswer(bytes: Buffer): Answer {
  const type = typeOf(bytes)
  if (type === types.refusal) throw new RefusalError(unpackMessage(bytes, refusalShape))
  if (type === types.chunk) {
    const reader = new WireReader(bytes, openingBytes)
    const chunk = { type: 'chunk', crc: reader.count(), bytes: reader.bytes() } as const
    reader.finish()
    return chunk
  }
  if (type !== types.answer) throw new WireError(`message type ${type} where an answer belongs`)
  const answer = unpackMessage(bytes, answerShape)
  return answer.type === 'identity' ? { ...answer, clusterId: answer.clusterId } : answer
}

function typeOf(bytes: Buffer): number {
  const [format, type] = bytes
  if (format !== formatNumber)
    throw new WireError(`message format ${format}, this version reads ${formatNumber}`)
  if (type === undefined) throw new WireError('bytes that end too early')
  return type
}

function openMessage(type: number, bodyBytes: number): WireWriter {
  const writer = new WireWriter(openingBytes + bodyBytes)
  writer.byte(formatNumber)
  writer.byte(type)
  return writer
}

/** A node never sends what its peers would refuse: that would only end the stream over there. */
function packMessage(type: number, shape: Type.TSchema, fields: unknown): Buffer {
  const known = knownFields(shape, fields)
  assert(known !== undefined, 'a message has its shape before it is sent')
  return Buffer.concat([Buffer.of(formatNumber, type), packr.pack(known)])
}

function unpackMessage<S extends Type.TSchema>(bytes: Buffer, shape: S): Type.Static<S> {
  scanPlainData(bytes, openingBytes, plainMessages)
  let value: unknown
  try {
    value = packr.unpack(bytes.subarray(openingBytes))
  } catch (error) {
    throw new WireError(`unreadable bytes: ${error instanceof Error ? error.message : String(error)}`)
  }
  const known = knownFields(shape, value)
  if (known === undefined) throw new WireError('fields that the message does not have')
  return known
}

/** The value without fields that this version does not know; undefined when what it knows is not so. */
function knownFields<S extends Type.TSchema>(shape: S, value: unknown): Type.Static<S> | undefined {
  if (fits(shape, value)) return value
  // A later version may have added fields. Cleaning takes a hundred times as long as checking, and changes what it is given.
  const known: unknown = Clean(shape, structuredClone(value))
  return fits(shape, known) ? known : undefined
}

const validators = new Map<Type.TSchema, Validator>()

/** Compiles each shape when it is first needed. */
function fits<S extends Type.TSchema>(shape: S, value: unknown): value is Type.Static<S> {
  let validator = validators.get(shape)
  if (validator === undefined) {
    validator = Compile(shape)
    validators.set(shape, validator)
  }
  return validator.Check(value)
}

function unreachable(value: never): never {
  throw new assert.AssertionError({ message: `no such message: ${JSON.stringify(value)}` })
}
