// Seeds in a row as a test: each keeps every promise, and what can happen is looked for in all of them together.

import { expect } from 'vitest'
import { unjudged } from '../run.ts'
import { add, noTotals, runSeeds, seedsFrom, type Totals } from '../seeds.ts'

/** Runs them all and names those that break a promise, with their last lines. */
export async function expectSound(first: number, count: number): Promise<Totals> {
  const totals = noTotals()
  for await (const report of runSeeds(seedsFrom(first, count))) {
    add(totals, report)
    const again = `npm run sim -- --seed ${report.seed} --trace`
    expect(report.violation, `${report.lastLines.join('\n')}\n${again}`).toBeUndefined()
  }
  expect(totals.counts.get(unjudged) ?? 0, unjudged).toBeLessThanOrEqual(count / 50)
  return totals
}
