// Times that come: once, for everything that waits for them, and never early.

import { describe, expect, it } from 'vitest'
import { Alarms } from '../../src/sdk/alarms.ts'

/** Something that waits until it rings. */
function waiting(): { readonly rung: Promise<number>; ring: () => void } {
  const { promise, resolve } = Promise.withResolvers<number>()
  return { rung: promise, ring: () => resolve(performance.now()) }
}

describe('alarms', () => {
  it('ring for each of those that wait, and never early', async () => {
    const alarms = new Alarms()
    const now = performance.now()
    const waits = [30, 5.25, 5.75, 5.25, 1, 0, -3]
    const rung = waits.map((ms) => {
      const one = waiting()
      alarms.set(one, { at: now + ms, now })
      return one.rung
    })
    for (const [at, time] of (await Promise.all(rung)).entries())
      expect(time).toBeGreaterThanOrEqual(now + (waits[at] ?? 0))
  })

  it('are not rung for what was cleared, and for the others all the same', async () => {
    const alarms = new Alarms()
    const now = performance.now()
    const stays = waiting()
    let rang = false
    const gone = {
      ring: () => {
        rang = true
      },
    }
    const slot = alarms.set(gone, { at: now + 5, now })
    alarms.set(stays, { at: now + 5, now })
    alarms.clear(slot, gone)
    await stays.rung
    expect(rang).toBe(false)
  })

  it('share a timer where they are far off', () => {
    const alarms = new Alarms()
    const slots = Array.from({ length: 100 }, () => alarms.set(waiting(), { at: 5000, now: 0 }))
    const [first] = slots
    expect(new Set(slots).size).toBe(1)
    if (first !== undefined) for (const one of [...first.ringing]) alarms.clear(first, one)
    expect(alarms.set(waiting(), { at: 5000, now: 0 })).not.toBe(first)
  })
})
