// A short chaos run: `npm run chaos` has the long ones.

import { rm } from 'node:fs/promises'
import { afterEach, expect, it } from 'vitest'
import { Ground } from '../chaos/ground.ts'
import { runChaos } from '../chaos/run.ts'
import { eventually } from './real-cluster.ts'

const quiet = { say: () => {}, begun: () => {} }

it('finds nothing wrong in half a dozen kills, pauses and partitions, and leaves nothing behind', async () => {
  const outcome = await runChaos(
    { nodes: 3, seconds: 12, seed: 3, faults: ['kill', 'pause', 'partition'], rate: 100, clients: 8 },
    quiet,
  )
  expect(outcome.violations).toEqual([])
  expect(outcome.steps.length).toBeGreaterThan(0)
  expect(outcome.events.length).toBeGreaterThan(400)
  expect(outcome.replicas).toHaveLength(3)
  expect(outcome.kept).toBeUndefined()
})

let ground: Ground | undefined
afterEach(async () => {
  await ground?.[Symbol.asyncDispose]()
  if (ground !== undefined) await rm(ground.directory, { recursive: true, force: true })
})

it('has wires that carry everything nodes say to each other: who is cut off sees no leader', async () => {
  ground = await Ground.create({ nodes: 3, seed: 1, hook: undefined })
  const { mesh, ids } = ground
  for (const id of ids) ground.start(id)
  await ground.settled(30)
  for (const from of ids)
    for (const to of ids) if (from !== to) expect(mesh.carried(from, to)).toBeGreaterThan(0)
  expect(mesh.strangers).toBe(0)
  for (const from of ids) for (const to of ids) if (from !== to) mesh.cut(from, to, 'refused')
  const place = ground
  await eventually('all to have no leader', async () => {
    const seen = await Promise.all(ids.map((id) => place.cluster(id)))
    return seen.every((cluster) => cluster !== undefined && cluster.leader === undefined) ? true : undefined
  })
  const sum = () => ids.flatMap((from) => ids.map((to) => mesh.carried(from, to))).reduce((a, b) => a + b)
  const before = sum()
  mesh.heal()
  await ground.settled(30)
  expect(sum()).toBeGreaterThan(before)
})
