// What every answer has in common: its headers, and the one way in which errors go out, from routes and from before them.

import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { TrivetError } from '../errors.ts'
import type { NodeSurface } from '../node/surface.ts'
import { answerUnread, hasUnreadBody } from './body.ts'
import { ClientGone } from './connections.ts'
import { corsHeaders, type Origins } from './cors.ts'
import type { Metrics } from './metrics.ts'
import { asTrivetError, phraseOf, problemHeaders, problemOf } from './problem.ts'
import { headers, problemType } from './protocol.ts'

/** As much of a pino logger as is used here. */
export type Logger = {
  debug(fields: object, message: string): void
  error(fields: object, message: string): void
  isLevelEnabled?(level: string): boolean
}

// Lower case, so that what a handler set is found again.
const revisionHeader = headers.revision.toLowerCase()

/** What an error must not keep of the success it was to be. Fastify closes on a failed body; whether we must is judged here. */
const successHeaders = ['etag', 'content-security-policy', 'x-content-type-options', 'connection'] as const

/** A trace context as W3C writes it; anything else is not passed on, as it says. */
const traceparentPattern = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$/

/** The trace context a request came with. */
export function traceOf(request: Pick<IncomingMessage, 'headers'>): string | undefined {
  const trace = request.headers['traceparent']
  return typeof trace === 'string' && traceparentPattern.test(trace) ? trace : undefined
}

/** Counted within the process; the random part tells processes apart. */
function requestIds(): () => string {
  const process = randomBytes(5).toString('hex')
  let count = 0
  return () => {
    count += 1
    return `${process}-${count.toString(36)}`
  }
}

/** Finishes answers. Knows the node, and whether the server is draining. */
export class Answers {
  readonly #node: NodeSurface
  readonly #logger: Logger
  #draining = false
  readonly #origins: Origins
  readonly #metrics: Metrics
  readonly nextId = requestIds()

  constructor(options: {
    readonly node: NodeSurface
    readonly logger: Logger
    readonly origins: Origins
    readonly metrics: Metrics
  }) {
    this.#node = options.node
    this.#logger = options.logger
    this.#origins = options.origins
    this.#metrics = options.metrics
  }

  get draining(): boolean {
    return this.#draining
  }

  /** From now on every answer tells its client to go elsewhere. */
  drain(): void {
    this.#draining = true
  }

  /** Puts the headers of every answer on this one. */
  stamp(request: FastifyRequest, reply: FastifyReply): void {
    const { leader } = this.#node
    reply.header('trivet-node', this.#node.id)
    if (leader !== undefined) reply.header('trivet-leader', leader)
    reply.header('trivet-request', request.id)
    if (!reply.hasHeader(revisionHeader)) reply.header(revisionHeader, String(this.#node.state.revision))
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
    const trace = traceOf(request)
    if (trace !== undefined) reply.header('traceparent', trace)
    if (this.#draining) reply.header('trivet-draining', 'true').header('connection', 'close')
    if (this.#logger.isLevelEnabled?.('debug') === true) this.#log(request, reply)
  }

  #log(request: FastifyRequest, reply: FastifyReply): void {
    const { method, originalUrl: url, id, ip } = request
    const traceparent = traceOf(request)
    const token = request.call?.token.name
    this.#logger.debug(
      { request: id, method, url, status: reply.statusCode, token, client: ip, traceparent },
      'answered',
    )
  }

  /** Answers what was no request of any route. */
  failUnrouted(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
    for (const [name, value] of corsHeaders(this.#origins, request.headers.origin)) reply.header(name, value)
    this.stamp(request, reply)
    this.fail(error, request, reply)
  }

  /** Answers a throw. What nobody foresaw is logged with its stack, and answered without. */
  fail(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
    const { method, originalUrl: url, id } = request
    if (thrown instanceof ClientGone) {
      this.#logger.debug({ request: id, method, url }, 'the client has gone')
      reply.hijack()
      return
    }
    const error = asTrivetError(thrown)
    this.#metrics.failed(error.code)
    if (error.code === 'internal') {
      const traceparent = traceOf(request)
      this.#logger.error(
        { request: id, method, url, traceparent, err: error.cause ?? error },
        'a request failed',
      )
    }
    for (const name of successHeaders) if (reply.hasHeader(name)) reply.removeHeader(name)
    reply.code(error.status).header('cache-control', 'no-store')
    for (const [name, value] of problemHeaders(error)) reply.header(name, value)
    reply.header('content-type', problemType)
    // As bytes, so that Fastify adds no charset to the type.
    const body = Buffer.from(JSON.stringify(problemOf(error)))
    if (!hasUnreadBody(request.raw)) {
      reply.send(body)
      return
    }
    this.stamp(request, reply)
    reply.hijack()
    answerUnread(request.raw, reply.raw, {
      status: error.status,
      headers: Object.entries(reply.getHeaders()).map(([name, value]) => [name, String(value)]),
      body,
    })
  }

  /** Answers a request that never reaches a route, on Node's own objects. */
  refuse(error: TrivetError, message: IncomingMessage, response: ServerResponse): void {
    const body = Buffer.from(JSON.stringify(problemOf(error)))
    const list = this.#refusalHeaders(error, message)
    answerUnread(message, response, { status: error.status, headers: list, body })
  }

  /** An error as the text of a whole HTTP/1.1 answer, for bytes that were no request. Closes the connection. */
  refusalText(error: TrivetError): string {
    const body = JSON.stringify(problemOf(error))
    const list = [
      ...this.#refusalHeaders(error),
      ['Date', new Date().toUTCString()],
      ['Content-Length', String(Buffer.byteLength(body))],
      ['Connection', 'close'],
    ]
    const head = list.map(([name, value]) => `${name}: ${value}\r\n`).join('')
    return `HTTP/1.1 ${error.status} ${phraseOf(error.status)}\r\n${head}\r\n${body}`
  }

  #refusalHeaders(error: TrivetError, message?: IncomingMessage): readonly (readonly [string, string])[] {
    this.#metrics.failed(error.code)
    return [
      ...this.headersOf(this.nextId(), message),
      ['Content-Type', problemType],
      ...problemHeaders(error),
    ]
  }

  /** The headers of every answer, for one that goes out on Node's own objects: under this id, to this request if there is one. */
  headersOf(id: string, message?: IncomingMessage): readonly (readonly [string, string])[] {
    return pairsOf([...this.flatHeaders(id, message), 'Cache-Control', 'no-store'])
  }

  /**
   * The same as names and values in turn, but for `Cache-Control`, which the answer is to say. `revision`: that of the state
   * it was made at, where that is not simply the one of now.
   */
  flatHeaders(id: string, message?: IncomingMessage, revision = this.#node.state.revision): string[] {
    const { leader } = this.#node
    const list = [headers.node, this.#node.id, headers.request, id, headers.revision, String(revision)]
    if (leader !== undefined) list.push(headers.leader, leader)
    if (this.#origins.length > 0) list.push(...corsHeaders(this.#origins, message?.headers.origin).flat())
    const trace = message === undefined ? undefined : traceOf(message)
    if (trace !== undefined) list.push('traceparent', trace)
    if (this.#draining) list.push(headers.draining, 'true')
    return list
  }
}

/** Names and values in turn, as pairs. */
export function pairsOf(list: readonly string[]): readonly (readonly [string, string])[] {
  return Array.from({ length: list.length / 2 }, (_, at) => [list[2 * at] ?? '', list[2 * at + 1] ?? ''])
}
