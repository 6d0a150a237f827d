// A token revoked through one node: refused by every other from the moment the revocation is answered (safety rule 20).

import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { eventually, RealCluster } from './real-cluster.ts'

let cluster: RealCluster

beforeAll(async () => {
  cluster = await RealCluster.start()
})

afterAll(() => cluster[Symbol.asyncDispose]())

async function mint(id: string, name: string, more: object = { stores: ['default'] }): Promise<string> {
  const answer = await cluster.fetch(id, '/v1/tokens', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name, ...more }),
  })
  expect(answer.status).toBe(201)
  return ((await answer.json()) as { secret: string }).secret
}

/** The status that a node answers to this token. */
async function status(id: string, secret: string, path: string, init: RequestInit = {}): Promise<number> {
  const headers = { authorization: `Bearer ${secret}` }
  const answer = await fetch(`${cluster.url(id)}${path}`, { ...init, headers })
  await answer.arrayBuffer()
  return answer.status
}

const key = '/v1/stores/default/keys/k'

it('is refused by every other node, whichever was asked, for reads and writes alike', async () => {
  for (let round = 0; round < 20; round++) {
    const at = cluster.ids[round % 3] ?? 'n1'
    const others = cluster.ids.filter((id) => id !== at)
    const name = `round-${round}`
    const secret = await mint(at, name)
    // What a node has seen of the token before is no reason to take it later.
    for (const id of others)
      expect(await status(id, secret, key, { method: 'PUT', body: name })).toBeLessThan(300)
    const revoked = await cluster.fetch(at, `/v1/tokens/${name}`, { method: 'DELETE' })
    expect(revoked.status).toBe(200)
    const answers = others.flatMap((id) => [
      status(id, secret, key),
      status(id, secret, '/v1/stores/default/keys'),
      status(id, secret, key, { method: 'PUT', body: 'after' }),
      status(id, secret, key, { method: 'DELETE' }),
      status(id, secret, '/v1/me'),
    ])
    expect(await Promise.all(answers)).toEqual(answers.map(() => 401))
  }
  expect(await (await cluster.fetch('n1', key)).text()).toMatch(/^round-/)
})

it('takes its requests under way with it: nothing it wrote after the revocation stands', async () => {
  const secret = await mint('n1', 'busy')
  const headers = { authorization: `Bearer ${secret}` }
  let revoked = false
  const late: number[] = []
  const writers = cluster.ids.map(async (id) => {
    for (let at = 0; at < 2000; at++) {
      const wasRevoked = revoked
      const answer = await fetch(`${cluster.url(id)}${key}`, { method: 'PUT', body: `${id} ${at}`, headers })
      await answer.arrayBuffer()
      if (wasRevoked) late.push(answer.status)
      if (answer.status === 401) return
      expect(answer.status).toBeLessThan(300)
    }
  })
  await delay(100)
  expect((await cluster.fetch('n2', '/v1/tokens/busy', { method: 'DELETE' })).status).toBe(200)
  revoked = true
  await Promise.all(writers)
  expect(late.every((code) => code === 401)).toBe(true)
})

it('expires everywhere', async () => {
  const secret = await mint('n2', 'brief', { stores: ['default'], ttl: '500ms' })
  expect(await status('n1', secret, key)).toBeLessThan(500)
  for (const id of cluster.ids) {
    await eventually(`${id} to refuse it`, async () =>
      (await status(id, secret, key)) === 401 ? true : undefined,
    )
  }
})

it('of an app goes with the app, and its keys with it', async () => {
  const secret = await mint('n1', 'todo', { app: 'com.example.todo', user: 'ann' })
  const self = '/v1/stores/self/keys/k'
  expect(await status('n2', secret, self, { method: 'PUT', body: '1' })).toBe(201)
  expect(await status('n3', secret, key)).toBe(403)
  expect((await cluster.fetch('n3', '/v1/apps/com.example.todo', { method: 'DELETE' })).status).toBe(200)
  for (const id of cluster.ids) expect(await status(id, secret, self)).toBe(401)
  const again = await mint('n2', 'todo', { app: 'com.example.todo', user: 'ann' })
  expect(await status('n1', again, self)).toBe(404)
})

it('ends its open watches', async () => {
  const secret = await mint('n1', 'watcher')
  const ends = cluster.ids.map(async (id) => {
    const answer = await fetch(`${cluster.url(id)}/v1/stores/default/watch`, {
      headers: { authorization: `Bearer ${secret}` },
    })
    expect(answer.status).toBe(200)
    return { text: answer.text() }
  })
  const open = await Promise.all(ends)
  expect((await cluster.fetch('n2', '/v1/tokens/watcher', { method: 'DELETE' })).status).toBe(200)
  for (const { text } of open) expect(await text).toContain('event: revoked')
})
