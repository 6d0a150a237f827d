// The part of the REST contract on operations, in JSON and in MessagePack: what is refused of them, wherever they stand.

// biome-ignore-all lint/suspicious/noThenProperty: the contract's name for it; a body is never awaited.

import { Packr } from 'msgpackr'
import { describe, expect, test } from 'vitest'
import type { Answered } from './client.ts'
import type { Bench } from './contract.ts'

const packr = new Packr({ useRecords: false })
export const keys = '/v1/stores/default/keys'

export type Result = Readonly<Record<string, unknown>>

export type Sent = { readonly token?: string; readonly headers?: Readonly<Record<string, string>> }

/** How operations are sent: as JSON or as MessagePack. */
export function senders({ as }: Bench) {
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

export function describeOperations(bench: Bench): void {
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
