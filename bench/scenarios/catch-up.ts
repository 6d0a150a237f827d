// How fast a node that was away gets a snapshot of everything: user's bytes by the time from its start until it serves.
//
// What users feel meanwhile is another question: `npm run bench:catch-up`.

import { setTimeout as delay } from 'node:timers/promises'
import type { Bench, Group } from '../bench.ts'
import { fill } from '../loads/fill.ts'
import type { Cluster } from '../systems/cluster.ts'
import { inWords } from './size.ts'
import { withClusters } from './turns.ts'

/** Trivet keeps the log for a member that was heard of within the last minute. */
const absenceMs = 65_000
const valueBytes = 256
const keys = 600_000

async function measure(bench: Bench, cluster: Cluster): Promise<void> {
  const away = await cluster.follower()
  const ids = cluster.ids.filter((id) => id !== away)
  cluster.signal(away, 'SIGTERM')
  await cluster.ended(away)
  const left = performance.now()
  const together = cluster.layout.togetherBeyondLog
  // The rest is written once the member counts as gone, because logs are cut while they grow.
  await fill(cluster, { from: 0, to: keys / 2, valueBytes, together, ids })
  await delay(Math.max(0, absenceMs - (performance.now() - left)))
  await fill(cluster, { from: keys / 2, to: keys, valueBytes, together, ids })
  const begun = performance.now()
  cluster.spawn(away)
  await cluster.ready([away], 600)
  const seconds = (performance.now() - begun) / 1000
  if ((await cluster.layout.snapshotsTaken(cluster.url(away))) === 0) {
    bench.note(
      `${cluster.engine.name} brought ${away} up to date without a snapshot: its MB/s are those of a log.`,
    )
  }
  const megabytesPerSecond = (keys * valueBytes) / 1e6 / seconds
  const scenario = `${inWords(keys)} of 256 bytes, from the start of the process until ready`
  bench.record({
    group: 'catch-up',
    scenario,
    system: cluster.engine.name,
    figures: { seconds, megabytesPerSecond },
  })
}

export const catchUp: Group = {
  name: 'catch-up',
  title: 'A node that was away comes back through a snapshot',
  run: (bench) =>
    withClusters(bench, 3, async (clusters) => {
      for (const cluster of clusters) await measure(bench, cluster)
    }),
}
