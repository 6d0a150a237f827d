// Names into URLs: what cannot survive the way through fetch and proxies is refused here, with the reason.

import { TrivetError } from '../errors.ts'

/** The path of a store's routes. Throws `invalid-request` for a name that no store can have. */
export function storePath(store: string): string {
  return `/v1/stores/${checkStoreName(store)}`
}

export function checkStoreName(store: string): string {
  if (!/^[a-z][a-z0-9]*([-_][a-z0-9]+)*$/.test(store) || store.length > 63) {
    throw new TrivetError(
      'invalid-request',
      `A store name is made of lower-case letters, digits and single - or _ between them, at most 63 characters; ${JSON.stringify(store)} is not`,
      { field: 'store' },
    )
  }
  return store
}

/** The longest key that is put into a URL, as it stands there: many proxies stop at 8 KB in all. */
const longestInPath = 6000

/**
 * The path of a key; undefined for one that no URL carries safely: with a segment `.` or `..`, which clients and proxies
 * rewrite, or too long for them.
 */
export function keyPath(store: string, key: string): string | undefined {
  const segments = key.split('/')
  if (segments.includes('.') || segments.includes('..')) return undefined
  let path = encode(segments[0] ?? '', 'invalid-key', 'key')
  for (const [index, segment] of segments.slice(1).entries()) {
    // Proxies merge double slashes and drop trailing ones, which would silently name another key: those go escaped.
    const between = segments[index] !== '' && segment !== '' ? '/' : '%2F'
    path += between + encode(segment, 'invalid-key', 'key')
  }
  return path.length > longestInPath ? undefined : `${storePath(store)}/keys/${path}`
}

/** `?a=b&c=d` of the parameters that are defined; the empty string when none is. */
export function queryString(parameters: Readonly<Record<string, string | undefined>>): string {
  const pairs = Object.entries(parameters).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${encode(value, 'invalid-request', name)}`],
  )
  return pairs.length === 0 ? '' : `?${pairs.join('&')}`
}

function encode(text: string, code: 'invalid-key' | 'invalid-request', field: string): string {
  try {
    return encodeURIComponent(text)
  } catch (cause) {
    throw new TrivetError(code, `The ${field} holds half of a surrogate pair, which has no UTF-8 form`, {
      field,
      cause,
    })
  }
}
