// The two requests that most of a store's traffic is, the read and the set of one key, answered on Node's own objects.
//
// Of what such a request costs a node, Fastify's lifecycle would be a third (docs/performance.md). What is checked, and in
// which order, is the gate's as for every route; the routes that `routes/keys.ts` declares for the document lead here too.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { TSchema } from 'typebox'
import type { NodeSurface, WriteTiming } from '../node/surface.ts'
import type { Item } from '../store/types.ts'
import type { AnswerRoom } from './answer-room.ts'
import { type Answers, type Logger, pairsOf, traceOf } from './answers.ts'
import { timingText } from './app.ts'
import { answerUnread, type BodyReader, hasUnreadBody } from './body.ts'
import { formatTag, names, readCondition, type Tags, writeConditions } from './conditions.ts'
import { ClientGone } from './connections.ts'
import { noSuchKey, successOf } from './decided.ts'
import { type Asked, type Call, type Gate, notFound, placeOfCall, type Rule, storeCallOf } from './gate.ts'
import { storedContentType } from './media-type.ts'
import type { Metrics } from './metrics.ts'
import { readRepeat, repeatable } from './once.ts'
import { asTrivetError, malformedPath, problemHeaders, problemOf } from './problem.ts'
import { headers, problemType } from './protocol.ts'
import { ReadQuery, SetQuery } from './schemas.ts'
import { readTtl } from './ttl.ts'
import { type KeyTarget, keyTarget, parseQuery } from './url.ts'
import { compileCheck } from './validation.ts'

export const readsKey: Rule = {
  need: { type: 'store', access: 'read', over: 'key' },
  judged: 'read',
  conditions: ['if-none-match'],
}

export const writesKey: Rule = {
  need: { type: 'store', access: 'read-write', over: 'key' },
  judged: 'write',
  conditions: ['if-match', 'if-none-match'],
  repeatable: true,
}

const jsonType = 'application/json; charset=utf-8'

/** As metrics name it. */
const route = '/v1/stores/{store}/keys/{key}'

/** Up to this a value waits for its reader in what a socket buffers anyway, in bytes. */
const smallValue = 64 * 1024

/** Up to this an answer leaves as one text with its head, which Node passes on faster than two pieces. In bytes. */
const inlineBytes = 4096

/** What the answer to a request will tell besides its body. */
type Answering = {
  readonly id: string
  /** The target as it was sent: the router may have rewritten that of the message. */
  readonly url: string
  readonly message: IncomingMessage
  readonly response: ServerResponse
  call: Call | undefined
  /** Of the state the answer was made at, where that is not simply the one of now. */
  revision: number | undefined
  timing: WriteTiming | undefined
  replayed: boolean
}

type LaneParts = {
  readonly node: NodeSurface
  readonly gate: Gate
  readonly bodies: BodyReader
  readonly room: AnswerRoom
  readonly answers: Answers
  readonly metrics: Metrics
  readonly logger: Logger
  /** The largest value of a store that sets no limit of its own, in bytes. */
  readonly valueBytes: number
}

export class KeyLane {
  readonly #parts: LaneParts
  readonly #readQuery = queryReader<{ minRevision?: number }>(ReadQuery)
  readonly #setQuery = queryReader<{ ttl?: string }>(SetQuery)

  constructor(parts: LaneParts) {
    this.#parts = parts
  }

  /**
   * Answers a GET, HEAD or PUT of one key. False, and nothing done, for every other request, and for all while each is logged
   * with its client, which Fastify knows behind proxies.
   */
  takes(message: IncomingMessage, response: ServerResponse): boolean {
    const { method } = message
    if (method !== 'GET' && method !== 'PUT' && method !== 'HEAD') return false
    const { url = '' } = message
    const target = keyTarget(url)
    if (target === undefined || this.#logs) return false
    const began = performance.now()
    void this.#serve(message, response, { url, target, id: this.#parts.answers.nextId() }).then(() => {
      const { statusCode: status, socket } = response
      const took = () => this.#parts.metrics.took({ method, route, status }, performance.now() - began)
      // What the system has taken at once is on its way; a large value takes as long as its reader.
      if (socket === null || socket.writableLength === 0) took()
      else response.once('close', took)
    })
    return true
  }

  /** Answers a request that a router took for one of these. Counted and timed by the router. */
  async serve(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const target = keyTarget(request.originalUrl)
    if (target === undefined) throw notFound()
    const { id, method, originalUrl: url, ip: client, raw: message } = request
    reply.hijack()
    const call = await this.#serve(message, reply.raw, { url, target, id })
    if (!this.#logs) return
    const { statusCode: status } = reply.raw
    this.#parts.logger.debug(
      { request: id, method, url, status, token: call?.token.name, client, traceparent: traceOf(message) },
      'answered',
    )
  }

  get #logs(): boolean {
    return this.#parts.logger.isLevelEnabled?.('debug') === true
  }

  /** Never rejects. Resolves with the call, if it was let in, once the answer is on its way. */
  async #serve(
    message: IncomingMessage,
    response: ServerResponse,
    { url, target, id }: { readonly url: string; readonly target: KeyTarget; readonly id: string },
  ): Promise<Call | undefined> {
    const answering: Answering = {
      id,
      url,
      message,
      response,
      call: undefined,
      revision: undefined,
      timing: undefined,
      replayed: false,
    }
    try {
      const asked: Asked = {
        method: message.method ?? '',
        target: url,
        headers: message.headers,
        query: parseQuery(target.query),
        store: storeIn(target),
        message,
      }
      if (message.method === 'PUT') await this.#set(asked, answering)
      else await this.#get(asked, answering)
    } catch (thrown) {
      this.#fail(thrown, answering)
    }
    return answering.call
  }

  async #get(asked: Asked, answering: Answering): Promise<void> {
    const { gate, node, room } = this.#parts
    let call = await gate.enter(asked, readsKey)
    answering.call = call
    const { minRevision } = this.#readQuery(asked.query)
    const had = readCondition(asked.headers)
    if (minRevision !== undefined) call = await gate.settleCall(call, { asked, rule: readsKey }, minRevision)
    const item = await node.state.get(placeOfCall(call), call.key)
    if (item === undefined) throw noSuchKey()
    if (item.value.length > smallValue) room.shareFor(answering.response).take(item.value.length)
    this.#sendItem(answering, item, had)
  }

  #sendItem(answering: Answering, item: Item, had: Tags | undefined): void {
    const list = this.#head(answering)
    list.push(...valueHeaders, 'ETag', formatTag(item.revision))
    if (item.expires !== undefined) list.push(headers.expires, new Date(item.expires).toISOString())
    if (had !== undefined && names(had, item.revision)) {
      answering.response.writeHead(304, list).end()
      return
    }
    list.push('Content-Type', item.contentType)
    this.#send(answering, { status: 200, list, body: item.value })
  }

  async #set(asked: Asked, answering: Answering): Promise<void> {
    const { gate, node, bodies, valueBytes } = this.#parts
    const call = await gate.enter(asked, writesKey)
    answering.call = call
    const { ttl } = this.#setQuery(asked.query)
    const conditions = writeConditions(asked.headers)
    const repeat = readRepeat(asked.headers)
    const record = {
      contentType: storedContentType(asked.headers['content-type']),
      ...(ttl === undefined ? {} : { ttl: readTtl(ttl) }),
    }
    const { maxValueBytes } = storeCallOf(call)
    const value = await bodies.read(asked.message, {
      code: 'value-too-large',
      bytes: maxValueBytes ?? valueBytes,
    })
    const { tokenHash: token, store, key } = call
    const command = { type: 'set', token, store, key, conditions, value, ...record } as const
    const executed = await node.execute(repeatable(command, repeat), call)
    answering.revision = executed.revision
    answering.timing = executed.timing
    answering.replayed = executed.outcome.replayed === true
    const { revision, created, changed } = successOf(executed.outcome, call, 'set')
    const list = this.#head(answering)
    list.push('Cache-Control', 'no-store', 'ETag', formatTag(revision), 'Content-Type', jsonType)
    const body = `{"revision":${revision},"created":${created},"changed":${changed}}`
    this.#send(answering, { status: created ? 201 : 200, list, body })
  }

  /** Never throws. */
  #fail(thrown: unknown, answering: Answering): void {
    const { logger, metrics } = this.#parts
    const { id, url, message, response } = answering
    const { method } = message
    if (thrown instanceof ClientGone) {
      logger.debug({ request: id, method, url }, 'the client has gone')
      response.destroy()
      return
    }
    const error = asTrivetError(thrown)
    if (error.code === 'internal') {
      const traceparent = traceOf(message)
      logger.error({ request: id, method, url, traceparent, err: error.cause ?? error }, 'a request failed')
    }
    metrics.failed(error.code)
    const list = this.#head(answering)
    list.push('Cache-Control', 'no-store', ...problemHeaders(error).flat(), 'Content-Type', problemType)
    const body = JSON.stringify(problemOf(error))
    if (hasUnreadBody(message)) {
      answerUnread(message, response, {
        status: error.status,
        headers: pairsOf(list),
        body: Buffer.from(body),
      })
      return
    }
    list.push('Content-Length', String(Buffer.byteLength(body)))
    response.writeHead(error.status, list)
    response.end(body)
  }

  /** The headers of every answer: names and values in turn. */
  #head({ id, message, revision, timing, call, replayed }: Answering): string[] {
    const { answers } = this.#parts
    const list = answers.flatHeaders(id, message, revision)
    if (answers.draining) list.push('Connection', 'close')
    if (timing !== undefined) list.push('Server-Timing', timingText(timing))
    if (replayed) list.push(headers.replayed, 'true')
    if (call?.stale === true) list.push(headers.stale, 'true')
    return list
  }

  #send(
    { response }: Answering,
    answer: {
      readonly status: number
      readonly list: string[]
      readonly body: Uint8Array | string
    },
  ): void {
    const { status, list, body } = answer
    list.push('Content-Length', String(body.length))
    response.writeHead(status, list)
    if (typeof body === 'string') response.end(body, 'latin1')
    else if (body.length > inlineBytes) response.end(body)
    else response.end(Buffer.from(body.buffer, body.byteOffset, body.length).toString('latin1'), 'latin1')
  }
}

/** Values are private to a token, kept as they are by everything between, and never run as a page of ours. */
const valueHeaders = [
  'Cache-Control',
  'private, no-cache, no-transform',
  'Content-Security-Policy',
  'sandbox',
  'X-Content-Type-Options',
  'nosniff',
] as const

/** The store that a path names. Throws for one that is no percent-encoded UTF-8. */
function storeIn({ store }: KeyTarget): string {
  if (!store.includes('%')) return store
  try {
    return decodeURIComponent(store)
  } catch {
    throw malformedPath()
  }
}

/** Checks a query against its schema; throws `invalid-request` for the first fault. */
function queryReader<Query>(schema: TSchema): (query: unknown) => Query {
  const check = compileCheck(schema, 'querystring')
  return (query) => {
    const checked = check(query)
    if ('error' in checked) throw checked.error
    return checked.value as Query
  }
}
