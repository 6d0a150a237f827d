// Every refusal a user can meet: one class, one closed set of codes, one table to HTTP. Server and SDK share it.

/** Code → HTTP status and title. The codes are the REST contract's, plus `invalid-store` for a closed SDK handle. */
const table = {
  'invalid-request': [400, 'The request is not valid'],
  'invalid-key': [400, 'The key is not valid'],
  'invalid-cursor': [400, 'The cursor is not valid here'],
  'invalid-store': [400, 'The store handle is closed'],
  unauthenticated: [401, 'No valid token'],
  'access-denied': [403, 'Not granted to this token'],
  'no-such-key': [404, 'No such key'],
  'no-such-store': [404, 'No such store'],
  'not-found': [404, 'Not found'],
  'method-not-allowed': [405, 'This method is not served here'],
  'request-timeout': [408, 'The request did not arrive in time'],
  'store-exists': [409, 'The store exists'],
  'store-protected': [409, 'This store cannot be dropped'],
  'token-exists': [409, 'The token exists'],
  'member-exists': [409, 'The member exists'],
  'change-in-progress': [409, 'Another membership change is in progress'],
  'quorum-at-risk': [409, 'The change would put the quorum at risk'],
  'not-a-number': [409, 'The value is not a number'],
  overflow: [409, 'The number would overflow'],
  'session-expired': [410, 'The session has ended'],
  'condition-failed': [412, 'The condition does not hold'],
  'value-too-large': [413, 'The value is too large'],
  'request-too-large': [413, 'The request is too large'],
  'range-too-large': [413, 'The range is too large'],
  'result-too-large': [413, 'The result is too large'],
  'unsupported-media-type': [415, 'This media type is not accepted'],
  'idempotency-key-reused': [422, 'The idempotency key belongs to another request'],
  overloaded: [429, 'Too much is waiting'],
  'headers-too-large': [431, 'The headers are too large'],
  internal: [500, 'Internal error'],
  'no-leader': [503, 'No leader'],
  'not-ready': [503, 'The node is not ready'],
  'shutting-down': [503, 'The node is shutting down'],
  'outcome-unknown': [504, 'The outcome is unknown'],
  'deadline-exceeded': [504, 'The deadline has passed'],
  'storage-full': [507, 'No space is left'],
} as const satisfies Record<string, readonly [number, string]>

export type ErrorCode = keyof typeof table

const retryable: ReadonlySet<ErrorCode> = new Set([
  'request-timeout',
  'change-in-progress',
  'overloaded',
  'no-leader',
  'not-ready',
  'shutting-down',
  'deadline-exceeded',
  'storage-full',
])

export const errorCodes = Object.keys(table) as readonly ErrorCode[]

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(table, text)
}

/** The HTTP status a code answers with. */
export function statusOf(code: ErrorCode): number {
  return table[code][0]
}

/** The details an error may carry besides its sentence. */
export type ErrorDetails = {
  /** The field, parameter or header that is wrong. */
  readonly field?: string | undefined
  /** The limit that was hit, and what was offered, in the limit's unit. */
  readonly limit?: number | undefined
  readonly actual?: number | undefined
  /** The position of the failing operation in a batch or transaction. */
  readonly index?: number | undefined
  /** The key's current revision, for `condition-failed`; 0 when it is absent. */
  readonly revision?: number | undefined
  readonly cause?: unknown
}

/**
 * An operation that was refused or failed for a reason its caller can act on. A broken invariant is never one of
 * these: that is an assertion, and stops the process.
 */
export class TrivetError extends Error {
  override readonly name = 'TrivetError'
  readonly code: ErrorCode
  readonly field: string | undefined
  readonly limit: number | undefined
  readonly actual: number | undefined
  readonly index: number | undefined
  readonly revision: number | undefined

  constructor(code: ErrorCode, detail: string, details: ErrorDetails = {}) {
    super(detail, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.field = details.field
    this.limit = details.limit
    this.actual = details.actual
    this.index = details.index
    this.revision = details.revision
  }

  /** What went wrong here, in one sentence. */
  get detail(): string {
    return this.message
  }

  /** The HTTP status this code answers with. */
  get status(): number {
    return statusOf(this.code)
  }

  /** The same for every error of this code. */
  get title(): string {
    return table[this.code][1]
  }

  /** Whether the same request may succeed later, unchanged. */
  get retryable(): boolean {
    return retryable.has(this.code)
  }

  /** `unknown` when a write may have taken effect, or may still. */
  get outcome(): 'none' | 'unknown' {
    return this.code === 'outcome-unknown' ? 'unknown' : 'none'
  }
}
