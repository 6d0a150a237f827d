// Thousands of short random walks through the core, each checked after every step (see `observer.ts`).
// TRIVET_WALKS=100000 walks on for longer, TRIVET_SEED=17 begins at another seed (and with TRIVET_WALKS=1 repeats one).

import { expect, it } from 'vitest'
import { walk } from './exploration.ts'
import type { Sights } from './mischief.ts'

const walks = Number(process.env['TRIVET_WALKS'] ?? 2000)
const firstSeed = Number(process.env['TRIVET_SEED'] ?? 1)
const steps = 300

/** The way a failing walk took, its last steps. */
function lastSteps(seed: number, count: number): string {
  const lines: string[] = []
  try {
    walk({ seed, steps, trace: (line) => lines.push(line) })
  } catch {
    // It fails here as it failed before; what is wanted is the way to it.
  }
  return lines.slice(-count).join('\n')
}

it(`keeps every promise on ${walks} random walks from seed ${firstSeed} on, and recovers once healed`, {
  timeout: 20_000 + walks * 30,
}, () => {
  const seen = new Map<string, number>()
  for (let seed = firstSeed; seed < firstSeed + walks; seed++) {
    let sights: Sights
    try {
      sights = walk({ seed, steps })
    } catch (error) {
      throw new Error(`Seed ${seed}: ${String(error)}\n${lastSteps(seed, 40)}`, { cause: error })
    }
    for (const [what, count] of Object.entries(sights)) seen.set(what, (seen.get(what) ?? 0) + count)
  }
  // Walks that meet nothing prove nothing.
  if (walks < 500) return
  for (const [what, count] of seen) expect(count, what).toBeGreaterThan(walks / 20)
})
