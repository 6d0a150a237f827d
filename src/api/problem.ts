// Errors as answers: any throw becomes one problem document (RFC 9457), and one table says which headers go with it.

import { type ErrorCode, TrivetError } from '../errors.ts'
import { http } from './node-http.ts'
import { headers, type Problem } from './protocol.ts'

/** Codes that ask to come back later, and after how many seconds. */
const retryAfter: Partial<Record<ErrorCode, string>> = {
  overloaded: '1',
  'no-leader': '1',
  'not-ready': '1',
  'shutting-down': '1',
  'storage-full': '5',
}

/** The document of an error. `reasons` are those of a node that is not ready. */
export function problemOf(error: TrivetError, reasons?: readonly string[]): Problem {
  return {
    type: `urn:trivet:${error.code}`,
    title: error.title,
    status: error.status,
    detail: error.detail,
    code: error.code,
    retryable: error.retryable,
    ...(error.field === undefined ? {} : { field: error.field }),
    ...(error.limit === undefined ? {} : { limit: error.limit }),
    ...(error.actual === undefined ? {} : { actual: error.actual }),
    ...(error.index === undefined ? {} : { index: error.index }),
    ...(error.revision === undefined ? {} : { revision: error.revision }),
    ...(reasons === undefined ? {} : { reasons }),
  }
}

/** The headers an error has besides those of every answer. */
export function problemHeaders(error: TrivetError): readonly (readonly [string, string])[] {
  const list: [string, string][] = [[headers.error, error.code]]
  const seconds = retryAfter[error.code]
  if (seconds !== undefined) list.push(['Retry-After', seconds])
  if (error.code === 'unauthenticated') list.push(['WWW-Authenticate', 'Bearer'])
  return list
}

/** The status line's phrase. */
export function phraseOf(status: number): string {
  return http.STATUS_CODES[status] ?? 'Error'
}

/** What Fastify's own errors carry, as far as it is needed to answer them. */
type FrameworkError = Error & {
  readonly code?: string
  readonly statusCode?: number
}

export function malformedPath(): TrivetError {
  return new TrivetError('invalid-request', 'The path must be percent-encoded UTF-8', { field: 'path' })
}

/** Any throw as the error it is answered with. What we did not foresee is `internal`, and keeps its cause for the log. */
export function asTrivetError(thrown: unknown): TrivetError {
  if (thrown instanceof TrivetError) return thrown
  if (thrown instanceof Error) {
    const error: FrameworkError = thrown
    if (error.code === 'FST_ERR_BAD_URL') {
      return malformedPath()
    }
    if (error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
      return new TrivetError('unsupported-media-type', 'The Content-Type is not one this route takes', {
        field: 'content-type',
      })
    }
    const status = error.statusCode ?? 500
    if (error.code?.startsWith('FST_') === true && status >= 400 && status < 500) {
      return new TrivetError('invalid-request', error.message)
    }
  }
  return new TrivetError(
    'internal',
    'The node failed to answer; the log of the node has the reason under this request id',
    { cause: thrown },
  )
}
