// Rot on the disk of one node: repaired by itself, or of no effect; never served.

import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { recordReading } from '../../src/node/state-proof.ts'
import { realDisk } from '../../src/store/real-disk.ts'
import { openLevel } from '../../src/store/state-open.ts'
import { seeded } from '../store/memory-disk.ts'
import { eventually, RealCluster } from './real-cluster.ts'
import { end, Gardener, inWords, rot } from './rot.ts'
import { Village } from './village.ts'

/** A village of which one member, stopped cleanly, has rows in a table. */
async function withTables(): Promise<{ village: Village; id: string; state: string }> {
  const village = await Village.start()
  const [id = 'none', other = 'none'] = village.running.map((node) => node.id)
  for (let key = 0; key < 20; key++) await village.write(id, `key-${key}`, String(key))
  expect(await village.read(id, 'key-7')).toBe('7')
  // Opening brings what is in LevelDB's log into a table.
  await village.stop(id)
  await village.start(id)
  await village.ready(id)
  await village.stop(id)
  await village.ready(other)
  return { village, id, state: join(village.data(id), 'state-0') }
}

it('is found before anything is served after a clean stop, wherever in a table it is', async () => {
  const { village, id, state } = await withTables()
  await using _ = village
  const [table = ''] = (await readdir(state)).filter((name) => name.endsWith('.ldb'))
  const bytes = await readFile(join(state, table))
  bytes[40] = (bytes[40] ?? 0) ^ 1
  await writeFile(join(state, table), bytes)

  await village.start(id)
  await village.ready(id)
  for (let key = 0; key < 20; key++) expect(await village.read(id, `key-${key}`)).toBe(String(key))
  expect(village.said(id, 'the state is damaged')).toMatchObject([
    { why: expect.stringContaining(`${table}: the block at 0 fails its checksum`) },
  ])
  expect(village.failures).toEqual([])
})

it('is found by the next reading of all rows where LevelDB has taken it over into sound files', async () => {
  const { village, id, state } = await withTables()
  await using _ = village
  const level = await openLevel(state)
  let removed = 0
  for await (const key of level.keys()) {
    if (!Buffer.from(key).toString('latin1').endsWith('key-7')) continue
    await level.del(key)
    removed++
  }
  await level.close()
  expect(removed).toBe(1)
  // More than a day ago, though the node has started since.
  await recordReading(realDisk, village.data(id), { directory: 'state-0', readAt: Date.now() - 100_000_000 })

  await village.start(id)
  await village.ready(id)
  expect(village.said(id, 'the files of the state are what LevelDB wrote')).not.toHaveLength(0)
  village.pass(400_000)
  await eventually('the row to be there again', async () =>
    (await village.read(id, 'key-7').catch(() => undefined)) === '7' ? true : undefined,
  )
  expect(village.said(id, 'rows are absent, stale or altered')).toHaveLength(1)
  expect(village.failures).toEqual([])
}, 60_000)

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
