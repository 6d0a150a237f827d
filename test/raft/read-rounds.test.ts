// Reads and rounds: an answer confirms what came before its round, and nothing else (thesis 6.4, rule 19).

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ReadRounds } from '../../src/raft/read-rounds.ts'

describe('read rounds', () => {
  it('confirm a read by a round begun after it came, once, at the index it came with', () => {
    const step = fc.oneof(
      fc.constant({ type: 'join' as const }),
      fc.constant({ type: 'hold' as const }),
      fc.constant({ type: 'release' as const }),
      fc.constant({ type: 'begin' as const }),
      fc.record({ type: fc.constant('confirm' as const), back: fc.nat(3) }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const rounds = new ReadRounds()
        /** What waits: id → the rounds sent when it joined, and the commit index it joined with. */
        const joined = new Map<number, { sent: number; index: number }>()
        const held = new Set<number>()
        let id = 0
        let commitIndex = 0
        const join = (read: number) => joined.set(read, { sent: rounds.sent, index: commitIndex })
        for (const taken of steps) {
          id++
          commitIndex++
          if (taken.type === 'join') {
            rounds.join({ from: 'a', id }, commitIndex)
            join(id)
          } else if (taken.type === 'hold') {
            rounds.hold({ from: 'a', id })
            held.add(id)
          } else if (taken.type === 'release') {
            rounds.release(commitIndex)
            for (const read of held) join(read)
            held.clear()
          } else if (taken.type === 'begin') expect(rounds.begin()).toBe(rounds.sent)
          else {
            const round = Math.max(0, rounds.sent - taken.back)
            const confirmed = rounds.confirm(round)
            for (const read of confirmed) {
              const waiting = joined.get(read.id)
              expect(waiting?.sent).toBeLessThan(round)
              expect(read.index).toBe(waiting?.index)
              joined.delete(read.id)
            }
            for (const waiting of joined.values()) expect(waiting.sent).toBeGreaterThanOrEqual(round)
          }
          expect(rounds.size).toBe(joined.size + held.size)
        }
        const left = rounds.drain().map((read) => read.id)
        expect(new Set(left)).toEqual(new Set([...joined.keys(), ...held]))
        expect(rounds.size).toBe(0)
      }),
    )
  })

  it('are due only while reads wait and no round is under way', () => {
    const rounds = new ReadRounds()
    expect(rounds.due).toBe(false)
    rounds.join({ from: 'a', id: 1 }, 0)
    expect(rounds.due).toBe(true)
    rounds.begin()
    expect(rounds.due).toBe(false)
    rounds.join({ from: 'a', id: 2 }, 0)
    expect(rounds.confirm(1).map((read) => read.id)).toEqual([1])
    expect(rounds.due).toBe(true)
  })
})
