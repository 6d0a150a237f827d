// Which Content-Type may be stored with a value: what every later answer can carry in a header.

import { TrivetError } from '../errors.ts'
import { defaultContentType } from './protocol.ts'

const maxLength = 255
const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
const parameter = `${token}=(?:${token}|"(?:[ !\\x23-\\x5b\\x5d-\\x7e]|\\\\[ -~])*")`
// Each space has one place in the pattern, so that matching is linear.
const mediaType = new RegExp(`^${token}/${token}(?: *;(?: *${parameter})?)*$`)

/** The types clients send most, so that the hot path matches no pattern. */
const wellKnown: ReadonlySet<string> = new Set([
  defaultContentType,
  'application/json',
  'text/plain',
  'text/plain; charset=utf-8',
  'text/plain;charset=UTF-8',
])

/**
 * The type to store for what a client said, kept as it was written. Throws `invalid-request` unless it is a media type in
 * printable ASCII: anything else would make every later GET of the key fail, wherever it came from.
 */
export function storedContentType(said: string | undefined, field = 'content-type'): string {
  if (said === undefined || said === '') return defaultContentType
  if (wellKnown.has(said)) return said
  if (said.length > maxLength) {
    throw new TrivetError('invalid-request', `A Content-Type has at most ${maxLength} bytes`, {
      field,
      limit: maxLength,
      actual: said.length,
    })
  }
  if (!mediaType.test(said)) {
    throw new TrivetError('invalid-request', 'The Content-Type must be a media type in printable ASCII', {
      field,
    })
  }
  return said
}
