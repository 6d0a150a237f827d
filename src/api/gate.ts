// The gate every request passes: who asks, whether it may, against which state that is judged, and what is refused before its handler.
//
// A token is judged in the state that answers (safety rule 20). For a linearizable read that is the state after a barrier.
// A write is judged here only to refuse early, and again when it is applied. Whatever this node would refuse by itself it
// refuses only after a barrier, because the grant may be older here than elsewhere. The order of checks is 401, 403,
// 404 no-such-store, 400, and, in the handlers, 413 and 412.

import assert from 'node:assert/strict'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { FastifyRequest, onRequestHookHandler } from 'fastify'
import { parseDuration } from '../duration.ts'
import { TrivetError } from '../errors.ts'
import type { NodeSurface } from '../node/surface.ts'
import { permits, type Target } from '../store/grants.ts'
import { type Place, placeOf } from '../store/places.ts'
import type { StoreStatus, Token } from '../store/types.ts'
import { Tokens } from './access.ts'
import { type ConditionalHeader, refuseOtherConditions } from './conditions.ts'
import type { Connections } from './connections.ts'
import { repeatHeaders } from './once.ts'
import { timeouts } from './protocol.ts'
import { decodeKey, queryMistake, rawKey } from './url.ts'

/** Whom a route is open to. Every route says it, and the server refuses to start with one that does not. */
type Need =
  /** Anybody, without a token. */
  | { readonly type: 'nothing' }
  /** Any token at all. */
  | { readonly type: 'token' }
  /** A token that may open stores: not a monitor's. */
  | { readonly type: 'holder' }
  | { readonly type: 'admin' }
  /** An admin's token, or a component's that may mint. What that one may do is judged in apply. */
  | { readonly type: 'minter' }
  /** A token that may watch the cluster, an admin's or a monitor's; no token at all where that is open (`openToLoopback`). */
  | { readonly type: 'overseer' }
  /** A grant for the route's `:store`: for its key, for the range of its `prefix` parameter, or for any part of it. */
  | {
      readonly type: 'store'
      readonly access: 'read' | 'read-write'
      readonly over: 'key' | 'range' | 'store'
    }

export type Rule = {
  readonly need: Need
  /** When a token is judged: `read` after a barrier (unless stale), `write` at once, `local` without being sure (`/v1/cluster`). */
  readonly judged: 'read' | 'write' | 'local'
  /** The conditional headers this route honours. */
  readonly conditions?: readonly ConditionalHeader[]
  /** The query parameters that may be given more than once. */
  readonly mayRepeat?: readonly string[]
  /** Whether it honours `Idempotency-Key` and `Trivet-Session`. */
  readonly repeatable?: boolean
}

/** A request that passed the gate. Serves as `WaitOptions` for the node. */
export type Call = {
  /** Of the secret it came with; what commands carry. */
  readonly tokenHash: string
  /** As last judged. */
  readonly token: Token
  /** On the clock of `performance.now()`. */
  readonly deadline: number
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal
  /** Answered from this node's own state, because that was asked for. */
  readonly stale: boolean
  /** The route's store; empty where it names none. */
  readonly store: string
  /** The store as it was when the token was judged; undefined where the route names none. */
  readonly status: StoreStatus | undefined
  /** The route's key; empty where it names none. */
  readonly key: Uint8Array
}

/** What the gate looks at of a request: one of Fastify's, or one that is answered on Node's own objects. */
export type Asked = {
  readonly method: string
  /** The request target as it was sent. */
  readonly target: string
  readonly headers: IncomingHttpHeaders
  /** As `parseQuery` reads it. */
  readonly query: unknown
  /** The store that its path names; empty where it names none. */
  readonly store: string
  readonly message: IncomingMessage
}

/** A call on its way through the gate. */
type Entering = { -readonly [Field in keyof Omit<Call, 'token'>]: Call[Field] } & {
  token: Token | undefined
  readonly authorization: string
  readonly rule: Rule
  /** What the grant must cover; undefined where the route names no store. */
  target: Target | undefined
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the gate; null on routes open to all. */
    call: Call | null
  }
  interface FastifyContextConfig {
    rule?: Rule
  }
}

const noKey = new Uint8Array(0)

/** Lets requests in, one rule per route. */
export class Gate {
  readonly #node: NodeSurface
  readonly #tokens: Tokens
  readonly #connections: Connections
  readonly #keyBytes: number
  readonly #openToLoopback: boolean

  constructor(options: {
    readonly node: NodeSurface
    readonly connections: Connections
    readonly keyBytes: number
    /** Who sits at this machine may oversee it without a token. */
    readonly openToLoopback: boolean
  }) {
    this.#node = options.node
    this.#tokens = new Tokens(options.node.state)
    this.#connections = options.connections
    this.#keyBytes = options.keyBytes
    this.#openToLoopback = options.openToLoopback
  }

  /** What a route's options begin with: `app.route({ ...gate.route(rule), method, url, schema, handler })`. */
  route(rule: Rule): { readonly config: { readonly rule: Rule }; readonly onRequest: onRequestHookHandler } {
    return {
      config: { rule },
      onRequest: (request, _reply, done) => {
        this.#enterRoute(request, rule).then(
          () => done(),
          (error: Error) => done(error),
        )
      },
    }
  }

  /** Waits for what `minRevision` asks for, and judges again: the state that answers is a later one. */
  settle(request: FastifyRequest, minRevision: number | undefined): Promise<Call> {
    const call = callOf(request)
    if (minRevision === undefined) return Promise.resolve(call)
    return this.settleCall(call, { asked: askedOf(request), rule: ruleOf(request) }, minRevision)
  }

  /** The same for a call that `enter` let in. */
  async settleCall(
    call: Call,
    { asked, rule }: { readonly asked: Asked; readonly rule: Rule },
    minRevision: number,
  ): Promise<Call> {
    await this.#node.waitForRevision(minRevision, call)
    const { authorization = '' } = asked.headers
    const entering: Entering = { ...call, authorization, rule, target: undefined }
    entering.target = targetOf(asked, entering)
    await this.#judgeSurely(entering)
    return admitted(entering)
  }

  /**
   * Judges what the body of a request opens besides, or whether a long answer may go on, in this node's state as it is now.
   * Throws the refusal, in the order 401, 403, 404.
   */
  judge(request: FastifyRequest, target?: Target): Call {
    const entering: Entering = {
      ...callOf(request),
      authorization: request.headers.authorization ?? '',
      rule: ruleOf(request),
      target: undefined,
    }
    if (target === undefined) {
      entering.target = targetOf(askedOf(request), entering)
    } else {
      entering.store = target.store
      entering.status = undefined
      entering.target = target
    }
    this.#judge(entering)
    return admitted(entering)
  }

  /** The same for many of one request, at one moment: what it found out about a store it does not look up again. */
  judging(request: FastifyRequest): (target: Target) => Call {
    const calls = new Map<string, Call>()
    return (target) => {
      const known = calls.get(target.store)
      if (known === undefined) {
        const call = this.judge(request, target)
        calls.set(target.store, call)
        return call
      }
      if (!permits(known.token.principal, target)) throw denied(known.token, target)
      return known
    }
  }

  async #enterRoute(request: FastifyRequest, rule: Rule): Promise<void> {
    const asked = askedOf(request)
    if (rule.need.type === 'nothing' || (rule.need.type === 'overseer' && this.#isOpenTo(request))) {
      refuseMistakes(asked, rule)
      return
    }
    // A last slash with nothing after it, which the router takes for a parameter.
    if (rule.need.type === 'store' && asked.store === '') throw notFound()
    request.call = await this.enter(asked, rule)
  }

  /** Lets a request in, as this rule has it. Rejects with the refusal, in the order 401, 403, 404, 400. */
  async enter(asked: Asked, rule: Rule): Promise<Call> {
    const { authorization } = asked.headers
    const timeout = requestTimeout(asked)
    const entering: Entering = {
      authorization: authorization ?? '',
      rule,
      tokenHash: this.#tokens.hashOf(authorization),
      token: undefined,
      deadline: performance.now() + (timeout instanceof TrivetError ? timeouts.default : timeout),
      signal: this.#connections.goneSignal(asked.message),
      stale: rule.judged === 'read' && queryOf(asked)['consistency'] === 'stale',
      store: rule.need.type === 'store' ? asked.store : '',
      status: undefined,
      key: noKey,
      target: undefined,
    }
    const keyMistake = this.#takeKey(asked, entering)
    entering.target = targetOf(asked, entering)
    if (rule.judged === 'read' && !entering.stale) {
      await this.#node.barrier(entering)
      this.#judge(entering)
    } else {
      await this.#judgeSurely(entering)
    }
    if (keyMistake !== undefined) throw keyMistake
    if (timeout instanceof TrivetError) throw timeout
    refuseMistakes(asked, rule)
    return admitted(entering)
  }

  /**
   * Straight from this machine, and meant for it: not through a proxy, which says so, and not from a page of another site whose
   * name was made to lead here.
   */
  #isOpenTo({ socket, headers }: FastifyRequest): boolean {
    if (!this.#openToLoopback || headers.authorization !== undefined) return false
    if (headers['forwarded'] !== undefined || headers['x-forwarded-for'] !== undefined) return false
    return isLoopbackAddress(socket.remoteAddress ?? '') && isLoopbackHost(headers.host ?? '')
  }

  /** Decodes the key of a route that has one. A key that is none is told later: first comes who may know. */
  #takeKey(asked: Asked, entering: Entering): TrivetError | undefined {
    const { need } = entering.rule
    if (need.type !== 'store' || need.over !== 'key') return undefined
    const raw = rawKey(asked.method, asked.target)
    if (raw === undefined) throw notFound()
    try {
      entering.key = decodeKey(raw, this.#keyBytes)
      return undefined
    } catch (error) {
      assert(error instanceof TrivetError)
      return error
    }
  }

  /** Judges in this node's state as it is; whom that would refuse is judged again after a barrier. */
  async #judgeSurely(entering: Entering): Promise<void> {
    try {
      this.#judge(entering)
    } catch (refusal) {
      assert(refusal instanceof TrivetError)
      await this.#node.barrier(entering).catch((error: unknown) => {
        // Without a leader this route still answers, and a refusal from older grants is as good as its answers. A node
        // that does not take part yet has no grants at all: it cannot say of any token that it is not valid.
        const knowsTokens = !(error instanceof TrivetError && error.code === 'not-ready')
        if (entering.rule.judged === 'local' && knowsTokens) throw refusal
        throw error
      })
      this.#judge(entering)
    }
  }

  /** Throws the refusal, in the order 401, 403, 404. */
  #judge(entering: Entering): void {
    const token = this.#tokens.find(entering.authorization, entering.tokenHash)
    if (token === undefined)
      throw new TrivetError('unauthenticated', 'This token is not valid, or not any more')
    entering.token = token
    const { need } = entering.rule
    if (need.type === 'admin' && token.principal.type !== 'admin') {
      throw new TrivetError('access-denied', `The token ${token.name} is not an admin's`)
    }
    if (need.type === 'overseer' && token.principal.type !== 'admin' && token.principal.type !== 'monitor') {
      throw new TrivetError('access-denied', `The token ${token.name} is neither an admin's nor a monitor's`)
    }
    if (need.type === 'minter' && !mayMint(token)) {
      throw new TrivetError('access-denied', `The token ${token.name} may not mint tokens`)
    }
    if (need.type === 'holder' && token.principal.type === 'monitor') {
      throw new TrivetError(
        'access-denied',
        `The token ${token.name} may only watch the cluster, not open stores`,
      )
    }
    const { target } = entering
    if (target === undefined) return
    if (!permits(token.principal, target)) throw denied(token, target)
    entering.status = this.#node.state.store(placeOf(token.principal, target.store))
    if (entering.status === undefined) throw noSuchStore(target.store)
  }
}

/** What the gate found out about a request. Only for handlers of routes that need a token. */
export function callOf(request: FastifyRequest): Call {
  assert(request.call !== null, 'a handler asked for a call on a route that is open to all')
  return request.call
}

/** Where the keys of the call's store lie, for whom it speaks. */
export function placeOfCall(call: Call): Place {
  return placeOf(call.token.principal, call.store)
}

/** The call of a route whose rule names a store, with that store. */
export function storeCallOf(call: Call): StoreStatus {
  assert(call.status !== undefined, 'a handler asked for a store on a route that names none')
  return call.status
}

export function notFound(): TrivetError {
  return new TrivetError('not-found', 'There is no such route')
}

export function noSuchStore(name: string): TrivetError {
  return new TrivetError('no-such-store', `There is no store ${name}`)
}

export function denied(token: Token, target: Target): TrivetError {
  const what = target.access === 'read' ? 'read' : 'write'
  return new TrivetError(
    'access-denied',
    `The token ${token.name} has no grant to ${what} this in the store ${target.store}`,
  )
}

/** The same object, once its token is judged: a copy for every request would only cost. */
function admitted(entering: Entering): Call {
  assert(isJudged(entering), 'a call was admitted before its token was judged')
  return entering
}

function isJudged(entering: Entering): entering is Entering & { token: Token } {
  return entering.token !== undefined
}

function ruleOf(request: FastifyRequest): Rule {
  const { rule } = request.routeOptions.config
  assert(rule !== undefined, 'a route has no rule')
  return rule
}

/** A request of Fastify's as the gate looks at it. */
function askedOf(request: FastifyRequest): Asked {
  const { method, originalUrl: target, headers, query, raw: message } = request
  return { method, target, headers, query, store: paramOf(request, 'store'), message }
}

function targetOf(asked: Asked, entering: Entering): Target | undefined {
  const { need } = entering.rule
  if (need.type !== 'store') return undefined
  const { store } = entering
  if (need.over === 'store') return { store, access: need.access }
  if (need.over === 'range') {
    return { store, access: need.access, within: Buffer.from(queryOf(asked)['prefix'] ?? '') }
  }
  // A key that is none lies under no prefix, but whoever holds any grant here may be told that it is none.
  return { store, access: need.access, within: entering.key.length === 0 ? undefined : entering.key }
}

/** The mistakes any request can make, whatever its route: those of the query's writing, and headers nobody honours. */
function refuseMistakes({ headers, query }: Asked, rule: Rule): void {
  const mistake = queryMistake(query, rule.mayRepeat)
  if (mistake !== undefined) throw mistake
  refuseOtherConditions(headers, rule.conditions ?? [])
  for (const name of repeatHeaders) {
    if (headers[name] === undefined || rule.repeatable === true) continue
    // It would promise what does not hold here: refused rather than ignored.
    throw new TrivetError('invalid-request', `This route cannot honour the header ${name}`, { field: name })
  }
  if (headers['content-encoding'] !== undefined) throw packed('content-encoding')
  const coding = headers['transfer-encoding']
  if (coding !== undefined && coding.toLowerCase() !== 'chunked') throw packed('transfer-encoding')
}

function packed(field: string): TrivetError {
  return new TrivetError(
    'unsupported-media-type',
    `A request packed by ${field} is not taken: send it plain`,
    {
      field,
    },
  )
}

/** How long a request may take, in milliseconds; the mistake in what it says of that, for whoever may be told. */
export function requestTimeout({ headers }: Pick<IncomingMessage, 'headers'>): number | TrivetError {
  const text = headers['trivet-timeout']
  if (text === undefined) return timeouts.default
  const timeout = typeof text === 'string' ? parseDuration(text) : undefined
  if (timeout !== undefined && timeout >= timeouts.least && timeout <= timeouts.most) return timeout
  return new TrivetError(
    'invalid-request',
    'The header Trivet-Timeout must be a duration from 10ms to 60s, such as 500ms or 5s',
    { field: 'trivet-timeout' },
  )
}

function mayMint({ principal }: Token): boolean {
  return principal.type === 'admin' || (principal.type === 'component' && principal.mint === true)
}

function isLoopbackAddress(address: string): boolean {
  return address === '::1' || /^(?:::ffff:)?127\.\d+\.\d+\.\d+$/.test(address)
}

function isLoopbackHost(host: string): boolean {
  return /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?$/i.test(host)
}

function queryOf({ query }: Asked): Readonly<Record<string, string>> {
  return query as Readonly<Record<string, string>>
}

function paramOf(request: FastifyRequest, name: string): string {
  return (request.params as Readonly<Record<string, string>>)[name] ?? ''
}
