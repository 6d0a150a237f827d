// Rot on the disk of one node: repaired by itself, or of no effect; never served.

import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openLevel } from '../../src/store/state-open.ts'
import { seeded } from '../store/memory-disk.ts'
import { RealCluster } from './real-cluster.ts'
import { end, Gardener, inWords, rot } from './rot.ts'
import { Village } from './village.ts'

it('is found before anything is served after a clean stop, where it has made a row absent', async () => {
  await using village = await Village.start()
  const [id = 'none', other = 'none'] = village.running.map((node) => node.id)
  for (let key = 0; key < 20; key++) await village.write(id, `key-${key}`, String(key))
  expect(await village.read(id, 'key-7')).toBe('7')
  await village.stop(id)
  await village.ready(other)

  const level = await openLevel(join(village.data(id), 'state-0'))
  let removed = 0
  for await (const key of level.keys()) {
    if (!Buffer.from(key).toString('latin1').endsWith('key-7')) continue
    await level.del(key)
    removed++
  }
  await level.close()
  expect(removed).toBe(1)

  await village.start(id)
  await village.ready(id)
  expect(await village.read(id, 'key-7')).toBe('7')
  expect(village.said(id, 'rows are absent, stale or altered')).toHaveLength(1)
  expect(village.failures).toEqual([])
})

it('is repaired or without effect wherever a bit is flipped, and loses no acknowledged write', async () => {
  const seed = Date.now() % 1_000_000
  process.stdout.write(`seed ${seed}\n`)
  const random = seeded(seed)
  await using cluster = await RealCluster.start({ seconds: 60 })
  const client = cluster.client()
  const gardener = await Gardener.start(await client.open('default'))
  await end(cluster, 'n3', 'killed')
  let stopped: 'cleanly' | 'killed' = 'killed'
  for (let trial = 0; trial < 2; trial++) {
    const outcome = await rot(cluster, { id: 'n3', gardener, random, stopped })
    process.stdout.write(`${inWords(outcome)}\n`)
    expect(outcome.wrong, inWords(outcome)).toEqual([])
    stopped = outcome.next
  }
  await gardener.stop()
  await client.close()
}, 180_000)
