// Against which state a token is judged (safety rule 20), on a node that lags, has no leader, or loses grants on the way.

import { expect, test } from 'vitest'
import { addStore, makeBed, mint, patience, revoke } from './bed.ts'
import { listeningLogger } from './client.ts'
import { secrets } from './contract.ts'
import { hashOf, type MemoryNode } from './memory-node.ts'

const path = '/v1/stores/default/keys/x'
const newcomer = 'newcomer-secret-of-the-tests-0123456789'

function admit(node: MemoryNode): Promise<void> {
  return mint(node, { name: 'newcomer', hash: hashOf(newcomer), principal: { type: 'admin' } })
}

test('a linearizable read judges the token in the state after the barrier', async () => {
  const { node, as } = await makeBed()
  expect((await as('GET', path)).status).toBe(404)
  expect(node.barriers).toBe(1)
  node.behind = () => revoke(node, 'admin')
  expect((await as('GET', path)).status).toBe(401)
  node.behind = () => admit(node)
  expect((await as('GET', path, { token: newcomer })).status).toBe(404)
})

test('a write by a token known here goes to the log at once', async () => {
  const { node, as } = await makeBed()
  expect((await as('PUT', path, { body: 'x' })).status).toBe(201)
  expect((await as('DELETE', path)).status).toBe(200)
  expect(node.barriers).toBe(0)
})

test('a write by a token, grant or store unknown here is refused only after a barrier', async () => {
  const { node, as } = await makeBed()
  node.behind = () => admit(node)
  expect((await as('PUT', path, { token: newcomer, body: 'x' })).status).toBe(201)
  expect(node.barriers).toBe(1)
  node.behind = () => addStore(node, 'late')
  expect((await as('PUT', '/v1/stores/late/keys/x', { body: 'x' })).status).toBe(201)
  expect(node.barriers).toBe(2)
  expect((await as('PUT', path, { token: secrets.cart, body: 'x' })).status).toBe(403)
  expect(node.barriers).toBe(3)
  expect(node.executed).toHaveLength(2)
})

test('a write whose token is revoked before it is applied is refused as apply refuses it', async () => {
  const { node, as } = await makeBed()
  expect(node.state.token(hashOf(secrets.cart))).toBeDefined()
  node.before = () => revoke(node, 'cart')
  const answer = await as('PUT', '/v1/stores/carts/keys/x', { token: secrets.cart, body: 'x' })
  expect(answer).toMatchObject({ status: 401, headers: { 'www-authenticate': 'Bearer' } })
  expect(answer.headers['server-timing']).toBeDefined()
})

test('a stale read is judged here, and says that it is stale', async () => {
  const { node, as } = await makeBed()
  await as('PUT', path, { body: 'old' })
  node.faults = { noLeader: true }
  for (const target of [path, '/v1/stores/default/keys', '/v1/stores/default', '/v1/stores', '/v1/me']) {
    const answer = await as('GET', `${target}?consistency=stale`)
    expect(answer).toMatchObject({ status: 200, headers: { 'trivet-stale': 'true' } })
  }
  expect(node.barriers).toBe(0)
  expect((await as('GET', `${path}x?consistency=stale`)).headers['trivet-stale']).toBe('true')
})

test('a stale read is refused only after a barrier', async () => {
  const { node, as } = await makeBed()
  node.behind = () => admit(node)
  expect((await as('GET', `${path}?consistency=stale`, { token: newcomer })).status).toBe(404)
  node.faults = { noLeader: true }
  const headers = { 'trivet-timeout': '50ms' }
  const answer = await as('GET', `${path}?consistency=stale`, { token: secrets.nobody, headers })
  expect(answer).toMatchObject({ status: 503, headers: { 'trivet-error': 'no-leader' } })
})

test('the cluster is told by older grants, and without a leader a stranger is refused all the same', async () => {
  const { node, as } = await makeBed()
  node.faults = { noLeader: true }
  expect((await as('GET', '/v1/cluster')).status).toBe(200)
  expect(node.barriers).toBe(0)
  const headers = { 'trivet-timeout': '50ms' }
  expect((await as('GET', '/v1/cluster', { token: secrets.nobody, headers })).status).toBe(401)
  node.faults = {}
  node.behind = () => admit(node)
  expect((await as('GET', '/v1/cluster', { token: newcomer })).status).toBe(200)
})

test('a request without a token is refused without asking anybody', async () => {
  const { node, as } = await makeBed()
  expect((await as('GET', path, { token: undefined })).status).toBe(401)
  expect((await as('PUT', path, { token: undefined, body: 'x' })).status).toBe(401)
  expect(node.barriers).toBe(0)
})

test('a read that waits for a revision is judged in the state it then reads', async () => {
  const { node, as } = await makeBed()
  await as('PUT', path, { body: 'one' })
  // Administration takes revisions too: this waits for the second write.
  const read = as('GET', `${path}?consistency=stale&minRevision=4`, { token: secrets.admin })
  await expect.poll(() => node.waiting, patience).toBe(1)
  await admit(node)
  await revoke(node, 'admin')
  expect((await as('PUT', path, { token: newcomer, body: 'two' })).status).toBe(200)
  expect((await read).status).toBe(401)
})

test('minRevision waits until the node has come so far', async () => {
  const { node, as } = await makeBed()
  await as('PUT', path, { body: 'one' })
  const read = as('GET', `${path}?minRevision=2`)
  await expect.poll(() => node.waiting, patience).toBe(1)
  await as('PUT', path, { body: 'two' })
  expect(await read).toMatchObject({ status: 200, text: 'two', headers: { 'trivet-revision': '2' } })
  const late = await as('GET', `${path}?minRevision=3`, { headers: { 'trivet-timeout': '20ms' } })
  expect(late).toMatchObject({ status: 504, headers: { 'trivet-error': 'deadline-exceeded' } })
})

test('the token is never logged', async () => {
  const logger = listeningLogger('debug')
  const { as } = await makeBed({ logger })
  await as('GET', path)
  await as('GET', path, { token: secrets.nobody })
  await as('PUT', path, { body: 'x' })
  const text = JSON.stringify(logger.lines)
  expect(logger.lines).toHaveLength(3)
  for (const secret of [secrets.admin, secrets.nobody]) {
    expect(text).not.toContain(secret)
    expect(text).not.toContain(hashOf(secret))
  }
})

test('a token whose grants have changed opens what it is granted now', async () => {
  const { node, as } = await makeBed()
  const carts = '/v1/stores/carts/keys/x'
  expect((await as('PUT', carts, { token: secrets.cart, body: 'x' })).status).toBe(201)
  await revoke(node, 'cart')
  await mint(node, {
    name: 'cart',
    hash: hashOf(secrets.cart),
    principal: { type: 'component', grants: [{ store: 'default', access: 'read' }] },
  })
  expect((await as('GET', carts, { token: secrets.cart })).status).toBe(403)
  expect((await as('PUT', carts, { token: secrets.cart, body: 'x' })).status).toBe(403)
  expect((await as('GET', path, { token: secrets.cart })).status).toBe(404)
})

test('a write that is not granted never reaches the log', async () => {
  const { node, as } = await makeBed()
  for (const secret of [secrets.reader, secrets.tenant, secrets.monitor, secrets.nobody]) {
    const answer = await as('PUT', '/v1/stores/carts/keys/x', { token: secret, body: 'x' })
    expect([401, 403]).toContain(answer.status)
  }
  expect(node.executed).toEqual([])
})
