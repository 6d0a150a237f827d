// Quorum arithmetic: what a majority of the voters has, grants or refuses.

import { assert } from './assert.ts'

/** How many of `voters` make a majority. */
export function majority(voters: number): number {
  assert(voters > 0, 'a configuration has voters')
  return Math.floor(voters / 2) + 1
}

/** The highest value that a majority has reached: the commit index of a set of match indexes (figure 2, leaders). */
export function reachedByMajority(values: readonly number[]): number {
  const ascending = [...values].sort((a, b) => a - b)
  const reached = ascending[ascending.length - majority(ascending.length)]
  assert(reached !== undefined, 'a majority is not larger than the whole')
  return reached
}

export type Tally = 'won' | 'lost' | 'open'

/** Where an election stands, given the answers so far. */
export function tally(voters: readonly string[], answers: ReadonlyMap<string, boolean>): Tally {
  const needed = majority(voters.length)
  let granted = 0
  let refused = 0
  for (const voter of voters) {
    const answer = answers.get(voter)
    if (answer === true) granted++
    else if (answer === false) refused++
  }
  if (granted >= needed) return 'won'
  return voters.length - refused < needed ? 'lost' : 'open'
}
