// One request until it is answered: endpoints in turn, back-off between rounds, one deadline, and no write applied twice.

import { headers as fieldNames, timeouts } from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import { readCluster, readSession } from './answers.ts'
import { Discovery } from './discovery.ts'
import { Endpoints } from './endpoints.ts'
import type { SingleOperation } from './operations.ts'
import { type Load, Packer } from './packer.ts'
import { KeyPerWrite, type Place, type Places, WriteSession } from './session.ts'
import type { Delivery, HttpRequest, Trip } from './shipment.ts'
import { sleep } from './sleep.ts'
import {
  type Answer,
  type Effect,
  judgeAnswer,
  judgeFailure,
  judgeSilence,
  unknownOutcome,
  type Verdict,
} from './verdict.ts'

/** The part of `fetch` that the client uses. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>

/** The secret itself, or where to get it: asked before every request, so that it may be replaced meanwhile. */
export type TokenSource = string | (() => string | Promise<string>)

/** What is asked, and how it may be sent again. */
export type ApiRequest = Asking & {
  readonly effect: Effect
  readonly signal?: AbortSignal | undefined
}

type Asking =
  | (HttpRequest & { readonly operation?: never })
  /** An operation that may travel with others. `single` makes its own route; undefined where its key fits into no URL. */
  | { readonly operation: SingleOperation; readonly single: () => HttpRequest | undefined }

const firstPauseMs = 25
const longestPauseMs = 1000
/** With less than this left, another try is no use. */
const leastAttemptMs = 20
/** How long a leader may take to answer a write while others can be asked. */
const leaderMs = 2000
/** How long a node may take to say who it is. */
const meetingMs = 2000

/** No answer of ours is a redirect, no cookie or cache of a browser has a say in a read. */
const plainly = { redirect: 'manual', credentials: 'omit', cache: 'no-store' } as const

/** One call on its way through several attempts. */
type Call = {
  readonly request: ApiRequest
  readonly deadline: number
  /** Per endpoint: how often it failed in this call, and when it may be asked again. Undefined before the first failure. */
  tried: Map<string, { readonly failures: number; readonly notBefore: number }> | undefined
  pausedUntil: number
  lastError: TrivetError | undefined
  /** Of a write that goes through the session, once it has one. */
  place: Place | undefined
  /** Why the write may have had its effect already: then only what settles it is an answer. */
  doubt: TrivetError | undefined
}

type RequesterOptions = {
  readonly endpoints: readonly string[]
  readonly token: TokenSource | undefined
  readonly timeoutMs: number
  readonly fetch: Fetch
  readonly random: () => number
  /** Follow the members of the cluster. */
  readonly discover: boolean
  /** Give each write an idempotency key of its own instead of a number in a session. */
  readonly fewWrites: boolean
}

/** Sends requests to whichever endpoint takes them. */
export class Requester {
  readonly #endpoints: Endpoints
  readonly #token: TokenSource | undefined
  readonly #timeoutMs: number
  readonly #fetch: Fetch
  readonly #random: () => number
  readonly #discovery: Discovery | undefined
  readonly #places: Places
  readonly #packer = new Packer((...args) => this.#post(...args))
  /** The leader that is looked for, and where somebody was asked who they are. */
  #lookedFor: string | undefined
  readonly #looked = new Set<string>()
  readonly #closing = new AbortController()

  constructor(options: RequesterOptions) {
    this.#endpoints = new Endpoints(options.endpoints, options.random)
    this.#token = options.token
    this.#timeoutMs = options.timeoutMs
    this.#fetch = options.fetch
    this.#random = options.random
    const opening = { method: 'POST', path: '/v1/sessions', effect: 'none' } as const
    const open = async (): Promise<string> => readSession(await this.send(opening))
    this.#places = options.fewWrites ? new KeyPerWrite() : new WriteSession(open)
    if (!options.discover) return
    this.#discovery = new Discovery({
      load: async () => readCluster(await this.send({ method: 'GET', path: '/v1/cluster', effect: 'none' })),
      follow: (addresses) => this.#endpoints.follow(addresses),
      now: () => performance.now(),
    })
  }

  /** How long a call may take. */
  get timeoutMs(): number {
    return this.#timeoutMs
  }

  /** Nothing is asked any more but by `send`. */
  close(): void {
    this.#discovery?.stop()
    this.#closing.abort()
  }

  /** What came from this endpoint broke off, after its request had been answered. */
  suspect(endpoint: string): void {
    this.#endpoints.penalise(endpoint, performance.now())
    this.#discovery?.trouble()
  }

  /**
   * Resolves with an answer of 2xx. Rejects with a `TrivetError`, with the signal's reason, or with what the token
   * source rejected with; for a write that may have been under way then, with `outcome-unknown`.
   */
  async send(request: ApiRequest): Promise<Answer> {
    request.signal?.throwIfAborted()
    this.#discovery?.used()
    const call: Call = {
      request,
      deadline: performance.now() + this.#timeoutMs,
      tried: undefined,
      pausedUntil: 0,
      lastError: undefined,
      place: undefined,
      doubt: undefined,
    }
    try {
      return await this.#try(call)
    } finally {
      call.place?.end()
    }
  }

  async #try(call: Call): Promise<Answer> {
    for (;;) {
      const endpoint =
        this.#readyNow(call) ??
        (await this.#ready(call).catch((error: unknown) => {
          throw givenUp(call, error)
        }))
      const verdict = await this.#attempt(call, endpoint)
      if (verdict.type === 'retry' || (verdict.type === 'failed' && verdict.suspect))
        this.#discovery?.trouble()
      switch (verdict.type) {
        case 'done':
          return verdict.answer
        case 'failed':
          if (verdict.suspect) this.#endpoints.penalise(endpoint, performance.now())
          throw verdict.settled ? verdict.error : givenUp(call, verdict.error)
        case 'expired':
          // What an earlier try came to is forgotten with the session.
          if (call.doubt !== undefined) throw givenUp(call, verdict.error)
          call.place?.expired()
          call.place?.end()
          call.place = undefined
          this.#note(call, endpoint, { error: verdict.error, pause: 0, everywhere: true })
          break
        case 'retry':
          if (verdict.doubt) call.doubt ??= verdict.error
          this.#note(call, endpoint, verdict)
          break
        default:
          verdict satisfies never
      }
    }
  }

  /** What most calls find at once: a place in the session, and an endpoint that gave no trouble. */
  #readyNow(call: Call): string | undefined {
    if (call.tried !== undefined) return undefined
    if (call.request.effect === 'once') call.place ??= this.#places.now()
    if (call.request.effect === 'once' && call.place === undefined) return undefined
    return this.#endpoints.undisputed(performance.now(), isWrite(call.request))
  }

  /** Waits for the next try: for a place in the session, and for an endpoint that may be asked. */
  async #ready(call: Call): Promise<string> {
    const { request, deadline } = call
    if (request.effect === 'once')
      call.place ??= await this.#places.take({ deadline, signal: request.signal })
    const { endpoint, at } = this.#next(call)
    if (call.lastError !== undefined && at + leastAttemptMs > deadline) throw call.lastError
    await sleep(at - performance.now(), request.signal)
    return endpoint
  }

  /** The endpoint that may be asked soonest; among equals the preferred one. Untried ones may be asked at once. */
  #next(call: Call): { endpoint: string; at: number } {
    const now = performance.now()
    const choices = this.#endpoints.ordered(now, isWrite(call.request)).map((endpoint) => {
      const { failures, notBefore } = call.tried?.get(endpoint) ?? { failures: 0, notBefore: 0 }
      return { endpoint, failures, at: Math.max(now, call.pausedUntil, notBefore) }
    })
    return choices.reduce((best, choice) =>
      choice.at < best.at || (choice.at === best.at && choice.failures < best.failures) ? choice : best,
    )
  }

  #note(
    call: Call,
    endpoint: string,
    verdict: Pick<Extract<Verdict, { type: 'retry' }>, 'error' | 'pause' | 'everywhere'>,
  ): void {
    const now = performance.now()
    call.tried ??= new Map()
    const failures = call.tried.get(endpoint)?.failures ?? 0
    const backOff = Math.min(longestPauseMs, firstPauseMs * 2 ** failures) * (0.5 + this.#random() / 2)
    const notBefore = now + verdict.pause + backOff
    call.tried.set(endpoint, { failures: failures + 1, notBefore })
    if (verdict.everywhere) call.pausedUntil = notBefore
    else this.#endpoints.penalise(endpoint, now)
    // What a node said tells more than that another one could not be asked.
    if (call.lastError === undefined || verdict.error.code !== 'deadline-exceeded')
      call.lastError = verdict.error
  }

  async #attempt(call: Call, endpoint: string): Promise<Verdict> {
    const { request } = call
    const start = performance.now()
    const left = Math.max(1, call.deadline - start)
    const { effect, signal } = request
    // What may be sent again is given up when it hangs, so that half of the time is kept for the other endpoints. Others have a
    // new leader sooner than that when the old one hangs or is cut off: what takes no time to send waits for it no longer.
    const isOnly = effect === 'unguarded' || this.#endpoints.size === 1
    const isQuick = effect === 'once' && request.operation !== undefined
    const most = isQuick && this.#endpoints.leads(endpoint) ? Math.min(left / 2, leaderMs) : left / 2
    const patience = isOnly ? left : Math.min(left, Math.max(250, most))
    const { place } = call
    const delivery = await this.#packer.send({
      endpoint,
      effect,
      place,
      signal,
      patience: start + patience,
      deadline: start + left,
      ...loadOf(request),
    })
    return this.#judge(delivery, { request, endpoint, start })
  }

  #judge(
    delivery: Delivery,
    {
      request: { effect, signal },
      endpoint,
      start,
    }: { readonly request: ApiRequest; readonly endpoint: string; readonly start: number },
  ): Verdict {
    switch (delivery.type) {
      case 'answered': {
        const { answer } = delivery
        const verdict = judgeAnswer(answer, effect)
        const sound = verdict.type === 'failed' ? !verdict.suspect : verdict.type !== 'retry'
        if (answer.draining === true) this.#endpoints.penalise(endpoint, performance.now())
        else if (sound) this.#endpoints.prefer(endpoint, isWrite({ effect }))
        return verdict
      }
      case 'aborted': {
        const reason: unknown = signal?.reason
        const unknown = effect !== 'none' && delivery.sent
        const error = unknown ? unknownOutcome('it was aborted after it had been sent', reason) : reason
        return { type: 'failed', error, suspect: false, settled: false }
      }
      case 'late':
        return judgeSilence(delivery.sent ? effect : 'none', endpoint, performance.now() - start)
      case 'failed':
        if (!delivery.sent) return { type: 'failed', error: delivery.cause, suspect: false, settled: false }
        return judgeFailure(delivery.cause, effect, endpoint)
      default:
        return delivery satisfies never
    }
  }

  /** Asks who is at the addresses where this leader may be, each once. Nobody waits for it. */
  #lookFor(leader: string): void {
    if (this.#lookedFor !== leader) {
      this.#lookedFor = leader
      this.#looked.clear()
    }
    for (const address of this.#endpoints.strangers) {
      if (this.#looked.has(address)) continue
      this.#looked.add(address)
      void this.#meet(address)
    }
  }

  async #meet(address: string): Promise<void> {
    try {
      const response = await this.#fetch(`${address}/livez`, {
        ...plainly,
        method: 'GET',
        signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout(meetingMs)]),
      })
      const { headers } = response
      this.#endpoints.heard(address, headers.get(fieldNames.node), headers.get(fieldNames.leader))
      await response.arrayBuffer()
    } catch {
      // Whoever is asked for something there says what is wrong.
    }
  }

  /** One exchange over HTTP. */
  async #post(endpoint: string, request: HttpRequest, trip: Trip): Promise<Answer> {
    const headers = new Headers(request.headers)
    const token = typeof this.#token === 'function' ? await this.#token() : this.#token
    if (token !== undefined) headers.set('Authorization', `Bearer ${checkToken(token)}`)
    headers.set(fieldNames.timeout, `${serverTimeout(trip.patience)}ms`)
    trip.signal.throwIfAborted()
    trip.onSent()
    const response = await this.#fetch(`${endpoint}${request.path}`, {
      ...plainly,
      method: request.method,
      headers,
      ...(request.body === undefined ? {} : { body: request.body }),
      signal: trip.signal,
    })
    trip.onHeaders()
    const { status } = response
    const draining = response.headers.get(fieldNames.draining) === 'true'
    const leader = response.headers.get(fieldNames.leader)
    this.#endpoints.heard(endpoint, response.headers.get(fieldNames.node), leader)
    if (leader !== null) this.#lookFor(leader)
    const answer = { status, headers: response.headers, draining, endpoint }
    if (request.streams === true && response.ok && response.body !== null)
      return { ...answer, body: new Uint8Array(0), stream: response.body }
    return { ...answer, body: new Uint8Array(await response.arrayBuffer()) }
  }
}

function isWrite({ effect }: Pick<ApiRequest, 'effect'>): boolean {
  return effect !== 'none'
}

function loadOf(request: ApiRequest): Load {
  if (request.operation === undefined) return { request }
  const { operation, single } = request
  return { operation, single }
}

/** What a call rejects with that ends so: once a try is in doubt, nothing that merely stops it is the whole truth. */
function givenUp({ doubt }: Call, error: unknown): unknown {
  if (doubt === undefined || (error instanceof TrivetError && error.code === 'outcome-unknown')) return error
  return new TrivetError('outcome-unknown', doubt.detail, { cause: error })
}

/** A little less than the client waits, so that the server's own verdict arrives in time; within the contract's bounds. */
function serverTimeout(patience: number): number {
  const verdictMs = Math.min(250, patience / 10)
  return Math.min(timeouts.most, Math.max(timeouts.least, Math.floor(patience - verdictMs)))
}

/** Checked here, because the error of `Headers` would quote the secret. */
function checkToken(token: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new TrivetError(
    'invalid-request',
    'The token must be visible ASCII characters, at least one, without spaces',
    {
      field: 'token',
    },
  )
}
