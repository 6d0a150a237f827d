// Reads everywhere, and what a node without a quorum says.

import { afterAll, beforeAll, expect, it } from 'vitest'
import { eventually, RealCluster } from './real-cluster.ts'

let cluster: RealCluster

beforeAll(async () => {
  cluster = await RealCluster.start()
})

afterAll(() => cluster[Symbol.asyncDispose]())

it('reads on every node what was written through any other, at once', async () => {
  for (let round = 0; round < 30; round++) {
    for (const writer of cluster.ids) {
      const value = `${writer}-${round}`
      const put = await cluster.fetch(writer, '/v1/stores/default/keys/shared', {
        method: 'PUT',
        body: value,
      })
      expect([200, 201]).toContain(put.status)
      const answers = await Promise.all(
        cluster.ids.map(async (id) => (await cluster.fetch(id, '/v1/stores/default/keys/shared')).text()),
      )
      expect(answers).toEqual([value, value, value])
    }
  }
})

it('without a quorum refuses writes as no-leader, answers stale reads, and goes on once a second node is back', async () => {
  const put = (id: string, value: string) =>
    cluster.fetch(id, '/v1/stores/default/keys/k', {
      method: 'PUT',
      body: value,
      headers: { 'trivet-timeout': '2s' },
    })
  expect((await put('n1', 'before')).status).toBe(201)
  const survivor = await cluster.leader()
  const others = cluster.ids.filter((id) => id !== survivor)
  await cluster.kill(...others)

  const caught = await put(survivor, 'caught')
  expect(caught.status).toBe(504)
  expect(caught.headers.get('trivet-error')).toBe('outcome-unknown')
  await eventually('the survivor to step down', async () =>
    (await cluster.cluster(survivor)).leader === undefined ? true : undefined,
  )
  const began = performance.now()
  const refused = await put(survivor, 'refused')
  expect(refused.status).toBe(503)
  expect(await refused.json()).toMatchObject({ code: 'no-leader', retryable: true })
  expect(refused.headers.get('retry-after')).not.toBeNull()
  expect(performance.now() - began).toBeGreaterThan(1900)
  expect(await cluster.status(`${cluster.url(survivor)}/readyz`)).toBe(503)
  expect(await cluster.status(`${cluster.url(survivor)}/livez`)).toBe(200)

  const linearizable = await cluster.fetch(survivor, '/v1/stores/default/keys/k', {
    headers: { 'trivet-timeout': '300ms' },
  })
  expect(linearizable.status).toBe(503)
  const stale = await cluster.fetch(survivor, '/v1/stores/default/keys/k?consistency=stale')
  expect(stale.status).toBe(200)
  expect(stale.headers.get('trivet-stale')).toBe('true')
  expect(await stale.text()).toBe('before')

  const [second] = others
  if (second === undefined) throw new Error('no second node')
  cluster.spawn(second)
  await cluster.ready([survivor, second])
  expect((await put(second, 'after')).status).toBe(200)
  expect(await (await cluster.fetch(survivor, '/v1/stores/default/keys/k')).text()).toBe('after')
})
