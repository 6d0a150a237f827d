// The OpenAPI document against the server that gives it: what it describes is sent, and answers are held against its schemas.

import { afterAll, beforeAll, expect, test } from 'vitest'
import { departure, nameOf, sampleOf } from './document.ts'
import { type DocumentBed, makeDocumentBed, sampleRequest, written } from './document-bed.ts'

let bed: DocumentBed

beforeAll(async () => {
  bed = await makeDocumentBed()
})

afterAll(() => bed.close())

/** What succeeds only if something was done before, or with other values than those of the schema. */
const before: Readonly<Record<string, readonly (readonly [string, string, unknown?])[]>> = {
  'GET /v1/stores/{store}/keys/{key}': [['PUT', '/v1/stores/carts/keys/a/key', 7]],
  'HEAD /v1/stores/{store}/keys/{key}': [['PUT', '/v1/stores/carts/keys/a/key', 7]],
  'DELETE /v1/stores/{store}': [['POST', '/v1/stores', { name: 'spare' }]],
  'DELETE /v1/tokens/{name}': [['POST', '/v1/tokens', { name: 'spare', monitor: true }]],
  'POST /v1/tokens/{name}/rotate': [['POST', '/v1/tokens', { name: 'spare', monitor: true }]],
  'DELETE /v1/apps/{id}': [['POST', '/v1/tokens', { name: 'app', app: 'n9', user: 'u' }]],
}

/** Bodies that say more than their schema can. */
const bodies: Readonly<Record<string, unknown>> = {
  'POST /v1/stores': { name: 'sample', ttl: '1h' },
  'POST /v1/tokens': {
    name: 'sample',
    stores: [{ store: 'carts', access: 'read', prefix: 'a/' }],
    ttl: '1h',
  },
  'POST /v1/cluster/leader': { to: 'n1' },
  'POST /v1/cluster/members': {
    id: 'n9',
    http: 'http://127.0.0.1:7999',
    p2p: '/ip4/127.0.0.1/tcp/7998',
    peer: '12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2',
  },
}

/** One of several parameters must be there. */
const queries: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'DELETE /v1/stores/{store}/keys': { prefix: 'none/' },
}

/** What succeeds on an empty cluster alone: it has tests of its own, here its refusal is held against the document. */
const elsewhere: ReadonlySet<string> = new Set(['POST /v1/restore'])

test('every operation of the document succeeds as it is described, with an answer that it describes', async () => {
  const { operations, send } = bed
  expect(operations.length).toBeGreaterThan(20)
  for (const operation of operations) {
    for (const [method, path, body] of before[nameOf(operation)] ?? []) {
      const headers = { 'content-type': 'application/json' }
      await send({ method, path, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
    }
    const sample = sampleRequest(operation)
    const request = {
      ...sample,
      query: { ...sample.query, ...queries[nameOf(operation)] },
      body: bodies[nameOf(operation)] ?? sample.body,
    }
    const answer = await send(written(operation, request))
    const said = `${nameOf(operation)}: ${answer.status} ${answer.text.slice(0, 300)}`
    if (elsewhere.has(nameOf(operation))) expect(answer.status, said).toBeLessThan(500)
    else expect(answer.status, said).toBeLessThan(300)
    expect(departure(operation, answer), said).toBeUndefined()
  }
})

test('every query parameter of the document is taken with the values that it describes', async () => {
  const { operations, send } = bed
  for (const operation of operations.filter(({ method }) => method === 'GET')) {
    for (const parameter of operation.parameters.filter((one) => one.in === 'query')) {
      const sample = sampleRequest(operation)
      const { schema, name } = parameter
      // A list is said by repeating the parameter.
      const one = schema.type === 'array' ? (schema.items ?? {}) : schema
      const values = one.enum ?? (one.type === 'boolean' ? [true, false] : [sampleOf(one)])
      for (const value of values) {
        const query = { ...sample.query, [name]: String(value) }
        const answer = await send(written(operation, { ...sample, query }))
        const said = `${nameOf(operation)}?${name}=${value}: ${answer.status} ${answer.text.slice(0, 300)}`
        // A cursor is ours or none.
        expect(answer.status < 500 && (answer.status !== 400 || name === 'cursor'), said).toBe(true)
        expect(departure(operation, answer), said).toBeUndefined()
      }
    }
  }
})

test('every operation answers a request without a token as the document says', async () => {
  const { operations, send } = bed
  for (const operation of operations) {
    const answer = await send({
      ...written(operation, sampleRequest(operation)),
      headers: { authorization: '' },
    })
    const said = `${nameOf(operation)}: ${answer.status} ${answer.text.slice(0, 300)}`
    expect([200, 401, 415], said).toContain(answer.status)
    expect(departure(operation, answer), said).toBeUndefined()
  }
})

test('every operation says what it does, once', () => {
  const { operations } = bed
  expect(new Set(operations.map(nameOf)).size).toBe(operations.length)
  for (const operation of operations) {
    expect(Object.keys(operation.responses), nameOf(operation)).toContain('default')
    expect(
      Object.keys(operation.responses).some((status) => status.startsWith('2')),
      nameOf(operation),
    ).toBe(true)
    const inPath = [...operation.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
    const named = operation.parameters.filter((one) => one.in === 'path').map(({ name }) => name)
    expect(named.toSorted(), nameOf(operation)).toEqual(inPath.toSorted())
  }
})
