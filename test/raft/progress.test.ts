// A leader's picture of a follower: certain knowledge never goes back, whatever is late, lost or repeated.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { entryBytes } from '../../src/raft/log.ts'
import { Progress } from '../../src/raft/progress.ts'
import type { Entry } from '../../src/raft/types.ts'

const entry = (index: number): Entry => ({
  type: 'commands',
  index,
  term: 1,
  data: new Uint8Array(index % 5),
})

const entriesFrom = (from: number, count: number): Entry[] =>
  Array.from({ length: count }, (_, at) => entry(from + at))

function replicating(matchIndex: number): Progress {
  const progress = new Progress({ nextIndex: matchIndex + 1, now: 0 })
  progress.acknowledged(matchIndex)
  return progress
}

describe('progress', () => {
  it('never moves matchIndex back, keeps nextIndex above it, and counts exactly what is unacknowledged', () => {
    const index = fc.integer({ min: 0, max: 30 })
    const step = fc.oneof(
      fc.record({ type: fc.constant('send' as const), count: fc.integer({ min: 0, max: 4 }) }),
      fc.record({ type: fc.constant('acknowledge' as const), index }),
      fc.record({ type: fc.constant('reject' as const), index, shared: index }),
      fc.constant({ type: 'lose' as const }),
      fc.constant({ type: 'beat' as const }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const progress = new Progress({ nextIndex: 31, now: 0 })
        let unacknowledged: Entry[] = []
        for (const taken of steps) {
          const before = progress.matchIndex
          const replicated = progress.state === 'replicate'
          if (taken.type === 'send') {
            const entries = entriesFrom(progress.nextIndex, taken.count)
            progress.sent(entries)
            if (replicated) unacknowledged.push(...entries)
          } else if (taken.type === 'acknowledge') progress.acknowledged(taken.index)
          else if (taken.type === 'reject')
            progress.rejected(taken.index, Math.min(taken.index, taken.shared))
          else if (taken.type === 'lose') progress.probe()
          else progress.stalledAtHeartbeat()
          expect(progress.matchIndex).toBeGreaterThanOrEqual(before)
          expect(progress.nextIndex).toBeGreaterThan(progress.matchIndex)
          if (progress.state === 'probe') unacknowledged = []
          // A message counts until all of it is acknowledged.
          unacknowledged = unacknowledged.filter(({ index: at }) => at > progress.matchIndex)
          const least = unacknowledged.reduce((sum, one) => sum + entryBytes(one), 0)
          expect(progress.inFlightBytes).toBeGreaterThanOrEqual(least)
          if (unacknowledged.length === 0) expect(progress.inFlightBytes).toBe(0)
        }
      }),
    )
  })

  it('sends one probe at a time, and the next only after an answer', () => {
    const progress = new Progress({ nextIndex: 5, now: 0 })
    expect(progress.maySend(100)).toBe(true)
    progress.sent([])
    expect(progress.maySend(100)).toBe(false)
    progress.rejected(4, 2)
    expect(progress.nextIndex).toBe(3)
    expect(progress.maySend(100)).toBe(true)
  })

  it('ignores the rejection of a message that newer knowledge has overtaken', () => {
    const progress = new Progress({ nextIndex: 5, now: 0 })
    progress.rejected(4, 2)
    progress.rejected(4, 0)
    expect(progress.nextIndex).toBe(3)
    progress.acknowledged(2)
    progress.rejected(2, 0)
    expect([progress.state, progress.nextIndex]).toEqual(['replicate', 3])
  })

  it('sends without waiting until the window is full (10.2.1)', () => {
    const progress = replicating(0)
    const window = entryBytes(entry(1)) + entryBytes(entry(2))
    progress.sent([entry(1)])
    expect(progress.maySend(window)).toBe(true)
    progress.sent([entry(2)])
    expect(progress.maySend(window)).toBe(false)
    progress.acknowledged(1)
    expect(progress.maySend(window)).toBe(true)
  })

  it('is stalled when a whole heartbeat has brought no acknowledgement of what is under way', () => {
    const progress = replicating(0)
    expect(progress.stalledAtHeartbeat()).toBe(false)
    progress.sent(entriesFrom(1, 2))
    expect(progress.stalledAtHeartbeat()).toBe(true)
    progress.acknowledged(1)
    expect(progress.stalledAtHeartbeat()).toBe(false)
    expect(progress.stalledAtHeartbeat()).toBe(true)
    progress.acknowledged(2)
    expect(progress.stalledAtHeartbeat()).toBe(false)
    progress.sent([entry(3)])
    expect(progress.stalledAtHeartbeat()).toBe(true)
  })

  it('waits for a read from disk only as long as it begins where the follower is', () => {
    const progress = replicating(3)
    progress.fetchingFrom = 4
    expect(progress.maySend(100)).toBe(false)
    progress.acknowledged(5)
    expect(progress.maySend(100)).toBe(true)
  })
})
