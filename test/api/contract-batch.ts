// The part of the REST contract on batches: operations that have nothing to do with each other, each as if it came alone.

// biome-ignore-all lint/suspicious/noThenProperty: the contract's name for it; a body is never awaited.

import { describe, expect, test } from 'vitest'
import { type Bench, secrets } from './contract.ts'
import { keys, type Result, senders } from './contract-operations.ts'

const revision = expect.any(Number)

export function describeBatch(bench: Bench): void {
  const { as, put, expectProblem } = bench
  const { post, postPacked, batch } = senders(bench)
  const at = (key: string) => ({ store: 'default', key })

  describe('a batch', () => {
    test('answers each operation in order, with the status it has alone', async () => {
      await put(`${keys}/batch-there`, 'hello', { 'content-type': 'text/plain' })
      const results = await batch([
        { op: 'get', ...at('batch-there') },
        { op: 'head', ...at('batch-there') },
        { op: 'exists', ...at('batch-there') },
        { op: 'exists', ...at('batch-absent') },
        { op: 'set', ...at('batch-new'), text: 'ä' },
        { op: 'set', ...at('batch-json'), json: { b: [1, null, 'x'], a: true } },
        { op: 'set', ...at('batch-bytes'), value: 'AP8=', contentType: 'image/x' },
        { op: 'delete', ...at('batch-absent') },
        { op: 'increment', ...at('batch-count'), delta: '9007199254740993' },
        { op: 'touch', ...at('batch-there'), ttl: '1h' },
      ])
      expect(results).toEqual([
        { status: 200, found: true, revision, value: 'aGVsbG8=', contentType: 'text/plain' },
        { status: 200, found: true, revision, contentType: 'text/plain' },
        { status: 200, exists: true },
        { status: 200, exists: false },
        { status: 201, revision, created: true, changed: true },
        { status: 201, revision, created: true, changed: true },
        { status: 201, revision, created: true, changed: true },
        { status: 200, revision, deleted: false },
        { status: 200, value: '9007199254740993', revision },
        { status: 200, expires: expect.any(String) },
      ])
      expect(await as('GET', `${keys}/batch-new`)).toMatchObject({
        text: 'ä',
        headers: { 'content-type': 'text/plain; charset=utf-8' },
      })
      expect(await as('GET', `${keys}/batch-json`)).toMatchObject({
        text: '{"b":[1,null,"x"],"a":true}',
        headers: { 'content-type': 'application/json' },
      })
      const bytes = await as('GET', `${keys}/batch-bytes`)
      expect([...bytes.body]).toEqual([0, 255])
      expect(bytes.headers['content-type']).toBe('image/x')
    })

    test('lets one that fails leave the others alone', async () => {
      const there = await put(`${keys}/batch-guarded`, 'x')
      const results = await batch([
        { op: 'get', ...at('batch-nowhere') },
        { op: 'touch', ...at('batch-nowhere'), ttl: '5s' },
        { op: 'set', ...at('batch-guarded'), text: 'y', ifAbsent: true },
        { op: 'delete', ...at('batch-guarded'), ifRevision: there + 1_000_000 },
        { op: 'set', store: 'small', key: 'k', text: 'longer than ten' },
        { op: 'set', store: 'gone', key: 'k', text: 'x' },
        { op: 'increment', ...at('batch-guarded') },
        { op: 'nothing' },
        { op: 'set', ...at('batch-guarded'), text: 'z', ifRevision: there },
      ])
      expect(results.map(({ status, code, field, index }) => [status, code, field, index])).toEqual([
        [404, 'no-such-key', undefined, 0],
        [404, 'no-such-key', undefined, 1],
        [412, 'condition-failed', undefined, 2],
        [412, 'condition-failed', undefined, 3],
        [413, 'value-too-large', undefined, 4],
        [404, 'no-such-store', undefined, 5],
        [409, 'not-a-number', undefined, 6],
        [400, 'invalid-request', 'op', 7],
        [200, undefined, undefined, undefined],
      ])
      expect(results[0]).toMatchObject({ found: false, type: 'urn:trivet:no-such-key' })
      expect(results[2]).toMatchObject({ revision: there })
      expect(results[4]).toMatchObject({ limit: 10, actual: 15 })
    })

    test('judges every operation by the grants of its token', async () => {
      await put('/v1/stores/carts/keys/tenant/%C3%A4/1', 'mine')
      const results = await batch(
        [
          { op: 'get', store: 'carts', key: 'tenant/ä/1' },
          { op: 'get', store: 'carts', key: 'tenant' },
          { op: 'set', store: 'default', key: 'x', text: 'x' },
          { op: 'set', store: 'no-store', key: 'x', ttl: 'wrong' },
          { op: 'set', store: 'carts', key: 'tenant/ä/2', text: 'x' },
        ],
        { token: secrets.tenant },
      )
      expect(results.map(({ status }) => status)).toEqual([200, 403, 403, 403, 201])
      const read = await batch([{ op: 'delete', store: 'carts', key: 'k' }], { token: secrets.reader })
      expect(read).toMatchObject([{ status: 403, code: 'access-denied' }])
      expectProblem(
        await post('/v1/batch', { operations: [] }, { token: secrets.monitor }),
        403,
        'access-denied',
      )
    })

    test('keeps the order of operations on one key', async () => {
      const key = at('batch-ordered')
      const results = await batch([
        { op: 'exists', ...key },
        { op: 'set', ...key, text: '1' },
        { op: 'get', ...key },
        { op: 'increment', ...key, delta: 5 },
        { op: 'increment', ...key, delta: 5 },
        { op: 'get', ...key },
        { op: 'delete', ...key },
        { op: 'set', ...key, text: 'last', ifAbsent: true },
      ])
      expect(results.map(({ status }) => status)).toEqual([200, 201, 200, 200, 200, 200, 200, 201])
      expect(results).toMatchObject([
        { exists: false },
        {},
        { value: 'MQ==' },
        {},
        {},
        { value: 'MTE=' },
        {},
        {},
      ])
      expect(new Set([results[3]?.['value'], results[4]?.['value']])).toEqual(new Set(['6', '11']))
    })

    test('travels in MessagePack too, with bytes as bytes and 64-bit integers as such', async () => {
      const value = Buffer.from([0, 1, 255])
      const answer = await postPacked('/v1/batch', {
        operations: [
          { op: 'set', ...at('packed'), value, contentType: 'image/x' },
          { op: 'get', ...at('packed') },
          { op: 'increment', ...at('packed-count'), delta: 2n ** 62n },
          { op: 'set', ...at('packed'), value: 'AAA=' },
        ],
      })
      expect(answer).toMatchObject({
        results: [
          { status: 201, created: true },
          { found: true, value, contentType: 'image/x' },
          { value: 2n ** 62n },
          { status: 400, field: 'value', index: 3 },
        ],
      })
    })

    test('names each write in a session by its own seq', async () => {
      const { json } = await as('POST', '/v1/sessions')
      const headers = { 'trivet-session': `${json['session']}; acked=0` }
      const operations = [
        { op: 'increment', ...at('batch-session'), seq: 1 },
        { op: 'increment', ...at('batch-session'), seq: 2 },
        { op: 'exists', ...at('batch-session') },
      ]
      const first = await batch(operations, { headers })
      const again = await post('/v1/batch', { operations }, { headers })
      expect(again.headers['idempotency-replayed']).toBe('true')
      expect(again.json['results']).toEqual(
        first.map((result) => ('exists' in result ? result : { ...result, replayed: true })),
      )
      expect((await as('GET', `${keys}/batch-session`)).text).toBe('2')
      const faulty = await batch(
        [
          { op: 'delete', ...at('x') },
          { op: 'delete', ...at('x'), seq: 0 },
        ],
        { headers },
      )
      expect(faulty).toMatchObject([
        { status: 400, field: 'seq' },
        { status: 400, field: 'seq' },
      ])
      expect(await batch([{ op: 'delete', ...at('x'), seq: 1 }])).toMatchObject([
        { status: 400, field: 'seq' },
      ])
      const wrong = { 'trivet-session': `${json['session']}; seq=3; acked=0` }
      expectProblem(
        await post('/v1/batch', { operations }, { headers: wrong }),
        400,
        'invalid-request',
        'trivet-session',
      )
    })

    test('under an idempotency key is carried out once, each write by its place', async () => {
      const headers = { 'idempotency-key': 'batch-1' }
      const operations = [
        { op: 'increment', ...at('batch-once') },
        { op: 'increment', ...at('batch-once') },
      ]
      const first = await batch(operations, { headers })
      expect(new Set(first.map(({ value }) => value))).toEqual(new Set(['1', '2']))
      const again = await batch(operations, { headers })
      expect(again).toEqual(first.map((result) => ({ ...result, replayed: true })))
      const other = await batch([{ op: 'delete', ...at('batch-once') }], { headers })
      expect(other).toMatchObject([{ status: 422, code: 'idempotency-key-reused' }])
    })

    test('reads at the consistency and the revision that it asks for', async () => {
      const written = await put(`${keys}/batch-stale`, 'x')
      const operations = [{ op: 'get', ...at('batch-stale') }]
      const stale = await post(`/v1/batch?consistency=stale&minRevision=${written}`, { operations })
      expect(stale).toMatchObject({ status: 200, headers: { 'trivet-stale': 'true' } })
      const late = await post(
        `/v1/batch?minRevision=${written + 1_000_000}`,
        { operations },
        {
          headers: { 'trivet-timeout': '10ms' },
        },
      )
      expectProblem(late, 504, 'deadline-exceeded')
    })

    test('has at most 1,000 operations, and says where its time went', async () => {
      const many = Array.from({ length: 1000 }, (_, n) => ({
        op: 'set',
        ...at(`many/${n}`),
        text: String(n),
      }))
      const answer = await post('/v1/batch', { operations: many })
      expect((answer.json['results'] as Result[]).every(({ status }) => status === 201)).toBe(true)
      expect(answer.headers['server-timing']).toMatch(/^forward;dur=/)
      const over = await post('/v1/batch', { operations: [...many, many[0]] })
      expectProblem(over, 400, 'invalid-request', 'operations')
      expect(over.json).toMatchObject({ limit: 1000, actual: 1001 })
      const read = await batch(many.map(({ store, key }) => ({ op: 'get', store, key })))
      expect(read.map(({ value }) => Buffer.from(String(value), 'base64').toString())).toEqual(
        many.map(({ text }) => text),
      )
    })
  })
}
