// `trivet/mattermost`: the key-value calls of a Mattermost app, against Trivet as against Mattermost: one URL decides which.

import { headers as fieldNames } from '../api/protocol.ts'
import { type ErrorCode, isErrorCode, TrivetError } from '../errors.ts'
import { type Duration, toMilliseconds } from './duration.ts'
import type { Fetch } from './requester.ts'
import { judgeFailure, unknownOutcome } from './verdict.ts'

/** As much of the context of a call as is needed here; Mattermost hands it to an app with every call. */
export type CallContext = {
  readonly mattermost_site_url: string
  readonly bot_access_token?: string | undefined
  readonly acting_user_access_token?: string | undefined
}

export type AppClientOptions = {
  /** How long a call may take; 10 s unless given. A node without a leader holds a call for up to 5 s. */
  readonly timeout?: Duration
  readonly fetch?: Fetch
}

export type AppCallOptions = { readonly signal?: AbortSignal | undefined }

const basePath = '/plugins/com.mattermost.apps/api/v1/kv'
const defaultTimeout = '10s'

/** How a status reads where an answer names no code: from Mattermost itself, or from a proxy. */
const codesByStatus: Readonly<Record<number, ErrorCode>> = {
  400: 'invalid-request',
  401: 'unauthenticated',
  403: 'access-denied',
  404: 'not-found',
  429: 'overloaded',
  503: 'not-ready',
}

/**
 * The keys of one app as its bot, or on behalf of the user who acts. A call is one request, never repeated.
 *
 *     const client = AppClient.asBot(call.context)
 *     await client.kvSet('', 'settings', { theme: { dark: true } })
 *     const settings = await client.kvGet<Settings>('', 'settings')
 */
export class AppClient {
  readonly #base: string
  readonly #token: string
  readonly #fetch: Fetch
  readonly #timeoutMs: number

  private constructor(context: CallContext, token: string, options: AppClientOptions) {
    this.#base = `${context.mattermost_site_url.replace(/\/+$/, '')}${basePath}`
    this.#token = token
    this.#fetch = options.fetch ?? ((url, init) => fetch(url, init))
    this.#timeoutMs = toMilliseconds(options.timeout ?? defaultTimeout, 'timeout')
  }

  /** For the bot's keys. Throws `unauthenticated` when the context has no bot token. */
  static asBot(context: CallContext, options: AppClientOptions = {}): AppClient {
    return new AppClient(context, tokenOf(context, 'bot_access_token'), options)
  }

  /** For the keys of the acting user. Throws `unauthenticated` when the context has no token of theirs. */
  static asActingUser(context: CallContext, options: AppClientOptions = {}): AppClient {
    return new AppClient(context, tokenOf(context, 'acting_user_access_token'), options)
  }

  /**
   * Stores any JSON value; whether it changed what stood there. The prefix is a namespace, '' none. Throws
   * `outcome-unknown` when it may have been stored, or may be yet.
   */
  async kvSet(prefix: string, key: string, value: unknown, options: AppCallOptions = {}): Promise<boolean> {
    // What JSON has no form for: functions, symbols, undefined.
    const body: string | undefined = JSON.stringify(value)
    if (body === undefined) throw new TrivetError('invalid-request', 'This value has no form in JSON')
    const answer = await this.#call('POST', keyUrl(this.#base, prefix, key), { ...options, body })
    const changed = parse(answer, true)
    if (typeof changed === 'object' && changed !== null && 'changed' in changed) {
      if (typeof changed.changed === 'boolean') return changed.changed
    }
    throw foreign(answer, true)
  }

  /** The value, as it was stored; an empty object for a missing key, as Mattermost has it. `T` is believed, not checked. */
  async kvGet<T>(prefix: string, key: string, options: AppCallOptions = {}): Promise<T> {
    const answer = await this.#call('GET', keyUrl(this.#base, prefix, key), options)
    return parse(answer, false) as T
  }

  /** Deletes a key, there or not. Throws `outcome-unknown` when it may have been deleted, or may be yet. */
  async kvDelete(prefix: string, key: string, options: AppCallOptions = {}): Promise<void> {
    await this.#call('DELETE', keyUrl(this.#base, prefix, key), options)
  }

  async #call(
    method: 'GET' | 'POST' | 'DELETE',
    url: string,
    { body, signal }: AppCallOptions & { readonly body?: string },
  ): Promise<Answer> {
    signal?.throwIfAborted()
    const timeout = AbortSignal.timeout(this.#timeoutMs)
    const init: RequestInit = {
      method,
      headers: {
        Authorization: `Bearer ${this.#token}`,
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body }),
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      // One to another host would be followed without the token, and a POST as a GET.
      redirect: 'error',
    }
    const isWrite = method !== 'GET'
    let answer: Answer
    try {
      const response = await this.#fetch(url, init)
      const { status, headers } = response
      answer = { status, code: headers.get(fieldNames.error) ?? '', text: await response.text() }
    } catch (cause) {
      const verdict = judgeFailure(cause, isWrite ? 'unguarded' : 'none', this.#base)
      const error = verdict.type === 'done' ? cause : verdict.error
      const isUnknown = error instanceof TrivetError && error.outcome === 'unknown'
      // Whoever gave up is told so, unless there is more to tell: the write may be under way.
      throw signal?.aborted === true && !isUnknown ? signal.reason : error
    }
    if (answer.status === 200) return answer
    throw refusal(answer, isWrite)
  }
}

type Answer = {
  readonly status: number
  /** That of the error; empty where the answer names none. */
  readonly code: string
  readonly text: string
}

function tokenOf(context: CallContext, name: 'bot_access_token' | 'acting_user_access_token'): string {
  const token = context[name]
  if (token !== undefined && token !== '') return token
  throw new TrivetError(
    'unauthenticated',
    `The context of the call has no ${name}: the app must ask for it in its manifest or in "expand"`,
    { field: name },
  )
}

/** Throws `invalid-key` for what no URL can carry as one segment. */
function keyUrl(base: string, prefix: string, key: string): string {
  const segments = prefix === '' ? [key] : [prefix, key]
  return [base, ...segments.map(encoded)].join('/')
}

function encoded(segment: string): string {
  if (segment === '' || segment === '.' || segment === '..' || segment.includes('/')) {
    throw new TrivetError(
      'invalid-key',
      `A key, and a prefix, has at least one character and no slash, and is neither . nor ..; this is ${JSON.stringify(segment)}`,
      { field: 'key' },
    )
  }
  if (segment.isWellFormed()) return encodeURIComponent(segment)
  throw new TrivetError(
    'invalid-key',
    'A key is well-formed Unicode: half of a surrogate pair has no UTF-8',
    {
      field: 'key',
    },
  )
}

function parse(answer: Answer, isWrite: boolean): unknown {
  try {
    const value: unknown = JSON.parse(answer.text)
    return value
  } catch (cause) {
    throw foreign(answer, isWrite, cause)
  }
}

/** The text of an error is its sentence. A write that failed inside, or who knows where, may have been stored all the same. */
function refusal({ status, code, text }: Answer, isWrite: boolean): TrivetError {
  const detail = text.trim() === '' ? `The server answered ${status}` : text.trim()
  const known = isErrorCode(code) ? code : undefined
  if (isWrite && (known === undefined ? status >= 500 : known === 'internal')) return unknownOutcome(detail)
  const fallback = codesByStatus[status] ?? (status >= 500 ? 'internal' : 'invalid-request')
  return new TrivetError(known ?? fallback, detail)
}

function foreign({ status }: Answer, isWrite: boolean, cause?: unknown): TrivetError {
  const detail = `the server answered ${status} with a body that this call is not answered with`
  return isWrite ? unknownOutcome(detail, cause) : new TrivetError('internal', detail, { cause })
}
