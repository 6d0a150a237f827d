// What waits in a replica: other nodes' commands for the log, reads for a revision.

import { describe, expect, it } from 'vitest'
import { ForwardedCommands } from '../../src/node/forwarded-commands.ts'
import { RevisionWaiters } from '../../src/node/revision-waiters.ts'
import { encodeCommand } from '../../src/store/commands.ts'
import type { CommandBatch } from '../../src/store/types.ts'

const bytes = encodeCommand({
  type: 'delete',
  token: 't',
  store: 'default',
  key: Buffer.from('k'),
  conditions: [],
})

function batch(...numbers: number[]): CommandBatch {
  return { peer: 'b', boot: 1, acked: 0, commands: numbers.map((number) => ({ number, bytes })) }
}

describe('forwarded commands', () => {
  function setUp() {
    const refusals: [string, readonly number[], string][] = []
    const forwarded = new ForwardedCommands((to, numbers, code) => refusals.push([to, numbers, code]))
    return { forwarded, refusals }
  }

  it('leave in the order they came, about as many bytes as asked for and at least one batch', () => {
    const { forwarded } = setUp()
    forwarded.add('b', batch(1), 1000)
    forwarded.add('b', batch(2), 1000)
    forwarded.add('b', batch(3), 1000)
    expect(forwarded.take(bytes.length * 2)).toEqual([batch(1), batch(2)])
    expect(forwarded.take(1)).toEqual([batch(3)])
    expect(forwarded.isEmpty).toBe(true)
    expect(forwarded.bytes).toBe(0)
  })

  it('leave nothing where there is no room, so that an entry keeps its bound', () => {
    const { forwarded } = setUp()
    forwarded.add('b', batch(1), 1000)
    expect(forwarded.take(0)).toEqual([])
    expect(forwarded.isEmpty).toBe(false)
  })

  it('beyond the bound are refused as overloaded', () => {
    const { forwarded, refusals } = setUp()
    forwarded.add('b', batch(1, 2), bytes.length)
    expect(refusals).toEqual([['b', [1, 2], 'overloaded']])
    expect(forwarded.isEmpty).toBe(true)
  })

  it('that nobody could decode are refused at the door, for in the log they would stop every node', () => {
    const { forwarded, refusals } = setUp()
    const garbage = { ...batch(1), commands: [{ number: 1, bytes: Buffer.from('garbage') }] }
    forwarded.add('b', garbage, 1000)
    expect(refusals).toEqual([['b', [1], 'invalid-request']])
  })

  it('are all refused when leadership ends, and told that they entered no log', () => {
    const { forwarded, refusals } = setUp()
    forwarded.add('b', batch(1), 1000)
    forwarded.add('c', batch(5), 1000)
    forwarded.refuseAll()
    expect(refusals).toEqual([
      ['b', [1], 'no-leader'],
      ['c', [5], 'no-leader'],
    ])
    expect(forwarded.bytes).toBe(0)
  })
})

describe('reads that name a revision', () => {
  function setUp(maxWaiting = 10) {
    const state = { revision: 5 }
    const waiters = new RevisionWaiters({ maxWaiting, applied: () => state.revision })
    return { state, waiters }
  }

  it('go on at once when it is applied, and as soon as it is otherwise', async () => {
    const { state, waiters } = setUp()
    await waiters.add(5, { deadline: 100 })
    const later = waiters.add(7, { deadline: 100 })
    state.revision = 7
    waiters.applied()
    await later
  })

  it('end at their deadline with what is applied', async () => {
    const { waiters } = setUp()
    const late = waiters.add(7, { deadline: 100 })
    waiters.tick(99)
    waiters.tick(100)
    await expect(late).rejects.toMatchObject({ code: 'deadline-exceeded' })
  })

  it('are bounded, and one that is aborted makes room', async () => {
    const { waiters } = setUp(1)
    const controller = new AbortController()
    const first = waiters.add(9, { deadline: 100, signal: controller.signal })
    await expect(waiters.add(9, { deadline: 100 })).rejects.toMatchObject({ code: 'overloaded', limit: 1 })
    controller.abort(new Error('enough'))
    await expect(first).rejects.toThrow('enough')
    const next = waiters.add(9, { deadline: 50 })
    waiters.tick(50)
    await expect(next).rejects.toMatchObject({ code: 'deadline-exceeded' })
  })
})
