// A rolling restart under load: nobody notices.

import { expect, it } from 'vitest'
import { TrivetError } from '../../src/errors.ts'
import { eventually, RealCluster } from './real-cluster.ts'

it('fails no request through the SDK during a rolling restart, and keeps a conditional counter exact', async () => {
  await using cluster = await RealCluster.start()
  const stop = new AbortController()
  const failures: string[] = []
  let increments = 0
  let reads = 0
  let writes = 0

  const watched = async (what: string, run: () => Promise<void>): Promise<void> => {
    while (!stop.signal.aborted) {
      try {
        await run()
      } catch (error) {
        failures.push(
          `${what}: ${error instanceof TrivetError ? `${error.code}: ${error.detail}` : String(error)}`,
        )
      }
    }
  }

  const clients = Array.from({ length: 4 }, () => cluster.client())
  const running: Promise<void>[] = []
  for (const [at, client] of clients.entries()) {
    const store = await client.open('default')
    running.push(
      watched('count', async () => {
        const entry = await store.getEntry('counter')
        const next = String(Number(entry === undefined ? 0 : new TextDecoder().decode(entry.value)) + 1)
        try {
          await store.set(
            'counter',
            next,
            entry === undefined ? { ifAbsent: true } : { ifRevision: entry.revision },
          )
          increments++
        } catch (error) {
          if (!(error instanceof TrivetError && error.code === 'condition-failed')) throw error
        }
      }),
    )
    for (let writer = 0; writer < 4; writer++) {
      running.push(
        watched('set', async () => {
          await store.set(`k${at}-${writer}`, String(writes))
          writes++
        }),
      )
    }
    running.push(
      watched('get', async () => {
        await store.get(`k${at}-0`)
        reads++
      }),
    )
  }

  for (const id of cluster.ids) {
    const before = increments
    await eventually('the counter to move', () => (increments > before + 20 ? true : undefined))
    cluster.signal(id, 'SIGTERM')
    await cluster.ended(id)
    expect(cluster.exitCode(id), cluster.output(id)).toBe(0)
    cluster.spawn(id)
    await cluster.ready([id])
  }
  stop.abort()
  await Promise.all(running)
  process.stdout.write(`rolling restart: ${increments} increments, ${writes} sets, ${reads} gets\n`)
  expect(failures).toEqual([])
  const counter = await cluster.fetch('n1', '/v1/stores/default/keys/counter')
  expect(Number(await counter.text())).toBe(increments)
  for (const client of clients) await client.close()
})
