// How cost grows with what is stored: throughput, memory, and how long a node takes to start.

import { setTimeout as delay } from 'node:timers/promises'
import type { Bench, Group } from '../bench.ts'
import { fill } from '../loads/fill.ts'
import type { Cluster } from '../systems/cluster.ts'
import { makeReady, measureHttp, takeTurns, usual, withClusters } from './turns.ts'

const sizes = [10_000, 100_000, 1_000_000] as const

/** How long a cluster is left alone before its memory is read: collectors of garbage give memory back by the clock. */
const restMs = 10_000

export function inWords(keys: number): string {
  return `${keys.toLocaleString('en')} keys`
}

async function measureMemory(bench: Bench, clusters: readonly Cluster[], scenario: string): Promise<void> {
  await delay(restMs)
  for (const cluster of clusters) {
    for (const megabytes of await cluster.residentMegabytes()) {
      bench.record({ group: 'size', scenario, system: cluster.engine.name, figures: { megabytes } })
    }
  }
}

async function measureRestart(bench: Bench, cluster: Cluster, keys: number): Promise<void> {
  const id = await cluster.follower()
  cluster.signal(id, 'SIGTERM')
  await cluster.ended(id)
  const begun = performance.now()
  cluster.spawn(id)
  await cluster.ready([id])
  const seconds = (performance.now() - begun) / 1000
  const scenario = `restart of a follower with ${inWords(keys)} until ready`
  bench.record({ group: 'size', scenario, system: cluster.engine.name, figures: { seconds } })
}

export const size: Group = {
  name: 'size',
  title: 'With 10,000, 100,000 and 1,000,000 keys of 256 bytes',
  run: (bench) =>
    withClusters(bench, 3, async (clusters) => {
      await measureMemory(bench, clusters, 'resident memory, idle, just started')
      await makeReady(bench, clusters)
      let from: number = usual.keys
      for (const keys of bench.quick ? sizes.slice(0, 2) : sizes) {
        for (const cluster of clusters) await fill(cluster, { from, to: keys, valueBytes: usual.valueBytes })
        from = keys
        const what = {
          group: 'size',
          scenario: `PUT, 64 connections, ${inWords(keys)}`,
          place: 'the leader',
          connections: 64,
          mix: { reads: 0, keys, valueBytes: usual.valueBytes },
        } as const
        await takeTurns(clusters, bench.rounds, (cluster) => measureHttp(bench, cluster, what))
      }
      await measureMemory(bench, clusters, `resident memory, ${inWords(from)}, after the PUTs`)
      await takeTurns(clusters, Math.max(3, bench.rounds), (cluster) => measureRestart(bench, cluster, from))
    }),
}
