// What a seed decides before a run begins: how large the cluster is, how fast, how used, and what may happen to it.

import { Chance } from '../raft/chance.ts'

export type Plan = {
  /** How many found the cluster. */
  readonly nodes: number
  /** How many more machines are there, empty, to become members. */
  readonly spares: number
  readonly heartbeatMs: number
  readonly electionMs: number
  /** How long messages take when nothing is wrong, in milliseconds. */
  readonly delay: { readonly least: number; readonly most: number }
  readonly reconnectDelay: number
  readonly clients: number
  /** How many more write in sessions and how many under idempotency keys, sending again what was not answered. */
  readonly stubborn: { readonly session: number; readonly key: number }
  readonly keys: readonly string[]
  /** Keys that are only counted up. */
  readonly counters: readonly string[]
  /** How long keys may last that clients set or renew, in milliseconds; for ever, when there are none. */
  readonly ttls: readonly number[]
  /** Whether clients change several keys at one moment. */
  readonly transactions: boolean
  /** How long clients wait for an answer: one of these each time, in milliseconds. */
  readonly patience: readonly number[]
  /** How long they think before the next call at most, in milliseconds. */
  readonly thinkingMs: number
  /** How long faults come, and how long between two of them at most, in milliseconds. */
  readonly faultyMs: number
  readonly betweenFaultsMs: number
  /** In the end most disks are emptied: nothing comes back, and nothing untrue may be said. For clusters that have more. */
  readonly isDoomed: boolean
  /** Faults come while the cluster is being founded, too. */
  readonly roughStart: boolean
  /** How often this fault comes, as a factor: each seed leaves many of them out, so that others come closely together. */
  readonly appetite: (fault: string) => number
}

export function planOf(seed: number): Plan {
  const chance = new Chance(Math.imul(seed, 0x27d4eb2f) ^ 0x165667b1)
  const electionMs = chance.pick([100, 150, 150, 250])
  const appetites = new Map<string, number>()
  const stubborn = new Chance(seed ^ nameHash('stubborn'))
  const ttls = new Chance(seed ^ nameHash('ttls'))
  const counters = new Chance(seed ^ nameHash('counters'))
  const plan = {
    nodes: chance.pick([1, 2, 3, 3, 3, 3, 3, 4, 5, 5]),
    spares: new Chance(seed ^ nameHash('spares')).pick([0, 0, 1, 2]),
    heartbeatMs: Math.round(electionMs / chance.pick([5, 7])),
    electionMs,
    delay: chance.pick([
      { least: 0, most: 1 },
      { least: 0.2, most: 3 },
      { least: 5, most: 15 },
    ]),
    reconnectDelay: chance.pick([2, 20, 100]),
    clients: 1 + chance.below(4),
    stubborn: { session: stubborn.pick([0, 1, 1, 2]), key: stubborn.pick([0, 1]) },
    keys: ['a', 'b', 'c', 'd', 'e'].slice(0, 1 + chance.below(5)),
    transactions: new Chance(seed ^ nameHash('transactions')).happens(0.5),
    counters: ['n', 'm'].slice(0, counters.pick([0, 1, 1, 2])),
    // What is due goes about once a second: the shorter keys last, the more of them are renewed when they are found due.
    ttls: ttls.pick([[], [10, 40], [20, 60, 200], [150, 1000, 60_000]]),
    patience: chance.pick([
      [30, 100, 400],
      [400, 1500],
      [100, 400, 3000],
    ]),
    thinkingMs: chance.pick([5, 20, 60, 150]),
    faultyMs: 4000 + chance.below(6000),
    betweenFaultsMs: chance.pick([60, 200, 200, 500]),
    roughStart: chance.happens(0.2),
    isDoomed: chance.happens(0.06),
  }
  const appetite = (fault: string): number => {
    let known = appetites.get(fault)
    if (known === undefined) {
      // Drawn from the fault's name, so that a new fault changes nothing about those that were there before.
      const own = new Chance(seed ^ nameHash(fault))
      known = own.pick([0, 0, 1, 1, 3])
      appetites.set(fault, known)
    }
    return known
  }
  return { ...plan, appetite }
}

function nameHash(name: string): number {
  let hash = 0x811c9dc5
  for (const character of name) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193)
  return hash
}
