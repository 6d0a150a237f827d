// All nodes at once: killed in the same instant under load, then started again.

import { expect, it } from 'vitest'
import { lost, Writers } from './load.ts'
import { eventually, RealCluster } from './real-cluster.ts'

it('has every acknowledged write after all nodes were killed in the same instant', async () => {
  await using cluster = await RealCluster.start()
  const clients = cluster.urls.map((url) => cluster.client({ endpoints: [url], timeout: 500 }))
  const writers = await Writers.start(clients, 64)
  await eventually('a few thousand writes', () => (writers.acknowledged.length > 3000 ? true : undefined))
  await cluster.kill(...cluster.ids)
  await writers.stop()
  for (const id of cluster.ids) cluster.spawn(id)
  await cluster.ready()
  // Linearizable, so that everything committed is applied here before the local state is looked at.
  expect((await cluster.fetch('n1', '/v1/stores/default/keys?limit=1')).status).toBe(200)
  expect(lost(writers.acknowledged, await cluster.dump('n1'))).toEqual([])
  for (const client of clients) await client.close()
})
