// Requests nobody should send, made from the OpenAPI document: each is refused by its name, none is a failure of the node.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Answered } from './client.ts'
import { secrets } from './contract.ts'
import { departure, type JsonSchema, nameOf, type Operation, type Parameter, sampleOf } from './document.ts'
import {
  bodyOf,
  type DocumentBed,
  makeDocumentBed,
  type Sent,
  sampleRequest,
  written,
} from './document-bed.ts'

let bed: DocumentBed

beforeAll(async () => {
  bed = await makeDocumentBed()
})

afterAll(() => bed.close())

/** One hostile request, and what it must be answered with. */
type Attack = {
  readonly sent: Sent
  /** The field that the refusal names; undefined where any answer but a failure will do. */
  readonly field?: string | RegExp
}

/** What is wrong with what came of an attack. */
function flaw(operation: Operation, { sent, field }: Attack, answer: Answered): string | undefined {
  const { status, headers, text } = answer
  const shown = sent.body === undefined ? '' : String(sent.body).slice(0, 100)
  const said = `${sent.method} ${sent.path.slice(0, 200)} ${JSON.stringify(sent.headers)} ${shown} → ${status} ${text.slice(0, 300)}`
  if (status >= 500) return said
  if (status >= 400 && headers['content-type'] !== 'application/problem+json' && operation.method !== 'HEAD')
    return said
  const undocumented = departure(operation, answer)
  if (undocumented !== undefined) return `${said}: ${undocumented}`
  if (field === undefined) return undefined
  if (status !== 400) return `${said}: it is not refused`
  if (operation.method === 'HEAD') return undefined
  const named = String(answer.json['field'])
  const isNamed = typeof field === 'string' ? named === field : field.test(named)
  return isNamed ? undefined : `${said}: it does not name ${field}`
}

/** Sends all, sixteen at a time, and expects no flaw in any answer. */
async function assail(attacks: (operation: Operation) => readonly Attack[]): Promise<void> {
  const { operations, send } = bed
  const waiting = operations.flatMap((operation) =>
    attacks(operation).map((attack) => ({ operation, attack })),
  )
  expect(waiting.length).toBeGreaterThan(operations.length / 2)
  const flaws: string[] = []
  const queue = waiting.values()
  const worker = async (): Promise<void> => {
    for (const { operation, attack } of queue) {
      const found = flaw(operation, attack, await send(attack.sent))
      if (found !== undefined) flaws.push(found)
    }
  }
  await Promise.all(Array.from({ length: 16 }, worker))
  expect(flaws.slice(0, 10)).toEqual([])
  expect(bed.logger.lines.filter(({ level }) => level === 'error')).toEqual([])
}

/** The operation's own request with more in its query, which is written as it is. */
function withQuery(operation: Operation, query: string): Sent {
  const sent = written(operation, sampleRequest(operation))
  return { ...sent, path: `${sent.path}${sent.path.includes('?') ? '&' : '?'}${query}` }
}

/** Without the parameter, so that it can be given otherwise. */
function without(operation: Operation, { name }: Parameter): Operation {
  return { ...operation, parameters: operation.parameters.filter((one) => one.name !== name) }
}

function queryOf({ parameters }: Operation): readonly Parameter[] {
  return parameters.filter((parameter) => parameter.in === 'query')
}

const notNumbers = ['', 'x', '-1', '1.5', '1e3', '0x10', ' 1', '01', '9'.repeat(30), 'NaN', '1,2']
const notBooleans = ['', '1', 'yes', 'TRUE', 'null']

/** Values that are none of this schema's. */
function wrongTexts(schema: JsonSchema): readonly string[] {
  const { type, enum: values, minimum, maximum, maxLength } = schema
  const beyond = [
    ...(minimum === undefined ? [] : [String(minimum - 1)]),
    ...(maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? [] : [String(maximum + 1)]),
  ]
  if (values !== undefined) return ['', 'bogus', String(values[0]).toUpperCase()]
  if (type === 'integer') return [...notNumbers, ...beyond]
  if (type === 'boolean') return notBooleans
  return maxLength === undefined ? [] : ['x'.repeat(maxLength + 1)]
}

const isRepeatable = ({ schema }: Parameter): boolean =>
  schema.type === 'array' || (schema.anyOf ?? []).some((one) => one.type === 'array')

describe('a query parameter', () => {
  test('of a wrong type, or out of range, is named', () =>
    assail((operation) =>
      queryOf(operation).flatMap((parameter) =>
        wrongTexts(parameter.schema).map((text) => ({
          sent: withQuery(without(operation, parameter), `${parameter.name}=${encodeURIComponent(text)}`),
          field: parameter.name,
        })),
      ),
    ))

  test('that is repeated is named', () =>
    assail((operation) =>
      queryOf(operation)
        .filter((parameter) => !isRepeatable(parameter))
        .map((parameter) => {
          const text = encodeURIComponent(String(sampleOf(parameter.schema)))
          const query = `${parameter.name}=${text}&${parameter.name}=${text}`
          return { sent: withQuery(without(operation, parameter), query), field: parameter.name }
        }),
    ))

  test('that is wrongly encoded is named', () =>
    assail((operation) =>
      queryOf(operation).flatMap((parameter) =>
        ['%', '%zz', '%ff', '%ed%a0%80', '%c0%af'].map((text) => ({
          sent: withQuery(without(operation, parameter), `${parameter.name}=${text}`),
          field: parameter.name,
        })),
      ),
    ))

  test('that is very long, or full of what may stand nowhere else, is no failure', () =>
    assail((operation) =>
      queryOf(operation).flatMap((parameter) =>
        [
          'x'.repeat(30_000),
          '%00',
          '%0d%0aX:%20y',
          "'%22%3Cscript%3E",
          '../../etc/passwd',
          '%f0%9f%92%a5',
        ].map((text) => ({ sent: withQuery(without(operation, parameter), `${parameter.name}=${text}`) })),
      ),
    ))

  test('that nobody knows is named', () =>
    assail((operation) =>
      ['bogus', '__proto__', 'constructor', 'hasOwnProperty', 'access_token'].map((name) => ({
        sent: withQuery(operation, `${name}=1`),
        field: name,
      })),
    ))
})

test('a cursor that was forged, cut or altered is refused', async () => {
  const { operations, send } = bed
  for (const key of ['a', 'b', 'c'])
    await send({ method: 'PUT', path: `/v1/stores/carts/keys/cursor/${key}`, body: key })
  const page = await send({ method: 'GET', path: '/v1/stores/carts/keys?limit=1&prefix=cursor/' })
  const cursor = String(page.json['cursor'])
  expect(cursor.length).toBeGreaterThan(10)
  const forged = [
    '',
    'x',
    randomBytes(40).toString('base64url'),
    cursor.slice(0, -1),
    `${cursor}A`,
    `${cursor.startsWith('A') ? 'B' : 'A'}${cursor.slice(1)}`,
    Buffer.from('{"key":"a"}').toString('base64url'),
    'A'.repeat(20_000),
  ]
  const listing = operations.find((operation) => nameOf(operation) === 'GET /v1/stores/{store}/keys')
  if (listing === undefined) throw new Error('the document has no listing')
  for (const text of forged) {
    const sent = { method: 'GET', path: `/v1/stores/carts/keys?limit=1&prefix=cursor/&cursor=${text}` }
    const answer = await send(sent)
    expect(answer, text).toMatchObject({ status: 400, headers: { 'trivet-error': 'invalid-cursor' } })
  }
  for (const path of [
    `/v1/stores/pages/keys?limit=1&prefix=cursor/&cursor=${cursor}`,
    `/v1/stores/carts/keys?limit=1&prefix=curso&cursor=${cursor}`,
    `/v1/stores/carts/keys?limit=1&prefix=cursor/&reverse=true&cursor=${cursor}`,
  ]) {
    expect(await send({ method: 'GET', path }), path).toMatchObject({
      status: 400,
      headers: { 'trivet-error': 'invalid-cursor' },
    })
  }
})

test('a start in the future is refused by every route that has one', () =>
  assail((operation) =>
    queryOf(operation).some(({ name }) => name === 'from')
      ? [{ sent: withQuery(operation, 'from=9007199254740991'), field: 'from' }]
      : [{ sent: withQuery(operation, 'from=1'), field: 'from' }],
  ))

test('a segment of a path that is nothing, too much or no text is refused', () =>
  assail((operation) => {
    const segments = [
      '%',
      '%zz',
      '%ff',
      '%00',
      '%2e',
      '%2E%2E',
      '.',
      '..',
      '*',
      '%20',
      'x'.repeat(40_000),
      '%f0%9f%92%a5',
    ]
    return [...operation.path.matchAll(/\{(\w+)\}/g)].flatMap(([place, name]) =>
      segments.map((segment) => {
        // The others are the sample's.
        const pattern = { ...operation, path: operation.path.replace(place, `@${name}@`) }
        const sent = written(pattern, sampleRequest(pattern))
        return { sent: { ...sent, path: sent.path.replace(`@${name}@`, segment) } }
      }),
    )
  }))

/** Values of headers that are refused by name, wherever the header is documented. */
const wrongHeaders: Readonly<Record<string, readonly string[]>> = {
  'trivet-timeout': ['', 'x', '5', '9ms', '61s', '-1s', '1.5s', '1s 1s', '9'.repeat(100)],
  'idempotency-key': ['', ' ', 'a b', 'ä', 'x'.repeat(129)],
  'trivet-session': [
    '',
    'x',
    'a; seq=0; acked=0',
    'a; seq=1',
    'a; seq=1; acked=1',
    'a; seq=x; acked=0',
    'a; seq=1e3; acked=0',
  ],
}

describe('a header', () => {
  test('that is documented and says what it may not is named', () =>
    assail((operation) =>
      operation.parameters
        .filter((parameter) => parameter.in === 'header')
        .flatMap(({ name }) =>
          (wrongHeaders[name] ?? []).map((text) => {
            const sent = written(operation, sampleRequest(operation))
            return { sent: { ...sent, headers: { ...sent.headers, [name]: text } }, field: name }
          }),
        ),
    ))

  test('full of anything is no failure', () =>
    assail((operation) =>
      [
        'if-match',
        'if-none-match',
        'accept',
        'last-event-id',
        'traceparent',
        'range',
        'expect',
        'content-type',
      ]
        .flatMap((name) =>
          ['"', '""', '*, *', 'W/', '"1", "', 'x'.repeat(20_000), 'a;b=";', '-1', '\t'].map((text) => {
            const sent = written(operation, sampleRequest(operation))
            return { sent: { ...sent, headers: { ...sent.headers, [name]: text } } }
          }),
        )
        .filter(({ sent }) => sent.headers['expect'] === undefined),
    ))

  test('that packs the body is refused', () =>
    assail((operation) =>
      operation.body === undefined
        ? []
        : ['gzip', 'br', 'identity, gzip', 'x'].map((coding) => {
            const sent = written(operation, sampleRequest(operation))
            const headers = { ...sent.headers, 'content-encoding': coding }
            return { sent: { ...sent, headers, body: gzipSync(sent.body ?? '') } }
          }),
    ))
})

/** Operations whose body is JSON. */
function jsonSchemaOf({ body }: Operation): JsonSchema | undefined {
  return body?.['application/json']?.schema
}

function withBody(operation: Operation, body: string | Uint8Array, type = 'application/json'): Sent {
  const sent = written(operation, sampleRequest(operation))
  return { ...sent, headers: { ...sent.headers, 'content-type': type }, body }
}

const wrongValues: readonly unknown[] = [
  null,
  true,
  7,
  -1,
  1.5,
  'text',
  '',
  [],
  {},
  ['x'],
  [[]],
  { $ref: '#' },
  1e308,
]

describe('a body', () => {
  test('that is no JSON is refused', () =>
    assail((operation) =>
      jsonSchemaOf(operation) === undefined
        ? []
        : [
            '{',
            '{"a":',
            '[',
            '"',
            'nul',
            'null',
            '{"a":1}}',
            '\u0000',
            '{"a":01}',
            '[1,]',
            '7',
            '"text"',
            '[]',
            '[{}]',
            Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
            Buffer.from([0xef, 0xbb, 0xbf, 0x7b, 0xff]),
            '['.repeat(30_000),
            '{"a":'.repeat(10_000),
            `${'['.repeat(30_000)}${']'.repeat(30_000)}`,
          ].map((body) => ({ sent: withBody(operation, body), field: /./ })),
    ))

  test('with a field of a wrong type is refused by that field', () =>
    assail((operation) => {
      const schema = jsonSchemaOf(operation)
      const { properties = {} } = schema ?? {}
      return Object.entries(properties).flatMap(([name, property]) =>
        wrongValues
          .filter((value) => !fits(property, value))
          .map((value) => {
            const body = JSON.stringify({ ...Object(bodyOf(operation)), [name]: value })
            return { sent: withBody(operation, body), field: new RegExp(`^${name}(\\..*)?$`) }
          }),
      )
    }))

  test('with a field that nobody knows, or without one it needs, is refused by that field', () =>
    assail((operation) => {
      const schema = jsonSchemaOf(operation)
      if (schema === undefined) return []
      const sample = Object(bodyOf(operation)) as Record<string, unknown>
      const unknown = ['bogus', 'constructor', 'toString'].map((name) => ({
        sent: withBody(operation, JSON.stringify({ ...sample, [name]: 1 })),
        field: name,
      }))
      const proto = {
        sent: withBody(operation, `{"__proto__":{"a":1},${JSON.stringify(sample).slice(1)}`),
        field: /./,
      }
      const missing = (schema.required ?? []).map((name) => {
        const { [name]: _, ...rest } = sample
        return { sent: withBody(operation, JSON.stringify(rest)), field: name }
      })
      return [...unknown, proto, ...missing]
    }))

  test('of another type, or too long, is refused', () =>
    assail((operation) => {
      const schema = jsonSchemaOf(operation)
      if (schema === undefined) return []
      const body = JSON.stringify(bodyOf(operation))
      const types = [
        'text/plain',
        'application/xml',
        'multipart/form-data',
        'application/x-www-form-urlencoded',
        'x',
        '/',
      ]
      return [
        ...types.map((type) => ({ sent: withBody(operation, body, type) })),
        { sent: withBody(operation, `{"x":"${'x'.repeat(9_000_000)}"}`) },
      ]
    }))

  test('of MessagePack that is a bomb, cut off or of unknown types is refused', () =>
    assail((operation) => {
      if (jsonSchemaOf(operation) === undefined) return []
      const nested = (byte: number): Buffer => Buffer.alloc(60_000, byte)
      const bombs = [
        Buffer.from('ddffffffff', 'hex'),
        Buffer.from('dfffffffff', 'hex'),
        Buffer.from('c6ffffffff', 'hex'),
        Buffer.from('dbffffffff', 'hex'),
        Buffer.from('81aa6f7065726174696f6e73ddffffffff', 'hex'),
        Buffer.from('81a46b657973dc', 'hex'),
        nested(0x91),
        nested(0x81),
        nested(0xdc),
        Buffer.concat([nested(0x91), Buffer.of(0xc0)]),
        Buffer.from('c7010141', 'hex'),
        Buffer.from('d6ff00000000', 'hex'),
        Buffer.from('a2c328', 'hex'),
        Buffer.from('c1', 'hex'),
        Buffer.from('81a161', 'hex'),
        Buffer.alloc(0),
        randomBytes(1000),
      ]
      return bombs.map((bomb) => ({ sent: withBody(operation, bomb, 'application/msgpack') }))
    }))
})

/** Whether a value is of the schema's type, so that nothing of it is wrong at first sight. */
function fits(schema: JsonSchema, value: unknown): boolean {
  const { type, enum: values, const: constant, anyOf, oneOf } = schema
  if (constant !== undefined) return value === constant
  if (values !== undefined) return values.includes(value)
  const some = anyOf ?? oneOf
  if (some !== undefined) return some.some((one) => fits(one, value))
  switch (type) {
    case 'string':
      return typeof value === 'string'
    case 'integer':
    case 'number':
      return typeof value === 'number'
    case 'boolean':
      return typeof value === 'boolean'
    case 'array':
      return Array.isArray(value)
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value)
    default:
      // A schema that says no type takes any.
      return true
  }
}

test('a body that is cut off ends its connection, and nothing else', async () => {
  const { operations, api, send } = bed
  const written = operations.filter(({ body }) => body !== undefined)
  expect(written.length).toBeGreaterThan(5)
  for (const operation of written) {
    const { path } = sampleRequest(operation)
    const socket = connect(api.address.port, '127.0.0.1').resume()
    socket.write(
      `${operation.method} ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${secrets.admin}\r\n` +
        'Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"half":',
    )
    await once(socket, 'connect')
    socket.end()
    await once(socket, 'close')
  }
  expect((await send({ method: 'GET', path: '/v1/me' })).status).toBe(200)
  expect(bed.logger.lines.filter(({ level }) => level === 'error')).toEqual([])
})

test('what is refused leaves no memory behind', async () => {
  const { send, operations } = bed
  const takers = operations.filter((operation) => jsonSchemaOf(operation) !== undefined)
  const bombs = [`${'['.repeat(30_000)}${']'.repeat(30_000)}`, `{"x":"${'x'.repeat(60_000)}"}`]
  const round = () =>
    Promise.all(
      Array.from({ length: 100 }, (_, at) => {
        const operation = takers[at % takers.length]
        if (operation === undefined) throw new Error('no operation takes a body')
        return send(withBody(operation, bombs[at % 2] ?? ''))
      }),
    )
  await round()
  const before = process.memoryUsage().rss
  for (let times = 0; times < 5; times++) await round()
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024)
})
