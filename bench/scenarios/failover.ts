// How long nobody's write succeeds: after the leader was killed, and while it hangs.

import { Agent } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Bench, Group } from '../bench.ts'
import { keyName } from '../loads/keys.ts'
import type { Cluster } from '../systems/cluster.ts'
import { exchange, isDone } from '../systems/http.ts'
import { makeReady, takeTurns, withClusters } from './turns.ts'

/** How often a write is sent, each to the next of the nodes, whatever became of those before. */
const everyMs = 10
/** When a write is given up. Others are on their way meanwhile, so this adds nothing to the time that is measured. */
const patienceMs = 1000
const longestMs = 60_000

/** Milliseconds from the strike until one of these nodes acknowledges a write that was sent after it. */
async function untilNextWrite(cluster: Cluster, ids: readonly string[], strike: () => void): Promise<number> {
  const agent = new Agent({ keepAlive: true })
  const request = cluster.layout.put(keyName(0), Buffer.alloc(256, 1))
  const { promise, resolve } = Promise.withResolvers<number>()
  strike()
  const struck = performance.now()
  const one = async (number: number): Promise<void> => {
    const url = cluster.url(ids[number % ids.length] ?? '')
    const answer = await exchange(url, request, { timeoutMs: patienceMs, agent })
    if (isDone(answer)) resolve(performance.now() - struck)
  }
  // Writes that fail are what is measured: the next one is under way already.
  const send = (number: number) => void one(number).catch(() => undefined)
  let sent = 0
  send(sent++)
  const timer = setInterval(() => send(sent++), everyMs)
  const took = await Promise.race([promise, delay(longestMs, undefined, { ref: false })])
  clearInterval(timer)
  agent.destroy()
  if (took !== undefined) return took
  throw new Error(`${cluster.engine.name} acknowledged no write for ${longestMs / 1000} s.`)
}

/** All serve, know a leader, and each has acknowledged a write. */
async function whole(cluster: Cluster): Promise<void> {
  await cluster.ready()
  await cluster.leader()
  for (const url of cluster.urls) {
    const answer = await exchange(url, cluster.layout.put(keyName(1), Buffer.alloc(256, 2)), {
      timeoutMs: 30_000,
    })
    if (!isDone(answer)) throw new Error(`${cluster.engine.name} answered ${answer.status}: ${answer.body}`)
  }
}

async function strikeLeader(bench: Bench, cluster: Cluster, by: 'SIGKILL' | 'SIGSTOP'): Promise<void> {
  await whole(cluster)
  const leader = await cluster.leader()
  const others = cluster.ids.filter((id) => id !== leader)
  const milliseconds = await untilNextWrite(cluster, others, () => cluster.signal(leader, by))
  if (by === 'SIGSTOP') cluster.signal(leader, 'SIGCONT')
  else {
    await cluster.ended(leader)
    cluster.spawn(leader)
  }
  const scenario = by === 'SIGKILL' ? 'the leader killed (SIGKILL)' : 'the leader hung (SIGSTOP)'
  bench.record({ group: 'failover', scenario, system: cluster.engine.name, figures: { milliseconds } })
}

export const failover: Group = {
  name: 'failover',
  title: 'From the loss of the leader to the next acknowledged write',
  run: (bench) =>
    withClusters(bench, 3, async (clusters) => {
      await makeReady(bench, clusters)
      const [kills, hangs] = bench.quick ? [3, 0] : [20, 5]
      await takeTurns(clusters, kills, (cluster) => strikeLeader(bench, cluster, 'SIGKILL'))
      await takeTurns(clusters, hangs, (cluster) => strikeLeader(bench, cluster, 'SIGSTOP'))
      for (const cluster of clusters) await whole(cluster)
    }),
}
