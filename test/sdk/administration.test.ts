// What admins do through a client: stores, tokens and apps.

import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { type Client, connect } from '../../src/sdk/index.ts'
import { MemoryServer } from './memory-server.ts'

let server: MemoryServer
let client: Client

beforeAll(async () => {
  server = await MemoryServer.start()
  client = connect({ endpoints: [server.url], token: 'secret' })
})

beforeEach(() => {
  server.state.administered.length = 0
})

afterAll(() => server.stop())

it('creates and drops stores', async () => {
  await client.createStore({ name: 'carts', ttl: 3_600_000, maxValueBytes: 65_536 })
  await client.createStore({ name: 'plain' })
  await client.dropStore('default')
  expect(server.state.administered).toEqual([
    { what: 'POST /v1/stores', body: { name: 'carts', ttl: '1h', maxValueBytes: 65_536 } },
    { what: 'POST /v1/stores', body: { name: 'plain' } },
    { what: 'DELETE /v1/stores/default', body: undefined },
  ])
  expect(await client.stores()).toEqual([{ name: 'default', maxValueBytes: 4 }])
})

it('mints a token once, though the answer that has its secret is lost', async () => {
  const on = ({ path }: { readonly path: string }): boolean => path === '/v1/tokens'
  server.faults.push({ type: 'cutAfter', on })
  const stores = ['carts', { store: 'logs', access: 'read', prefix: 'a/' }] as const
  const { name, secret } = await client.mintToken({ name: 'cart', stores, mint: true, ttl: '1d' })
  expect([name, secret]).toEqual(['cart', expect.stringMatching(/^trv_[\w-]{43}$/)])
  expect(server.state.administered).toEqual([
    { what: 'POST /v1/tokens', body: { name: 'cart', stores, mint: true, ttl: '1d', secret } },
  ])
})

it('mints for every kind of principal, with a secret of one’s own', async () => {
  const secret = 'a secret of twenty characters and more'
  await client.mintToken({ name: 'a', admin: true, secret })
  await client.mintToken({ name: 'm', monitor: true, secret, ttl: 'none' })
  await client.mintToken({ name: 'u', app: 'jira', user: 'u1', secret })
  expect(server.state.administered.map(({ body }) => body)).toEqual([
    { name: 'a', admin: true, secret },
    { name: 'm', monitor: true, secret },
    { name: 'u', app: 'jira', user: 'u1', secret },
  ])
})

it('revokes and rotates, and does not rotate twice by itself', async () => {
  await client.revokeToken('a/b')
  expect(await client.rotateToken('cart', { overlap: '1h' })).toEqual({
    name: 'cart',
    secret: `trv_${'r'.repeat(43)}`,
  })
  expect(server.state.administered).toEqual([
    { what: 'DELETE /v1/tokens/a%2Fb', body: undefined },
    { what: 'POST /v1/tokens/cart/rotate', body: { overlap: '1h' } },
  ])
  server.faults.push({ type: 'cutAfter' })
  await expect(client.rotateToken('cart')).rejects.toMatchObject({ code: 'outcome-unknown' })
  expect(server.state.administered).toHaveLength(3)
})

it('lists tokens and apps, and removes an app', async () => {
  expect(await client.tokens()).toEqual([{ name: 'cart', principal: { type: 'component' }, grants: [] }])
  expect(await client.apps()).toEqual([{ id: 'jira', keys: 1, bytes: 2 }])
  await client.removeApp('jira')
  expect(server.state.administered).toEqual([{ what: 'DELETE /v1/apps/jira', body: undefined }])
})
