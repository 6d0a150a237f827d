import { describe, expect, it } from 'vitest'
import { faultNamed, faults } from './faults.ts'
import { type Step, schedule } from './schedule.ts'

const names = faults.map(({ name }) => name)

function steps(seed: number, count: number, among: readonly string[] = names): Step[] {
  const endless = schedule({ seed, faults: among })
  return Array.from({ length: count }, () => endless.next().value)
}

describe('a schedule', () => {
  it('is the same for the same seed, and another for another', () => {
    expect(steps(7, 100)).toEqual(steps(7, 100))
    expect(steps(7, 100)).not.toEqual(steps(8, 100))
  })

  it('has every fault once before any comes again', () => {
    for (const seed of [1, 2, 3]) {
      const mains = steps(seed, names.length * 2).map(({ strikes }) => strikes.at(-1)?.fault)
      expect(mains.slice(0, names.length).toSorted()).toEqual(names.toSorted())
      expect(mains.slice(names.length).toSorted()).toEqual(names.toSorted())
    }
  })

  it('lets faults come in company, but never where one takes away what a node had promised', () => {
    const all = steps(5, 500)
    const together = all.filter(({ strikes }) => strikes.length > 1)
    expect(together.length).toBeGreaterThan(50)
    for (const { strikes } of together) {
      expect(strikes.some(({ fault }) => faultNamed(fault).isDamage)).toBe(false)
      expect(new Set(strikes.map(({ fault }) => fault)).size).toBe(strikes.length)
    }
  })

  it('has faults of one kind only where only that is asked for', () => {
    const all = steps(5, 50, ['kill'])
    expect(all.every(({ strikes }) => strikes.length === 1 && strikes[0]?.fault === 'kill')).toBe(true)
  })
})
