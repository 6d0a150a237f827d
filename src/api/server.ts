// The REST server of a node: Fastify with our routes behind our gate, from listening to draining to the last answer.

import type { IncomingMessage } from 'node:http'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import fastify, { type FastifyReply, type InjectOptions, type LightMyRequestResponse } from 'fastify'
import { TrivetError } from '../errors.ts'
import type { NodeSurface } from '../node/surface.ts'
import { AnswerRoom } from './answer-room.ts'
import { Answers, type Logger } from './answers.ts'
import type { ApiLimits, App, RouteContext } from './app.ts'
import { BodyReader, bodiesBound } from './body.ts'
import { addCors, type Origins } from './cors.ts'
import { Gate, notFound } from './gate.ts'
import { KeyLane } from './key-lane.ts'
import type { KeyStreamBounds } from './key-streams.ts'
import {
  createListener,
  type Listener,
  type ListenerTimes,
  listenFailure,
  maxHeaderBytes,
  readTls,
  type TlsFiles,
  type TlsPair,
} from './listener.ts'
import { defaultMattermost, type MattermostSettings, MattermostSurface } from './mattermost/surface.ts'
import { Metrics } from './metrics.ts'
import { addOpenapi } from './openapi.ts'
import { addAppRoutes } from './routes/apps.ts'
import { addBackupRoutes } from './routes/backup.ts'
import { addBatchRoute } from './routes/batch.ts'
import { addClusterRoutes } from './routes/cluster.ts'
import { addHealthRoutes } from './routes/health.ts'
import { addKeyRoutes } from './routes/keys.ts'
import { addListingRoute } from './routes/listing.ts'
import { addMetricsRoute, addPage, guardPage } from './routes/oversight.ts'
import { addRangeRoute } from './routes/ranges.ts'
import { addSessionRoute } from './routes/sessions.ts'
import { addStoreRoutes } from './routes/stores.ts'
import { addTokenRoutes } from './routes/tokens.ts'
import { addTransactionRoute } from './routes/transactions.ts'
import { addWatchRoute } from './routes/watch.ts'
import { Streams } from './streams.ts'
import { parseQuery, routedTarget } from './url.ts'
import { compileValidator } from './validation.ts'

export type { Logger } from './answers.ts'

export type ApiOptions = {
  readonly node: NodeSurface
  readonly limits: ApiLimits
  /** Serve HTTPS with these PEM files; plain HTTP when absent. */
  readonly tls?: TlsFiles | undefined
  /** Believe `X-Forwarded-For` about who the client is: from anybody, or from these addresses. Only the log tells. */
  readonly trustProxy?: boolean | string | readonly string[] | undefined
  readonly logger: Logger
  /** How long clients may take; the defaults suit slow uploads over bad lines. */
  readonly times?: Partial<ListenerTimes> | undefined
  /** How long `close` waits for answers in flight, in milliseconds; 10 s unless given. */
  readonly closeTimeout?: number | undefined
  /** Of which origins pages in browsers may call; none unless given. */
  readonly origins?: Origins | undefined
  /** Serve `/metrics` and `/docs` without a token to clients on this machine; false unless given. */
  readonly openToLoopback?: boolean | undefined
  /** The bytes of request bodies being read at one time, in all; 128 MiB unless given. */
  readonly bodiesBytes?: number | undefined
  /** What streams of keys may; the defaults suit all but tests. */
  readonly keyStreams?: KeyStreamBounds | undefined
  /** How the store of Mattermost's apps answers; as its documentation says unless given. */
  readonly mattermost?: MattermostSettings | undefined
}

export type ApiAddress = { readonly host: string; readonly port: number; readonly url: string }

const defaultTimes: ListenerTimes = { headers: 15_000, request: 120_000, idle: 72_000, stall: 120_000 }
const defaultCloseTimeout = 10_000

const methods = ['GET', 'HEAD', 'PUT', 'POST', 'DELETE'] as const

/**
 * The REST surface of one node.
 *
 *     const api = await createApi({ node, limits, logger })
 *     await api.listen({ host: '127.0.0.1', port: 7001 })
 */
export async function createApi(options: ApiOptions): Promise<Api> {
  const api = new Api(options, options.tls === undefined ? undefined : await readTls(options.tls))
  await api.ready()
  return api
}

export class Api {
  readonly #options: ApiOptions
  readonly #app: App
  readonly #answers: Answers
  readonly #listener: Listener
  readonly #streams: Streams
  readonly #bodies: BodyReader
  readonly #room: AnswerRoom
  readonly #gate: Gate
  readonly #lane: KeyLane
  readonly #mattermost: MattermostSurface
  readonly #metrics: Metrics

  constructor(options: ApiOptions, tls: TlsPair | undefined) {
    this.#options = options
    const { node, logger, origins = [] } = options
    const bodies = new BodyReader(options.bodiesBytes ?? bodiesBound)
    const room = new AnswerRoom()
    const metrics = new Metrics(node, () => ({
      connections: this.connections,
      queues: [bodies.level, room.level],
    }))
    const answers = new Answers({ node, logger, origins, metrics })
    let listener: Listener | undefined
    const app = fastify({
      serverFactory: (routes) => {
        listener = createListener({
          answers,
          routes: (message, response) => {
            if (this.#lane.takes(message, response)) return
            if (!this.#mattermost.takes(message, response)) routes(message, response)
          },
          tls,
          times: { ...defaultTimes, ...options.times },
        })
        return listener.server
      },
      genReqId: () => answers.nextId(),
      trustProxy:
        typeof options.trustProxy === 'object' ? [...options.trustProxy] : (options.trustProxy ?? false),
      rewriteUrl: (message) => routedTarget(message.method ?? 'GET', message.url ?? '/'),
      routerOptions: { maxParamLength: maxHeaderBytes, querystringParser: parseQuery },
      exposeHeadRoutes: false,
      // Whoever comes on a standing connection while the server closes is still served.
      return503OnClosing: false,
      clientErrorHandler: (error, socket) => listener?.connections.failed(error, socket),
      frameworkErrors: (error, request, reply) => {
        answers.failUnrouted(error, request, reply)
      },
    }).withTypeProvider<TypeBoxTypeProvider>()
    if (listener === undefined) throw new Error('Fastify made no server')
    this.#app = app
    this.#answers = answers
    this.#listener = listener
    this.#bodies = bodies
    this.#room = room
    this.#metrics = metrics
    this.#streams = new Streams(options.logger)
    const { connections } = listener
    const { keyBytes, valueBytes } = options.limits
    this.#gate = new Gate({ node, connections, keyBytes, openToLoopback: options.openToLoopback ?? false })
    this.#lane = new KeyLane({ node, gate: this.#gate, bodies, room, answers, metrics, logger, valueBytes })
    this.#mattermost = new MattermostSurface({
      node: options.node,
      answers,
      connections,
      bodies,
      metrics,
      logger: options.logger,
      settings: options.mattermost ?? defaultMattermost,
      keyBytes,
    })
    this.#addRoutes()
  }

  #addRoutes(): void {
    const { node, limits, logger, origins = [] } = this.#options
    const gate = this.#gate
    const context: RouteContext = {
      node,
      gate,
      bodies: this.#bodies,
      lane: this.#lane,
      room: this.#room,
      metrics: this.#metrics,
      streams: this.#streams,
      keyStreams: this.#options.keyStreams,
      limits,
      logger,
      draining: () => this.#answers.draining,
    }
    const app = this.#app
    guardPage(app, gate)
    prepare(app, this.#answers, this.#bodies)
    app.addHook('onResponse', (request, reply, done) => {
      this.#metrics.answered(request, reply)
      done()
    })
    addCors(app, origins)
    addOpenapi(app, node.version)
    addPage(app)
    // Routes are added once the generator listens.
    app.after(() => {
      addKeyRoutes(app, context)
      addListingRoute(app, context)
      addRangeRoute(app, context)
      addBatchRoute(app, context)
      addTransactionRoute(app, context)
      addStoreRoutes(app, context)
      addWatchRoute(app, context)
      addSessionRoute(app, context)
      addClusterRoutes(app, context)
      addBackupRoutes(app, context)
      addHealthRoutes(app, context)
      addMetricsRoute(app, context)
      addTokenRoutes(app, context)
      addAppRoutes(app, context)
    })
  }

  /** Resolves when all routes stand. `createApi` has waited for it. */
  async ready(): Promise<void> {
    await this.#app.ready()
  }

  /** Starts listening. Rejects with one sentence for operators when the address cannot be had. Port 0 picks a free one. */
  async listen(address: { readonly host: string; readonly port: number }): Promise<void> {
    try {
      await this.#app.listen({ ...address })
    } catch (cause) {
      throw listenFailure(address, cause)
    }
  }

  /** Where it listens. Throws before `listen` and after `close`. */
  get address(): ApiAddress {
    const bound = this.#listener.server.address()
    if (!isAddressInfo(bound)) throw new Error('The API does not listen')
    const host = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address
    const scheme = this.#options.tls === undefined ? 'http' : 'https'
    return { host: bound.address, port: bound.port, url: `${scheme}://${host}:${bound.port}` }
  }

  /** How many clients are connected. */
  get connections(): number {
    return this.#listener.connections.size
  }

  /**
   * From now on the node is not ready, and every answer sends its client elsewhere. Requests are still served; streams of
   * events end.
   */
  drain(): void {
    this.#answers.drain()
    this.#streams.drain()
  }

  /** Stops listening and waits for the answers in flight, for as long as the option allows; then cuts what is left. */
  async close(): Promise<void> {
    this.drain()
    const { server, connections } = this.#listener
    const timer = setTimeout(
      () => server.closeAllConnections(),
      this.#options.closeTimeout ?? defaultCloseTimeout,
    )
    try {
      const closed = this.#app.close()
      connections.closeIdle()
      await closed
    } finally {
      clearTimeout(timer)
    }
  }

  /** Answers a request without a socket. */
  inject(request: InjectOptions): Promise<LightMyRequestResponse> {
    return this.#app.inject(request)
  }

  /** Reads the TLS files again; new connections use them. Rejects with one sentence, and keeps the old ones, when they are no good. */
  async reloadTls(): Promise<void> {
    const { server } = this.#listener
    const { tls } = this.#options
    if (tls === undefined || !(server instanceof https.Server)) throw new Error('The API serves no TLS')
    const read = await readTls(tls)
    server.setSecureContext({ ...read, minVersion: 'TLSv1.2' })
  }
}

function isAddressInfo(bound: AddressInfo | string | null): bound is AddressInfo {
  return typeof bound === 'object' && bound !== null
}

/** Everything that holds for all routes: validation, bodies, headers, errors, and what is no route. */
function prepare(app: App, answers: Answers, bodies: BodyReader): void {
  app.setValidatorCompiler(compileValidator)
  app.decorateRequest('call', null)
  // A route without a rule would be open to all without anybody having said so.
  app.addHook('onRoute', ({ config, method, url }) => {
    // Preflights carry no token, and are answered before any route.
    if (url === '*' && String(method) === 'OPTIONS') return
    if (config?.rule === undefined) throw new Error(`the route ${String(method)} ${url} has no rule`)
  })
  app.addHook('onSend', (request, reply, payload, done) => {
    answers.stamp(request, reply)
    done(null, payload)
  })
  app.setErrorHandler((error, request, reply) => answers.fail(error, request, reply))
  app.setNotFoundHandler((request, reply) => {
    answers.fail(unroutable(app, request.originalUrl, reply), request, reply)
  })
  // A value is any bytes of any type, read by its handler after every other check; Fastify leaves these bodies alone.
  app.addHttpMethod('PUT', { hasBody: false, overrideExisting: true })
  app.addHttpMethod('DELETE', { hasBody: false, overrideExisting: true })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (request, _payload, done) => {
    if (request.is404 || request.routeOptions.config.readsBody === true) {
      done(null)
      return
    }
    const type = request.headers['content-type']
    if (type !== undefined && !/^application\/json *(;|$)/i.test(type)) {
      done(
        new TrivetError('unsupported-media-type', 'This route takes application/json', {
          field: 'content-type',
        }),
      )
      return
    }
    const bytes = request.routeOptions.bodyLimit ?? maxHeaderBytes
    readJson(bodies, request.raw, bytes).then(
      (body) => done(null, body),
      (error: Error) => done(error),
    )
  })
}

async function readJson(bodies: BodyReader, message: IncomingMessage, bytes: number): Promise<unknown> {
  const body = await bodies.read(message, { code: 'request-too-large', bytes })
  if (body.length === 0) return undefined
  try {
    return orRefused(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body)))
  } catch (cause) {
    throw new TrivetError('invalid-request', 'The body is not well-formed JSON', { field: 'body', cause })
  }
}

/** Fastify tells no body and `null` apart no more, and no route takes `null`. */
function orRefused(parsed: unknown): unknown {
  if (parsed === null) throw new Error('null is no object')
  return parsed
}

/** 405 with the methods that the path has, 404 when it has none. */
function unroutable(app: App, target: string, reply: FastifyReply): TrivetError {
  const allowed = methods.filter((method) => {
    const [url = ''] = routedTarget(method, target).split('?')
    // The router would take the nothing after a last slash for a parameter.
    return !url.endsWith('/') && app.findRoute({ method, url }) !== null
  })
  if (allowed.length === 0) return notFound()
  reply.header('allow', allowed.join(', '))
  return new TrivetError('method-not-allowed', `This path serves ${allowed.join(', ')}`)
}
