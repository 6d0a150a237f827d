// The simulator itself: some seeds keep every promise, and a seed is a run, to the last event.

import { describe, expect, it } from 'vitest'
import { failedSeeds, runSeed, seedsFrom } from './seeds.ts'

describe('the simulated cluster', () => {
  it.each([...failedSeeds(), ...seedsFrom(1, 20)])('keeps every promise (seed %i)', async (seed) => {
    const report = await runSeed(seed)
    expect(
      report.violation,
      `${report.lastLines.join('\n')}\nnpm run sim -- --seed ${seed} --trace`,
    ).toBeUndefined()
  })

  it.each([3, 14, 23])('does the same again for the same seed (seed %i)', async (seed) => {
    const [first, second] = [await runSeed(seed), await runSeed(seed)]
    expect(first.hash).toBe(second.hash)
    expect(first.events).toBe(second.events)
  })

  it('does something else for another seed', async () => {
    const hashes = new Set<string>()
    for (const seed of seedsFrom(1, 5)) hashes.add((await runSeed(seed)).hash)
    expect(hashes.size).toBe(5)
  })
})
