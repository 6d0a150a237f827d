// The SDK while leaders are killed and answers get lost: as long as there is time, no write of it ends unknown, and none is applied twice.

import { expect, it } from 'vitest'
import { connect, type Fetch, type Store, TrivetError } from '../../src/sdk/index.ts'
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

/** Loses every twentieth answer after the node has given it, as a connection does that breaks on the way back. */
function losing(): Fetch {
  let count = 0
  return async (url, init) => {
    const answer = await fetch(url, init)
    count += 1
    if (count % 20 !== 0) return answer
    await answer.arrayBuffer()
    throw new TypeError('the answer was lost')
  }
}

const knows =
  'knows what became of every write while the leader is killed three times, and applies none twice'
it(knows, { timeout: 180_000 }, async () => {
  await using cluster = await RealCluster.start()
  const clients = cluster.urls.map((url) =>
    connect({
      endpoints: [url, ...cluster.urls.filter((other) => other !== url)],
      token: cluster.token,
      timeout: '15s',
      fetch: losing(),
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
  for (let kill = 0; kill < 3; kill++) {
    const before = total()
    await eventually('the counters to rise', () => (total() > before + 50 ? true : undefined))
    await cluster.crashLeader()
  }
  stopping.now = true
  await Promise.all(workers)
  expect(failures).toEqual([])
  const store = await clients[0]?.open('default')
  for (const [key, count] of raised) expect(await store?.getText(key), key).toBe(String(count))
  process.stdout.write(`${total()} increments by compare-and-set across three kills\n`)
  for (const client of clients) await client.close()
})
