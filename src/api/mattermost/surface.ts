// The key-value store of Mattermost Apps, as its clients know it: byte for byte, on Node's own objects.
//
// Nothing of Fastify is in the way: drivers send bodies without a Content-Type, a JSON type without a body, and any method.
// The order of checks is the plugin's: path and method, size, token, JSON, and, where its code is followed, the prefix.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { finished } from 'node:stream'
import { TrivetError } from '../../errors.ts'
import type { Executed, NodeSurface, WaitOptions, WriteTiming } from '../../node/surface.ts'
import { ownStore, placeOf } from '../../store/places.ts'
import { type Command, isOutcome, type Token } from '../../store/types.ts'
import { Tokens } from '../access.ts'
import type { Answers, Logger } from '../answers.ts'
import { timingText } from '../app.ts'
import { answerUnread, type BodyReader, hasUnreadBody } from '../body.ts'
import { ClientGone, type Connections } from '../connections.ts'
import { requestTimeout } from '../gate.ts'
import type { Metrics } from '../metrics.ts'
import { asTrivetError, problemHeaders } from '../problem.ts'
import { headers } from '../protocol.ts'
import { secretOf } from './secret.ts'
import { basePath, type KeyPath, type MattermostTarget, mattermostTarget, prefixMistake } from './target.ts'

export type MattermostSettings = {
  /** Follow what the plugin's code does where its documentation says otherwise. */
  readonly strict: boolean
  /** The largest value, in bytes. */
  readonly valueBytes: number
}

/** The largest value that Mattermost takes, in bytes. */
const mattermostValueBytes = 8192

export const defaultMattermost: MattermostSettings = { strict: false, valueBytes: mattermostValueBytes }

const served = ['GET', 'POST', 'PUT', 'DELETE'] as const
type Method = (typeof served)[number]

const jsonType = 'application/json'

/** An answer before it has the headers of every answer. */
type Reply = {
  readonly status: number
  readonly body: Uint8Array | string
  readonly headers: readonly (readonly [string, string])[]
}

/** A request on its way. */
type Call = WaitOptions & {
  readonly id: string
  /** As `Tokens` knows it. */
  readonly authorization: string
  readonly tokenHash: string
  /** As last judged. */
  token: Token | undefined
  /** Of the state the answer was made at, where that is not simply the one of now. */
  revision: number | undefined
  /** Where the time of its write went. */
  timing: WriteTiming | undefined
}

type SurfaceParts = {
  readonly node: NodeSurface
  readonly answers: Answers
  readonly connections: Connections
  readonly bodies: BodyReader
  readonly metrics: Metrics
  readonly logger: Logger
  readonly settings: MattermostSettings
  /** The longest key, prefix and slash included, in bytes. */
  readonly keyBytes: number
}

export class MattermostSurface {
  readonly #parts: SurfaceParts
  readonly #tokens: Tokens

  constructor(parts: SurfaceParts) {
    this.#parts = parts
    this.#tokens = new Tokens(parts.node.state)
  }

  /** Answers a request whose path is below the base path. False, and nothing done, for every other. */
  takes(message: IncomingMessage, response: ServerResponse): boolean {
    const target = mattermostTarget(message.url ?? '/')
    if (target === undefined) return false
    void this.#serve(message, response, target)
    return true
  }

  async #serve(message: IncomingMessage, response: ServerResponse, target: MattermostTarget): Promise<void> {
    const { answers, logger, metrics } = this.#parts
    const began = performance.now()
    const id = answers.nextId()
    let call: Call | undefined
    let reply: Reply
    try {
      const [method, key] = routed(message.method, target)
      const value = method === 'POST' || method === 'PUT' ? await this.#readValue(message) : undefined
      call = this.#enter(message, id)
      reply = await this.#answer(method, key, value, call)
    } catch (thrown) {
      if (thrown instanceof ClientGone) {
        logger.debug({ request: id }, 'the client has gone')
        response.destroy()
        return
      }
      const error = asTrivetError(thrown)
      if (error.code === 'internal') {
        logger.error({ request: id, method: message.method, err: error.cause ?? error }, 'a request failed')
      }
      metrics.failed(error.code)
      reply = this.#refusal(error)
    }
    this.#send(message, response, reply, call, id)
    const { method = '', url } = message
    const { status } = reply
    finished(response, () =>
      metrics.took({ method, route: `${basePath}/{key}`, status }, performance.now() - began),
    )
    // Without the query, which may hold a token.
    const path = url?.replace(/\?.*/s, '')
    logger.debug({ request: id, method, path, status, token: call?.token?.name }, 'answered')
  }

  #readValue(message: IncomingMessage): Promise<Uint8Array> {
    const bytes = this.#parts.settings.valueBytes
    return this.#parts.bodies.read(message, { code: 'request-too-large', bytes })
  }

  #enter(message: IncomingMessage, id: string): Call {
    const authorization = `Bearer ${secretOf(message) ?? ''}`
    const timeout = requestTimeout(message)
    if (timeout instanceof TrivetError) throw timeout
    return {
      id,
      authorization,
      tokenHash: this.#tokens.hashOf(authorization),
      token: undefined,
      deadline: performance.now() + timeout,
      signal: this.#parts.connections.goneSignal(message),
      revision: undefined,
      timing: undefined,
    }
  }

  async #answer(method: Method, target: KeyPath, value: Uint8Array | undefined, call: Call): Promise<Reply> {
    switch (method) {
      case 'GET':
        return this.#get(target, call)
      case 'POST':
      case 'PUT':
        return this.#set(target, value ?? new Uint8Array(0), call)
      case 'DELETE':
        return this.#delete(target, call)
      default:
        return method satisfies never
    }
  }

  async #get(target: KeyPath, call: Call): Promise<Reply> {
    const { node } = this.#parts
    await node.barrier(call)
    const token = this.#judge(call)
    this.#checkKey(target)
    const item = await node.state.get(placeOf(token.principal, ownStore), target.key)
    // A page that is stored as a value is not to run as one of ours.
    const guards = [
      ['X-Content-Type-Options', 'nosniff'],
      ['Content-Security-Policy', 'sandbox'],
    ] as const
    return { status: 200, body: item?.value ?? '{}', headers: [['Content-Type', jsonType], ...guards] }
  }

  async #set(target: KeyPath, value: Uint8Array, call: Call): Promise<Reply> {
    await this.#judgeSurely(call)
    if (!isJson(value)) throw invalid('payload is not valid json')
    this.#checkKey(target)
    const { tokenHash: token } = call
    const set = { type: 'set', store: ownStore, key: target.key, value, contentType: jsonType } as const
    const { strict } = this.#parts.settings
    let changed = true
    if (strict) {
      await this.#decide({ ...set, token, conditions: [] }, 'set', call)
    } else {
      // What a set calls changed goes by the type too, and on /v1 the same bytes may have been given another.
      const same = { type: 'value', store: ownStore, key: target.key, value } as const
      // biome-ignore lint/suspicious/noThenProperty: the contract's name for it; a command is never awaited.
      const command = { type: 'transaction', token, if: [same], then: [set], else: [set] } as const
      changed = !(await this.#decide(command, 'transaction', call)).succeeded
    }
    return {
      status: 200,
      body: `${JSON.stringify({ changed })}\n`,
      headers: [['Content-Type', jsonType]],
    }
  }

  async #delete(target: KeyPath, call: Call): Promise<Reply> {
    await this.#judgeSurely(call)
    this.#checkKey(target)
    const command = { type: 'delete', store: ownStore, key: target.key, conditions: [] } as const
    await this.#decide({ ...command, token: call.tokenHash }, 'deleted', call)
    return { status: 200, body: '', headers: [] }
  }

  /** Has a command decided. Throws what apply refused. */
  async #decide<Type extends 'set' | 'transaction' | 'deleted'>(
    command: Command,
    type: Type,
    call: Call,
  ): Promise<Extract<Executed['outcome'], { type: Type }>> {
    const { outcome, revision, timing } = await this.#parts.node.execute(command, call)
    call.revision = revision
    call.timing = timing
    if (outcome.type === 'refused') {
      throw new TrivetError(outcome.code, `The command was refused: ${outcome.code}`, {
        limit: outcome.limit,
      })
    }
    if (!isOutcome(outcome, type)) {
      throw new Error(`the node answered ${outcome.type} to a command whose success is ${type}`)
    }
    return outcome
  }

  /** Judges in this node's state as it is; whom that would refuse is judged again after a barrier. */
  async #judgeSurely(call: Call): Promise<void> {
    try {
      this.#judge(call)
    } catch {
      await this.#parts.node.barrier(call)
      this.#judge(call)
    }
  }

  #judge(call: Call): Token {
    const token = this.#tokens.find(call.authorization, call.tokenHash)
    if (token === undefined) throw new TrivetError('unauthenticated', 'This token is not valid')
    call.token = token
    if (token.principal.type !== 'app') {
      throw new TrivetError('access-denied', `The token ${token.name} is not an app's`)
    }
    return token
  }

  #checkKey(target: KeyPath): void {
    const { settings, keyBytes } = this.#parts
    const mistake = settings.strict ? prefixMistake(target) : undefined
    if (mistake !== undefined) throw new TrivetError('invalid-key', mistake)
    if (target.key.length > keyBytes) {
      throw invalid(`prefix and key have at most ${keyBytes} bytes, these have ${target.key.length}`)
    }
  }

  /** An error in the plugin's words. What it has no words for goes out with ours. */
  #refusal(error: TrivetError): Reply {
    const [status, text] = this.#inWords(error)
    const list = problemHeaders(error).filter(([name]) => name !== 'WWW-Authenticate')
    if (text === '') return { status, body: '', headers: [...list, ['Allow', served.join(', ')]] }
    return {
      status,
      body: `${text}\n`,
      headers: [
        ...list,
        ['Content-Type', 'text/plain; charset=utf-8'],
        ['X-Content-Type-Options', 'nosniff'],
      ],
    }
  }

  #inWords(error: TrivetError): readonly [status: number, text: string] {
    switch (error.code) {
      case 'unauthenticated':
        return [401, 'user ID is required: unauthorized']
      case 'access-denied':
        return [401, 'not an app session: unauthorized']
      case 'invalid-request':
        return [400, `${error.detail}: invalid input`]
      case 'invalid-key':
        return [500, error.detail]
      case 'request-too-large':
      case 'value-too-large':
        return [500, `size limit of ${sizeInWords(error.limit ?? this.#parts.settings.valueBytes)} exceeded`]
      case 'not-found':
        return [404, '404 page not found']
      case 'method-not-allowed':
        return [405, '']
      default:
        return [error.status, error.detail]
    }
  }

  #send(
    message: IncomingMessage,
    response: ServerResponse,
    reply: Reply,
    call: Call | undefined,
    id: string,
  ): void {
    const { answers } = this.#parts
    const list = [...answers.headersOf(id, message), ...reply.headers]
    if (call?.revision !== undefined) list.push([headers.revision, String(call.revision)])
    if (call?.timing !== undefined) list.push(['Server-Timing', timingText(call.timing)])
    const body = typeof reply.body === 'string' ? Buffer.from(reply.body) : reply.body
    if (hasUnreadBody(message)) {
      answerUnread(message, response, { status: reply.status, headers: list, body })
      return
    }
    if (answers.draining) list.push(['Connection', 'close'])
    response.writeHead(reply.status, { ...Object.fromEntries(list), 'Content-Length': body.length })
    response.end(message.method === 'HEAD' ? undefined : body)
  }
}

/** Which method is asked for of which key. Throws as the plugin's router answers. */
function routed(method: string | undefined, target: MattermostTarget): readonly [Method, KeyPath] {
  if (target.type === 'malformed') throw invalid('path is not percent-encoded UTF-8')
  if (target.type === 'nothing') throw new TrivetError('not-found', 'There is no such route')
  const known = served.find((one) => one === method)
  if (known === undefined)
    throw new TrivetError('method-not-allowed', `This path serves ${served.join(', ')}`)
  return [known, target]
}

function invalid(detail: string): TrivetError {
  return new TrivetError('invalid-request', detail)
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Whether these bytes are one JSON text. They are stored as they came. */
function isJson(bytes: Uint8Array): boolean {
  try {
    JSON.parse(utf8.decode(bytes))
    return true
  } catch {
    // No UTF-8, or no JSON: the two errors there are, and the answer here.
    return false
  }
}

/** In the words of the plugin, whose limit is `8Kb`. */
function sizeInWords(bytes: number): string {
  return bytes % 1024 === 0 ? `${bytes / 1024}Kb` : `${bytes} bytes`
}
