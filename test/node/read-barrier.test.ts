// Reads that wait for a ReadIndex: which round serves which read, what is asked again, how waiting ends.

import { describe, expect, it } from 'vitest'
import { ReadBarrier } from '../../src/node/read-barrier.ts'

function setUp(options: { maxWaiting?: number; boot?: number } = {}) {
  const clock = { now: 0 }
  const barrier = new ReadBarrier({
    boot: options.boot ?? 1,
    maxWaiting: options.maxWaiting ?? 10,
    askAgainAfter: 100,
    now: () => clock.now,
  })
  const done: string[] = []
  const add = (name: string, deadline = 5000, signal?: AbortSignal) => {
    const promise = barrier.add({ deadline, signal })
    promise.then(
      () => done.push(name),
      () => {},
    )
    return promise
  }
  const settled = async () => {
    await Promise.resolve()
    return done
  }
  return { clock, barrier, add, settled }
}

describe('the read barrier', () => {
  it('asks once for all reads that gathered', async () => {
    const { barrier, add, settled } = setUp()
    add('one')
    add('two')
    const id = barrier.ask()
    barrier.answered(id, 5, 5)
    expect(await settled()).toEqual(['one', 'two'])
    expect(barrier.waiting).toBe(0)
  })

  it('never lets a read use a ReadIndex that was asked before it came', async () => {
    const { barrier, add, settled } = setUp()
    add('early')
    const first = barrier.ask()
    add('late')
    expect(barrier.due).toBe(false)
    barrier.answered(first, 5, 5)
    expect(await settled()).toEqual(['early'])
    expect(barrier.due).toBe(true)
    barrier.answered(barrier.ask(), 6, 6)
    expect(await settled()).toEqual(['early', 'late'])
  })

  it('never asks under an id of an earlier boot, nor one that a number cannot hold exactly', () => {
    const asked = new Set<number>()
    for (const boot of [1_800_000_000, 1_800_000_001, 4_000_000_000]) {
      const { barrier, add } = setUp({ boot })
      for (let round = 0; round < 1000; round++) {
        add('read')
        const id = barrier.ask()
        barrier.answered(id, 1, 1)
        expect(Number.isSafeInteger(id)).toBe(true)
        expect(asked.has(id)).toBe(false)
        asked.add(id)
      }
    }
  })

  it('waits until the index is applied here', async () => {
    const { barrier, add, settled } = setUp()
    add('read')
    barrier.answered(barrier.ask(), 5, 3)
    barrier.applied(4)
    expect(await settled()).toEqual([])
    barrier.applied(5)
    expect(await settled()).toEqual(['read'])
  })

  it('asks again with another id after silence', async () => {
    const { clock, barrier, add, settled } = setUp()
    add('read')
    const first = barrier.ask()
    clock.now = 100
    barrier.tick(true)
    expect(barrier.due).toBe(true)
    const second = barrier.ask()
    expect(second).not.toBe(first)
    barrier.answered(second, 5, 9)
    expect(await settled()).toEqual(['read'])
    expect(barrier.due).toBe(false)
  })

  it('takes the answer to a question that it has asked again: else a way longer than its patience ended every read', async () => {
    const { clock, barrier, add, settled } = setUp()
    add('early')
    const asked: number[] = []
    for (let turn = 0; turn < 5; turn++) {
      asked.push(barrier.ask())
      clock.now += 100
      barrier.tick(true)
      if (turn === 1) add('late')
    }
    // The second question came before the late read, so its answer is too old for it.
    barrier.answered(asked[1] ?? 0, 5, 9)
    expect(await settled()).toEqual(['early'])
    expect(barrier.waiting).toBe(1)
    barrier.answered(asked[0] ?? 0, 4, 9)
    expect(await settled()).toEqual(['early'])
    barrier.answered(asked[2] ?? 0, 6, 9)
    expect(await settled()).toEqual(['early', 'late'])
    expect(barrier.due).toBe(false)
    expect(barrier.waiting).toBe(0)
  })

  it('does not ask again at once when nobody could tell, but with the next tick', () => {
    const { barrier, add } = setUp()
    add('read')
    barrier.answered(barrier.ask(), undefined, 0)
    expect(barrier.due).toBe(false)
    barrier.tick(false)
    expect(barrier.due).toBe(true)
  })

  it('asks again at once when another leads', () => {
    const { barrier, add } = setUp()
    add('read')
    barrier.ask()
    barrier.askAgain()
    expect(barrier.due).toBe(true)
  })

  it('ends reads at their deadline: no-leader without one, deadline-exceeded with one', async () => {
    const { clock, barrier, add } = setUp()
    const first = add('first', 50)
    clock.now = 50
    barrier.tick(false)
    await expect(first).rejects.toMatchObject({ code: 'no-leader' })
    const second = add('second', 60)
    barrier.ask()
    clock.now = 60
    barrier.tick(true)
    await expect(second).rejects.toMatchObject({ code: 'deadline-exceeded', outcome: 'none' })
    expect(barrier.waiting).toBe(0)
  })

  it('bounds how many wait, and frees the place of one that is aborted', async () => {
    const { barrier, add } = setUp({ maxWaiting: 1 })
    const controller = new AbortController()
    const first = add('first', 5000, controller.signal)
    await expect(add('second')).rejects.toMatchObject({ code: 'overloaded', limit: 1 })
    controller.abort(new Error('enough'))
    await expect(first).rejects.toThrow('enough')
    expect(barrier.waiting).toBe(0)
    add('third')
    expect(barrier.waiting).toBe(1)
  })

  it('tells everybody when the node stops', async () => {
    const { barrier, add } = setUp()
    const asked = add('asked')
    barrier.ask()
    const gathered = add('gathered')
    barrier.close()
    await expect(asked).rejects.toMatchObject({ code: 'shutting-down' })
    await expect(gathered).rejects.toMatchObject({ code: 'shutting-down' })
  })
})
