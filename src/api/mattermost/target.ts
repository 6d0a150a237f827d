// What the path of a Mattermost request names: a key, in a prefix or in none, as the Apps plugin's router reads it.

import { isUtf8 } from 'node:buffer'
import { pathStart, percentDecode } from '../url.ts'

/** Where an app finds its store below the site URL. */
export const basePath = '/plugins/com.mattermost.apps/api/v1/kv'

/** The longest prefix that Mattermost's code takes, in bytes; it fills shorter ones up with blanks. */
const paddedPrefixBytes = 2

/** A key of an app's own store, `key` or `prefix/key`, as `/v1` calls it. */
export type KeyPath = {
  readonly type: 'key'
  readonly key: Buffer
  /** As it came, not normalised; empty where there is none. */
  readonly prefix: Buffer
}

export type MattermostTarget =
  | KeyPath
  /** Below the base path, yet no key: the router's own 404. */
  | { readonly type: 'nothing' }
  /** Not percent-encoded as URLs are, or no UTF-8. */
  | { readonly type: 'malformed' }

/** What a request target names here; undefined when it lies outside the base path. The decoded path is what is matched. */
export function mattermostTarget(target: string): MattermostTarget | undefined {
  const start = pathStart(target)
  // The way of every other request: nothing below /v1/ is ours, and nothing is decoded to find that out.
  if (target.startsWith('/v1/', start)) return undefined
  const query = target.indexOf('?', start)
  const raw = query === -1 ? target.slice(start) : target.slice(start, query)
  const path = percentDecode(raw)
  if (path === undefined) return isBelow(raw) ? { type: 'malformed' } : undefined
  if (!isBelow(path.toString('latin1'))) return undefined
  if (!isUtf8(path)) return { type: 'malformed' }
  return keyPathOf(path.subarray(basePath.length))
}

function isBelow(path: string): boolean {
  return path === basePath || path.startsWith(`${basePath}/`)
}

/** `rest`: what follows the base path. Blanks in it count; `.` and `..` name nothing, for no client could send them. */
function keyPathOf(rest: Buffer): MattermostTarget {
  const [before, ...segments] = rest.toString('utf8').split('/')
  const named = segments.every((segment) => segment !== '' && segment !== '.' && segment !== '..')
  if (before !== '' || !named) return { type: 'nothing' }
  const [first = '', second] = segments
  if (segments.length > 2 || first === '') return { type: 'nothing' }
  const prefix = second === undefined ? '' : first
  const key = isBlank(prefix) ? (second ?? first) : `${shortened(prefix)}/${second}`
  return { type: 'key', key: Buffer.from(key), prefix: Buffer.from(prefix) }
}

/** Blank prefixes equal none: filled up with blanks, both are the same. */
function isBlank(prefix: string): boolean {
  return /^ *$/.test(prefix)
}

/** `A` equals `A `, as Mattermost's padding has it. Longer prefixes are namespaces of their own, blanks and all. */
function shortened(prefix: string): string {
  return Buffer.byteLength(prefix) > paddedPrefixBytes ? prefix : prefix.replace(/ +$/, '')
}

/** Why Mattermost's code refuses this prefix; undefined when it takes it. */
export function prefixMistake({ prefix }: KeyPath): string | undefined {
  if (prefix.length <= paddedPrefixBytes) return undefined
  return `prefix ${quoted(prefix.toString())} is longer than the limit of ${paddedPrefixBytes} ASCII characters`
}

/** As Go's `%q` writes a string: apart from the quotes, only control characters are of interest in a path. */
function quoted(text: string): string {
  const short: Readonly<Record<string, string>> = {
    '\x07': '\\a',
    '\b': '\\b',
    '\f': '\\f',
    '\n': '\\n',
    '\r': '\\r',
    '\t': '\\t',
    '\v': '\\v',
  }
  const inner = text
    .replace(/["\\]/g, '\\$&')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    .replace(/[\x00-\x1f\x7f]/g, (character) => {
      const code = character.charCodeAt(0).toString(16).padStart(2, '0')
      return short[character] ?? `\\x${code}`
    })
  return `"${inner}"`
}
