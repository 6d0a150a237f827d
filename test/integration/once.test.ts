// The SDK while leaders are killed: as long as there is time, no write of it ends unknown, and none is applied twice.

import { expect, it } from 'vitest'
import { type Store, TrivetError } from '../../src/sdk/index.ts'
import { eventually, RealCluster } from './real-cluster.ts'

/** Raises the counter by one: only if nobody came between, else again. An answer of 412 must mean that nothing was raised. */
async function increment(store: Store, key: string): Promise<void> {
  for (;;) {
    const entry = await store.getEntry(key)
    const count = Number(new TextDecoder().decode(entry?.value)) + 1
    try {
      const condition = entry === undefined ? { ifAbsent: true } : { ifRevision: entry.revision }
      await store.set(key, String(count), condition)
      return
    } catch (error) {
      if (!(error instanceof TrivetError && error.code === 'condition-failed')) throw error
    }
  }
}

it('knows what became of every write while the leader is killed eight times, and applies none twice', async () => {
  await using cluster = await RealCluster.start()
  const clients = cluster.urls.map((url) =>
    cluster.client({
      endpoints: [url, ...cluster.urls.filter((other) => other !== url)],
      timeout: 15_000,
    }),
  )
  const counters = ['north', 'east', 'south', 'west']
  const raised = new Map(counters.map((key) => [key, 0]))
  const failures: unknown[] = []
  const stopping = { now: false }
  const workers = Array.from({ length: 24 }, async (_, at) => {
    const store = await clients[at % clients.length]?.open('default')
    const key = counters[at % counters.length]
    if (store === undefined || key === undefined) throw new Error('a worker without a store')
    while (!stopping.now) {
      try {
        await increment(store, key)
        raised.set(key, (raised.get(key) ?? 0) + 1)
      } catch (error) {
        failures.push(error)
        return
      }
    }
  })
  const total = (): number => [...raised.values()].reduce((sum, count) => sum + count, 0)
  for (let kill = 0; kill < 8; kill++) {
    const before = total()
    await eventually('the counters to rise', () => (total() > before + 50 ? true : undefined))
    const leader = await cluster.leader()
    cluster.signal(leader, 'SIGKILL')
    await cluster.ended(leader)
    cluster.spawn(leader)
    await cluster.ready([leader])
  }
  stopping.now = true
  await Promise.all(workers)
  expect(failures).toEqual([])
  const store = await clients[0]?.open('default')
  for (const [key, count] of raised) expect(await store?.getText(key), key).toBe(String(count))
  process.stdout.write(`${total()} increments by compare-and-set across eight kills\n`)
  for (const client of clients) await client.close()
})
