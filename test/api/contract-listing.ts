// The part of the REST contract on many keys: pages, streams, ranges.

import { beforeAll, describe, expect, test } from 'vitest'
import type { Answered } from './client.ts'
import type { Bench } from './contract.ts'

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
}
