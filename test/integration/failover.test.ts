// The leader is killed again and again under load: nothing acknowledged is lost, writes go on soon, replicas stay equal.

import { expect, it } from 'vitest'
import { lost, median, Writers } from './load.ts'
import { eventually, RealCluster } from './real-cluster.ts'

it('loses no acknowledged write when the leader is killed ten times under 64 writers', async () => {
  await using cluster = await RealCluster.start()
  // Each client begins at another node, so that every node takes writes.
  const clients = cluster.urls.map((url) =>
    cluster.client({ endpoints: [url, ...cluster.urls.filter((other) => other !== url)] }),
  )
  const writers = await Writers.start(clients, 64)
  const gaps: number[] = []
  for (let kill = 0; kill < 10; kill++) {
    const before = writers.acknowledged.length
    await eventually('writes to go on', () => (writers.acknowledged.length > before + 200 ? true : undefined))
    const leader = await cluster.leader()
    const moment = performance.now()
    cluster.signal(leader, 'SIGKILL')
    gaps.push(await writers.gapAfter(moment))
    await cluster.ended(leader)
    cluster.spawn(leader)
    await cluster.ready([leader])
  }
  await writers.stop()
  process.stdout.write(
    `gaps after ten kills, ms: ${gaps.map((gap) => gap.toFixed(0)).join(' ')}; median ${median(gaps).toFixed(0)}; ` +
      `${writers.acknowledged.length} acknowledged; failures ${JSON.stringify([...writers.failures])}\n`,
  )

  await eventually('all nodes to have applied the same', async () => {
    const { members } = await cluster.cluster(await cluster.leader())
    return new Set(members.map((member) => member.lastApplied)).size === 1 ? true : undefined
  })
  const dumps = await Promise.all(cluster.ids.map((id) => cluster.dump(id)))
  const [first] = dumps
  if (first === undefined) throw new Error('no dump')
  expect(lost(writers.acknowledged, first)).toEqual([])
  for (const dump of dumps) expect(dump).toEqual(first)
  expect(median(gaps)).toBeLessThan(500)
  for (const client of clients) await client.close()
})
