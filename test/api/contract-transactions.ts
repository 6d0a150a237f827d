// The part of the REST contract on transactions: all or nothing, over any of a token's stores.

// biome-ignore-all lint/suspicious/noThenProperty: the contract's name for it; a body is never awaited.

import { describe, expect, test } from 'vitest'
import { type Bench, secrets } from './contract.ts'
import { keys, type Result, type Sent, senders } from './contract-operations.ts'

const revision = expect.any(Number)

export function describeTransactions(bench: Bench): void {
  const { as, put, expectProblem } = bench
  const { post, postPacked } = senders(bench)
  const at = (key: string) => ({ store: 'default', key })
  const send = async (body: unknown, sent?: Sent): Promise<Result> => {
    const answer = await post('/v1/transactions', body, sent)
    expect(answer.status, answer.text).toBe(200)
    return answer.json
  }

  describe('a transaction', () => {
    test('does all of it, across stores, at one revision, each operation seeing those before it', async () => {
      await put(`${keys}/tx/old`, 'x')
      const answer = await send({
        then: [
          { op: 'set', ...at('tx/a'), text: '41' },
          { op: 'increment', ...at('tx/a') },
          { op: 'get', ...at('tx/a') },
          { op: 'head', ...at('tx/a') },
          { op: 'set', store: 'carts', key: 'tx', json: [1] },
          { op: 'exists', store: 'carts', key: 'tx' },
          { op: 'touch', ...at('tx/a'), ttl: '1h' },
          { op: 'delete', ...at('tx/none') },
          { op: 'deletePrefix', store: 'default', prefix: 'tx/' },
          { op: 'get', ...at('tx/a') },
        ],
      })
      const at1 = answer['revision']
      expect(answer).toEqual({
        succeeded: true,
        revision,
        results: [
          { revision: at1, created: true, changed: true },
          { value: '42' },
          { found: true, revision: at1, value: 'NDI=', contentType: expect.any(String) },
          { found: true, revision: at1, contentType: expect.any(String) },
          { revision: at1, created: true, changed: true },
          { exists: true },
          { expires: expect.any(String) },
          { deleted: false },
          { deleted: 2 },
          { found: false },
        ],
      })
      expect(await as('GET', '/v1/stores/carts/keys/tx')).toMatchObject({
        text: '[1]',
        headers: { etag: `"${at1}"` },
      })
    })

    test('takes then where all its conditions hold, and else where any does not', async () => {
      const there = await put(`${keys}/tx-if`, 'value')
      const then = [{ op: 'get', ...at('tx-if') }]
      const otherwise = [{ op: 'exists', ...at('tx-if') }]
      const value = Buffer.from('value').toString('base64')
      const holding = [
        { ...at('tx-if'), revision: there },
        { ...at('tx-if'), exists: true },
        { ...at('tx-if'), value },
        { ...at('tx-nowhere'), revision: 0 },
        { ...at('tx-nowhere'), exists: false },
      ]
      expect(await send({ if: holding, then, else: otherwise })).toMatchObject({
        succeeded: true,
        results: [{ found: true }],
      })
      for (const failing of [
        { ...at('tx-if'), revision: 0 },
        { ...at('tx-if'), exists: false },
        { ...at('tx-if'), value: '' },
        { ...at('tx-nowhere'), value: '' },
      ]) {
        const answer = await send({ if: [...holding, failing], then, else: otherwise })
        expect(answer).toMatchObject({ succeeded: false, results: [{ exists: true }] })
      }
      expect(await send({ if: [{ ...at('tx-if'), exists: false }], then })).toMatchObject({
        succeeded: false,
        results: [],
      })
    })

    test('undoes all when one operation fails, and says which', async () => {
      await put(`${keys}/tx-text`, 'no number')
      const set = { op: 'set', ...at('tx-undone'), text: 'x' }
      for (const [operation, status, code] of [
        [{ op: 'increment', ...at('tx-text') }, 409, 'not-a-number'],
        [{ op: 'touch', ...at('tx-nowhere'), ttl: '5s' }, 404, 'no-such-key'],
      ] as const) {
        const answer = await post('/v1/transactions', { then: [set, operation] })
        expectProblem(answer, status, code)
        expect(answer.json['index']).toBe(1)
        expect((await as('GET', `${keys}/tx-undone`)).status).toBe(404)
      }
      const large = { op: 'set', store: 'small', key: 'k', text: 'longer than ten' }
      const answer = await post('/v1/transactions', { then: [set, large] })
      expectProblem(answer, 413, 'value-too-large', 'then.1')
      expect(answer.json).toMatchObject({ index: 1, limit: 10 })
    })

    test('is refused as a whole where its token may not do all of it', async () => {
      const own = { op: 'set', store: 'carts', key: 'tenant/ä/tx', text: 'x' }
      const sent = { token: secrets.tenant }
      for (const body of [
        { then: [own, { op: 'get', store: 'carts', key: 'other' }] },
        { if: [{ store: 'carts', key: 'other', exists: true }], then: [own] },
        { then: [own], else: [{ op: 'delete', store: 'default', key: 'x' }] },
        { then: [own, { op: 'deletePrefix', store: 'carts', prefix: 'tenant/' }] },
        { then: [own, { op: 'set', store: 'default', key: 5 }] },
      ]) {
        const answer = await post('/v1/transactions', body, sent)
        expect(answer, answer.text).toMatchObject({ status: 403, json: { code: 'access-denied' } })
      }
      expect((await send({ then: [own] }, sent))['succeeded']).toBe(true)
      const nowhere = { then: [{ op: 'get', store: 'gone', key: 'k' }] }
      expectProblem(
        await post('/v1/transactions', nowhere, { token: secrets.cart }),
        404,
        'no-such-store',
        'then.0',
      )
    })

    test('travels in MessagePack too', async () => {
      const value = Buffer.from([0, 255])
      const answer = await postPacked('/v1/transactions', {
        if: [{ ...at('tx-packed'), revision: 0 }],
        then: [
          { op: 'set', ...at('tx-packed'), value },
          { op: 'get', ...at('tx-packed') },
          { op: 'increment', ...at('tx-packed-count'), delta: -(2n ** 63n) },
        ],
      })
      expect(answer).toMatchObject({
        succeeded: true,
        results: [{ created: true }, { found: true, value }, { value: -(2n ** 63n) }],
      })
    })

    test('is carried out once under an idempotency key, and in a session', async () => {
      const { json } = await as('POST', '/v1/sessions')
      for (const headers of [
        { 'idempotency-key': 'tx-1' },
        { 'trivet-session': `${json['session']}; seq=1; acked=0` },
      ]) {
        const then = [
          { op: 'increment', ...at('tx-once') },
          { op: 'get', ...at('tx-once') },
        ]
        const first = await post('/v1/transactions', { then }, { headers })
        const again = await post('/v1/transactions', { then }, { headers })
        expect(first.headers['idempotency-replayed']).toBeUndefined()
        expect(again).toMatchObject({ status: 200, headers: { 'idempotency-replayed': 'true' } })
        expect(again.json).toMatchObject({ revision: first.json['revision'], succeeded: true })
        const [sum, found] = again.json['results'] as Result[]
        expect(sum).toEqual((first.json['results'] as Result[])[0])
        expect(found).toMatchObject({ found: true })
        expect(found).not.toHaveProperty('value')
      }
      expect((await as('GET', `${keys}/tx-once`)).text).toBe('2')
      const other = await post(
        '/v1/transactions',
        { then: [{ op: 'get', ...at('tx-once') }] },
        { headers: { 'idempotency-key': 'tx-1' } },
      )
      expectProblem(other, 422, 'idempotency-key-reused')
    })

    test.each<[object, string]>([
      [{ ...at('k') }, 'if.0.revision'],
      [{ ...at('k'), revision: 1, exists: true }, 'if.0.exists'],
      [{ ...at('k'), revision: -1 }, 'if.0.revision'],
      [{ ...at('k'), exists: 'yes' }, 'if.0.exists'],
      [{ ...at('k'), value: 'A' }, 'if.0.value'],
      [{ ...at('k'), text: 'A' }, 'if.0.text'],
      [{ key: 'k', exists: true }, 'if.0.store'],
    ])('has no condition %j', async (condition, field) => {
      const answer = await post('/v1/transactions', { if: [condition] })
      expectProblem(answer, 400, 'invalid-request', field)
      expect(answer.json).not.toHaveProperty('index')
    })
  })
}
