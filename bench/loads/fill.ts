// Puts so many keys into a cluster, as fast as it goes: nothing of this is measured.

import { randomBytes } from 'node:crypto'
import { Agent } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Cluster } from '../systems/cluster.ts'
import type { Layout } from '../systems/engine.ts'
import { exchange } from '../systems/http.ts'
import { keyName } from './keys.ts'

export type Filling = {
  readonly from: number
  readonly to: number
  readonly valueBytes: number
  /** How many keys go into one request, at most 100. */
  readonly together?: number
  /** The nodes to write to; by default all. */
  readonly ids?: readonly string[]
}

/** A busy system may refuse for a while, or not know an outcome; the same puts again do no harm. */
const patienceMs = 180_000

/** What may be under way at a time: more would only wait, and be given up while it does. */
const most = { requests: 64, keys: 1600, bytes: 4 * 2 ** 20 } as const

type Pairs = Parameters<Layout['putMany']>[0]

export async function fill(cluster: Cluster, filling: Filling): Promise<void> {
  const { from, to, valueBytes, together = 100, ids = cluster.ids } = filling
  const requests = Math.floor(
    Math.min(most.requests, most.keys / together, most.bytes / (together * valueBytes)),
  )
  const atOnce = Math.max(1, requests)
  const agent = new Agent({ keepAlive: true, maxSockets: atOnce })
  let next = from
  const one = async (at: number): Promise<void> => {
    const url = cluster.url(ids[at % ids.length] ?? '')
    while (next < to) {
      const first = next
      next = Math.min(to, first + together)
      const pairs = Array.from(
        { length: next - first },
        (_, number) => [keyName(first + number), randomBytes(valueBytes)] as const,
      )
      await putAll(cluster, url, agent, pairs)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, (_, at) => one(at)))
  agent.destroy()
}

async function putAll(cluster: Cluster, url: string, agent: Agent, pairs: Pairs): Promise<void> {
  const until = performance.now() + patienceMs
  for (;;) {
    const answer = await exchange(url, cluster.layout.putMany(pairs), { timeoutMs: 60_000, agent })
    if (answer.status === 200 && cluster.layout.tookAll(answer.body)) return
    if (performance.now() > until) {
      const what = `${cluster.engine.name} would not take ${pairs.length} keys`
      throw new Error(`${what}: ${answer.status} ${answer.body.slice(0, 500)}`)
    }
    await delay(100)
  }
}
