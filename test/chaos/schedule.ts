// What happens when, drawn from one seed: which faults, on whom, for how long. The same seed gives the same steps.

import { Chance } from '../raft/chance.ts'
import { type Fault, type Strike, shuffled } from './fault.ts'
import { faultNamed } from './faults.ts'

export type Step = {
  readonly number: number
  /** Time in peace before it, and how long it lasts, in milliseconds. */
  readonly gapMs: number
  readonly holdMs: number
  /** They begin one after the other, and end together. */
  readonly strikes: readonly Strike[]
}

const gap = { least: 400, most: 1500 }
const hold = { least: 1000, most: 6000 }

/**
 * Endless. Every fault comes once before any comes again. Now and then one comes in company, unless what it does takes
 * something away that the others may then be the last to have.
 */
export function* schedule(options: {
  readonly seed: number
  readonly faults: readonly string[]
}): Generator<Step, never> {
  const chance = new Chance(options.seed)
  const company = options.faults.map(faultNamed).filter(({ isWeather }) => isWeather)
  let bag: string[] = []
  for (let number = 1; ; number++) {
    if (bag.length === 0) bag = shuffled(options.faults, chance)
    const fault = faultNamed(bag.pop() ?? chance.pick(options.faults))
    const strikes = [strike(fault, chance)]
    // Drawn in any case, so that one fault more or less to choose from changes as little as can be.
    const second = chance.next()
    const among = company.filter(({ name }) => name !== fault.name)
    if (second < 0.35 && among.length > 0 && !fault.isDamage)
      strikes.unshift(strike(chance.pick(among), chance))
    yield { number, gapMs: between(gap, chance), holdMs: between(hold, chance), strikes }
  }
}

function strike(fault: Fault, chance: Chance): Strike {
  return { fault: fault.name, seed: chance.below(2 ** 31), onLeader: chance.happens(0.5) }
}

function between({ least, most }: { readonly least: number; readonly most: number }, chance: Chance): number {
  return least + chance.below(most - least)
}
