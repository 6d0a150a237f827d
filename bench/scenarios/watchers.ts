// What it costs others that many watch: PUT while streams stand open on keys that nobody writes.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Group } from '../bench.ts'
import type { WatchersJob, WatchersWord } from '../loads/watchers-worker.ts'
import type { Cluster } from '../systems/cluster.ts'
import { endsWithTheRun } from '../systems/processes.ts'
import { makeReady, measureHttp, takeTurns, usual, withClusters } from './turns.ts'

const worker = join(import.meta.dirname, '../loads/watchers-worker.ts')

/** Open streams, until disposed of. `failure` is why they are not all there any more. */
type Standing = AsyncDisposable & { readonly failure: () => string | undefined }

async function stand(cluster: Cluster, count: number): Promise<Standing> {
  const child = endsWithTheRun(fork(worker))
  const ended = once(child, 'exit')
  let failure: string | undefined
  const opened = new Promise<void>((resolve, reject) => {
    child.on('message', (word: WatchersWord) => {
      if (word.type === 'open') resolve()
      else {
        failure ??= word.why
        reject(new Error(`${cluster.engine.name} did not let ${count} watch: ${word.why}`))
      }
    })
    child.once('exit', () => reject(new Error('The process of the watchers ended.')))
  })
  const job: WatchersJob = {
    urls: cluster.urls,
    exchanges: Array.from({ length: count }, (_, at) => {
      const { body, ...rest } = cluster.layout.watch(`watched/${at}`)
      return body === undefined ? rest : { ...rest, body: body.toString() }
    }),
  }
  const leave = async () => {
    if (child.connected) child.disconnect()
    await ended
  }
  child.send(job)
  try {
    await opened
  } catch (error) {
    await leave()
    throw error
  }
  return { failure: () => failure, [Symbol.asyncDispose]: leave }
}

export const watchers: Group = {
  name: 'watchers',
  title:
    'PUT of 256 bytes, 64 connections, at the leader, while others watch other keys, spread over all nodes',
  run: (bench) =>
    withClusters(bench, 3, async (clusters) => {
      await makeReady(bench, clusters)
      for (const count of [0, 10, 1000, 10_000]) {
        const scenario = `${count.toLocaleString('en')} watchers`
        await takeTurns(clusters, bench.rounds, async (cluster) => {
          await using standing = await stand(cluster, count)
          await measureHttp(bench, cluster, {
            group: 'watchers',
            scenario,
            place: 'the leader',
            connections: 64,
            mix: { reads: 0, ...usual },
          })
          for (const megabytes of await cluster.residentMegabytes()) {
            bench.record({ group: 'watchers', scenario, system: cluster.engine.name, figures: { megabytes } })
          }
          const failure = standing.failure()
          if (failure !== undefined) bench.note(`${cluster.engine.name}, ${scenario}: ${failure}.`)
        })
      }
    }),
}
