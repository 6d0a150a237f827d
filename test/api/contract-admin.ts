// Administration over REST, for any node behind the API: stores, tokens of every kind of principal, and apps.

import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { Answered, Asked } from './client.ts'

export type AdminTools = {
  /** As the admin, unless asked otherwise. */
  readonly as: (method: string, path: string, asked?: Asked) => Promise<Answered>
  readonly expectProblem: (answer: Answered, status: number, code: string, field?: string) => void
}

let count = 0

/** A name that no other test uses. */
function fresh(word: string): string {
  count += 1
  return `${word}-${count}`
}

export function describeAdministration({ as, expectProblem }: AdminTools): void {
  const headers = { 'content-type': 'application/json' }

  function post(path: string, body: unknown, asked: Asked = {}): Promise<Answered> {
    return as('POST', path, {
      ...asked,
      body: JSON.stringify(body),
      headers: { ...headers, ...asked.headers },
    })
  }

  async function mint(body: object, token?: string): Promise<string> {
    const answer = await post('/v1/tokens', body, token === undefined ? {} : { token })
    expect(answer, answer.text).toMatchObject({ status: 201 })
    return String(answer.json['secret'])
  }

  async function listed(name: string): Promise<unknown> {
    const { tokens } = (await as('GET', '/v1/tokens')).json as { tokens: { name: string }[] }
    return tokens.find((token) => token.name === name)
  }

  describe('stores', () => {
    test('are created, used and dropped', async () => {
      const name = fresh('made')
      const created = await post('/v1/stores', { name, ttl: '90m', maxValueBytes: 10 })
      expect(created).toMatchObject({ status: 201, json: { name, ttl: '90m', maxValueBytes: 10 } })
      expect(created.headers['server-timing']).toMatch(/^forward;dur=/)
      expect(await as('GET', `/v1/stores/${name}`)).toMatchObject({
        status: 200,
        json: { name, ttl: '90m', maxValueBytes: 10, keys: 0, bytes: 0 },
      })
      expect((await as('PUT', `/v1/stores/${name}/keys/k`, { body: 'v' })).status).toBe(201)
      expectProblem(
        await as('PUT', `/v1/stores/${name}/keys/k`, { body: '12345678901' }),
        413,
        'value-too-large',
      )
      expect(await as('DELETE', `/v1/stores/${name}`)).toMatchObject({ status: 200, json: { name } })
      expectProblem(await as('GET', `/v1/stores/${name}/keys/k`), 404, 'no-such-store')
      expectProblem(await as('DELETE', `/v1/stores/${name}`), 404, 'no-such-store')
    })

    test('of the same name are other stores: what was in the one before is gone', async () => {
      const name = fresh('again')
      await post('/v1/stores', { name })
      await as('PUT', `/v1/stores/${name}/keys/k`, { body: 'v' })
      await as('DELETE', `/v1/stores/${name}`)
      expect((await post('/v1/stores', { name })).status).toBe(201)
      expectProblem(await as('GET', `/v1/stores/${name}/keys/k`), 404, 'no-such-key')
      expect((await as('GET', `/v1/stores/${name}`)).json).toMatchObject({ keys: 0 })
      await as('DELETE', `/v1/stores/${name}`)
    })

    test('that exist are not created, and default is not dropped', async () => {
      expectProblem(await post('/v1/stores', { name: 'carts' }), 409, 'store-exists')
      expectProblem(await as('DELETE', '/v1/stores/default'), 409, 'store-protected')
    })

    test.each([
      ['without a name', {}, 'name'],
      ['with a name in capitals', { name: 'Carts' }, 'name'],
      ['with a name too long', { name: 'a'.repeat(64) }, 'name'],
      ['with a number for a name', { name: 7 }, 'name'],
      ['with a ttl that is no duration', { name: 'x', ttl: '1 hour' }, 'ttl'],
      ['with a ttl of nothing', { name: 'x', ttl: '0s' }, 'ttl'],
      ['with a ttl of eleven years', { name: 'x', ttl: '4000d' }, 'ttl'],
      ['with values of no bytes', { name: 'x', maxValueBytes: 0 }, 'maxValueBytes'],
      ["with values beyond the cluster's", { name: 'x', maxValueBytes: 4_194_305 }, 'maxValueBytes'],
      ['with half a byte', { name: 'x', maxValueBytes: 1.5 }, 'maxValueBytes'],
      ['with a field nobody knows', { name: 'x', shards: 3 }, 'shards'],
      ['that are a list', [], 'body'],
      ['that are nothing', null, 'body'],
    ])('are not created %s', async (_, body, field) => {
      expectProblem(await post('/v1/stores', body), 400, 'invalid-request', field)
    })
  })

  describe('tokens', () => {
    test('are minted, shown once, listed without their secret, and revoked', async () => {
      const name = fresh('cart')
      const minted = await post('/v1/tokens', { name, stores: ['carts', { store: 'small', access: 'read' }] })
      expect(minted).toMatchObject({ status: 201, json: { name } })
      const secret = String(minted.json['secret'])
      expect(secret).toMatch(/^trv_[\w-]{43}$/)
      expect((await as('GET', '/v1/me', { token: secret })).json).toEqual({
        principal: { type: 'component', name },
        grants: [
          { store: 'carts', access: 'read-write' },
          { store: 'small', access: 'read' },
        ],
      })
      const list = await as('GET', '/v1/tokens')
      expect(await listed(name)).toMatchObject({ name, principal: { type: 'component' } })
      expect(list.text).not.toContain(secret)
      expect(list.text).not.toMatch(/hash|secret":/)
      expect((await as('PUT', '/v1/stores/carts/keys/k', { token: secret, body: 'v' })).status).toBeLessThan(
        300,
      )
      expect(await as('DELETE', `/v1/tokens/${name}`)).toMatchObject({ status: 200, json: { name } })
      for (const path of ['/v1/me', '/v1/stores/carts/keys/k', '/v1/cluster', '/metrics']) {
        expectProblem(await as('GET', path, { token: secret }), 401, 'unauthenticated')
      }
      expect(await listed(name)).toBeUndefined()
      expectProblem(await as('DELETE', `/v1/tokens/${name}`), 404, 'not-found')
    })

    test('are of every kind of principal', async () => {
      const [admin, monitor] = [fresh('root'), fresh('eye')]
      const adminSecret = await mint({ name: admin, admin: true })
      expect((await as('GET', '/v1/tokens', { token: adminSecret })).status).toBe(200)
      await as('DELETE', `/v1/tokens/${admin}`)
      const monitorSecret = await mint({ name: monitor, monitor: true })
      expect((await as('GET', '/metrics', { token: monitorSecret })).status).toBe(200)
      expect((await as('GET', '/v1/stores', { token: monitorSecret })).status).toBe(403)
      for (const type of ['user', 'bot'] as const) {
        const name = fresh('todo')
        const secret = await mint({ name, app: 'com.example.todo', [type]: 'ann' })
        expect((await as('GET', '/v1/me', { token: secret })).json).toEqual({
          principal: { type: 'app', app: 'com.example.todo', holder: { type, id: 'ann' }, name },
          grants: [{ store: 'self', access: 'read-write' }],
        })
        for (const path of ['/v1/stores/default', '/v1/stores/carts/keys/k', '/v1/tokens', '/metrics']) {
          expectProblem(await as('GET', path, { token: secret }), 403, 'access-denied')
        }
      }
    })

    test('of admins are revoked but for the last', async () => {
      const name = fresh('root')
      const secret = await mint({ name, admin: true })
      expect((await as('DELETE', `/v1/tokens/${name}`, { token: secret })).status).toBe(200)
      const last = await as('DELETE', '/v1/tokens/admin')
      expectProblem(last, 403, 'access-denied')
      expect(last.json['detail']).toContain('last')
      expect((await as('GET', '/v1/me')).status).toBe(200)
    })

    test('expire, and say when', async () => {
      const name = fresh('brief')
      const secret = await mint({ name, stores: ['carts'], ttl: '7d' })
      const { expires } = (await as('GET', '/v1/me', { token: secret })).json
      expect(Date.parse(String(expires))).toBeGreaterThan(0)
      expect(await listed(name)).toMatchObject({ expires })
    })

    test('may be registered with a secret that exists', async () => {
      const secret = `existing/${randomBytes(20).toString('hex')}+=`
      expect(await mint({ name: fresh('old'), stores: ['carts'], secret })).toBe(secret)
      expect((await as('GET', '/v1/me', { token: secret })).status).toBe(200)
      const twin = await post('/v1/tokens', { name: fresh('twin'), admin: true, secret })
      expectProblem(twin, 409, 'token-exists')
    })

    test('have a name each', async () => {
      const answer = await post('/v1/tokens', { name: 'cart', stores: ['carts'] })
      expectProblem(answer, 409, 'token-exists')
    })

    test('have names of printable characters, which a path says encoded', async () => {
      const name = `A/B & C? ${fresh('100%')}`
      await mint({ name, stores: ['carts'] })
      const path = `/v1/tokens/${encodeURIComponent(name)}`
      expect(await as('DELETE', path)).toMatchObject({ status: 200, json: { name } })
    })

    test.each([
      ['without a name', { admin: true }, 'name'],
      ['with a name that paths lose', { name: '..', admin: true }, 'name'],
      ['with a name that begins with a space', { name: ' a', admin: true }, 'name'],
      ['that are nobody', { name: 'x' }, 'stores'],
      ['that are two', { name: 'x', admin: true, stores: ['carts'] }, 'stores'],
      ['of an admin that is false', { name: 'x', admin: false }, 'admin'],
      ['without a store', { name: 'x', stores: [] }, 'stores'],
      ['with a store that is no name', { name: 'x', stores: ['A'] }, 'stores.0'],
      ['with access that is none', { name: 'x', stores: [{ store: 'a', access: 'write' }] }, 'stores.0'],
      ['of an app without a holder', { name: 'x', app: 'a' }, 'user'],
      ['of an app with two holders', { name: 'x', app: 'a', user: 'u', bot: 'b' }, 'bot'],
      ['of a user without an app', { name: 'x', stores: ['a'], user: 'u' }, 'user'],
      ['of a monitor that may mint', { name: 'x', monitor: true, mint: true }, 'mint'],
      ['of an app with a space', { name: 'x', app: 'a b', user: 'u' }, 'app'],
      ['with a short secret', { name: 'x', admin: true, secret: 'x'.repeat(19) }, 'secret'],
      [
        'with a secret no header can carry',
        { name: 'x', admin: true, secret: `${'x'.repeat(20)} y` },
        'secret',
      ],
      ['with a ttl that is none', { name: 'x', admin: true, ttl: 'soon' }, 'ttl'],
      ['with a field nobody knows', { name: 'x', admin: true, hash: 'h' }, 'hash'],
    ])('are not minted %s', async (_, body, field) => {
      const answer = await post('/v1/tokens', body)
      expect(answer).toMatchObject({ status: 400, headers: { 'trivet-error': 'invalid-request' } })
      expect(String(answer.json['field']).startsWith(field)).toBe(true)
    })

    test('get a new secret, and the one before stands for as long as it is told to', async () => {
      const name = fresh('turn')
      const first = await mint({ name, stores: ['carts'] })
      const rotated = await post(`/v1/tokens/${name}/rotate`, { overlap: '1h' })
      expect(rotated).toMatchObject({ status: 200, json: { name } })
      expect(Date.parse(String(rotated.json['expires']))).toBeGreaterThan(0)
      const second = String(rotated.json['secret'])
      for (const token of [first, second]) expect((await as('GET', '/v1/me', { token })).status).toBe(200)
      const third = await as('POST', `/v1/tokens/${name}/rotate`)
      expect(third).toMatchObject({ status: 200, json: { name } })
      expect(third.json['expires']).toBeUndefined()
      expectProblem(await as('GET', '/v1/me', { token: second }), 401, 'unauthenticated')
      const present = String(third.json['secret'])
      expect((await as('GET', '/v1/me', { token: present })).status).toBe(200)
      await as('DELETE', `/v1/tokens/${name}`)
      expectProblem(await as('GET', '/v1/me', { token: present }), 401, 'unauthenticated')
      expectProblem(await post('/v1/tokens/nobody-there/rotate', {}), 404, 'not-found')
      const misspelt = await post(`/v1/tokens/${name}/rotate`, { overlap: 'x' })
      expectProblem(misspelt, 400, 'invalid-request', 'overlap')
      expect(misspelt.json['detail']).toContain('A whole number and one unit')
    })

    test('are managed by admins, and by components that may mint within their own grants', async () => {
      const name = fresh('minter')
      const minter = await mint({
        name,
        stores: [
          { store: 'carts', prefix: 'a/' },
          { store: 'small', access: 'read' },
        ],
        mint: true,
      })
      expect((await as('GET', '/v1/me', { token: minter })).json).toMatchObject({ principal: { mint: true } })
      const within = fresh('within')
      const secret = await mint({ name: within, stores: [{ store: 'carts', prefix: 'a/b' }] }, minter)
      expect(await listed(within)).toMatchObject({ mintedBy: name })
      for (const stores of [
        ['carts'],
        [{ store: 'carts', prefix: 'b' }],
        [{ store: 'small', access: 'read-write' }],
        ['default'],
      ]) {
        expectProblem(
          await post('/v1/tokens', { name: fresh('beyond'), stores }, { token: minter }),
          403,
          'access-denied',
        )
      }
      for (const kind of [{ admin: true }, { monitor: true }, { app: 'a', user: 'u' }]) {
        expectProblem(
          await post('/v1/tokens', { name: fresh('beyond'), ...kind }, { token: minter }),
          403,
          'access-denied',
        )
      }
      const own = await as('GET', '/v1/tokens', { token: minter })
      expect((own.json as { tokens: { name: string }[] }).tokens.map((token) => token.name)).toEqual([within])
      expectProblem(await as('DELETE', '/v1/tokens/reader', { token: minter }), 403, 'access-denied')
      expectProblem(await as('DELETE', '/v1/tokens/nobody-there', { token: minter }), 403, 'access-denied')
      expectProblem(
        await post('/v1/tokens', { name: 'x', stores: ['carts'] }, { token: secret }),
        403,
        'access-denied',
      )
      expect((await as('DELETE', `/v1/tokens/${within}`, { token: minter })).status).toBe(200)
      expectProblem(await as('GET', '/v1/me', { token: secret }), 401, 'unauthenticated')
    })

    test('go with the one that minted them', async () => {
      const name = fresh('minter')
      const minter = await mint({ name, stores: ['carts'], mint: true })
      const secret = await mint({ name: fresh('child'), stores: ['carts'] }, minter)
      await as('DELETE', `/v1/tokens/${name}`)
      expectProblem(await as('GET', '/v1/me', { token: secret }), 401, 'unauthenticated')
    })

    test('minted twice under one idempotency key are one token, whose secret is not shown again', async () => {
      const body = { name: fresh('once'), stores: ['carts'] }
      const asked = { headers: { 'idempotency-key': randomBytes(8).toString('hex') } }
      const first = await post('/v1/tokens', body, asked)
      const again = await post('/v1/tokens', body, asked)
      expect(again).toMatchObject({ status: 201, headers: { 'idempotency-replayed': 'true' } })
      expect(again.json).toEqual({ name: body.name })
      const secret = String(first.json['secret'])
      expect((await as('GET', '/v1/me', { token: secret })).status).toBe(200)
      const other = await post('/v1/tokens', { ...body, stores: ['small'] }, asked)
      expectProblem(other, 422, 'idempotency-key-reused')
    })

    test('of others are changed by admins alone', async () => {
      const plain = await mint({ name: fresh('plain'), stores: ['carts'] })
      for (const [method, path] of [
        ['GET', '/v1/tokens'],
        ['POST', '/v1/tokens'],
        ['DELETE', '/v1/tokens/cart'],
        ['POST', '/v1/tokens/cart/rotate'],
        ['GET', '/v1/apps'],
        ['DELETE', '/v1/apps/a'],
        ['POST', '/v1/stores'],
        ['DELETE', '/v1/stores/carts'],
      ] as const) {
        expectProblem(await as(method, path, { token: plain }), 403, 'access-denied')
        expectProblem(await as(method, path, { token: undefined }), 401, 'unauthenticated')
      }
    })
  })

  test('an app is listed, and goes with the tokens of all its users', async () => {
    const app = `com.example.${fresh('app')}`
    const secrets = [
      await mint({ name: fresh('user'), app, user: 'ann' }),
      await mint({ name: fresh('bot'), app, bot: 'bot' }),
    ]
    const { apps } = (await as('GET', '/v1/apps')).json as { apps: { id: string }[] }
    expect(apps.find(({ id }) => id === app)).toMatchObject({ id: app, keys: 0, bytes: 0 })
    expect(await as('DELETE', `/v1/apps/${app}`)).toMatchObject({ status: 200, json: { id: app } })
    for (const token of secrets) expectProblem(await as('GET', '/v1/me', { token }), 401, 'unauthenticated')
    expectProblem(await as('DELETE', `/v1/apps/${app}`), 404, 'not-found')
  })
}
