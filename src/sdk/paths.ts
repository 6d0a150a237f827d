// Names into URLs: what cannot survive the way through fetch and proxies is refused here, with the reason.

import { TrivetError } from '../errors.ts'

/** The path of a store's routes. Throws `invalid-request` for a name that no store can have. */
export function storePath(store: string): string {
  if (!/^[a-z][a-z0-9]*([-_][a-z0-9]+)*$/.test(store) || store.length > 63) {
    throw new TrivetError(
      'invalid-request',
      `A store name is made of lower-case letters, digits and single - or _ between them, at most 63 characters; ${JSON.stringify(store)} is not`,
      { field: 'store' },
    )
  }
  return `/v1/stores/${store}`
}

/** The path of a key. Throws `invalid-key` for keys that no URL can carry. */
export function keyPath(store: string, key: string): string {
  if (key === '') throw new TrivetError('invalid-key', 'A key has at least one byte', { field: 'key' })
  const segments = key.split('/')
  if (segments.includes('.') || segments.includes('..')) {
    throw new TrivetError(
      'invalid-key',
      `A key with a segment . or .. cannot be put in a URL, because clients and proxies rewrite such paths: ${JSON.stringify(key)}`,
      { field: 'key' },
    )
  }
  let path = encode(segments[0] ?? '', 'invalid-key', 'key')
  for (const [index, segment] of segments.slice(1).entries()) {
    // Proxies merge double slashes and drop trailing ones, which would silently name another key: those go escaped.
    const between = segments[index] !== '' && segment !== '' ? '/' : '%2F'
    path += between + encode(segment, 'invalid-key', 'key')
  }
  return `${storePath(store)}/keys/${path}`
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
