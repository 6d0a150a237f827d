// How a client says that it may send a write again: the headers of sessions and idempotency keys.

import { createHash, type Hash, hash } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { TrivetError } from '../errors.ts'
import type { Command, Condition, KeyCommand, Once, Operation, TransactionCondition } from '../store/types.ts'

/** What the headers say. An idempotency key gets its digest once the whole request is known (`repeatable`). */
export type Repeat = Extract<Once, { type: 'session' }> | { readonly type: 'key'; readonly key: string }

/** What the headers of a batch say: its writes have numbers of their own in the session. */
export type BatchRepeat =
  | { readonly type: 'session'; readonly session: string; readonly acked: number }
  | { readonly type: 'key'; readonly key: string }

/** The commands that a client may send again under a name. */
export type RepeatedCommand = Extract<Command, KeyCommand | { type: 'deleteRange' | 'transaction' }>

/** Headers that only routes of writes honour. */
export const repeatHeaders = ['idempotency-key', 'trivet-session'] as const

/** Undefined when the client says nothing of the kind. Throws `invalid-request` for a header that is none, or for both. */
export function readRepeat(headers: IncomingHttpHeaders): Repeat | undefined {
  const { key, session } = readHeaders(headers)
  if (session === undefined) return key === undefined ? undefined : { type: 'key', key }
  return readSession(session)
}

/** The same for a batch: its header of session has no `seq`, because each write has one. */
export function readBatchRepeat(headers: IncomingHttpHeaders): BatchRepeat | undefined {
  const { key, session } = readHeaders(headers)
  if (session === undefined) return key === undefined ? undefined : { type: 'key', key }
  const [, id = '', acked] = /^([\w-]{1,64})[ \t]*;[ \t]*acked=(\d{1,15})$/.exec(session) ?? []
  if (id === '') {
    throw invalid('trivet-session', 'The header Trivet-Session of a batch must be <id>; acked=<number>')
  }
  return { type: 'session', session: id, acked: Number(acked) }
}

/**
 * The name of one write of a batch. Under a key each write has the key and its place as a name; in a session its own
 * `seq`. Throws `invalid-request` where `seq` is missing, not above `acked`, or without a session.
 */
export function repeatInBatch(
  repeat: BatchRepeat | undefined,
  write: { readonly at: number; readonly seq: number | undefined },
): Repeat | undefined {
  const { at, seq } = write
  if (repeat?.type !== 'session') {
    if (seq !== undefined) {
      const detail = 'seq is a number in a session, which the header Trivet-Session of the batch must name'
      throw new TrivetError('invalid-request', detail, { field: 'seq' })
    }
    if (repeat === undefined) return undefined
    // A hash, so that the name is no longer than any other, and no client's own.
    return { type: 'key', key: `batch/${hash('sha256', `${at} ${repeat.key}`, 'base64url')}` }
  }
  const { session, acked } = repeat
  if (seq === undefined || seq <= acked) {
    const detail = 'In a session every write of a batch has a seq above acked'
    throw new TrivetError('invalid-request', detail, { field: 'seq' })
  }
  return { type: 'session', session, seq, acked }
}

function readHeaders(headers: IncomingHttpHeaders): {
  readonly key: string | undefined
  readonly session: string | undefined
} {
  const key = headers['idempotency-key']
  const session = headers['trivet-session']
  if (session !== undefined && key !== undefined) {
    throw invalid('trivet-session', 'The headers Idempotency-Key and Trivet-Session exclude each other')
  }
  return {
    key: key === undefined ? undefined : readKey(key),
    session: session === undefined ? undefined : String(session),
  }
}

function readKey(text: string | readonly string[]): string {
  if (typeof text === 'string' && /^[\x21-\x7e]{1,128}$/.test(text)) return text
  throw invalid(
    'idempotency-key',
    'The header Idempotency-Key must be 1 to 128 visible ASCII characters, given once',
  )
}

function readSession(text: string): Repeat {
  const [, session = '', seq, acked] =
    /^([\w-]{1,64})[ \t]*;[ \t]*seq=(\d{1,15})[ \t]*;[ \t]*acked=(\d{1,15})$/.exec(text) ?? []
  if (session === '') {
    throw invalid('trivet-session', 'The header Trivet-Session must be <id>; seq=<number>; acked=<number>')
  }
  const repeat = { type: 'session', session, seq: Number(seq), acked: Number(acked) } as const
  if (repeat.acked >= repeat.seq) {
    throw invalid('trivet-session', 'In the header Trivet-Session seq counts from 1, and acked is below it')
  }
  return repeat
}

function invalid(field: (typeof repeatHeaders)[number], detail: string): TrivetError {
  return new TrivetError('invalid-request', detail, { field })
}

/** The command as its client may repeat it. */
export function repeatable<C extends RepeatedCommand>(command: C, repeat: Repeat | undefined): C {
  if (repeat === undefined) return command
  const once = repeat.type === 'session' ? repeat : { ...repeat, digest: digestOf(command) }
  return { ...command, once }
}

/**
 * What the request asks for. What goes in and in which form stays as it is: a repeat may come through a node of another
 * version.
 */
function digestOf(command: RepeatedCommand): Uint8Array {
  const digest = createHash('sha256')
  switch (command.type) {
    case 'deleteRange':
      add(digest, [command.type, command.store, base64(command.prefix)])
      break
    case 'transaction':
      add(digest, [command.type, command.if.length, command.then.length, command.else.length])
      for (const condition of command.if) addCondition(digest, condition)
      for (const operation of command.then) addOperation(digest, operation, [])
      for (const operation of command.else) addOperation(digest, operation, [])
      break
    default:
      addOperation(digest, command, command.conditions)
  }
  return digest.digest()
}

function addCondition(digest: Hash, condition: TransactionCondition): void {
  const { type, store, key } = condition
  const head = [type, store, base64(key)]
  if (condition.type === 'value') add(digest, [...head, condition.value.length], condition.value)
  else add(digest, [...head, condition.type === 'revision' ? condition.revision : condition.exists])
}

function addOperation(
  digest: Hash,
  operation: Operation | KeyCommand,
  conditions: readonly Condition[],
): void {
  const { type, store } = operation
  if (operation.type === 'deletePrefix') {
    add(digest, [type, store, base64(operation.prefix)])
    return
  }
  const names = conditions.map((condition) =>
    condition.type === 'revision' ? condition.revisions.join() : condition.type,
  )
  const head = [type, store, base64(operation.key), names]
  switch (operation.type) {
    case 'set': {
      const { contentType, ttl, value } = operation
      add(digest, [...head, contentType, ttl ?? null, value.length], value)
      return
    }
    case 'increment':
      add(digest, [...head, String(operation.delta), operation.ttl ?? null])
      return
    case 'touch':
      add(digest, [...head, operation.ttl])
      return
    case 'get':
    case 'head':
    case 'exists':
    case 'delete':
      add(digest, head)
      return
    default:
      operation satisfies never
  }
}

/** The length of a value stands in what comes before it, so that no two requests are the same bytes. */
function add(digest: Hash, head: readonly unknown[], value?: Uint8Array): void {
  digest.update(JSON.stringify(head))
  if (value !== undefined) digest.update(value)
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}
