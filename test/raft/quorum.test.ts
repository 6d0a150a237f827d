// Quorum arithmetic against its definitions.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { majority, reachedByMajority, tally } from '../../src/raft/quorum.ts'

const sizes = fc.integer({ min: 1, max: 9 })

describe('a majority', () => {
  it('is the least number of which two always overlap', () => {
    fc.assert(
      fc.property(sizes, (voters) => {
        const needed = majority(voters)
        expect(needed + needed).toBeGreaterThan(voters)
        expect(needed - 1 + needed - 1).toBeLessThanOrEqual(voters)
      }),
    )
  })

  it('of nobody does not exist', () => {
    expect(() => majority(0)).toThrow('a configuration has voters')
    expect(() => reachedByMajority([])).toThrow('a configuration has voters')
  })
})

describe('what a majority has reached', () => {
  it('is reached by a majority, and nothing higher is', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(20), { minLength: 1, maxLength: 9 }), (values) => {
        const reached = reachedByMajority(values)
        const having = (value: number) => values.filter((other) => other >= value).length
        expect(having(reached)).toBeGreaterThanOrEqual(majority(values.length))
        expect(having(reached + 1)).toBeLessThan(majority(values.length))
      }),
    )
  })

  it('leaves the values as they were', () => {
    const values = [3, 1, 2]
    reachedByMajority(values)
    expect(values).toEqual([3, 1, 2])
  })
})

describe('a tally', () => {
  const answers = sizes.chain((size) =>
    fc.array(fc.constantFrom(true, false, undefined), { minLength: size, maxLength: size }),
  )

  it('is won with a majority of votes, lost when none is possible any more, and open otherwise', () => {
    fc.assert(
      fc.property(answers, (given) => {
        const voters = given.map((_, at) => `v${at}`)
        const map = new Map<string, boolean>()
        for (const [at, answer] of given.entries()) if (answer !== undefined) map.set(`v${at}`, answer)
        const granted = given.filter((answer) => answer === true).length
        const open = given.filter((answer) => answer === undefined).length
        const needed = majority(voters.length)
        const expected = granted >= needed ? 'won' : granted + open < needed ? 'lost' : 'open'
        expect(tally(voters, map)).toBe(expected)
      }),
    )
  })

  it('counts nobody who is no voter', () => {
    const answers = new Map([
      ['a', true],
      ['stranger', true],
      ['learner', true],
    ])
    expect(tally(['a', 'b', 'c'], answers)).toBe('open')
  })
})
