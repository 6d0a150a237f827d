// URLs read by the contract's rules: keys cut out before any router decodes them, query parameters each at most once.

import { isUtf8 } from 'node:buffer'
import { TrivetError } from '../errors.ts'

const slash = 0x2f
const dot = 0x2e
const percent = 0x25

/**
 * Where the key begins in a request target `/v1/stores/{store}/keys/{key}`; -1 for every other target. Proxies may
 * send the absolute form (RFC 9112, 3.2.2), so the path need not begin the text.
 */
function keyStart(target: string): number {
  const path = pathStart(target)
  if (!target.startsWith('/v1/stores/', path)) return -1
  const query = target.indexOf('?', path)
  const store = path + '/v1/stores/'.length
  const end = target.indexOf('/', store)
  if (end <= store || (query !== -1 && query < end) || !target.startsWith('/keys/', end)) return -1
  return end + '/keys/'.length
}

/** Where the path begins in a request target: proxies may send the absolute form. */
export function pathStart(target: string): number {
  if (target.charCodeAt(0) === slash) return 0
  return /^https?:\/\/[^/?#]*/i.exec(target)?.[0].length ?? 0
}

/** A request target that names a key: its store as it was sent, perhaps percent-encoded, and its query without the `?`. */
export type KeyTarget = { readonly store: string; readonly query: string }

/** Undefined for a target that names no key. */
export function keyTarget(target: string): KeyTarget | undefined {
  const start = keyStart(target)
  if (start === -1) return undefined
  const from = pathStart(target) + '/v1/stores/'.length
  const query = target.indexOf('?', start)
  return {
    store: target.slice(from, start - '/keys/'.length),
    query: query === -1 ? '' : target.slice(query + 1),
  }
}

/** What the router sees in the key's place. */
const standIn = '-'

/** What a POST may do to a key: the last segment of its path. */
const verbs = ['increment', 'touch'] as const

/**
 * The target to route by: without its key, which the router would decode, limit and refuse by rules of its own
 * (a key of 4,096 bytes, `%2F`, `%FF`). `rawKey` finds the key again in the original.
 */
export function routedTarget(method: string, target: string): string {
  const start = keyStart(target)
  if (start === -1) return target.slice(pathStart(target))
  const query = target.indexOf('?', start)
  const end = query === -1 ? target.length : query
  const verb = verbOf(method, target, { start, end })
  const path = target.slice(pathStart(target), start) + standIn
  return `${path}${verb === undefined ? '' : `/${verb}`}${target.slice(end)}`
}

/** The pattern of a route as people read it: `/v1/stores/{store}/keys/{key}`. */
export function templateOf(pattern: string): string {
  return pattern.replace(/:(\w+)/g, '{$1}').replace(/\/-(?=\/|$)/, '/{key}')
}

/** The key of a request target as it was sent, still percent-encoded; undefined when the target names none. */
export function rawKey(method: string, target: string): string | undefined {
  const start = keyStart(target)
  if (start === -1) return undefined
  const query = target.indexOf('?', start)
  const end = query === -1 ? target.length : query
  const verb = verbOf(method, target, { start, end })
  if (verb === undefined) return target.slice(start, end)
  const key = target.slice(start, end - verb.length)
  // The slash before the verb, in either form; none where the verb follows upon `/keys/`.
  return key.replace(/(?:\/|%2f)$/i, '')
}

/** The verb that ends a POST's path: after a slash, `%2F` or the `/keys/` itself. Undefined where there is none. */
function verbOf(
  method: string,
  target: string,
  key: { readonly start: number; readonly end: number },
): (typeof verbs)[number] | undefined {
  if (method !== 'POST') return undefined
  return verbs.find((verb) => {
    const at = key.end - verb.length
    if (at < key.start || !target.startsWith(verb, at)) return false
    return at === key.start || target[at - 1] === '/' || /%2f$/i.test(target.slice(at - 3, at))
  })
}

/** The bytes of a key from a path. Throws `invalid-key` when it is none, longer than `limit`, or would not survive proxies. */
export function decodeKey(raw: string, limit: number): Uint8Array {
  const key = percentDecode(raw)
  if (key === undefined) {
    throw invalidKey('The key in the path must be percent-encoded, two hexadecimal digits after each %')
  }
  if (key.length === 0) throw invalidKey('A key has at least one byte')
  if (key.length > limit) {
    throw new TrivetError('invalid-key', `A key has at most ${limit} bytes; this one has ${key.length}`, {
      field: 'key',
      limit,
      actual: key.length,
    })
  }
  if (!isUtf8(key)) throw invalidKey('A key is well-formed UTF-8')
  if (key.includes(dot) && hasDotSegment(key)) {
    throw invalidKey(
      'A key with a segment . or .. cannot stand in a path: clients and proxies rewrite such paths',
    )
  }
  return key
}

function invalidKey(sentence: string): TrivetError {
  return new TrivetError('invalid-key', sentence, { field: 'key' })
}

/** Undefined for a stray `%` and for characters that may not stand in a URL. `+` is a plus. */
export function percentDecode(raw: string): Buffer | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\x00-\x20\x7f-\uffff#]/.test(raw)) return undefined
  const bytes = Buffer.from(raw, 'latin1')
  let read = bytes.indexOf(percent)
  if (read === -1) return bytes
  let written = read
  while (read < bytes.length) {
    const byte = bytes[read] ?? 0
    if (byte !== percent) {
      bytes[written++] = byte
      read += 1
      continue
    }
    const high = hexDigit(bytes[read + 1])
    const low = hexDigit(bytes[read + 2])
    if (high === -1 || low === -1) return undefined
    bytes[written++] = high * 16 + low
    read += 3
  }
  return bytes.subarray(0, written)
}

function hexDigit(byte: number | undefined): number {
  if (byte === undefined) return -1
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
}

function hasDotSegment(key: Buffer): boolean {
  return key
    .toString('latin1')
    .split('/')
    .some((segment) => segment === '.' || segment === '..')
}

/** A mistake in the query that a parser cannot throw, because it runs inside the router. */
const mistake: unique symbol = Symbol('mistake')

/** Parameters that were given again, with their further values: a mistake on most routes. */
const again: unique symbol = Symbol('again')

export type Query = Record<string, string> & {
  [mistake]?: TrivetError
  [again]?: Map<string, readonly string[]>
}

const emptyQuery: Query = Object.freeze(Object.create(null))

/** Reads a query string as forms write it (`+` is a space). A mistake in it is found with `queryMistake`. */
export function parseQuery(text: string): Query {
  if (text === '') return emptyQuery
  const query: Query = Object.create(null)
  for (const part of text.split('&')) {
    if (part === '') continue
    const equals = part.indexOf('=')
    const name = decodeQueryPart(equals === -1 ? part : part.slice(0, equals))
    const value = decodeQueryPart(equals === -1 ? '' : part.slice(equals + 1))
    if (name === undefined || value === undefined) {
      const field = name ?? part.slice(0, 100)
      query[mistake] ??= invalidParameter(field, 'must be percent-encoded UTF-8')
    } else if (name in query) {
      query[again] ??= new Map()
      query[again].set(name, [...(query[again].get(name) ?? []), value])
    } else {
      query[name] = value
    }
  }
  return query
}

/** The first mistake that `parseQuery` found, as an `invalid-request` that names its parameter. */
export function queryMistake(query: unknown, mayRepeat: readonly string[] = []): TrivetError | undefined {
  if (!isQuery(query)) return undefined
  if (query[mistake] !== undefined) return query[mistake]
  const repeated = [...(query[again]?.keys() ?? [])].find((name) => !mayRepeat.includes(name))
  return repeated === undefined ? undefined : invalidParameter(repeated, 'may be given once')
}

/** All values of a parameter, in order. */
export function queryValues(query: unknown, name: string): readonly string[] {
  const first = isQuery(query) ? query[name] : undefined
  return first === undefined || !isQuery(query) ? [] : [first, ...(query[again]?.get(name) ?? [])]
}

function isQuery(query: unknown): query is Query {
  return typeof query === 'object' && query !== null
}

function decodeQueryPart(text: string): string | undefined {
  try {
    return decodeURIComponent(text.includes('+') ? text.replaceAll('+', ' ') : text)
  } catch {
    // The only error it has is a malformed sequence, which the caller reports with its field.
    return undefined
  }
}

/** An `invalid-request` about one query parameter. */
function invalidParameter(field: string, fault: string): TrivetError {
  return new TrivetError('invalid-request', `The query parameter ${field} ${fault}`, { field })
}

/** A bound of a range of keys as bytes; undefined for none. Throws `invalid-request` for one longer than any key, `limit`. */
export function boundOf(field: string, text: string, limit: number): Uint8Array | undefined {
  if (text === '') return undefined
  const bytes = Buffer.from(text)
  if (bytes.length <= limit) return bytes
  throw new TrivetError('invalid-request', `The query parameter ${field} has at most ${limit} bytes`, {
    field,
    limit,
    actual: bytes.length,
  })
}
