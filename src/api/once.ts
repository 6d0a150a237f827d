// How a client says that it may send a write again: the headers of sessions and idempotency keys.

import { createHash } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { TrivetError } from '../errors.ts'
import type { KeyCommand, Once } from '../store/types.ts'

/** What the headers say. An idempotency key gets its digest once the whole request is known (`repeatable`). */
export type Repeat = Extract<Once, { type: 'session' }> | { readonly type: 'key'; readonly key: string }

/** Headers that only routes of writes honour. */
export const repeatHeaders = ['idempotency-key', 'trivet-session'] as const

/** Undefined when the client says nothing of the kind. Throws `invalid-request` for a header that is none, or for both. */
export function readRepeat(headers: IncomingHttpHeaders): Repeat | undefined {
  const key = headers['idempotency-key']
  const session = headers['trivet-session']
  if (session === undefined) return key === undefined ? undefined : { type: 'key', key: readKey(key) }
  if (key !== undefined) {
    throw invalid('trivet-session', 'The headers Idempotency-Key and Trivet-Session exclude each other')
  }
  return readSession(String(session))
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
export function repeatable(command: KeyCommand, repeat: Repeat | undefined): KeyCommand {
  if (repeat === undefined) return command
  const once = repeat.type === 'session' ? repeat : { ...repeat, digest: digestOf(command) }
  return { ...command, once }
}

/**
 * What the request asks for. What goes in and in which form stays as it is: a repeat may come through a node of another
 * version.
 */
function digestOf(command: KeyCommand): Uint8Array {
  const { type, store, key, conditions } = command
  const names = conditions.map((condition) =>
    condition.type === 'revision' ? condition.revisions.join() : condition.type,
  )
  const head = [type, store, Buffer.from(key).toString('base64'), names]
  switch (command.type) {
    case 'delete':
      return sha256(JSON.stringify(head))
    case 'set': {
      const { contentType, ttl, value } = command
      return sha256(JSON.stringify([...head, contentType, ...(ttl === undefined ? [] : [ttl])]), value)
    }
    case 'increment':
      return sha256(JSON.stringify([...head, String(command.delta), command.ttl ?? null]))
    case 'touch':
      return sha256(JSON.stringify([...head, command.ttl]))
    default:
      throw new Error(`No digest for command ${command satisfies never}`)
  }
}

function sha256(...parts: readonly (string | Uint8Array)[]): Uint8Array {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest()
}
