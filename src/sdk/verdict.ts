// What an answer, or the lack of one, proves: done, safe to try again, refused, or a write nobody can tell the outcome of.

import { headers as fieldNames } from '../api/protocol.ts'
import { type ErrorCode, isErrorCode, TrivetError } from '../errors.ts'

/** A whole answer. */
export type Answer = {
  readonly status: number
  readonly headers: Headers
  readonly body: Uint8Array<ArrayBuffer>
  readonly endpoint: string
  /** Whether the node is about to stop. */
  readonly draining?: boolean | undefined
  /** What a batch has of this operation: `status` is its own then, `headers` those of the batch, and there is no body. */
  readonly result?: Readonly<Record<string, unknown>>
  /** The body of a request that streams, which is still to come. */
  readonly stream?: ReadableStream<Uint8Array<ArrayBuffer>>
}

/**
 * What a request may do to the state, which decides when it may be sent again: `none` at will; `once` too, because it
 * carries a name that the server knows it by; `unguarded` only after proof that nothing happened.
 */
export type Effect = 'none' | 'once' | 'unguarded'

export type Verdict =
  | { readonly type: 'done'; readonly answer: Answer }
  /**
   * Another try is safe. `pause` is what the server asked to wait, in milliseconds; `everywhere` says that it concerns
   * the whole cluster, so that asking another endpoint at once is no use. `doubt`: this try may have had its effect, or
   * may have it later.
   */
  | {
      readonly type: 'retry'
      readonly error: TrivetError
      readonly pause: number
      readonly everywhere: boolean
      readonly doubt: boolean
    }
  /** The session of the write is not known any more: this try has changed nothing. */
  | { readonly type: 'expired'; readonly error: TrivetError }
  /**
   * No other try may follow. `suspect`: the endpoint itself is in doubt, and the next call asks another first. `settled`:
   * it is what the write came to, however often it was sent.
   */
  | {
      readonly type: 'failed'
      readonly error: unknown
      readonly suspect: boolean
      readonly settled: boolean
    }

/** Judges a whole answer. */
export function judgeAnswer(answer: Answer, effect: Effect): Verdict {
  if (answer.status >= 200 && answer.status < 300) return { type: 'done', answer }
  // A get of a batch that found nothing says so in its result: no error need be made of it.
  if (effect === 'none' && answer.result?.['found'] === false) return { type: 'done', answer }
  const problem = readProblem(answer)
  const error = problem ?? foreign(answer)
  const everywhere = error.code === 'overloaded' || error.code === 'storage-full'
  const again = { type: 'retry', error, pause: retryAfter(answer.headers), everywhere, doubt: false } as const
  if (effect === 'none') {
    if (error.retryable) return again
    return { type: 'failed', error, suspect: error.status >= 500, settled: false }
  }
  if (isAmbiguous(answer.status, problem)) {
    const unknown = error.code === 'outcome-unknown' ? error : unknownOutcome(error.detail, error)
    if (effect === 'once') return { ...again, error: unknown, doubt: true }
    return { type: 'failed', error: unknown, suspect: problem?.code !== 'outcome-unknown', settled: false }
  }
  // From a node these three statuses promise that the command changed nothing; nothing else does.
  if (problem !== undefined && [503, 429, 507].includes(problem.status)) return again
  if (effect === 'once' && error.code === 'session-expired') return { type: 'expired', error }
  // These were decided when the write was applied. Other refusals may have come from before that, and concern this try alone.
  const settled = problem !== undefined && ([409, 412].includes(problem.status) || isReplayed(answer))
  return { type: 'failed', error, suspect: false, settled }
}

/** Whether it was decided before: the answer is the first one's, without what it read. */
function isReplayed({ headers, result }: Answer): boolean {
  return result === undefined ? headers.get(fieldNames.replayed) === 'true' : result['replayed'] === true
}

/** Whether who wrote the answer to a write cannot know if it went on to a log. */
function isAmbiguous(status: number, problem: TrivetError | undefined): boolean {
  if (problem === undefined) return status >= 500 || status === 408
  return problem.status === 500 || problem.code === 'outcome-unknown'
}

/** Judges a fetch that rejected, though nobody aborted it. */
export function judgeFailure(cause: unknown, effect: Effect, endpoint: string): Verdict {
  const reason = reasonOf(cause)
  if (effect === 'none' || neverSent(cause)) {
    return unasked(
      new TrivetError('deadline-exceeded', `${endpoint} could not be asked: ${reason}`, { cause }),
    )
  }
  return lost(
    unknownOutcome(`The connection to ${endpoint} broke before the answer: ${reason}`, cause),
    effect,
  )
}

/** Judges a request that was given up because its time was over. */
export function judgeSilence(effect: Effect, endpoint: string, waitedMs: number): Verdict {
  const sentence = `${endpoint} did not answer within ${Math.round(waitedMs)} ms`
  if (effect === 'none') return unasked(new TrivetError('deadline-exceeded', sentence))
  return lost(unknownOutcome(sentence), effect)
}

function unasked(error: TrivetError): Verdict {
  return { type: 'retry', error, pause: 0, everywhere: false, doubt: false }
}

/** A write that was sent and not answered. */
function lost(error: TrivetError, effect: 'once' | 'unguarded'): Verdict {
  if (effect === 'once') return { type: 'retry', error, pause: 0, everywhere: false, doubt: true }
  return { type: 'failed', error, suspect: true, settled: false }
}

/** The error for a write whose fate only the cluster knows. */
export function unknownOutcome(why: string, cause?: unknown): TrivetError {
  return new TrivetError('outcome-unknown', `The write may or may not take effect: ${why}`, { cause })
}

/** The server's own error; undefined when the answer is not one that a Trivet node wrote. */
function readProblem(answer: Answer): TrivetError | undefined {
  const problem = answer.result ?? parseObject(answer) ?? {}
  // A HEAD has no body: the code in its header is all there is to say.
  const code = problem['code'] ?? answer.headers.get(fieldNames.error)
  if (typeof code !== 'string' || !isErrorCode(code)) return undefined
  return problemError({ ...problem, code }, answer.endpoint)
}

/** The error that a problem's fields tell of; `internal` for a code that is none. */
export function problemError(problem: Readonly<Record<string, unknown>>, endpoint: string): TrivetError {
  const text = (name: string): string | undefined => {
    const value = problem[name]
    return typeof value === 'string' ? value : undefined
  }
  const count = (name: string): number | undefined => {
    const value = problem[name]
    return typeof value === 'number' || typeof value === 'bigint' ? Number(value) : undefined
  }
  const given = text('code') ?? ''
  const code = isErrorCode(given) ? given : 'internal'
  return new TrivetError(code, text('detail') ?? text('title') ?? `${endpoint} answered ${given}`, {
    field: text('field'),
    limit: count('limit'),
    actual: count('actual'),
    index: count('index'),
    revision: count('revision'),
  })
}

function parseObject(answer: Answer): Readonly<Record<string, unknown>> | undefined {
  // Also the errors of what is asked in MessagePack come as JSON.
  if (!/^application\/(problem\+)?json\b/i.test(answer.headers.get('Content-Type') ?? '')) return undefined
  try {
    const parsed: unknown = JSON.parse(new TextDecoder().decode(answer.body))
    return typeof parsed === 'object' && parsed !== null ? { ...parsed } : undefined
  } catch {
    // Not what it says, so not a problem of ours: the caller judges by status.
    return undefined
  }
}

const foreignCodes: Readonly<Record<number, ErrorCode>> = {
  401: 'unauthenticated',
  403: 'access-denied',
  404: 'not-found',
  405: 'method-not-allowed',
  408: 'request-timeout',
  413: 'request-too-large',
  414: 'headers-too-large',
  429: 'overloaded',
  431: 'headers-too-large',
}

/** An answer that something in between gave, a proxy for one. */
function foreign(answer: Answer): TrivetError {
  if (answer.status < 400) {
    // Status 0 is what a browser shows of a redirect that it was told not to follow.
    const target = answer.headers.get('Location')
    return new TrivetError(
      'invalid-request',
      `${answer.endpoint} redirects${target === null ? '' : ` to ${target}`}; connect to where it leads, because the token would be lost on the way`,
      { field: 'endpoints' },
    )
  }
  const code =
    foreignCodes[answer.status] ??
    (answer.status > 501 ? 'not-ready' : answer.status < 500 ? 'invalid-request' : 'internal')
  return new TrivetError(
    code,
    `${answer.endpoint} answered ${answer.status}, and not in the words of a Trivet node`,
  )
}

/** What `Retry-After` asks for, in milliseconds; 0 without one. */
function retryAfter(headers: Headers): number {
  const text = headers.get('Retry-After')
  if (text === null) return 0
  const seconds = Number(text)
  const milliseconds = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(text) - Date.now()
  return Number.isNaN(milliseconds) ? 0 : Math.max(milliseconds, 0)
}

// What connecting can fail with. `syscall` tells a refused connect from a connection that ended later.
const connectCodes: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
  'ConnectionRefused',
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'ERR_TLS_CERT_ALTNAME_INVALID',
])

/**
 * Whether it is proven that no byte of the request left. Node names the reason in `cause`, or several in an
 * AggregateError when it tried more than one address; browsers say nothing, so there the answer is no.
 */
function neverSent(error: unknown, depth = 0): boolean {
  if (typeof error !== 'object' || error === null || depth > 4) return false
  const { errors, code, syscall, cause } = error as {
    errors?: unknown
    code?: unknown
    syscall?: unknown
    cause?: unknown
  }
  if (Array.isArray(errors) && errors.length > 0) return errors.every((one) => neverSent(one, depth + 1))
  if (typeof code === 'string') return connectCodes.has(code) || syscall === 'connect'
  return neverSent(cause, depth + 1)
}

/** The most telling sentence of an error and its causes. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0])
  return error.cause === undefined ? error.message : reasonOf(error.cause)
}
