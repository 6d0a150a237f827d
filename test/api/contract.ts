// The REST contract as far as it is served, for any node behind the API: the one in memory, and a real one.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Api, createApi } from '../../src/api/server.ts'
import type { NodeSurface } from '../../src/node/surface.ts'
import type { StoreDefinition, Token } from '../../src/store/types.ts'
import { type Answered, type Asked, ask, listeningLogger } from './client.ts'
import { describeAccess } from './contract-access.ts'
import { describeAdministration } from './contract-admin.ts'
import { describeBatch } from './contract-batch.ts'
import { describeCluster } from './contract-cluster.ts'
import { describeKeys } from './contract-keys.ts'
import { describeListing } from './contract-listing.ts'
import { describeOperations } from './contract-operations.ts'
import { describeRepeats } from './contract-repeats.ts'
import { describeSelf } from './contract-self.ts'
import { describeTransactions } from './contract-transactions.ts'
import { describeWatch } from './contract-watch.ts'
import { hashOf } from './memory-node.ts'

/** What the node under test is founded with. */
export type TestFounding = {
  readonly stores: readonly StoreDefinition[]
  readonly tokens: readonly Token[]
  readonly valueBytes: number
}

/** What the parts of the contract are told by: one server, asked in its ways. */
export type Bench = {
  /** As the admin, unless the test says otherwise. */
  readonly as: (method: string, path: string, asked?: Asked) => Promise<Answered>
  /** Sets a key and returns its revision. */
  readonly put: (path: string, body: string | Uint8Array, headers?: Record<string, string>) => Promise<number>
  readonly expectProblem: (answer: Answered, status: number, code: string, field?: string) => void
  /** Where the server listens. */
  readonly url: () => string
}

/** Makes a node that is ready, with a leader. */
export type Found = (
  founding: TestFounding,
) => Promise<{ readonly node: NodeSurface; readonly close: () => Promise<void> }>

export const secrets = {
  admin: 'admin-secret-of-the-tests-0123456789',
  cart: 'cart-secret-of-the-tests-0123456789',
  reader: 'reader-secret-of-the-tests-0123456789',
  tenant: 'tenant-secret-of-the-tests-0123456789',
  monitor: 'monitor-secret-of-the-tests-0123456789',
  nobody: 'nobody-secret-of-the-tests-0123456789',
} as const

function token(name: keyof typeof secrets, principal: Token['principal']): Token {
  return { name, hash: hashOf(secrets[name]), principal }
}

export const founding: TestFounding = {
  stores: [{ name: 'default' }, { name: 'carts' }, { name: 'small', maxValueBytes: 10 }, { name: 'pages' }],
  tokens: [
    token('admin', { type: 'admin' }),
    token('monitor', { type: 'monitor' }),
    token('cart', {
      type: 'component',
      grants: [
        { store: 'carts', access: 'read-write' },
        { store: 'small', access: 'read-write' },
        { store: 'gone', access: 'read-write' },
      ],
    }),
    token('reader', { type: 'component', grants: [{ store: 'carts', access: 'read' }] }),
    token('tenant', {
      type: 'component',
      grants: [{ store: 'carts', access: 'read-write', prefix: 'tenant/ä' }],
    }),
  ],
  valueBytes: 4 * 1024 * 1024,
}

export function describeRest(name: string, found: Found): void {
  describe(`REST over ${name}`, () => {
    let api: Api
    let close: () => Promise<void>

    beforeAll(async () => {
      const { node, close: closeNode } = await found(founding)
      const limits = { keyBytes: 4096, valueBytes: founding.valueBytes }
      api = await createApi({ node, limits, logger: listeningLogger() })
      await api.listen({ host: '127.0.0.1', port: 0 })
      close = async () => {
        await api.close()
        await closeNode()
      }
    })
    afterAll(() => close())

    /** As the admin, unless the test says otherwise. */
    function as(method: string, path: string, asked: Asked = {}): Promise<Answered> {
      return ask(api.address.url, method, path, { token: secrets.admin, ...asked })
    }

    async function put(path: string, body: string | Uint8Array, headers: Record<string, string> = {}) {
      const answer = await as('PUT', path, { body, headers })
      expect([200, 201]).toContain(answer.status)
      return Number(answer.json['revision'])
    }

    function expectProblem(answer: Answered, status: number, code: string, field?: string): void {
      expect(answer).toMatchObject({ status, headers: { 'trivet-error': code } })
      expect(answer.headers['content-type']).toBe('application/problem+json')
      expect(answer.headers['cache-control']).toBe('no-store')
      expect(answer.json).toMatchObject({ type: `urn:trivet:${code}`, code, status })
      expect(answer.json['field']).toBe(field)
      expect(Object.keys(answer.json)).toEqual(
        expect.arrayContaining(['type', 'title', 'status', 'detail', 'code', 'retryable']),
      )
    }

    const bench: Bench = { as, put, expectProblem, url: () => api.address.url }
    describeKeys(bench)
    describeListing(bench)
    describeOperations(bench)
    describeBatch(bench)
    describeTransactions(bench)
    describeRepeats(bench)
    describeAccess(bench)
    describeCluster(bench)
    describeAdministration(bench)
    describeWatch(bench)
    describeSelf(bench)

    describe('a route', () => {
      test.each([
        ['POST', '/v1/stores/default/keys/x', 'GET, HEAD, PUT, DELETE'],
        ['POST', '/v1/stores/default/keys/x/rename', 'GET, HEAD, PUT, DELETE'],
        ['PATCH', '/v1/stores/default/keys/x/touch', 'GET, HEAD, PUT, POST, DELETE'],
        ['GET', '/v1/batch', 'POST'],
        ['PUT', '/v1/stores/default/keys', 'GET, DELETE'],
        ['HEAD', '/v1/stores/default/keys', 'GET, DELETE'],
        ['PUT', '/v1/me', 'GET'],
        ['GET', '/v1/cluster/leader', 'POST'],
        ['PROPFIND', '/v1/stores/default', 'GET, HEAD, DELETE'],
        ['OPTIONS', '/livez', 'GET, HEAD'],
      ])('%s %s is 405 with Allow: %s', async (method, path, allow) => {
        const answer = await as(method, path)
        expect(answer).toMatchObject({
          status: 405,
          headers: { allow, 'trivet-error': 'method-not-allowed' },
        })
      })

      test.each([
        ['GET', '/'],
        ['GET', '/v1'],
        ['GET', '/v1/'],
        ['GET', '/v1/me/'],
        ['GET', '/v1/stores/'],
        ['DELETE', '/v1/stores/default/'],
        ['GET', '/v1/stores/default/key'],
        ['GET', '/v1/stores//keys/x'],
        ['GET', '/v1/%73tores/default/keys/x'],
        ['GET', '/V1/me'],
        ['GET', '/v1//me'],
        ['POST', '/nowhere'],
      ])('%s %s is none', async (method, path) => {
        const body = method === 'POST' ? '{]' : undefined
        expectProblem(await as(method, path, { body }), 404, 'not-found')
      })

      test('with bad percent-encoding is refused before it is found', async () => {
        expectProblem(await as('GET', '/v1/stores/%FF'), 400, 'invalid-request', 'path')
      })

      test('takes no parameters it has not declared, nor headers that promise what it does not do', async () => {
        const path = '/v1/stores/default/keys/x'
        expectProblem(await as('GET', `${path}?ttl=5s`), 400, 'invalid-request', 'ttl')
        expectProblem(await as('DELETE', `${path}?consistency=stale`), 400, 'invalid-request', 'consistency')
        expectProblem(await as('GET', '/livez?verbose=1'), 400, 'invalid-request', 'verbose')
        const headers = { 'idempotency-key': 'once' }
        expectProblem(await as('GET', path, { headers }), 400, 'invalid-request', 'idempotency-key')
        const session = { 'trivet-session': 'x; seq=1; acked=0' }
        const answer = await as('POST', '/v1/sessions', { headers: session })
        expectProblem(answer, 400, 'invalid-request', 'trivet-session')
      })

      test.each(['soon', '5', '9ms', '61s', '2m', '-1s', '1.5s', ''])(
        'refuses to take %j for a time',
        async (timeout) => {
          const answer = await as('GET', '/v1/me', { headers: { 'trivet-timeout': timeout } })
          expectProblem(answer, 400, 'invalid-request', 'trivet-timeout')
        },
      )

      test('passes a trace on, if it is one', async () => {
        const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
        expect((await as('GET', '/v1/me', { headers: { traceparent } })).headers['traceparent']).toBe(
          traceparent,
        )
        expect(
          (await as('GET', '/v1/me', { headers: { traceparent: 'x' } })).headers['traceparent'],
        ).toBeUndefined()
      })

      test('gives every request an id of its own', async () => {
        const ids = await Promise.all(
          Array.from({ length: 20 }, async () => (await as('GET', '/livez')).headers['trivet-request']),
        )
        expect(new Set(ids).size).toBe(20)
      })
    })

    test('an administrative body has a limit', async () => {
      const body = `{"to":"${'x'.repeat(70_000)}"}`
      const headers = { 'content-type': 'application/json' }
      const answer = await as('POST', '/v1/cluster/leader', { body, headers })
      expectProblem(answer, 413, 'request-too-large')
      expect(answer.json['limit']).toBe(65_536)
    })

    describe('health', () => {
      test('is told to anybody', async () => {
        for (const path of ['/livez', '/readyz']) {
          expect(await as('GET', path, { token: undefined })).toMatchObject({
            status: 200,
            json: { status: 'ok' },
          })
          expect(await as('HEAD', path, { token: undefined })).toMatchObject({ status: 200, text: '' })
        }
      })

      test('has an OpenAPI 3.1 document made of the schemas that validate', async () => {
        const { json } = await as('GET', '/openapi.json', { token: undefined })
        expect(json).toMatchObject({ openapi: '3.1.0', security: [{ bearer: [] }] })
        const paths = json['paths'] as Record<string, Record<string, Record<string, unknown>>>
        expect(Object.keys(paths)).toEqual(
          expect.arrayContaining([
            '/v1/batch',
            '/v1/stores/{store}/keys/{key}',
            '/v1/stores/{store}/keys/{key}/increment',
            '/v1/stores/{store}/keys/{key}/touch',
            '/v1/transactions',
          ]),
        )
        expect(Object.keys(paths['/v1/stores/{store}/keys/{key}'] ?? {}).sort()).toEqual([
          'delete',
          'get',
          'head',
          'put',
        ])
        const parameters = paths['/v1/stores/{store}/keys']?.['get']?.['parameters'] as {
          name: string
          schema: object
        }[]
        expect(parameters.find(({ name }) => name === 'limit')?.schema).toMatchObject({
          type: 'integer',
          maximum: 10_000,
        })
        expect(parameters.map(({ name }) => name)).toContain('cursor')
        for (const operation of Object.values(paths).flatMap((path) => Object.values(path))) {
          expect(operation['responses']).toMatchObject({
            default: { $ref: '#/components/responses/Problem' },
          })
        }
      })
    })
  })
}
