// Loads through packaged clients: the SDK of Trivet, and the npm package etcd3 for etcd.

import { join } from 'node:path'
import type { Bench, Group } from '../bench.ts'
import type { ClientFigures, ClientJob } from '../loads/client-worker.ts'
import type { Cluster } from '../systems/cluster.ts'
import { output } from '../systems/processes.ts'
import { makeReady, takeTurns, usual, withClusters } from './turns.ts'

const worker = join(import.meta.dirname, '../loads/client-worker.ts')

type Load = Pick<ClientJob, 'operation' | 'concurrency' | 'seconds'>

async function run(cluster: Cluster, load: Load): Promise<ClientFigures> {
  const job: ClientJob = { target: cluster.layout.client(cluster.urls), ...load, ...usual }
  return JSON.parse(await output({ command: process.execPath, args: [worker, JSON.stringify(job)] }))
}

async function measure(
  bench: Bench,
  cluster: Cluster,
  operation: ClientJob['operation'],
  concurrency: number,
): Promise<void> {
  const before = await cluster.cpuSeconds()
  const figures = await run(cluster, { operation, concurrency, seconds: bench.seconds })
  const cpu = (await cluster.cpuSeconds()) - before
  const { operations, all, seconds, p50, p99, p999, failed, cpuSeconds } = figures
  bench.record({
    group: 'clients',
    scenario: `${operation}, ${concurrency} at a time`,
    system: cluster.engine.name,
    figures: {
      perSecond: operations / seconds,
      p50,
      p99,
      p999,
      cpu: (cpu / all) * 10_000,
      clientCpu: (cpuSeconds / operations) * 10_000,
      failed,
    },
  })
}

export const clients: Group = {
  name: 'clients',
  title: 'Through clients: the SDK of Trivet, etcd3 for etcd; 256 bytes, one process of the client',
  run: (bench) =>
    withClusters(bench, 3, async (clusters) => {
      await makeReady(bench, clusters)
      for (const operation of ['set', 'get'] as const) {
        for (const cluster of clusters) {
          await run(cluster, { operation, concurrency: 256, seconds: bench.warmUpSeconds })
        }
        for (const concurrency of bench.quick ? [256] : [1, 64, 256]) {
          await takeTurns(clusters, bench.rounds, (cluster) =>
            measure(bench, cluster, operation, concurrency),
          )
        }
      }
    }),
}
