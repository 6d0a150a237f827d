// Watching keys: what happens to them, as server-sent events.

import type { FastifyRequest } from 'fastify'
import { TrivetError } from '../../errors.ts'
import type { WatchEvent, WatchStart } from '../../node/surface.ts'
import { permits } from '../../store/grants.ts'
import { type App, type RouteContext, setRevision } from '../app.ts'
import { callOf, denied } from '../gate.ts'
import { documented } from '../openapi.ts'
import { StoreParams } from '../schemas.ts'
import { positionPattern, WatchQuery, watchRanges } from '../schemas-watch.ts'
import { queryValues } from '../url.ts'

/** A client that lost its stream comes again after so many milliseconds. */
const retry = 'retry: 1000\n\n'

export function addWatchRoute(app: App, { node, gate, streams, limits }: RouteContext): void {
  app.route({
    ...gate.route({
      need: { type: 'store', access: 'read', over: 'store' },
      judged: 'read',
      mayRepeat: ['prefix', 'key'],
    }),
    method: 'GET',
    url: '/v1/stores/:store/watch',
    schema: {
      summary: 'Watch keys: every change from the start on, in order, as server-sent events',
      params: StoreParams,
      querystring: WatchQuery,
      ...documented({ headers: ['last-event-id', 'trivet-timeout'], answersEvents: true }),
    },
    // Who may is told before what is wrong.
    preValidation: (request, _reply, done) => done(refusal(request)),
    handler: (request, reply) => {
      const call = callOf(request)
      const { prefix = [], key = [], snapshot = false, values = false, from } = request.query
      const wanted = {
        prefixes: prefix.map((text) => range('prefix', text, limits.keyBytes)),
        keys: key.map((text) => range('key', text, limits.keyBytes)),
      }
      refuseTooMany(prefix.length, key.length)
      const lastEventId = request.headers['last-event-id']
      const start = startOf(lastEventId, from, snapshot)
      if (start.type === 'after' && start.position.revision > node.state.revision) {
        throw stillToCome(lastEventId === undefined ? 'from' : 'last-event-id', node.state.revision)
      }
      const { tokenHash: token, store, signal } = call
      // Where one that starts now begins: a client that is cut off before its first event goes on from there.
      setRevision(reply, node.state.revision)
      const stream = node.watch({ token, store, ...wanted, start, values }, { signal })
      const write = (events: readonly WatchEvent[]) => events.map(eventText).join('')
      return reply
        .header('content-type', 'text/event-stream')
        .header('x-accel-buffering', 'no')
        .header('connection', 'close')
        .send(streams.readable(stream, { head: retry, write, request: request.id }))
    },
  })
}

/** The first range that the token may not read. */
function refusal(request: FastifyRequest): TrivetError | undefined {
  const { token, store } = callOf(request)
  const ranges = ['prefix', 'key'].flatMap((name) => queryValues(request.query, name))
  for (const text of ranges.length === 0 ? [''] : ranges) {
    const target = { store, access: 'read', within: Buffer.from(text) } as const
    if (!permits(token.principal, target)) return denied(token, target)
  }
  return undefined
}

function range(field: string, text: string, limit: number): Uint8Array {
  const bytes = Buffer.from(text)
  if (field === 'key' && bytes.length === 0) {
    throw new TrivetError('invalid-key', 'A key has at least one byte', { field })
  }
  if (bytes.length <= limit) return bytes
  throw new TrivetError(
    field === 'key' ? 'invalid-key' : 'invalid-request',
    `The query parameter ${field} has at most ${limit} bytes`,
    { field, limit, actual: bytes.length },
  )
}

function refuseTooMany(prefixes: number, keys: number): void {
  if (prefixes + keys <= watchRanges) return
  throw new TrivetError('invalid-request', `A watch names at most ${watchRanges} keys and prefixes`, {
    field: keys === 0 ? 'prefix' : 'key',
    limit: watchRanges,
    actual: prefixes + keys,
  })
}

/** What a client had last wins: it is what a browser sends when it comes again, with the rest of the URL unchanged. */
function startOf(
  lastEventId: string | string[] | undefined,
  from: string | undefined,
  snapshot: boolean,
): WatchStart {
  if (typeof lastEventId === 'string' && lastEventId !== '') {
    return after('last-event-id', 'header', lastEventId)
  }
  if (snapshot && from !== undefined) {
    throw new TrivetError('invalid-request', 'A stream begins with a snapshot or from a position, not both', {
      field: 'from',
    })
  }
  if (snapshot) return { type: 'snapshot' }
  return from === undefined ? { type: 'now' } : after('from', 'query parameter', from)
}

function stillToCome(field: string, limit: number): TrivetError {
  return new TrivetError('invalid-request', `That revision is still to come: the last one is ${limit}`, {
    field,
    limit,
  })
}

function after(field: string, word: string, text: string): WatchStart {
  const [revision = Number.NaN, n] = new RegExp(positionPattern).test(text) ? text.split('.').map(Number) : []
  if (Number.isSafeInteger(revision) && (n === undefined || n <= 0xffff_ffff)) {
    return { type: 'after', position: { revision, n } }
  }
  throw new TrivetError('invalid-request', `The ${word} ${field} must be the id of an event: 17 or 17.2`, {
    field,
  })
}

/** Events that several clients are sent are written once. */
const texts = new WeakMap<WatchEvent, string>()

function eventText(event: WatchEvent): string {
  let text = texts.get(event)
  if (text === undefined) {
    text = writeEvent(event)
    texts.set(event, text)
  }
  return text
}

function writeEvent(event: WatchEvent): string {
  const id = 'id' in event && event.id !== undefined ? `id: ${idText(event.id)}\n` : ''
  return `${id}event: ${event.type}\ndata: ${JSON.stringify(dataOf(event))}\n\n`
}

function idText({ revision, n }: { readonly revision: number; readonly n?: number | undefined }): string {
  return n === undefined ? String(revision) : `${revision}.${n}`
}

function dataOf(event: WatchEvent): object {
  switch (event.type) {
    case 'set': {
      const { key, revision, record, last } = event
      const { value, contentType, expires } = record
      return {
        key: textOf(key),
        revision,
        ...(value === undefined ? {} : { value: bufferOf(value).toString('base64') }),
        contentType,
        ...(expires === undefined ? {} : { expires: new Date(expires).toISOString() }),
        ...(last ? { last } : {}),
      }
    }
    case 'delete':
    case 'expire':
      return { key: textOf(event.key), revision: event.revision, ...(event.last ? { last: true } : {}) }
    case 'progress':
      return { revision: event.revision }
    case 'compacted':
      return { oldest: event.oldest }
    case 'lagged':
    case 'revoked':
    case 'store-dropped':
    case 'closing':
      return {}
    default:
      return event satisfies never
  }
}

function textOf(key: Uint8Array): string {
  return bufferOf(key).toString()
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
