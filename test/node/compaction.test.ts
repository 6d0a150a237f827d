// How much of the log is kept: for those who lag, for snapshots under way, and never more than the bound (rule 26).

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type CompactionLimits, compactionBytes, compactUpTo } from '../../src/node/compaction.ts'

/** A log of 120 entries of 10 bytes, of which 100 are durable in the state; 20 entries are kept behind the slowest. */
const limits = (more: Partial<CompactionLimits> = {}): CompactionLimits => ({
  baseIndex: 0,
  durableIndex: 100,
  needed: [],
  bytesAfter: (index) => (120 - index) * 10,
  keepBytes: 200,
  mostBytes: 100_000,
  ...more,
})

describe('compaction', () => {
  it('keeps 64 MiB unless told otherwise, and 1 GiB at most', () => {
    expect(compactionBytes).toEqual({ keep: 64 * 2 ** 20, most: 2 ** 30 })
    const MiB = 2 ** 20
    const entries = { bytesAfter: (index: number) => (3000 - index) * MiB, keepBytes: undefined }
    const wide = limits({ ...entries, durableIndex: 3000, mostBytes: undefined })
    expect(compactUpTo({ ...wide, needed: [] })).toBe(3000 - 64)
    expect(compactUpTo({ ...wide, needed: [2900] })).toBe(2900 - 64)
    expect(compactUpTo({ ...wide, needed: [10] })).toBe(3000 - 1025)
  })

  it('keeps what was asked for behind the slowest of those heard from and of the snapshots under way', () => {
    expect(compactUpTo(limits())).toBe(80)
    expect(compactUpTo(limits({ needed: [100, 120] }))).toBe(80)
    expect(compactUpTo(limits({ needed: [90, 50] }))).toBe(30)
    expect(compactUpTo(limits({ needed: [10] }))).toBe(0)
  })

  it('goes on without one that would need more than the bound', () => {
    expect(compactUpTo(limits({ needed: [10], mostBytes: 500 }))).toBe(69)
  })

  it('never goes beyond what is durable in the state, were the log larger than the bound', () => {
    expect(compactUpTo(limits({ durableIndex: 5, mostBytes: 500 }))).toBe(5)
    expect(compactUpTo(limits({ durableIndex: 5, needed: [100] }))).toBe(0)
  })

  it('never goes back, and never beyond what anybody may still get', () => {
    const index = fc.integer({ min: 0, max: 120 })
    fc.assert(
      fc.property(index, index, fc.array(index), index, (base, durable, needed, keep) => {
        fc.pre(base <= durable)
        const upTo = compactUpTo(
          limits({ baseIndex: base, durableIndex: durable, needed, keepBytes: keep * 10 }),
        )
        expect(upTo).toBeGreaterThanOrEqual(base)
        expect(upTo).toBeLessThanOrEqual(Math.max(base, Math.min(durable, ...needed)))
      }),
    )
  })
})
