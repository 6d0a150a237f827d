// The part of the REST contract on watching keys.

import { EventSource } from 'eventsource'
import { describe, expect, test } from 'vitest'
import { type Bench, secrets } from './contract.ts'
import { EventStream } from './event-stream.ts'

const keys = '/v1/stores/default/keys'
const watch = '/v1/stores/default/watch'

export function describeWatch({ as, expectProblem, url }: Bench): void {
  const open = (query: string, options?: Parameters<typeof EventStream.open>[2]) =>
    EventStream.open(url(), `${watch}${query}`, options)

  async function put(key: string, body = 'x'): Promise<number> {
    const answer = await as('PUT', `${keys}/${key}`, { body, headers: { 'content-type': 'text/plain' } })
    return Number(answer.json['revision'])
  }

  async function remove(key: string): Promise<number> {
    return Number((await as('DELETE', `${keys}/${key}`)).json['revision'])
  }

  const changeOf = ({ events }: EventStream, revision: number) =>
    events.some(({ data }) => data['revision'] === revision)

  describe('a watch', () => {
    test('sends its headers at once, and how soon to come again', async () => {
      await using stream = await open('')
      expect(stream.headers).toMatchObject({
        'content-type': 'text/event-stream',
        'x-accel-buffering': 'no',
        'cache-control': 'no-store',
      })
      await stream.until(({ text }) => text.startsWith('retry: 1000\n\n'))
    })

    test('tells of every change from now on, with ids to go on from', async () => {
      await put('watch/before')
      await using stream = await open('?prefix=watch/')
      await stream.caughtUp()
      const first = await put('watch/a', 'one')
      const second = await put('watch/a', 'two')
      await put('elsewhere')
      const third = await remove('watch/a')
      await stream.until(({ changes }) => changes.length === 3)
      expect(stream.changes).toEqual([
        { type: 'set', id: `${first}`, data: { key: 'watch/a', revision: first, contentType: 'text/plain' } },
        {
          type: 'set',
          id: `${second}`,
          data: { key: 'watch/a', revision: second, contentType: 'text/plain' },
        },
        { type: 'delete', id: `${third}`, data: { key: 'watch/a', revision: third } },
      ])
    })

    test('says nothing of a delete of what was not there', async () => {
      await using stream = await open('?prefix=watch/')
      await stream.caughtUp()
      await remove('watch/nothing')
      const after = await put('watch/something')
      await stream.until((one) => changeOf(one, after))
      expect(stream.changes).toHaveLength(1)
    })

    test('goes on after a revision, with values as they were then', async () => {
      const before = await put('watch/old', 'zero')
      await put('watch/old', 'one')
      await put('watch/old', 'two')
      await remove('watch/old')
      await using stream = await open(`?prefix=watch/old&from=${before}&values=true`)
      await stream.until(({ changes }) => changes.length === 3)
      const values = stream.changes.map(({ type, data }) => [
        type,
        data['value'] && Buffer.from(String(data['value']), 'base64').toString(),
      ])
      expect(values).toEqual([
        ['set', 'one'],
        ['set', 'two'],
        ['delete', undefined],
      ])
    })

    test('believes Last-Event-ID more than from and snapshot', async () => {
      const first = await put('watch/last', 'one')
      const second = await put('watch/last', 'two')
      const headers = { 'last-event-id': `${first}` }
      for (const query of [`&from=${second}`, '&snapshot=true']) {
        await using stream = await open(`?key=watch/last${query}`, { headers })
        await stream.caughtUp()
        expect(stream.changes.map(({ id }) => id)).toEqual([`${second}`])
      }
    })

    test('begins with every current key where that is asked for, and goes on without a gap', async () => {
      await put('watch/snap/a', '1')
      await put('watch/snap/b', '2')
      await put('watch/snap/c', '3')
      await remove('watch/snap/b')
      await using stream = await open('?prefix=watch/snap/&snapshot=true&values=true')
      await stream.caughtUp()
      const heard = stream.events.map(({ type, id, data }) => [type, id, data['key']])
      const end = heard.findIndex(([type]) => type === 'progress')
      expect(heard.slice(0, end)).toEqual([
        ['set', undefined, 'watch/snap/a'],
        ['set', undefined, 'watch/snap/c'],
      ])
      expect(heard[end]?.[1]).toMatch(/^\d+$/)
      const later = await put('watch/snap/b', '4')
      await stream.until((one) => changeOf(one, later))
      expect(stream.changes.at(-1)).toMatchObject({ type: 'set', id: `${later}`, data: { value: 'NA==' } })
    })

    test('may name several prefixes and keys, which say each change once', async () => {
      await using stream = await open(
        '?prefix=watch/x/&prefix=watch/x/y&key=watch/x/y1&key=watch/z&key=watch/z',
      )
      await stream.caughtUp()
      await put('watch/x/y1')
      await put('watch/z')
      await put('watch/z1')
      const last = await put('watch/x/z')
      await stream.until((one) => changeOf(one, last))
      expect(stream.changes.map(({ data }) => data['key'])).toEqual(['watch/x/y1', 'watch/z', 'watch/x/z'])
    })

    test('is refused where it cannot begin', async () => {
      const revision = Number((await as('GET', '/v1/me')).headers['trivet-revision'])
      expectProblem(await as('GET', `${watch}?from=${revision + 1000}`), 400, 'invalid-request', 'from')
      expectProblem(await as('GET', `${watch}?from=later`), 400, 'invalid-request', 'from')
      expectProblem(await as('GET', `${watch}?from=1.0`), 400, 'invalid-request', 'from')
      expectProblem(await as('GET', `${watch}?from=1&snapshot=true`), 400, 'invalid-request', 'from')
      expectProblem(await as('GET', `${watch}?from=1&from=2`), 400, 'invalid-request', 'from')
      expectProblem(await as('GET', `${watch}?key=`), 400, 'invalid-key', 'key')
      expectProblem(await as('GET', `${watch}?keys=a`), 400, 'invalid-request', 'keys')
      const many = Array.from({ length: 65 }, (_, n) => `prefix=${n}`).join('&')
      expectProblem(await as('GET', `${watch}?${many}`), 400, 'invalid-request', 'prefix')
      const bad = { headers: { 'last-event-id': 'x' } }
      expectProblem(await as('GET', watch, bad), 400, 'invalid-request', 'last-event-id')
      const future = { headers: { 'last-event-id': `${revision + 1000}.1` } }
      expectProblem(await as('GET', watch, future), 400, 'invalid-request', 'last-event-id')
    })

    test('honours no condition, and is there for GET alone', async () => {
      const conditional = { headers: { 'if-none-match': '"1"' } }
      expectProblem(await as('GET', watch, conditional), 400, 'invalid-request', 'if-none-match')
      const head = await as('HEAD', watch)
      expect([head.status, head.headers['allow']]).toEqual([405, 'GET'])
    })

    test('needs a grant for all that it names, whatever else is wrong', async () => {
      const store = '/v1/stores/carts/watch'
      const tenant = { token: secrets.tenant }
      expectProblem(await as('GET', store, { token: secrets.nobody }), 401, 'unauthenticated')
      expectProblem(await as('GET', store, { token: secrets.monitor }), 403, 'access-denied')
      expectProblem(await as('GET', store, tenant), 403, 'access-denied')
      expectProblem(await as('GET', `${store}?prefix=tenant/%C3%A4&key=other`, tenant), 403, 'access-denied')
      expectProblem(await as('GET', `${store}?key=other&from=x`, tenant), 403, 'access-denied')
      expectProblem(await as('GET', '/v1/stores/gone/watch', { token: secrets.cart }), 404, 'no-such-store')
      await using stream = await EventStream.open(url(), `${store}?prefix=tenant/%C3%A4`, tenant)
      await stream.caughtUp()
    })

    test('is taken up by a standard client, which goes on by itself where it was cut', async () => {
      const seen: string[] = []
      const requests: (string | null)[] = []
      let cut = () => {}
      const source = new EventSource(`${url()}${watch}?prefix=watch/standard/`, {
        fetch: async (input, init) => {
          const headers = new Headers(init.headers)
          requests.push(headers.get('last-event-id'))
          headers.set('authorization', `Bearer ${secrets.admin}`)
          const {
            status,
            url: answered,
            redirected,
            headers: answeredHeaders,
            body,
          } = await fetch(input, { headers })
          const reader = body?.getReader()
          // A network ends a stream without a word.
          const until = new ReadableStream<Uint8Array>({
            start: (controller) => {
              cut = () => {
                controller.close()
                void reader?.cancel()
              }
            },
            pull: async (controller) => {
              const { value } = (await reader?.read()) ?? {}
              if (value !== undefined) controller.enqueue(value)
            },
          })
          return { status, url: answered, redirected, headers: answeredHeaders, body: until }
        },
      })
      const progress = Promise.withResolvers<void>()
      source.addEventListener('progress', () => progress.resolve())
      source.addEventListener('set', ({ lastEventId }) => seen.push(lastEventId))
      await progress.promise
      const first = await put('watch/standard/1')
      await expect.poll(() => seen.length).toBe(1)
      cut()
      const second = await put('watch/standard/2')
      const third = await put('watch/standard/3')
      await expect.poll(() => seen.length, { timeout: 5000 }).toBe(3)
      source.close()
      expect(seen).toEqual([first, second, third].map(String))
      expect(requests).toEqual([null, String(first)])
    })
  })
}
