// What the scenarios share: clusters of all systems side by side, turns, and one load over HTTP as a sample.

import type { Bench } from '../bench.ts'
import { fill } from '../loads/fill.ts'
import { type Mix, prepare } from '../loads/keys.ts'
import { Cluster } from '../systems/cluster.ts'
import { exchange, isDone } from '../systems/http.ts'

/** The set of keys that loads draw from unless they say otherwise, and the size of their values. */
export const usual = { keys: 10_000, valueBytes: 256 } as const

/** Where a load goes. */
export type Place = 'the leader' | 'a follower' | 'all nodes'

/** One cluster of each system, all running, for as long as `use` takes. */
export async function withClusters(
  bench: Bench,
  nodes: number,
  use: (clusters: readonly Cluster[]) => Promise<void>,
): Promise<void> {
  await using all = new AsyncDisposableStack()
  const clusters: Cluster[] = []
  for (const engine of bench.systems) clusters.push(all.use(await Cluster.start(engine, nodes)))
  await use(clusters)
}

/** Each cluster in its turn, so many rounds; who begins changes from round to round. */
export async function takeTurns(
  clusters: readonly Cluster[],
  rounds: number,
  turn: (cluster: Cluster, round: number) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (const cluster of inTurn(clusters, round)) await turn(cluster, round)
  }
}

/** A B, then B A: what one leaves behind (a warm disk, a busy one) is the other's as often. */
export function inTurn<T>(all: readonly T[], round: number): readonly T[] {
  return round % 2 === 0 ? all : all.toReversed()
}

/** Fills, shows that a put and a get succeed on every node, and runs until what is compiled at run time has been. */
export async function makeReady(bench: Bench, clusters: readonly Cluster[]): Promise<void> {
  for (const cluster of clusters) {
    await fill(cluster, { from: 0, to: usual.keys, valueBytes: usual.valueBytes })
    for (const url of cluster.urls) {
      const requests = [...prepare(cluster.layout, { reads: 0.5, keys: 4, valueBytes: 16 }).slice(0, 12)]
      for (const request of requests) {
        const answer = await exchange(url, request)
        if (!isDone(answer)) {
          throw new Error(
            `${cluster.engine.name} answered ${answer.status} to ${request.method} ${request.path}: ${answer.body}`,
          )
        }
      }
    }
    const exchanges = prepare(cluster.layout, { reads: 0.5, ...usual })
    await bench.tool.run({ urls: cluster.urls, exchanges, connections: 63, seconds: bench.warmUpSeconds })
  }
}

async function urlsAt(cluster: Cluster, place: Place): Promise<readonly string[]> {
  switch (place) {
    case 'the leader':
      return [cluster.url(await cluster.leader())]
    case 'a follower':
      return [cluster.url(await cluster.follower())]
    case 'all nodes':
      return cluster.urls
  }
}

export type HttpScenario = {
  readonly group: string
  readonly scenario: string
  readonly place: Place
  readonly connections: number
  readonly mix: Mix
}

/** Runs one load and records it, with the processor time that all nodes took for it. */
export async function measureHttp(bench: Bench, cluster: Cluster, what: HttpScenario): Promise<void> {
  const { group, scenario, place, connections, mix } = what
  const urls = await urlsAt(cluster, place)
  const exchanges = prepare(cluster.layout, mix)
  const before = await cluster.cpuSeconds()
  const load = await bench.tool.run({ urls, exchanges, connections, seconds: bench.seconds })
  const cpu = (await cluster.cpuSeconds()) - before
  if (place === 'the leader' && cluster.url(await cluster.leader()) !== urls[0]) {
    bench.note(
      `${cluster.engine.name} changed its leader during "${scenario}": figures of that round are not at the leader.`,
    )
  }
  const { requests, seconds, p50, p99, p999, failed } = load
  const perSecond = (requests - failed) / seconds
  bench.record({
    group,
    scenario,
    system: cluster.engine.name,
    figures: { perSecond, p50, p99, p999, cpu: (cpu / requests) * 10_000, failed },
  })
}
