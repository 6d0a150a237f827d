// The part of the REST contract on many keys: pages, streams, ranges.

import { beforeAll, describe, expect, test } from 'vitest'
import type { Answered } from './client.ts'
import { type Bench, secrets } from './contract.ts'

type Line = Readonly<Record<string, unknown>>

export function describeListing({ as, expectProblem, put }: Bench): void {
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
      ['values=yes', 'values'],
      ['ttl=5s', 'ttl'],
      ['__proto__=1', '__proto__'],
      ['Limit=1', 'Limit'],
    ])('refuses ?%s and names the parameter', async (query, field) => {
      expectProblem(await as('GET', `${listing}?${query}`), 400, 'invalid-request', field)
    })

    test('names the limit that a parameter goes beyond', async () => {
      expect((await as('GET', `${listing}?limit=10001`)).json).toMatchObject({
        field: 'limit',
        limit: 10_000,
      })
      expect((await as('GET', `${listing}?limit=0`)).json).toMatchObject({ field: 'limit', limit: 1 })
    })

    test('refuses bounds longer than any key', async () => {
      for (const field of ['prefix', 'start', 'end']) {
        const answer = await as('GET', `${listing}?${field}=${'x'.repeat(4097)}`)
        expectProblem(answer, 400, 'invalid-request', field)
        expect(answer.json).toMatchObject({ limit: 4096, actual: 4097 })
      }
    })

    test('has the values where they are asked for', async () => {
      const { json } = await as('GET', `${listing}?prefix=a&values=true&limit=1`)
      expect(json).toMatchObject({ keys: [{ key: 'a', value: Buffer.from('of a').toString('base64') }] })
      const without = await as('GET', `${listing}?prefix=a&values=false&limit=1`)
      expect(without.json['keys']).not.toHaveProperty([0, 'value'])
    })

    test('ends a page that has grown large, and goes on behind it', async () => {
      const large = Buffer.alloc(1_500_000, 0x78)
      for (const n of [1, 2, 3, 4]) await put(`/v1/stores/default/keys/large-page/${n}`, large)
      const query = '/v1/stores/default/keys?prefix=large-page/&values=true'
      const page = await as('GET', query)
      expect(keysOf(page)).toEqual(['large-page/1', 'large-page/2', 'large-page/3'])
      const rest = await as('GET', `${query}&cursor=${page.json['cursor']}`)
      expect(keysOf(rest)).toEqual(['large-page/4'])
      expect(rest.json['cursor']).toBeUndefined()
    })

    const lines = { accept: 'application/x-ndjson' }

    async function stream(
      path: string,
    ): Promise<{ readonly answer: Answered; readonly all: readonly Line[] }> {
      const answer = await as('GET', path, { headers: lines })
      expect(answer.status, answer.text).toBe(200)
      expect(answer.headers['content-type']).toBe('application/x-ndjson')
      expect(answer.text.endsWith('\n')).toBe(true)
      return {
        answer,
        all: answer.text
          .trimEnd()
          .split('\n')
          .map((line): Line => JSON.parse(line)),
      }
    }

    test('streams all of it as lines, which end with how many there were', async () => {
      const { answer, all } = await stream(`${listing}?values=true`)
      expect(all.slice(0, -1).map(({ key }) => key)).toEqual(await list(''))
      expect(all[0]).toEqual({
        key: 'a',
        revision: expect.any(Number),
        size: 4,
        contentType: 'application/octet-stream',
        value: Buffer.from('of a').toString('base64'),
      })
      const revision = Number(answer.headers['trivet-revision'])
      expect(all.at(-1)).toEqual({ end: true, revision, count: 7 })
      const part = await stream(`${listing}?start=a/1&end=b&reverse=true&consistency=stale`)
      expect(part.all.map(({ key }) => key)).toEqual(['a/2', 'a/1', undefined])
      expect(part.answer.headers['trivet-stale']).toBe('true')
      expect((await stream(`${listing}?prefix=nothing`)).all).toMatchObject([{ end: true, count: 0 }])
    })

    test('streams more than it reads at a time', async () => {
      const count = 2500
      const operations = Array.from({ length: count }, (_, n) => ({
        op: 'set',
        store: 'default',
        key: `stream/${String(n).padStart(4, '0')}`,
        text: 'x'.repeat(n % 700),
      }))
      for (let from = 0; from < count; from += 1000) {
        const body = JSON.stringify({ operations: operations.slice(from, from + 1000) })
        await as('POST', '/v1/batch', { body, headers: { 'content-type': 'application/json' } })
      }
      const { all } = await stream('/v1/stores/default/keys?prefix=stream/')
      expect(all.slice(0, -1).map(({ key }) => key)).toEqual(operations.map(({ key }) => key))
      expect(all.at(-1)).toMatchObject({ end: true, count })
    })

    test('has no pages in a stream', async () => {
      for (const [name, value] of [
        ['limit', '5'],
        ['cursor', 'x'],
      ]) {
        const answer = await as('GET', `${listing}?${name}=${value}`, { headers: lines })
        expectProblem(answer, 400, 'invalid-request', name)
      }
    })
  })

  describe('a range', () => {
    const store = '/v1/stores/default/keys'

    test('is deleted at once, and counted', async () => {
      for (const key of ['range/1', 'range/2', 'range0', 'rang']) await put(`${store}/${key}`, 'x')
      const answer = await as('DELETE', `${store}?prefix=range/`)
      expect(answer).toMatchObject({ status: 200, json: { deleted: 2, revision: expect.any(Number) } })
      expect(answer.headers['server-timing']).toMatch(/^forward;dur=/)
      const { json } = await as('GET', `${store}?prefix=rang`)
      expect((json['keys'] as { key: string }[]).map(({ key }) => key)).toEqual(['rang', 'range0'])
      expect(await as('DELETE', `${store}?prefix=range/`)).toMatchObject({ json: { deleted: 0 } })
    })

    test('is the whole store only where that is said', async () => {
      expectProblem(await as('DELETE', store), 400, 'invalid-request', 'prefix')
      expectProblem(await as('DELETE', `${store}?prefix=`), 400, 'invalid-request', 'prefix')
      expectProblem(await as('DELETE', `${store}?all=false`), 400, 'invalid-request', 'prefix')
      expectProblem(await as('DELETE', `${store}?all=true&prefix=x`), 400, 'invalid-request', 'all')
      expectProblem(await as('DELETE', `${store}?all=yes`), 400, 'invalid-request', 'all')
      await put('/v1/stores/small/keys/whole', 'x')
      expect((await as('DELETE', '/v1/stores/small/keys?all=true')).json['deleted']).toBeGreaterThan(0)
      expect((await as('GET', '/v1/stores/small/keys')).json['keys']).toEqual([])
      await put('/v1/stores/small/keys/k', '0123456789')
    })

    test('is deleted by who may write all of it', async () => {
      const path = '/v1/stores/carts/keys'
      await put(`${path}/tenant/%C3%A4/range`, 'x')
      const cases: [string, keyof typeof secrets, number][] = [
        [`${path}?prefix=tenant/%C3%A4`, 'reader', 403],
        [`${path}?prefix=tenant/`, 'tenant', 403],
        [`${path}?all=true`, 'tenant', 403],
        [`${path}?prefix=tenant/%C3%A4`, 'tenant', 200],
        ['/v1/stores/gone/keys?prefix=x', 'cart', 404],
      ]
      for (const [target, who, status] of cases) {
        expect((await as('DELETE', target, { token: secrets[who] })).status, `${target} as ${who}`).toBe(
          status,
        )
      }
    })

    test('is deleted once under an idempotency key', async () => {
      const headers = { 'idempotency-key': 'range-1' }
      await put(`${store}/range-once/1`, 'x')
      const first = await as('DELETE', `${store}?prefix=range-once/`, { headers })
      await put(`${store}/range-once/2`, 'x')
      const again = await as('DELETE', `${store}?prefix=range-once/`, { headers })
      expect(again).toMatchObject({ text: first.text, headers: { 'idempotency-replayed': 'true' } })
      expect((await as('GET', `${store}/range-once/2`)).status).toBe(200)
      const other = await as('DELETE', `${store}?prefix=range-other/`, { headers })
      expectProblem(other, 422, 'idempotency-key-reused')
    })
  })
}
