// The part of the REST contract on the store `self`: every route that touches keys keeps one holder's apart from all others'.

// biome-ignore-all lint/suspicious/noThenProperty: the contract's name for it; a body is never awaited.

import { randomBytes } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Answered } from './client.ts'
import type { Bench } from './contract.ts'
import { EventStream } from './event-stream.ts'

const keys = '/v1/stores/self/keys'
const json = { 'content-type': 'application/json' }

/** Four holders who could be mistaken for one another: of one app, of its bot, of another app, of a name that begins alike. */
const holders = {
  ann: { app: 'com.x', user: 'ann' },
  anna: { app: 'com.x', user: 'anna' },
  bot: { app: 'com.x', bot: 'ann' },
  other: { app: 'com.y', user: 'ann' },
} as const

type Holder = keyof typeof holders

export function describeSelf({ as, expectProblem, url }: Bench): void {
  const tokens = new Map<Holder, string>()
  const tokenOf = (holder: Holder): string => tokens.get(holder) ?? ''
  const all = Object.keys(holders) as Holder[]

  const by = (holder: Holder, method: string, path: string, body?: unknown): Promise<Answered> =>
    as(method, path, {
      token: tokenOf(holder),
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: json }),
    })

  beforeAll(async () => {
    for (const [name, holder] of Object.entries(holders)) {
      const secret = randomBytes(32).toString('base64url')
      const minted = { name: `self-${name}`, ...holder, secret }
      const answer = await as('POST', '/v1/tokens', { body: JSON.stringify(minted), headers: json })
      expect(answer.status, answer.text).toBe(201)
      tokens.set(name as Holder, secret)
    }
  })

  describe('the store self', () => {
    test('is another one for each user, each bot and each app', async () => {
      for (const holder of all) {
        const answer = await as('PUT', `${keys}/mine`, { token: tokenOf(holder), body: holder })
        expect(answer.status).toBe(201)
      }
      for (const holder of all) {
        expect(await by(holder, 'GET', `${keys}/mine`)).toMatchObject({ status: 200, text: holder })
        const listed = (await by(holder, 'GET', `${keys}?values=true`)).json['keys']
        expect(listed).toMatchObject([{ key: 'mine', value: Buffer.from(holder).toString('base64') }])
        const streamed = await as('GET', keys, {
          token: tokenOf(holder),
          headers: { accept: 'application/x-ndjson' },
        })
        expect(streamed.text.split('\n').filter((line) => line.includes('"key"'))).toHaveLength(1)
      }
    })

    test('is the only one that such a token opens', async () => {
      for (const path of ['/v1/stores/default', '/v1/stores/default/keys', '/v1/stores/default/keys/mine']) {
        expectProblem(await by('ann', 'GET', path), 403, 'access-denied')
      }
      const at = { store: 'default', key: 'x' }
      const { results } = (await by('ann', 'POST', '/v1/batch', { operations: [{ op: 'get', ...at }] })).json
      expect(results).toMatchObject([{ status: 403, code: 'access-denied' }])
      const parts = [
        [{ if: [{ ...at, exists: true }] }, 'if.0'],
        [{ then: [{ op: 'get', ...at }] }, 'then.0'],
        [{ else: [{ op: 'delete', ...at }] }, 'else.0'],
      ] as const
      for (const [part, field] of parts) {
        expectProblem(await by('ann', 'POST', '/v1/transactions', part), 403, 'access-denied', field)
      }
    })

    test('is what batches and transactions of its holder mean', async () => {
      const at = (key: string) => ({ store: 'self', key })
      const batch = async (holder: Holder, operations: readonly object[]) =>
        (await by(holder, 'POST', '/v1/batch', { operations })).json['results']
      await batch('ann', [{ op: 'set', ...at('b'), text: 'by ann' }])
      expect(await batch('ann', [{ op: 'exists', ...at('b') }])).toMatchObject([{ exists: true }])
      for (const holder of ['anna', 'bot', 'other'] as const) {
        expect(await batch(holder, [{ op: 'exists', ...at('b') }])).toMatchObject([{ exists: false }])
        const transaction = {
          if: [{ ...at('b'), exists: false }],
          then: [
            { op: 'increment', ...at('n') },
            { op: 'deletePrefix', store: 'self', prefix: 'b' },
          ],
        }
        const answer = await by(holder, 'POST', '/v1/transactions', transaction)
        expect(answer.json).toMatchObject({ succeeded: true, results: [{ value: '1' }, { deleted: 0 }] })
      }
      expect(await by('ann', 'GET', `${keys}/b`)).toMatchObject({ status: 200, text: 'by ann' })
      expect((await by('ann', 'GET', `${keys}/n`)).status).toBe(404)
    })

    test('loses to a range that is deleted only what is its holder’s', async () => {
      for (const holder of all) await as('PUT', `${keys}/r/1`, { token: tokenOf(holder), body: 'x' })
      const answer = await by('ann', 'DELETE', `${keys}?all=true`)
      expect(answer.status, answer.text).toBe(200)
      expect((await by('ann', 'GET', keys)).json['keys']).toEqual([])
      for (const holder of ['anna', 'bot', 'other'] as const) {
        expect((await by(holder, 'GET', `${keys}/r/1`)).status, holder).toBe(200)
      }
    })

    test('tells its watcher of its own keys alone, by the names that its holder gave them', async () => {
      await using stream = await EventStream.open(url(), '/v1/stores/self/watch', { token: tokenOf('ann') })
      for (const holder of all) await as('PUT', `${keys}/w/1`, { token: tokenOf(holder), body: holder })
      const written = await as('PUT', `${keys}/w/2`, { token: tokenOf('ann'), body: 'last' })
      const last = written.json['revision']
      await stream.until(({ events }) => events.some(({ data }) => data['revision'] === last))
      const told = stream.events.filter(({ type }) => type === 'set').map(({ data }) => data['key'])
      expect(told).toEqual(['w/1', 'w/2'])
    })
  })
}
