// The REST contract as far as it is served, for any node behind the API: the one in memory, and a real one.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Api, createApi } from '../../src/api/server.ts'
import type { NodeSurface } from '../../src/node/surface.ts'
import type { StoreDefinition, Token } from '../../src/store/types.ts'
import { type Answered, type Asked, ask, listeningLogger } from './client.ts'
import { describeRepeats } from './contract-repeats.ts'
import { describeWatch } from './contract-watch.ts'
import { hashOf } from './memory-node.ts'

/** What the node under test is founded with. */
export type TestFounding = {
  readonly stores: readonly StoreDefinition[]
  readonly tokens: readonly Token[]
  readonly valueBytes: number
}

/** Makes a node that is ready, with a leader. */
export type Found = (
  founding: TestFounding,
) => Promise<{ readonly node: NodeSurface; readonly close: () => Promise<void> }>

export const secrets = {
  admin: 'admin-secret-of-the-tests-0123456789',
  cart: 'cart-secret-of-the-tests-0123456789',
  reader: 'reader-secret-of-the-tests-0123456789',
  tenant: 'tenant-secret-of-the-tests-0123456789',
  monitor: 'monitor-secret-of-the-tests-0123456789',
  nobody: 'nobody-secret-of-the-tests-0123456789',
} as const

function token(name: keyof typeof secrets, principal: Token['principal']): Token {
  return { name, hash: hashOf(secrets[name]), principal }
}

export const founding: TestFounding = {
  stores: [{ name: 'default' }, { name: 'carts' }, { name: 'small', maxValueBytes: 10 }, { name: 'pages' }],
  tokens: [
    token('admin', { type: 'admin' }),
    token('monitor', { type: 'monitor' }),
    token('cart', {
      type: 'component',
      grants: [
        { store: 'carts', access: 'read-write' },
        { store: 'small', access: 'read-write' },
        { store: 'gone', access: 'read-write' },
      ],
    }),
    token('reader', { type: 'component', grants: [{ store: 'carts', access: 'read' }] }),
    token('tenant', {
      type: 'component',
      grants: [{ store: 'carts', access: 'read-write', prefix: 'tenant/ä' }],
    }),
  ],
  valueBytes: 4 * 1024 * 1024,
}

export function describeRest(name: string, found: Found): void {
  describe(`REST over ${name}`, () => {
    let api: Api
    let close: () => Promise<void>

    beforeAll(async () => {
      const { node, close: closeNode } = await found(founding)
      const limits = { keyBytes: 4096, valueBytes: founding.valueBytes }
      api = await createApi({ node, limits, logger: listeningLogger() })
      await api.listen({ host: '127.0.0.1', port: 0 })
      close = async () => {
        await api.close()
        await closeNode()
      }
    })
    afterAll(() => close())

    /** As the admin, unless the test says otherwise. */
    function as(method: string, path: string, asked: Asked = {}): Promise<Answered> {
      return ask(api.address.url, method, path, { token: secrets.admin, ...asked })
    }

    async function put(path: string, body: string | Uint8Array, headers: Record<string, string> = {}) {
      const answer = await as('PUT', path, { body, headers })
      expect([200, 201]).toContain(answer.status)
      return Number(answer.json['revision'])
    }

    function expectProblem(answer: Answered, status: number, code: string, field?: string): void {
      expect(answer).toMatchObject({ status, headers: { 'trivet-error': code } })
      expect(answer.headers['content-type']).toBe('application/problem+json')
      expect(answer.headers['cache-control']).toBe('no-store')
      expect(answer.json).toMatchObject({ type: `urn:trivet:${code}`, code, status })
      expect(answer.json['field']).toBe(field)
      expect(Object.keys(answer.json)).toEqual(
        expect.arrayContaining(['type', 'title', 'status', 'detail', 'code', 'retryable']),
      )
    }

    describeRepeats({ as, expectProblem })

    describeWatch({ as, expectProblem, url: () => api.address.url })

    describe('a key', () => {
      test('is stored and read back as the same bytes and type', async () => {
        const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
        const set = await as('PUT', '/v1/stores/default/keys/bytes', {
          body: bytes,
          headers: { 'content-type': 'image/x-Thing; q="a;b"' },
        })
        expect(set.status).toBe(201)
        expect(set.json).toMatchObject({ created: true, changed: true })
        expect(set.headers.etag).toBe(`"${set.json['revision']}"`)
        const read = await as('GET', '/v1/stores/default/keys/bytes')
        expect(read.status).toBe(200)
        expect([...read.body]).toEqual([...bytes])
        expect(read.headers).toMatchObject({
          'content-type': 'image/x-Thing; q="a;b"',
          'content-length': '256',
          etag: set.headers.etag,
          'x-content-type-options': 'nosniff',
          'content-security-policy': 'sandbox',
          'cache-control': 'private, no-cache, no-transform',
        })
      })

      test('tells by HEAD what GET would, without the value', async () => {
        await put('/v1/stores/default/keys/headed', 'hello')
        const head = await as('HEAD', '/v1/stores/default/keys/headed')
        const get = await as('GET', '/v1/stores/default/keys/headed')
        const { date: _d, 'trivet-request': _r, ...headers } = get.headers
        expect(head.status).toBe(200)
        expect(head.headers).toMatchObject(headers)
        expect(head.body.length).toBe(0)
        const missing = await as('HEAD', '/v1/stores/default/keys/not-there')
        expect(missing.status).toBe(404)
        expect(missing.headers['trivet-error']).toBe('no-such-key')
      })

      test('may be empty, and has a type even when none was said', async () => {
        await put('/v1/stores/default/keys/empty', '')
        const read = await as('GET', '/v1/stores/default/keys/empty')
        expect(read).toMatchObject({ status: 200, text: '' })
        expect(read.headers['content-type']).toBe('application/octet-stream')
        expect(read.headers['content-length']).toBe('0')
      })

      test('tells creation, overwriting and repetition apart', async () => {
        const path = '/v1/stores/default/keys/thrice'
        const first = await as('PUT', path, { body: 'a' })
        const second = await as('PUT', path, { body: 'a' })
        const third = await as('PUT', path, { body: 'b' })
        expect([first.status, second.status, third.status]).toEqual([201, 200, 200])
        expect(second.json).toMatchObject({ created: false, changed: false })
        expect(third.json).toMatchObject({ created: false, changed: true })
        expect(Number(third.json['revision'])).toBeGreaterThan(Number(second.json['revision']))
      })

      test('is deleted, whether it was there or not', async () => {
        await put('/v1/stores/default/keys/doomed', 'x')
        const first = await as('DELETE', '/v1/stores/default/keys/doomed')
        const second = await as('DELETE', '/v1/stores/default/keys/doomed')
        expect(first).toMatchObject({ status: 200, json: { deleted: true } })
        expect(second).toMatchObject({ status: 200, json: { deleted: false } })
        expectProblem(await as('GET', '/v1/stores/default/keys/doomed'), 404, 'no-such-key')
      })

      test('says where the time of a write went, and at which revision', async () => {
        const set = await as('PUT', '/v1/stores/default/keys/timed', { body: 'x' })
        expect(set.headers['server-timing']).toMatch(
          /^forward;dur=[\d.]+, queue;dur=[\d.]+, fsync;dur=[\d.]+, quorum;dur=[\d.]+, apply;dur=[\d.]+$/,
        )
        expect(Number(set.headers['trivet-revision'])).toBeGreaterThanOrEqual(Number(set.json['revision']))
        const gone = await as('DELETE', '/v1/stores/default/keys/timed')
        expect(gone.headers['server-timing']).toMatch(/^forward;dur=/)
      })

      test.each([
        ['a/b', 'a%2Fb'],
        ['%61', 'a'],
        ['a+b', 'a%2Bb'],
        ['%C3%A4', '%c3%a4'],
        ['a//b', 'a%2F/b'],
        ['.../...', '%2E../..%2e'],
        ['-', '%2D'],
        ['x%20y%00z', 'x%20y%00z'],
        ['keys/keys/x', 'keys%2Fkeys%2Fx'],
      ])('%s and %s are one key', async (one, other) => {
        const revision = await put(`/v1/stores/default/keys/${one}`, one)
        const read = await as('GET', `/v1/stores/default/keys/${other}`)
        expect(read).toMatchObject({ status: 200, text: one, headers: { etag: `"${revision}"` } })
      })

      test.each([
        ['a%252Fb', 'a%2Fb'],
        ['e%CC%81', '%C3%A9'],
        ['A', 'a'],
        ['a/', 'a'],
      ])('%s and %s are two keys', async (one, other) => {
        await put(`/v1/stores/default/keys/two-${one}`, 'one')
        await put(`/v1/stores/default/keys/two-${other}`, 'other')
        expect(await as('GET', `/v1/stores/default/keys/two-${one}`)).toMatchObject({ text: 'one' })
      })

      test('has up to 4,096 bytes, counted after decoding', async () => {
        const longest = '%C3%A4'.repeat(2048)
        await put(`/v1/stores/default/keys/${longest}`, 'long')
        expect(await as('GET', `/v1/stores/default/keys/${longest}`)).toMatchObject({ text: 'long' })
        const longer = await as('PUT', `/v1/stores/default/keys/${longest}x`, { body: 'x' })
        expectProblem(longer, 400, 'invalid-key', 'key')
        expect(longer.json).toMatchObject({ limit: 4096, actual: 4097 })
      })

      test.each([
        '',
        '.',
        '..',
        'a/./b',
        'a/../b',
        '%2E%2E',
        '%2e',
        'a%2F..',
        '..%2Fa',
        '%FF',
        '%C3',
        '%ED%A0%80',
        '%',
        'a%2',
        'a%zz',
        'a#b',
      ])('%j in a path is no key', async (key) => {
        for (const method of ['GET', 'PUT', 'DELETE']) {
          expectProblem(await as(method, `/v1/stores/default/keys/${key}`), 400, 'invalid-key', 'key')
        }
      })

      test('is found through the absolute form that proxies send', async () => {
        await put('/v1/stores/default/keys/a%2Fproxied', 'yes')
        const read = await as(
          'GET',
          `${api.address.url}/v1/stores/default/keys/a%2Fproxied?consistency=stale`,
        )
        expect(read).toMatchObject({ status: 200, text: 'yes' })
      })
    })

    describe('a condition', () => {
      const path = '/v1/stores/default/keys/conditional'

      test('holds for the present revision, in a list, or weakened by a proxy', async () => {
        for (const form of ['"R"', 'W/"R"', '"x", "R"', ' "1" ,, W/"R" ', '*']) {
          const revision = await put(path, form)
          const answer = await as('PUT', path, {
            body: 'next',
            headers: { 'if-match': form.replace('R', String(revision)) },
          })
          expect(answer.status, form).toBe(200)
        }
      })

      test('that does not hold answers 412 with the present revision', async () => {
        const revision = await put(path, 'here')
        for (const headers of [
          { 'if-match': '"1"' },
          { 'if-match': '"foreign"' },
          { 'if-match': `"0${revision}"` },
          { 'if-none-match': '*' },
        ]) {
          for (const method of ['PUT', 'DELETE']) {
            const answer = await as(method, path, { body: 'x', headers })
            expectProblem(answer, 412, 'condition-failed')
            expect(answer.json['revision']).toBe(revision)
            expect(answer.headers.etag).toBeUndefined()
          }
        }
        const absent = await as('DELETE', '/v1/stores/default/keys/absent', { headers: { 'if-match': '*' } })
        expectProblem(absent, 412, 'condition-failed')
        expect(absent.json['revision']).toBe(0)
      })

      test('creates only where nothing stands', async () => {
        await as('DELETE', path)
        const create = { body: 'x', headers: { 'if-none-match': '*' } }
        expect((await as('PUT', path, create)).status).toBe(201)
        expect((await as('PUT', path, create)).status).toBe(412)
      })

      test('on a read answers 304 to whoever has it', async () => {
        const revision = await put(path, 'known')
        for (const tag of [`"${revision}"`, `W/"${revision}"`, `"a", "${revision}"`, '*']) {
          const answer = await as('GET', path, { headers: { 'if-none-match': tag } })
          expect(answer).toMatchObject({ status: 304, text: '', headers: { etag: `"${revision}"` } })
          expect(answer.headers['cache-control']).toBe('private, no-cache, no-transform')
        }
        expect((await as('HEAD', path, { headers: { 'if-none-match': '*' } })).status).toBe(304)
        const other = await as('GET', path, { headers: { 'if-none-match': `"${revision + 1}"` } })
        expect(other).toMatchObject({ status: 200, text: 'known' })
      })

      test.each([
        ['GET', path, { 'if-match': '"1"' }, 'if-match'],
        ['GET', path, { 'if-modified-since': 'Sat, 21 Nov 2026 22:14:27 GMT' }, 'if-modified-since'],
        ['PUT', path, { 'if-unmodified-since': 'Sat, 21 Nov 2026 22:14:27 GMT' }, 'if-unmodified-since'],
        ['PUT', path, { 'if-none-match': '"1"' }, 'if-none-match'],
        ['PUT', path, { 'if-match': '1' }, 'if-match'],
        ['PUT', path, { 'if-match': '' }, 'if-match'],
        ['PUT', path, { 'if-match': '"1", *' }, 'if-match'],
        ['PUT', path, { 'if-match': '"1" "2"' }, 'if-match'],
        ['GET', path, { 'if-none-match': 'w/"1"' }, 'if-none-match'],
        ['GET', '/v1/stores/default/keys/absent', { 'if-none-match': 'x' }, 'if-none-match'],
        ['GET', '/v1/stores/default/keys', { 'if-none-match': '*' }, 'if-none-match'],
        ['GET', '/v1/me', { 'if-match': '*' }, 'if-match'],
      ])('%s %s with %j is refused, not ignored', async (method, target, headers, field) => {
        await put(path, 'stands')
        expectProblem(
          await as(method, target, { headers: headers as Record<string, string> }),
          400,
          'invalid-request',
          field,
        )
      })
    })

    describe('a value', () => {
      test('goes up to the limit of its store, and no further', async () => {
        expect((await as('PUT', '/v1/stores/small/keys/k', { body: '0123456789' })).status).toBe(201)
        const over = await as('PUT', '/v1/stores/small/keys/k', { body: '0123456789a' })
        expectProblem(over, 413, 'value-too-large')
        expect(over.json).toMatchObject({ limit: 10, actual: 11 })
        const large = new Uint8Array(founding.valueBytes).fill(7)
        expect((await as('PUT', '/v1/stores/default/keys/large', { body: large })).status).toBe(201)
        expect((await as('GET', '/v1/stores/default/keys/large')).body.equals(large)).toBe(true)
      })

      test.each([
        'nonsense',
        'text/',
        'text/plain; charset',
        `text/${'x'.repeat(255)}`,
        'text/plain; a="b',
        'text/pläin',
      ])('is not stored with the type %s', async (type) => {
        const answer = await as('PUT', '/v1/stores/default/keys/typed', {
          body: 'x',
          headers: { 'content-type': type },
        })
        expectProblem(answer, 400, 'invalid-request', 'content-type')
      })

      test.each([
        'application/x-www-form-urlencoded',
        'application/json',
        'multipart/form-data; boundary=x',
        'text/plain;',
      ])('of type %s is stored as it is', async (type) => {
        const set = await as('PUT', '/v1/stores/default/keys/any', {
          body: '{]',
          headers: { 'content-type': type },
        })
        expect(set.status).toBeLessThan(300)
        const read = await as('GET', '/v1/stores/default/keys/any')
        expect(read).toMatchObject({ text: '{]', headers: { 'content-type': type } })
      })

      test('that came compressed is not taken', async () => {
        const answer = await as('PUT', '/v1/stores/default/keys/zipped', {
          body: 'x',
          headers: { 'content-encoding': 'gzip' },
        })
        expectProblem(answer, 415, 'unsupported-media-type', 'content-encoding')
      })
    })

    describe('a listing', () => {
      const listing = '/v1/stores/pages/keys'
      const keys = ['a', 'a/1', 'a/2', 'b', 'Ä', '\u{10000}', '\uffff']

      beforeAll(async () => {
        for (const key of keys) await put(`${listing}/${encodeURIComponent(key)}`, `of ${key}`)
      })

      async function list(query: string): Promise<readonly string[]> {
        const answer = await as('GET', `${listing}${query}`)
        expect(answer.status, answer.text).toBe(200)
        expect(answer.headers['trivet-revision']).toBe(String(answer.json['revision']))
        return keysOf(answer)
      }

      function keysOf(answer: Answered): readonly string[] {
        return (answer.json['keys'] as { key: string }[]).map(({ key }) => key)
      }

      test('has all keys in the order of their bytes, which is not that of UTF-16', async () => {
        expect(await list('')).toEqual(['a', 'a/1', 'a/2', 'b', 'Ä', '\uffff', '\u{10000}'])
        expect(await list('?reverse=true')).toEqual(['\u{10000}', '\uffff', 'Ä', 'b', 'a/2', 'a/1', 'a'])
      })

      test('tells revision, size and type of each', async () => {
        const answer = await as('GET', `${listing}?prefix=b`)
        expect(answer.json['keys']).toEqual([
          { key: 'b', revision: expect.any(Number), size: 4, contentType: 'application/octet-stream' },
        ])
      })

      test('is bounded by prefix, start and end', async () => {
        expect(await list('?prefix=a%2F')).toEqual(['a/1', 'a/2'])
        expect(await list('?prefix=')).toHaveLength(7)
        expect(await list('?start=a/2&end=%C3%84')).toEqual(['a/2', 'b'])
        expect(await list('?start=a/1&end=b&reverse=true')).toEqual(['a/2', 'a/1'])
        expect(await list('?start=c&end=a')).toEqual([])
        expect(await list('?prefix=a&consistency=linearizable&minRevision=1&reverse=false')).toHaveLength(3)
      })

      test.each(['', '&reverse=true', '&prefix=a', '&start=a/1&end=%F0%90%80%80'])(
        'comes page by page without gap or repetition (%s)',
        async (query) => {
          const whole = await list(`?limit=1000${query}`)
          const collected: string[] = []
          let cursor = ''
          do {
            const page = await as('GET', `${listing}?limit=2${query}${cursor}`)
            collected.push(...keysOf(page))
            cursor = page.json['cursor'] === undefined ? '' : `&cursor=${page.json['cursor']}`
          } while (cursor !== '')
          expect(collected).toEqual(whole)
        },
      )

      test('takes a cursor only with the query and store it was issued for', async () => {
        await put('/v1/stores/carts/keys/one', '1')
        const first = await as('GET', `${listing}?limit=2&prefix=a`)
        const cursor = String(first.json['cursor'])
        const again = await as('GET', `${listing}?prefix=a&cursor=${cursor}`)
        expect(keysOf(again)).toEqual(['a/2'])
        const flipped = `${cursor.slice(0, -1)}${cursor.endsWith('A') ? 'B' : 'A'}`
        for (const wrong of [
          `${listing}?cursor=${cursor}`,
          `${listing}?prefix=a&reverse=true&cursor=${cursor}`,
          `${listing}?prefix=a&start=a&cursor=${cursor}`,
          `${listing}?prefix=a&end=z&cursor=${cursor}`,
          `/v1/stores/carts/keys?prefix=a&cursor=${cursor}`,
          `${listing}?prefix=a&cursor=${flipped}`,
          `${listing}?prefix=a&cursor=${cursor}=`,
          `${listing}?prefix=a&cursor=`,
          `${listing}?prefix=a&cursor=nonsense`,
        ]) {
          expectProblem(await as('GET', wrong), 400, 'invalid-cursor', 'cursor')
        }
      })

      test.each([
        ['limit=0', 'limit'],
        ['limit=10001', 'limit'],
        ['limit=', 'limit'],
        ['limit=1.5', 'limit'],
        ['limit=1e2', 'limit'],
        ['limit=%205', 'limit'],
        ['limit=1&limit=2', 'limit'],
        ['reverse=yes', 'reverse'],
        ['reverse', 'reverse'],
        ['consistency=eventual', 'consistency'],
        ['minRevision=-1', 'minRevision'],
        ['minRevision=99999999999999999999', 'minRevision'],
        ['prefix=%FF', 'prefix'],
        ['prefix=%', 'prefix'],
        ['values=true', 'values'],
        ['ttl=5s', 'ttl'],
        ['__proto__=1', '__proto__'],
        ['Limit=1', 'Limit'],
      ])('refuses ?%s and names the parameter', async (query, field) => {
        expectProblem(await as('GET', `${listing}?${query}`), 400, 'invalid-request', field)
      })

      test('refuses bounds longer than any key', async () => {
        for (const field of ['prefix', 'start', 'end']) {
          const answer = await as('GET', `${listing}?${field}=${'x'.repeat(4097)}`)
          expectProblem(answer, 400, 'invalid-request', field)
          expect(answer.json).toMatchObject({ limit: 4096, actual: 4097 })
        }
      })

      test('does not answer a page to who asked for a stream', async () => {
        const answer = await as('GET', listing, { headers: { accept: 'application/x-ndjson' } })
        expectProblem(answer, 400, 'invalid-request', 'accept')
      })
    })

    describe('a token', () => {
      test.each([
        ['none at all', undefined, {}],
        ['an unknown one', secrets.nobody, {}],
        ['a hash instead of the secret', hashOf(secrets.admin), {}],
        ['another scheme', undefined, { authorization: `Basic ${secrets.admin}` }],
        ['an empty one', undefined, { authorization: 'Bearer ' }],
      ])('is needed: %s is 401', async (_case, given, headers) => {
        for (const path of [
          '/v1/stores/default/keys/x',
          '/v1/stores/default',
          '/v1/stores',
          '/v1/me',
          '/v1/cluster',
        ]) {
          const answer = await as('GET', path, { token: given, headers })
          expectProblem(answer, 401, 'unauthenticated')
          expect(answer.headers['www-authenticate']).toBe('Bearer')
        }
        expectProblem(
          await as('PUT', '/v1/stores/small/keys/x', { token: given, headers, body: 'x' }),
          401,
          'unauthenticated',
        )
      })

      test('is never read from the URL', async () => {
        const answer = await as('GET', `/v1/me?token=${secrets.admin}`, { token: undefined })
        expectProblem(answer, 401, 'unauthenticated')
      })

      test('may come with its scheme in any case', async () => {
        for (const scheme of ['bearer', 'BEARER', 'Bearer ']) {
          const headers = { authorization: `${scheme} ${secrets.cart}` }
          expect((await as('GET', '/v1/me', { token: undefined, headers })).status).toBe(200)
        }
      })

      test('opens what it was granted, and nothing else', async () => {
        const cases: [string, keyof typeof secrets, string, number][] = [
          ['PUT', 'cart', '/v1/stores/carts/keys/granted', 201],
          ['GET', 'cart', '/v1/stores/carts/keys/granted', 200],
          ['GET', 'cart', '/v1/stores/carts/keys', 200],
          ['GET', 'cart', '/v1/stores/default/keys/x', 403],
          ['GET', 'cart', '/v1/stores/default', 403],
          ['GET', 'cart', '/v1/stores/default/keys', 403],
          ['GET', 'cart', '/v1/stores/no-store/keys/x', 403],
          ['GET', 'cart', '/v1/stores/gone/keys/x', 404],
          ['PUT', 'cart', '/v1/stores/gone/keys/x', 404],
          ['GET', 'cart', '/v1/stores/gone/keys', 404],
          ['GET', 'cart', '/v1/stores/gone', 404],
          ['POST', 'cart', '/v1/cluster/leader', 403],
          ['GET', 'reader', '/v1/stores/carts/keys/granted', 200],
          ['PUT', 'reader', '/v1/stores/carts/keys/granted', 403],
          ['DELETE', 'reader', '/v1/stores/carts/keys/granted', 403],
          ['GET', 'monitor', '/v1/cluster', 200],
          ['GET', 'monitor', '/v1/stores', 403],
          ['GET', 'monitor', '/v1/stores/carts', 403],
          ['GET', 'monitor', '/v1/stores/carts/keys/granted', 403],
          ['GET', 'admin', '/v1/stores/no-store/keys/x', 404],
          ['GET', 'tenant', '/v1/cluster', 200],
        ]
        for (const [method, who, path, status] of cases) {
          const answer = await as(method, path, {
            token: secrets[who],
            body: method === 'PUT' ? 'x' : undefined,
          })
          expect(answer.status, `${method} ${path} as ${who}`).toBe(status)
        }
      })

      test('with a prefix opens the keys under it, by bytes, and lists only there', async () => {
        const cases: [string, string, number][] = [
          ['PUT', '/v1/stores/carts/keys/tenant%2F%C3%A4%2Fx', 201],
          ['GET', '/v1/stores/carts/keys/tenant/%C3%A4/x', 200],
          ['GET', '/v1/stores/carts/keys/tenant/%C3%A4', 404],
          ['GET', '/v1/stores/carts/keys/tenant/%C3%A5', 403],
          ['PUT', '/v1/stores/carts/keys/tenant', 403],
          ['GET', '/v1/stores/carts/keys?prefix=tenant/%C3%A4', 200],
          ['GET', '/v1/stores/carts/keys?prefix=tenant/%C3%A4%2Fx', 200],
          ['GET', '/v1/stores/carts/keys?prefix=tenant/', 403],
          ['GET', '/v1/stores/carts/keys', 403],
          ['GET', '/v1/stores/carts/keys?start=tenant/%C3%A4', 403],
        ]
        for (const [method, path, status] of cases) {
          const answer = await as(method, path, {
            token: secrets.tenant,
            body: method === 'PUT' ? 'x' : undefined,
          })
          expect(answer.status, `${method} ${path}`).toBe(status)
        }
      })

      test('tells who it is', async () => {
        expect((await as('GET', '/v1/me')).json).toEqual({
          principal: { type: 'admin', name: 'admin' },
          grants: [],
        })
        expect((await as('GET', '/v1/me', { token: secrets.tenant })).json).toEqual({
          principal: { type: 'component', name: 'tenant' },
          grants: [{ store: 'carts', access: 'read-write', prefix: 'tenant/ä' }],
        })
      })

      test('sees the stores it may open, with counts where it may see the whole', async () => {
        const all = (await as('GET', '/v1/stores')).json['stores'] as { name: string }[]
        expect(all.map(({ name }) => name).sort()).toEqual(['carts', 'default', 'pages', 'small'])
        expect((await as('GET', '/v1/stores', { token: secrets.tenant })).json).toEqual({
          stores: [{ name: 'carts', maxValueBytes: founding.valueBytes }],
        })
        expect((await as('GET', '/v1/stores/pages')).json).toMatchObject({ name: 'pages', keys: 7 })
        const opened = await as('GET', '/v1/stores/small', { token: secrets.cart })
        expect(opened.json).toMatchObject({ name: 'small', maxValueBytes: 10, keys: 1, bytes: 11 })
        expect(await as('HEAD', '/v1/stores/small', { token: secrets.cart })).toMatchObject({
          status: 200,
          text: '',
        })
      })
    })

    describe('the order of checks', () => {
      const everythingWrong = {
        body: 'longer than ten',
        headers: { 'if-match': 'nonsense', 'trivet-timeout': 'soon' },
      }

      test('is 401, 403, 404, 400, 413, 412', async () => {
        const wrong = { ...everythingWrong, token: undefined }
        expect((await as('PUT', '/v1/stores/gone/keys/%FF?x', wrong)).status).toBe(401)
        expect(
          (await as('PUT', '/v1/stores/default/keys/%FF?x', { ...wrong, token: secrets.cart })).status,
        ).toBe(403)
        expect(
          (await as('PUT', '/v1/stores/gone/keys/%FF?x', { ...wrong, token: secrets.cart })).status,
        ).toBe(404)
        expect(
          (await as('PUT', '/v1/stores/small/keys/%FF?x', { ...wrong, token: secrets.cart })).status,
        ).toBe(400)
        const later = { body: 'longer than ten', headers: { 'if-match': '"1"' }, token: secrets.cart }
        expect((await as('PUT', '/v1/stores/small/keys/new', later)).status).toBe(413)
        expect((await as('PUT', '/v1/stores/small/keys/new', { ...later, body: 'short' })).status).toBe(412)
      })
    })

    describe('a route', () => {
      test.each([
        ['POST', '/v1/stores/default/keys/x', 'GET, HEAD, PUT, DELETE'],
        ['PUT', '/v1/stores/default/keys', 'GET'],
        ['HEAD', '/v1/stores/default/keys', 'GET'],
        ['PUT', '/v1/me', 'GET'],
        ['GET', '/v1/cluster/leader', 'POST'],
        ['PROPFIND', '/v1/stores/default', 'GET, HEAD'],
        ['OPTIONS', '/livez', 'GET, HEAD'],
      ])('%s %s is 405 with Allow: %s', async (method, path, allow) => {
        const answer = await as(method, path)
        expect(answer).toMatchObject({
          status: 405,
          headers: { allow, 'trivet-error': 'method-not-allowed' },
        })
      })

      test.each([
        ['GET', '/'],
        ['GET', '/v1'],
        ['GET', '/v1/'],
        ['GET', '/v1/me/'],
        ['GET', '/v1/stores/'],
        ['DELETE', '/v1/stores/default/'],
        ['GET', '/v1/stores/default/key'],
        ['GET', '/v1/stores//keys/x'],
        ['GET', '/v1/%73tores/default/keys/x'],
        ['GET', '/V1/me'],
        ['GET', '/v1//me'],
        ['POST', '/nowhere'],
      ])('%s %s is none', async (method, path) => {
        const body = method === 'POST' ? '{]' : undefined
        expectProblem(await as(method, path, { body }), 404, 'not-found')
      })

      test('with bad percent-encoding is refused before it is found', async () => {
        expectProblem(await as('GET', '/v1/stores/%FF'), 400, 'invalid-request', 'path')
      })

      test('takes no parameters it has not declared, nor headers that promise what it does not do', async () => {
        const path = '/v1/stores/default/keys/x'
        expectProblem(await as('PUT', `${path}?ttl=5s`, { body: 'x' }), 400, 'invalid-request', 'ttl')
        expectProblem(await as('DELETE', `${path}?consistency=stale`), 400, 'invalid-request', 'consistency')
        expectProblem(await as('GET', '/livez?verbose=1'), 400, 'invalid-request', 'verbose')
        const headers = { 'idempotency-key': 'once' }
        expectProblem(await as('GET', path, { headers }), 400, 'invalid-request', 'idempotency-key')
        const session = { 'trivet-session': 'x; seq=1; acked=0' }
        const answer = await as('POST', '/v1/sessions', { headers: session })
        expectProblem(answer, 400, 'invalid-request', 'trivet-session')
      })

      test.each(['soon', '5', '9ms', '61s', '2m', '-1s', '1.5s', ''])(
        'refuses to take %j for a time',
        async (timeout) => {
          const answer = await as('GET', '/v1/me', { headers: { 'trivet-timeout': timeout } })
          expectProblem(answer, 400, 'invalid-request', 'trivet-timeout')
        },
      )

      test('passes a trace on, if it is one', async () => {
        const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
        expect((await as('GET', '/v1/me', { headers: { traceparent } })).headers['traceparent']).toBe(
          traceparent,
        )
        expect(
          (await as('GET', '/v1/me', { headers: { traceparent: 'x' } })).headers['traceparent'],
        ).toBeUndefined()
      })

      test('gives every request an id of its own', async () => {
        const ids = await Promise.all(
          Array.from({ length: 20 }, async () => (await as('GET', '/livez')).headers['trivet-request']),
        )
        expect(new Set(ids).size).toBe(20)
      })
    })

    describe('the cluster', () => {
      test('is described to any token', async () => {
        const answer = await as('GET', '/v1/cluster', { token: secrets.monitor })
        expect(answer.json).toMatchObject({ term: expect.any(Number), leader: expect.any(String) })
        const members = answer.json['members'] as { self: boolean }[]
        expect(members.filter(({ self }) => self)).toHaveLength(1)
      })

      test.each([
        [undefined, undefined, 400],
        ['', 'application/json', 400],
        ['{"to":', 'application/json', 400],
        ['[]', 'application/json', 400],
        ['{}', 'application/json', 400],
        ['{"to":5}', 'application/json', 400],
        ['{"to":""}', 'application/json', 400],
        ['{"to":"n1","now":true}', 'application/json', 400],
        ['{"to":"n1","__proto__":{}}', 'application/json', 400],
        ['{"to":"nobody"}', 'application/json', 400],
        ['to=n1', 'application/x-www-form-urlencoded', 415],
      ])('is not handed over by %j of type %s: %i', async (body, type, status) => {
        const headers: Record<string, string> = type === undefined ? {} : { 'content-type': type }
        const answer = await as('POST', '/v1/cluster/leader', { body, headers })
        expect(answer.status, answer.text).toBe(status)
      })
    })

    describe('the members', () => {
      const newcomer = {
        id: 'n9',
        http: 'http://127.0.0.1:7999',
        p2p: '/ip4/127.0.0.1/tcp/7998',
        peer: '12D3KooWJ6ghkpSQ5Gjy38sLbtBqSSFSM9yhYJKN6G9qEFRXXP4U',
      }
      const renewed = { ...newcomer, peer: '12D3KooWFL5PZHmXux1X3SSRrnLd8q6zQ2qWxEkYa1AY46Pgc4m5' }
      const headers = { 'content-type': 'application/json' }
      const add = (body: object, query = '') =>
        as('POST', `/v1/cluster/members${query}`, { body: JSON.stringify(body), headers })
      const shown = async () => {
        const { json } = await as('GET', '/v1/cluster')
        return (json['members'] as Record<string, unknown>[]).find(({ id }) => id === newcomer.id)
      }

      test('are added as learners, replaced under their name, and removed', async () => {
        expect(await add(newcomer)).toMatchObject({ status: 202, json: { id: 'n9', peer: newcomer.peer } })
        expect(await shown()).toMatchObject({ ...newcomer, voter: false, role: expect.any(String) })
        expectProblem(await add(newcomer), 409, 'member-exists', 'id')
        expectProblem(await add({ ...newcomer, id: 'n8' }), 409, 'member-exists', 'peer')

        expect(await add({ ...renewed, replaces: 'n9' })).toMatchObject({ status: 202 })
        expect(await shown()).toMatchObject({ peer: renewed.peer, voter: false })

        const removed = await as('DELETE', '/v1/cluster/members/n9')
        expect(removed).toMatchObject({ status: 200, json: { id: 'n9' } })
        expect(await shown()).toBeUndefined()
        expectProblem(await as('DELETE', '/v1/cluster/members/n9'), 404, 'not-found', 'id')
        expectProblem(await add({ ...renewed, replaces: 'n9' }), 404, 'not-found', 'id')
      })

      test('are changed by admins alone', async () => {
        for (const token of [secrets.cart, secrets.monitor]) {
          const body = JSON.stringify(newcomer)
          expectProblem(
            await as('POST', '/v1/cluster/members', { body, headers, token }),
            403,
            'access-denied',
          )
          expectProblem(await as('DELETE', '/v1/cluster/members/n1', { token }), 403, 'access-denied')
        }
      })

      test.each([
        ['without a peer id', { ...newcomer, peer: undefined }, 'peer'],
        ['with a peer id that is none', { ...newcomer, peer: '12D3KooWnobody' }, 'peer'],
        ['with an HTTP address that is none', { ...newcomer, http: '127.0.0.1:7999' }, 'http'],
        ['with a multiaddr that is none', { ...newcomer, p2p: '127.0.0.1:7998' }, 'p2p'],
        ['with an id that is no name', { ...newcomer, id: 'N9' }, 'id'],
        ['with a field nobody knows', { ...newcomer, voter: true }, 'voter'],
      ])('are not added %s', async (_, body, field) => {
        expectProblem(await add(body), 400, 'invalid-request', field)
      })

      test('take no force that is neither true nor false', async () => {
        expectProblem(await as('DELETE', '/v1/cluster/members/n1?force=1'), 400, 'invalid-request', 'force')
      })
    })

    test('an administrative body has a limit', async () => {
      const body = `{"to":"${'x'.repeat(70_000)}"}`
      const headers = { 'content-type': 'application/json' }
      const answer = await as('POST', '/v1/cluster/leader', { body, headers })
      expectProblem(answer, 413, 'request-too-large')
      expect(answer.json['limit']).toBe(65_536)
    })

    describe('health', () => {
      test('is told to anybody', async () => {
        for (const path of ['/livez', '/readyz']) {
          expect(await as('GET', path, { token: undefined })).toMatchObject({
            status: 200,
            json: { status: 'ok' },
          })
          expect(await as('HEAD', path, { token: undefined })).toMatchObject({ status: 200, text: '' })
        }
      })

      test('has an OpenAPI 3.1 document made of the schemas that validate', async () => {
        const { json } = await as('GET', '/openapi.json', { token: undefined })
        expect(json).toMatchObject({ openapi: '3.1.0', security: [{ bearer: [] }] })
        const paths = json['paths'] as Record<string, Record<string, Record<string, unknown>>>
        expect(Object.keys(paths).sort()).toEqual([
          '/livez',
          '/readyz',
          '/v1/cluster',
          '/v1/cluster/leader',
          '/v1/cluster/members',
          '/v1/cluster/members/{id}',
          '/v1/me',
          '/v1/sessions',
          '/v1/stores',
          '/v1/stores/{store}',
          '/v1/stores/{store}/keys',
          '/v1/stores/{store}/keys/{key}',
        ])
        expect(Object.keys(paths['/v1/stores/{store}/keys/{key}'] ?? {}).sort()).toEqual([
          'delete',
          'get',
          'head',
          'put',
        ])
        const parameters = paths['/v1/stores/{store}/keys']?.['get']?.['parameters'] as {
          name: string
          schema: object
        }[]
        expect(parameters.find(({ name }) => name === 'limit')?.schema).toMatchObject({
          type: 'integer',
          maximum: 10_000,
        })
        expect(parameters.map(({ name }) => name)).toContain('cursor')
        for (const operation of Object.values(paths).flatMap((path) => Object.values(path))) {
          expect(operation['responses']).toMatchObject({
            default: { $ref: '#/components/responses/Problem' },
          })
        }
      })
    })
  })
}
