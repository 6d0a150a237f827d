// The part of the REST contract on who may do what, and what is checked first.

import { describe, expect, test } from 'vitest'
import { type Bench, founding, secrets } from './contract.ts'
import { hashOf } from './memory-node.ts'

export function describeAccess({ as, expectProblem }: Bench): void {
  describe('a token', () => {
    test.each([
      ['none at all', undefined, {}],
      ['an unknown one', secrets.nobody, {}],
      ['a hash instead of the secret', hashOf(secrets.admin), {}],
      ['another scheme', undefined, { authorization: `Basic ${secrets.admin}` }],
      ['an empty one', undefined, { authorization: 'Bearer ' }],
    ])('is needed: %s is 401', async (_case, given, headers) => {
      for (const path of [
        '/v1/stores/default/keys/x',
        '/v1/stores/default',
        '/v1/stores',
        '/v1/me',
        '/v1/cluster',
      ]) {
        const answer = await as('GET', path, { token: given, headers })
        expectProblem(answer, 401, 'unauthenticated')
        expect(answer.headers['www-authenticate']).toBe('Bearer')
      }
      expectProblem(
        await as('PUT', '/v1/stores/small/keys/x', { token: given, headers, body: 'x' }),
        401,
        'unauthenticated',
      )
    })

    test('is never read from the URL', async () => {
      const answer = await as('GET', `/v1/me?token=${secrets.admin}`, { token: undefined })
      expectProblem(answer, 401, 'unauthenticated')
    })

    test('may come with its scheme in any case', async () => {
      for (const scheme of ['bearer', 'BEARER', 'Bearer ']) {
        const headers = { authorization: `${scheme} ${secrets.cart}` }
        expect((await as('GET', '/v1/me', { token: undefined, headers })).status).toBe(200)
      }
    })

    test('opens what it was granted, and nothing else', async () => {
      const cases: [string, keyof typeof secrets, string, number][] = [
        ['PUT', 'cart', '/v1/stores/carts/keys/granted', 201],
        ['GET', 'cart', '/v1/stores/carts/keys/granted', 200],
        ['GET', 'cart', '/v1/stores/carts/keys', 200],
        ['GET', 'cart', '/v1/stores/default/keys/x', 403],
        ['GET', 'cart', '/v1/stores/default', 403],
        ['GET', 'cart', '/v1/stores/default/keys', 403],
        ['GET', 'cart', '/v1/stores/no-store/keys/x', 403],
        ['GET', 'cart', '/v1/stores/gone/keys/x', 404],
        ['PUT', 'cart', '/v1/stores/gone/keys/x', 404],
        ['GET', 'cart', '/v1/stores/gone/keys', 404],
        ['GET', 'cart', '/v1/stores/gone', 404],
        ['POST', 'cart', '/v1/cluster/leader', 403],
        ['GET', 'reader', '/v1/stores/carts/keys/granted', 200],
        ['PUT', 'reader', '/v1/stores/carts/keys/granted', 403],
        ['DELETE', 'reader', '/v1/stores/carts/keys/granted', 403],
        ['GET', 'monitor', '/v1/cluster', 200],
        ['GET', 'monitor', '/v1/stores', 403],
        ['GET', 'monitor', '/v1/stores/carts', 403],
        ['GET', 'monitor', '/v1/stores/carts/keys/granted', 403],
        ['GET', 'admin', '/v1/stores/no-store/keys/x', 404],
        ['GET', 'tenant', '/v1/cluster', 200],
      ]
      for (const [method, who, path, status] of cases) {
        const answer = await as(method, path, {
          token: secrets[who],
          body: method === 'PUT' ? 'x' : undefined,
        })
        expect(answer.status, `${method} ${path} as ${who}`).toBe(status)
      }
    })

    test('with a prefix opens the keys under it, by bytes, and lists only there', async () => {
      const cases: [string, string, number][] = [
        ['PUT', '/v1/stores/carts/keys/tenant%2F%C3%A4%2Fx', 201],
        ['GET', '/v1/stores/carts/keys/tenant/%C3%A4/x', 200],
        ['GET', '/v1/stores/carts/keys/tenant/%C3%A4', 404],
        ['GET', '/v1/stores/carts/keys/tenant/%C3%A5', 403],
        ['PUT', '/v1/stores/carts/keys/tenant', 403],
        ['GET', '/v1/stores/carts/keys?prefix=tenant/%C3%A4', 200],
        ['GET', '/v1/stores/carts/keys?prefix=tenant/%C3%A4%2Fx', 200],
        ['GET', '/v1/stores/carts/keys?prefix=tenant/', 403],
        ['GET', '/v1/stores/carts/keys', 403],
        ['GET', '/v1/stores/carts/keys?start=tenant/%C3%A4', 403],
      ]
      for (const [method, path, status] of cases) {
        const answer = await as(method, path, {
          token: secrets.tenant,
          body: method === 'PUT' ? 'x' : undefined,
        })
        expect(answer.status, `${method} ${path}`).toBe(status)
      }
    })

    test('tells who it is', async () => {
      expect((await as('GET', '/v1/me')).json).toEqual({
        principal: { type: 'admin', name: 'admin' },
        grants: [],
      })
      expect((await as('GET', '/v1/me', { token: secrets.tenant })).json).toEqual({
        principal: { type: 'component', name: 'tenant' },
        grants: [{ store: 'carts', access: 'read-write', prefix: 'tenant/ä' }],
      })
    })

    test('sees the stores it may open, with counts where it may see the whole', async () => {
      const all = (await as('GET', '/v1/stores')).json['stores'] as { name: string }[]
      expect(all.map(({ name }) => name).sort()).toEqual(['carts', 'default', 'pages', 'small'])
      expect((await as('GET', '/v1/stores', { token: secrets.tenant })).json).toEqual({
        stores: [{ name: 'carts', maxValueBytes: founding.valueBytes }],
      })
      expect((await as('GET', '/v1/stores/pages')).json).toMatchObject({ name: 'pages', keys: 7 })
      const opened = await as('GET', '/v1/stores/small', { token: secrets.cart })
      expect(opened.json).toMatchObject({ name: 'small', maxValueBytes: 10, keys: 1, bytes: 11 })
      expect(await as('HEAD', '/v1/stores/small', { token: secrets.cart })).toMatchObject({
        status: 200,
        text: '',
      })
    })
  })

  describe('the order of checks', () => {
    const everythingWrong = {
      body: 'longer than ten',
      headers: { 'if-match': 'nonsense', 'trivet-timeout': 'soon' },
    }

    test('is 401, 403, 404, 400, 413, 412', async () => {
      const wrong = { ...everythingWrong, token: undefined }
      expect((await as('PUT', '/v1/stores/gone/keys/%FF?x', wrong)).status).toBe(401)
      expect(
        (await as('PUT', '/v1/stores/default/keys/%FF?x', { ...wrong, token: secrets.cart })).status,
      ).toBe(403)
      expect((await as('PUT', '/v1/stores/gone/keys/%FF?x', { ...wrong, token: secrets.cart })).status).toBe(
        404,
      )
      expect((await as('PUT', '/v1/stores/small/keys/%FF?x', { ...wrong, token: secrets.cart })).status).toBe(
        400,
      )
      const later = { body: 'longer than ten', headers: { 'if-match': '"1"' }, token: secrets.cart }
      expect((await as('PUT', '/v1/stores/small/keys/new', later)).status).toBe(413)
      expect((await as('PUT', '/v1/stores/small/keys/new', { ...later, body: 'short' })).status).toBe(412)
    })
  })
}
