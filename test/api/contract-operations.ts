// The part of the REST contract on operations: batches and transactions, in JSON and in MessagePack.

// biome-ignore-all lint/suspicious/noThenProperty: the contract's name for it; a body is never awaited.

import { Packr } from 'msgpackr'
import { describe, expect, test } from 'vitest'
import type { Answered } from './client.ts'
import { type Bench, secrets } from './contract.ts'

const packr = new Packr({ useRecords: false })
const keys = '/v1/stores/default/keys'

type Result = Readonly<Record<string, unknown>>

export function describeOperations(bench: Bench): void {
  describeBatch(bench)
  describeTransactions(bench)
  describeBodies(bench)
}

type Sent = { readonly token?: string; readonly headers?: Readonly<Record<string, string>> }

function senders({ as }: Bench) {
  const post = (path: string, body: unknown, { token, headers }: Sent = {}): Promise<Answered> =>
    as('POST', path, {
      ...(token === undefined ? {} : { token }),
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json', ...headers },
    })
  const postPacked = async (path: string, body: unknown): Promise<Result> => {
    const headers = { 'content-type': 'application/msgpack' }
    const answer = await as('POST', path, { body: packr.pack(body), headers })
    expect(answer, answer.text).toMatchObject({ status: 200, headers })
    return packr.unpack(answer.body)
  }
  const batch = async (operations: readonly unknown[], sent?: Sent): Promise<readonly Result[]> => {
    const answer = await post('/v1/batch', { operations }, sent)
    expect(answer.status, answer.text).toBe(200)
    expect(answer.headers['content-type']).toBe('application/json; charset=utf-8')
    return answer.json['results'] as readonly Result[]
  }
  return { post, postPacked, batch }
}

const revision = expect.any(Number)

function describeBatch(bench: Bench): void {
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

/** Operations that are none, each with the field at fault and the code. */
const mistakes: readonly (readonly [unknown, string | undefined, string])[] = [
  [null, undefined, 'invalid-request'],
  [[], undefined, 'invalid-request'],
  ['get', undefined, 'invalid-request'],
  [{}, 'op', 'invalid-request'],
  [{ op: 'toString', store: 'default', key: 'k' }, 'op', 'invalid-request'],
  [{ op: 'get', key: 'k' }, 'store', 'invalid-request'],
  [{ op: 'get', store: 5, key: 'k' }, 'store', 'invalid-request'],
  [{ op: 'get', store: 'default' }, 'key', 'invalid-request'],
  [{ op: 'get', store: 'default', key: 5 }, 'key', 'invalid-request'],
  [{ op: 'get', store: 'default', key: '' }, 'key', 'invalid-key'],
  [{ op: 'get', store: 'default', key: '\ud800' }, 'key', 'invalid-key'],
  [{ op: 'get', store: 'default', key: 'x'.repeat(4097) }, 'key', 'invalid-key'],
  [{ op: 'get', store: 'default', key: 'k', value: '' }, 'value', 'invalid-request'],
  [{ op: 'get', store: 'default', key: 'k', ttl: '5s' }, 'ttl', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k' }, 'value', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k', value: '', text: '' }, 'text', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k', value: 'AAA' }, 'value', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k', value: 'A_A=' }, 'value', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k', value: 'A A=' }, 'value', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k', text: '\udc00' }, 'text', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k', text: 5 }, 'text', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k', text: '', contentType: 'ü' }, 'contentType', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k', text: '', ttl: '0s' }, 'ttl', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k', text: '', ttl: '3651d' }, 'ttl', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k', text: '', ttl: 5 }, 'ttl', 'invalid-request'],
  [{ op: 'set', store: 'default', key: 'k', text: '', expires: 'soon' }, 'expires', 'invalid-request'],
  [
    { op: 'set', store: 'default', key: 'k', text: '', expires: '2027-02-29T12:00:00Z' },
    'expires',
    'invalid-request',
  ],
  [
    { op: 'set', store: 'default', key: 'k', text: '', expires: '2027-01-31T12:00:00+01:00' },
    'expires',
    'invalid-request',
  ],
  [{ op: 'set', store: 'default', key: 'k', text: '', expires: 1801396800000 }, 'expires', 'invalid-request'],
  [
    { op: 'set', store: 'default', key: 'k', text: '', expires: '2027-01-31T12:00:00Z', ttl: '1h' },
    'expires',
    'invalid-request',
  ],
  [
    { op: 'set', store: 'default', key: 'k', text: '', expires: '2027-01-31T12:00:00Z', ttl: 'none' },
    'expires',
    'invalid-request',
  ],
  [{ op: 'increment', store: 'default', key: 'k', delta: 1.5 }, 'delta', 'invalid-request'],
  [{ op: 'increment', store: 'default', key: 'k', delta: '1.5' }, 'delta', 'invalid-request'],
  [{ op: 'increment', store: 'default', key: 'k', delta: '9223372036854775808' }, 'delta', 'invalid-request'],
  [{ op: 'increment', store: 'default', key: 'k', delta: 1e16 }, 'delta', 'invalid-request'],
  [{ op: 'touch', store: 'default', key: 'k' }, 'ttl', 'invalid-request'],
  [{ op: 'touch', store: 'default', key: 'k', ttl: '' }, 'ttl', 'invalid-request'],
]

function describeBodies(bench: Bench): void {
  const { as, expectProblem } = bench
  const { post, batch } = senders(bench)

  describe('an operation', () => {
    test.each(mistakes)('is not %j', async (operation, field, code) => {
      expect(await batch([operation])).toMatchObject([{ status: 400, code, index: 0 }])
      const results = await batch([operation])
      expect(results[0]?.['field']).toBe(field)
      const whole = field === undefined ? 'else.1' : `else.1.${field}`
      const body = { else: [{ op: 'exists', store: 'default', key: 'k' }, operation] }
      const answer = await post('/v1/transactions', body)
      expectProblem(answer, 400, code, whole)
      expect(answer.json['index']).toBe(1)
    })

    test('of a batch has conditions that are some', async () => {
      const set = { op: 'set', store: 'default', key: 'k', text: 'x' }
      for (const [name, wrong] of [
        ['ifRevision', 0],
        ['ifRevision', '5'],
        ['ifAbsent', 'yes'],
        ['seq', 1.5],
      ] as const) {
        expect(await batch([{ ...set, [name]: wrong }])).toMatchObject([{ status: 400, field: name }])
      }
      const body = { then: [{ ...set, ifAbsent: true }] }
      expectProblem(await post('/v1/transactions', body), 400, 'invalid-request', 'then.0.ifAbsent')
      const prefix = { op: 'deletePrefix', store: 'default', prefix: 'x' }
      expect(await batch([prefix])).toMatchObject([{ status: 400, field: 'op' }])
    })
  })

  describe('the body of operations', () => {
    const json = { 'content-type': 'application/json' }
    const packed = { 'content-type': 'application/msgpack' }

    test.each<[string, string | Buffer, Record<string, string>, number, string]>([
      ['nothing', '', json, 400, 'body'],
      ['no object', '[]', json, 400, 'body'],
      ['no JSON', '{"operations":[}', json, 400, 'body'],
      ['no UTF-8', Buffer.from([0x22, 0xff, 0x22]), json, 400, 'body'],
      ['a field nobody knows', '{"operations":[],"more":1}', json, 400, 'more'],
      ['no list', '{"operations":{}}', json, 400, 'operations'],
      ['JSON nested too deeply', `${'['.repeat(1_000_000)}`, json, 400, 'body'],
      ['too many lists', `[${'[],'.repeat(600_000)}[]]`, json, 400, 'body'],
      [
        'another type',
        'operations=1',
        { 'content-type': 'application/x-www-form-urlencoded' },
        415,
        'content-type',
      ],
      ['MessagePack that is cut', Buffer.from([0x81, 0xaa]), packed, 400, 'body'],
      [
        'a list that claims four thousand million',
        Buffer.from([0xdd, 255, 255, 255, 255]),
        packed,
        400,
        'body',
      ],
      ['a byte string that claims as much', Buffer.from([0xc6, 255, 255, 255, 255]), packed, 400, 'body'],
      ['MessagePack nested too deeply', Buffer.alloc(1_000_000, 0x91), packed, 400, 'body'],
      ['an extension', packr.pack({ operations: [new Date()] }), packed, 400, 'body'],
      ['a field called __proto__', Buffer.from('\x81\xa9__proto__\x80', 'latin1'), packed, 400, 'body'],
      ['text that is no UTF-8', Buffer.from('\x81\xa1\xff\x80', 'latin1'), packed, 400, 'body'],
    ])('is refused with %s', async (_, body, headers, status, field) => {
      for (const path of ['/v1/batch', '/v1/transactions']) {
        const code = status === 415 ? 'unsupported-media-type' : 'invalid-request'
        const own = path === '/v1/transactions' && field === 'operations' ? 'operations' : field
        const answer = await as('POST', path, { body, headers })
        expectProblem(
          answer,
          status,
          code,
          field === 'more' && own !== field ? own : (answer.json['field'] as string),
        )
        if (path === '/v1/batch') expect(answer.json['field']).toBe(field)
      }
    })

    test('has at most 8 MiB', async () => {
      const body = Buffer.alloc(8 * 1024 * 1024 + 1, 0x20)
      const answer = await as('POST', '/v1/batch', { body, headers: json })
      expectProblem(answer, 413, 'request-too-large')
      expect(answer.json).toMatchObject({ limit: 8 * 1024 * 1024 })
    })

    test('stores no number that JSON cannot say', async () => {
      const set = { op: 'set', store: 'default', key: 'k' }
      for (const value of [Number.NaN, 2n ** 60n, Buffer.of(1)]) {
        const body = packr.pack({ operations: [{ ...set, json: [value] }] })
        const answer = await as('POST', '/v1/batch', { body, headers: packed })
        expect(packr.unpack(answer.body)).toMatchObject({ results: [{ status: 400, field: 'json' }] })
      }
    })
  })
}

function describeTransactions(bench: Bench): void {
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
