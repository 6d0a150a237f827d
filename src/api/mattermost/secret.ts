// The token of a Mattermost request, from the four places where its clients put it.

import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { pathStart } from '../url.ts'

const cookieName = 'MMAUTHTOKEN'

/**
 * The secret that a request carries; undefined when it carries none. The first place that has one decides: the header as
 * `Bearer` or `token` in any case, the cookie, the query. Headers that claim an identity are not looked at.
 */
export function secretOf({ headers, url = '' }: IncomingMessage): string | undefined {
  const authorization = /^(?:bearer|token) +(\S+) *$/i.exec(headers.authorization ?? '')?.[1]
  return authorization ?? cookieOf(headers) ?? queryOf(url)
}

/**
 * A page of another site can have a browser send the cookie along, but not hide that it did. Mattermost asks for a second
 * token then, which no app has.
 */
function cookieOf(headers: IncomingHttpHeaders): string | undefined {
  if (headers['sec-fetch-site'] === 'cross-site') return undefined
  for (const part of (headers.cookie ?? '').split(';')) {
    const equals = part.indexOf('=')
    if (equals === -1 || part.slice(0, equals).trim() !== cookieName) continue
    const value = part
      .slice(equals + 1)
      .trim()
      .replace(/^"(.*)"$/, '$1')
    return value === '' ? undefined : value
  }
  return undefined
}

function queryOf(target: string): string | undefined {
  const query = target.indexOf('?', pathStart(target))
  if (query === -1) return undefined
  const value = new URLSearchParams(target.slice(query)).get('access_token')
  return value === null || value === '' ? undefined : value
}
