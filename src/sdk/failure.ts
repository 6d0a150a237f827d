// What a fetch that was not answered leaves behind: whether it was sent at all, why it failed, and what may have become of a write.

import { TrivetError } from '../errors.ts'

/** The error for a write whose fate only the cluster knows. */
export function unknownOutcome(why: string, cause?: unknown): TrivetError {
  return new TrivetError('outcome-unknown', `The write may or may not take effect: ${why}`, { cause })
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
export function neverSent(error: unknown, depth = 0): boolean {
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
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0])
  return error.cause === undefined ? error.message : reasonOf(error.cause)
}
