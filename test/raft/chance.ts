// Seeded randomness: one seed decides everything that a walk does.

import { assert } from '../../src/raft/assert.ts'

export class Chance {
  /** From 0 up to and without 1. */
  readonly next: () => number

  constructor(seed: number) {
    this.next = generator(seed)
  }

  pick<T>(choices: readonly T[]): T {
    const choice = choices[this.below(choices.length)]
    assert(choice !== undefined, 'there is a choice')
    return choice
  }

  /** A whole number from 0 up to and without `bound`. */
  below(bound: number): number {
    return Math.floor(this.next() * bound)
  }

  /** All of them in another order. */
  shuffled<T>(all: readonly T[]): T[] {
    const left = [...all]
    return all.flatMap(() => left.splice(this.below(left.length), 1))
  }

  happens(probability: number): boolean {
    return this.next() < probability
  }
}

/** Small, fast and the same everywhere: a generator of numbers from 0 up to and without 1 (mulberry32). */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
