// The simulator itself: some seeds keep every promise, and a seed is a run, to the last event.

import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Report } from './run.ts'
import { failedSeeds, runSeed, seedsFrom } from './seeds.ts'
import { edited } from './variant-run.ts'
import { variants } from './variants.ts'

describe('the simulated cluster', () => {
  const reports = new Map<number, Report>()

  /** What its first run came to. */
  async function reportOf(seed: number): Promise<Report> {
    const report = reports.get(seed) ?? (await runSeed(seed))
    reports.set(seed, report)
    return report
  }

  it.each([...failedSeeds(), ...seedsFrom(1, 8)])('keeps every promise (seed %i)', async (seed) => {
    const report = await reportOf(seed)
    expect(
      report.violation,
      `${report.lastLines.join('\n')}\nnpm run sim -- --seed ${seed} --trace`,
    ).toBeUndefined()
  })

  it.each([3, 14])('does the same again for the same seed (seed %i)', async (seed) => {
    const [first, second] = [await reportOf(seed), await runSeed(seed)]
    expect(first.hash).toBe(second.hash)
    expect(first.events).toBe(second.events)
  })

  it('does something else for another seed', async () => {
    const hashes = new Set<string>()
    for (const seed of seedsFrom(1, 5)) hashes.add((await reportOf(seed)).hash)
    expect(hashes.size).toBe(5)
  })
})

describe('the broken variants', () => {
  it.each(variants)('still fit the source ($name)', (variant) => {
    const read = (file: string) => readFileSync(join(resolve(import.meta.dirname, '../../src'), file), 'utf8')
    for (const [file, text] of edited(variant, read)) expect(text).not.toBe(read(file))
  })

  it('are refused when what they replace is gone, or is there twice', () => {
    const variant = { name: 'some', edits: [{ file: 'a.ts', find: 'b', replace: 'c' }], seed: 1 }
    expect(edited(variant, () => 'abd')).toEqual(new Map([['a.ts', 'acd']]))
    expect(() => edited(variant, () => 'ad')).toThrow('which has it 0 times')
    expect(() => edited(variant, () => 'abdb')).toThrow('which has it 2 times')
  })

  it('have names of their own', () => {
    expect(new Set(variants.map(({ name }) => name)).size).toBe(variants.length)
  })
})
