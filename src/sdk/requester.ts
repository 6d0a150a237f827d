// One request until it is answered: endpoints in turn, back-off between rounds, one deadline, and no write sent twice.

import { headers as fieldNames, timeouts } from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import { readCluster } from './answers.ts'
import { Discovery } from './discovery.ts'
import { Endpoints } from './endpoints.ts'
import {
  type Answer,
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

export type ApiRequest = {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  /** From `/v1` on, encoded. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array<ArrayBuffer> | string
  /** Whether it may change state: then it is sent again only after proof that nothing happened. */
  readonly write: boolean
  readonly signal?: AbortSignal | undefined
}

const firstPauseMs = 25
const longestPauseMs = 1000
/** With less than this left, another try is no use. */
const leastAttemptMs = 20

/** One call on its way through several attempts. */
type Call = {
  readonly request: ApiRequest
  readonly deadline: number
  /** Per endpoint: how often it failed in this call, and when it may be asked again. */
  readonly tried: Map<string, { readonly failures: number; readonly notBefore: number }>
  pausedUntil: number
  lastError: TrivetError | undefined
}

type RequesterOptions = {
  readonly endpoints: readonly string[]
  readonly token: TokenSource | undefined
  readonly timeoutMs: number
  readonly fetch: Fetch
  readonly random: () => number
  /** Follow the members of the cluster. */
  readonly discover: boolean
}

/** Sends requests to whichever endpoint takes them. */
export class Requester {
  readonly #endpoints: Endpoints
  readonly #token: TokenSource | undefined
  readonly #timeoutMs: number
  readonly #fetch: Fetch
  readonly #random: () => number
  readonly #discovery: Discovery | undefined

  constructor(options: RequesterOptions) {
    this.#endpoints = new Endpoints(options.endpoints, options.random)
    this.#token = options.token
    this.#timeoutMs = options.timeoutMs
    this.#fetch = options.fetch
    this.#random = options.random
    if (!options.discover) return
    this.#discovery = new Discovery({
      load: async () => readCluster(await this.send({ method: 'GET', path: '/v1/cluster', write: false })),
      follow: (addresses) => this.#endpoints.follow(addresses),
      now: () => performance.now(),
    })
  }

  /** Nothing is asked any more but by `send`. */
  close(): void {
    this.#discovery?.stop()
  }

  /**
   * Resolves with an answer of 2xx. Rejects with a `TrivetError`, with the signal's reason, or with what the token
   * source rejected with; for a write that was under way when the signal fired, with `outcome-unknown`.
   */
  async send(request: ApiRequest): Promise<Answer> {
    request.signal?.throwIfAborted()
    this.#discovery?.used()
    const call: Call = {
      request,
      deadline: performance.now() + this.#timeoutMs,
      tried: new Map(),
      pausedUntil: 0,
      lastError: undefined,
    }
    for (;;) {
      const { endpoint, at } = this.#next(call)
      if (call.lastError !== undefined && at + leastAttemptMs > call.deadline) throw call.lastError
      await sleep(at - performance.now(), request.signal)
      const verdict = await this.#attempt(call, endpoint)
      if (verdict.type === 'done') return verdict.answer
      if (verdict.type === 'retry' || verdict.suspect) this.#discovery?.trouble()
      if (verdict.type === 'failed') {
        if (verdict.suspect) this.#endpoints.penalise(endpoint, performance.now())
        throw verdict.error
      }
      this.#note(call, endpoint, verdict)
    }
  }

  /** The endpoint that may be asked soonest; among equals the preferred one. Untried ones may be asked at once. */
  #next(call: Call): { endpoint: string; at: number } {
    const now = performance.now()
    const choices = this.#endpoints.ordered(now).map((endpoint) => {
      const { failures, notBefore } = call.tried.get(endpoint) ?? { failures: 0, notBefore: 0 }
      return { endpoint, failures, at: Math.max(now, call.pausedUntil, notBefore) }
    })
    return choices.reduce((best, choice) =>
      choice.at < best.at || (choice.at === best.at && choice.failures < best.failures) ? choice : best,
    )
  }

  #note(call: Call, endpoint: string, verdict: Extract<Verdict, { type: 'retry' }>): void {
    const now = performance.now()
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
    // A read that hangs harms nobody when it is given up, so half of the time is kept for the other endpoints.
    const patience =
      request.write || this.#endpoints.size === 1 ? left : Math.min(left, Math.max(250, left / 2))
    const aborter = new AbortController()
    const cut = { by: undefined as 'caller' | 'time' | undefined }
    const abort = (by: 'caller' | 'time'): void => {
      cut.by ??= by
      aborter.abort()
    }
    const onAbort = (): void => abort('caller')
    const timers = [setTimeout(() => abort('time'), left), setTimeout(() => abort('time'), patience)]
    const progress = { sent: false, headers: () => clearTimeout(timers[1]) }
    request.signal?.addEventListener('abort', onAbort, { once: true })
    try {
      const exchange = this.#exchange(request, { endpoint, patience, signal: aborter.signal, progress })
      // Raced, so that neither a token source nor a fetch that ignores signals holds a call past its deadline.
      const answer = await Promise.race([exchange, rejection(aborter.signal)])
      const verdict = judgeAnswer(answer, request.write)
      const sound = verdict.type === 'done' || (verdict.type === 'failed' && !verdict.suspect)
      if (answer.headers.get(fieldNames.draining) === 'true')
        this.#endpoints.penalise(endpoint, performance.now())
      else if (sound) this.#endpoints.prefer(endpoint)
      return verdict
    } catch (cause) {
      if (cut.by === 'caller') {
        const reason: unknown = request.signal?.reason
        const unknown = request.write && progress.sent
        const error = unknown ? unknownOutcome('it was aborted after it had been sent', reason) : reason
        return { type: 'failed', error, suspect: false }
      }
      if (cut.by === 'time')
        return judgeSilence(request.write && progress.sent, endpoint, performance.now() - start)
      if (!progress.sent) return { type: 'failed', error: cause, suspect: false }
      return judgeFailure(cause, request.write, endpoint)
    } finally {
      for (const timer of timers) clearTimeout(timer)
      request.signal?.removeEventListener('abort', onAbort)
    }
  }

  async #exchange(
    request: ApiRequest,
    way: {
      readonly endpoint: string
      readonly patience: number
      readonly signal: AbortSignal
      readonly progress: { sent: boolean; readonly headers: () => void }
    },
  ): Promise<Answer> {
    const headers = new Headers(request.headers)
    const token = typeof this.#token === 'function' ? await this.#token() : this.#token
    if (token !== undefined) headers.set('Authorization', `Bearer ${checkToken(token)}`)
    headers.set(fieldNames.timeout, `${serverTimeout(way.patience)}ms`)
    way.signal.throwIfAborted()
    way.progress.sent = true
    const response = await this.#fetch(`${way.endpoint}${request.path}`, {
      method: request.method,
      headers,
      ...(request.body === undefined ? {} : { body: request.body }),
      signal: way.signal,
      // No answer of ours is a redirect, no cookie or cache of a browser has a say in a read.
      redirect: 'manual',
      credentials: 'omit',
      cache: 'no-store',
    })
    way.progress.headers()
    const body = new Uint8Array(await response.arrayBuffer())
    return { status: response.status, headers: response.headers, body, endpoint: way.endpoint }
  }
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

function rejection(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}

async function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted()
  if (milliseconds <= 0) return
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, milliseconds)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
