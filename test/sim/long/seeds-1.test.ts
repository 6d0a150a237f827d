// Part 1 of the seeds that every commit is held to; two parts, for two workers.

import { expect, it } from 'vitest'
import { expectSound } from './expect-seeds.ts'

it('keeps every promise on sixty seeds, and looks into the corners', { timeout: 240_000 }, async () => {
  const { counts, runs } = await expectSound(1001, 60)
  expect(runs).toBe(60)
  for (const what of [
    'elections',
    'power loss',
    'failed sync',
    'isolate',
    'commands logged twice',
    'unknown outcomes',
  ]) {
    expect(counts.get(what), what).toBeGreaterThan(10)
  }
})
