// What a Mattermost request names and carries, read from its head alone.

import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { secretOf } from '../../src/api/mattermost/secret.ts'
import { mattermostTarget, prefixMistake } from '../../src/api/mattermost/target.ts'

const base = '/plugins/com.mattermost.apps/api/v1/kv'

/** The key as `/v1` calls it, or why there is none. */
function named(path: string): string | undefined {
  const target = mattermostTarget(path)
  return target?.type === 'key' ? target.key.toString() : target?.type
}

describe('a path', () => {
  it.each([
    ['/key', 'key'],
    ['/prefix/key', 'prefix/key'],
    ['/prefix%2Fkey', 'prefix/key'],
    ['/Key', 'Key'],
    ['/a%20b/c+d', 'a b/c+d'],
    ['/%E2%82%AC', '€'],
    ['/key?access_token=a/b', 'key'],
    // Filled up with blanks to two bytes, these are the same prefix.
    ['/A/key', 'A/key'],
    ['/A%20/key', 'A/key'],
    ['/%20%20/key', 'key'],
    ['/%20/key', 'key'],
    ['/%20A/key', ' A/key'],
    // Too long to be filled up: a namespace of its own.
    ['/my-app/key', 'my-app/key'],
    ['/AB%20/key', 'AB /key'],
    // Blanks are part of a key.
    ['/%20', ' '],
    ['/A/%20', 'A/ '],
    ['/...', '...'],
  ])('%s names the key %j', (rest, key) => {
    expect(named(base + rest)).toBe(key)
  })

  it.each([
    '',
    '/',
    '/key/',
    '//key',
    '/prefix//key',
    '/a/b/c',
    '/a%2Fb/c',
    '/%2F',
    '/.',
    '/..',
    '/%2E%2E',
    '/../key',
    '/prefix/.',
  ])('below the base names nothing as %j', (rest) => {
    expect(named(base + rest)).toBe('nothing')
  })

  it.each(['/%', '/%4', '/%zz', '/%ff', '/ä'])('%s is no URL of a key', (rest) => {
    expect(named(base + rest)).toBe('malformed')
  })

  it('is matched decoded, and also in the absolute form that proxies send', () => {
    expect(named(base.replace('kv', '%6Bv').concat('/key'))).toBe('key')
    expect(named(`http://site.example${base}/key`)).toBe('key')
  })

  it.each(['/v1/stores/default/keys/a', '/', `${base}x/key`, `/x${base}/key`, '/plugins/%ff', '*'])(
    '%s is left to the other routes',
    (path) => {
      expect(mattermostTarget(path)).toBeUndefined()
    },
  )
})

describe('a prefix, by the code of Mattermost,', () => {
  it.each([
    ['/key', undefined],
    ['/AB/key', undefined],
    ['/%20%20/key', undefined],
    ['/ABC/key', 'prefix "ABC" is longer than the limit of 2 ASCII characters'],
    ['/%E2%82%AC/key', 'prefix "€" is longer than the limit of 2 ASCII characters'],
    ['/%20%20%20/key', 'prefix "   " is longer than the limit of 2 ASCII characters'],
    ['/a%22%5C%0A%01/key', 'prefix "a\\"\\\\\\n\\x01" is longer than the limit of 2 ASCII characters'],
  ])('of %s has the mistake %j', (rest, mistake) => {
    const target = mattermostTarget(base + rest)
    if (target?.type !== 'key') throw new Error('no key')
    expect(prefixMistake(target)).toBe(mistake)
  })
})

describe('the token', () => {
  function request(headers: Readonly<Record<string, string>>, query = ''): IncomingMessage {
    const message = new IncomingMessage(new Socket())
    message.url = `${base}/key${query}`
    Object.assign(message.headers, headers)
    return message
  }

  it.each([['Bearer'], ['BEARER'], ['bearer'], ['token'], ['Token']])(
    'is read from the header as %s',
    (scheme) => {
      expect(secretOf(request({ authorization: `${scheme} abc` }))).toBe('abc')
    },
  )

  it('is read from the cookie, then from the query, and the first place that has one decides', () => {
    const cookie = 'a=1; MMAUTHTOKEN=of-the-cookie; MMUSERID=u'
    const query = '?x=1&access_token=of-the-query&access_token=second'
    expect(secretOf(request({ authorization: 'Bearer abc', cookie }, query))).toBe('abc')
    expect(secretOf(request({ authorization: 'Basic abc', cookie }, query))).toBe('of-the-cookie')
    expect(secretOf(request({ cookie: 'MMAUTHTOKEN="quoted"' }))).toBe('quoted')
    expect(secretOf(request({}, query))).toBe('of-the-query')
  })

  it('is none where nothing carries one', () => {
    const cookie = 'XMMAUTHTOKEN=a; MMAUTHTOKEN=; MMAUTHTOKEN'
    expect(secretOf(request({ authorization: 'Bearer ', cookie }, '?access_token='))).toBeUndefined()
    expect(secretOf(request({ 'mattermost-user-id': 'u1', 'mattermost-session-id': 's' }))).toBeUndefined()
  })

  it('is not taken from a cookie that a page of another site has the browser send', () => {
    const cookie = 'MMAUTHTOKEN=abc'
    expect(secretOf(request({ cookie, 'sec-fetch-site': 'cross-site' }))).toBeUndefined()
    expect(secretOf(request({ cookie, 'sec-fetch-site': 'same-origin' }))).toBe('abc')
  })
})
