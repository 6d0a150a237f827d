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
    const refusals: [string, number, readonly number[], string][] = []
    const forwarded = new ForwardedCommands((...refusal) => refusals.push(refusal))
    let attempts = 0
    const leading = { room: 1000, maxVersion: 1, isFull: false }
    const add = (from: string, of: CommandBatch, room = 1000) => {
      attempts++
      forwarded.receive(from, { attempt: attempts, batch: of }, { ...leading, room })
    }
    return { forwarded, refusals, add, leading }
  }

  it('leave in the order they came, about as many bytes as asked for and at least one batch', () => {
    const { forwarded, add } = setUp()
    for (const number of [1, 2, 3]) add('b', batch(number))
    expect(forwarded.take(bytes.length * 2)).toEqual([batch(1), batch(2)])
    expect(forwarded.take(1)).toEqual([batch(3)])
    expect(forwarded.isEmpty).toBe(true)
    expect(forwarded.bytes).toBe(0)
  })

  it('leave nothing where there is no room, so that an entry keeps its bound', () => {
    const { forwarded, add } = setUp()
    add('b', batch(1))
    expect(forwarded.take(0)).toEqual([])
    expect(forwarded.isEmpty).toBe(false)
  })

  it('beyond the bound are refused as overloaded', () => {
    const { forwarded, refusals, add } = setUp()
    add('b', batch(1, 2), bytes.length)
    expect(refusals).toEqual([['b', 1, [1, 2], 'overloaded']])
    expect(forwarded.isEmpty).toBe(true)
  })

  it('that grow are refused while disks are full, and deletes are not', () => {
    const { forwarded, refusals, leading } = setUp()
    const set = encodeCommand({
      type: 'set',
      token: 't',
      store: 'default',
      key: Buffer.from('k'),
      value: Buffer.from('v'),
      contentType: 'text/plain',
      conditions: [],
    })
    const mixed = batch(1, 2, 3)
    const commands = mixed.commands.map((command) =>
      command.number === 2 ? { ...command, bytes: set } : command,
    )
    forwarded.receive('b', { attempt: 1, batch: { ...mixed, commands } }, { ...leading, isFull: true })
    expect(refusals).toEqual([['b', 1, [2], 'storage-full']])
    expect(forwarded.take(1000)).toEqual([batch(1, 3)])
  })

  it('that nobody could decode are refused at the door, for in the log they would stop every node', () => {
    const { refusals, add } = setUp()
    add('b', { ...batch(1), commands: [{ number: 1, bytes: Buffer.from('garbage') }] })
    expect(refusals).toEqual([['b', 1, [1], 'invalid-request']])
  })

  it('of a version that some member lacks are refused as such, and the others of their batch are kept', () => {
    const { forwarded, refusals, add } = setUp()
    // The second byte is the version.
    const doctored = Buffer.from(bytes)
    doctored[1] = 2
    add('b', { ...batch(1), commands: [{ number: 1, bytes: doctored }, ...batch(2).commands] })
    expect(refusals).toEqual([['b', 1, [1], 'not-ready']])
    expect(forwarded.take(1000)).toEqual([batch(2)])
  })

  it('that this program does not know itself are never kept, whatever the members understand', () => {
    const { forwarded, refusals, leading } = setUp()
    const doctored = Buffer.from(bytes)
    doctored[1] = 99
    const sent = { attempt: 1, batch: { ...batch(1), commands: [{ number: 1, bytes: doctored }] } }
    forwarded.receive('b', sent, { ...leading, maxVersion: 100 })
    expect(refusals).toEqual([['b', 1, [1], 'invalid-request']])
  })

  it('are taken once, however many copies of an attempt arrive, and no copy is refused', () => {
    const { forwarded, refusals, leading } = setUp()
    const sent = { attempt: 5, batch: batch(1) }
    forwarded.receive('b', sent, leading)
    forwarded.receive('b', sent, leading)
    forwarded.receive('b', { attempt: 4, batch: batch(2) }, leading)
    // By now this node does not lead: what it took may be in its log.
    forwarded.receive('b', sent, undefined)
    expect(forwarded.take(1000)).toEqual([batch(1)])
    expect(refusals).toEqual([])
  })

  it('of another boot of their sender are no copies of an earlier one', () => {
    const { forwarded, leading } = setUp()
    forwarded.receive('b', { attempt: 5, batch: batch(1) }, leading)
    const later = { ...batch(1), boot: 2 }
    forwarded.receive('b', { attempt: 1, batch: later }, leading)
    forwarded.receive('b', { attempt: 9, batch: batch(2) }, leading)
    expect(forwarded.take(1000)).toEqual([batch(1), later])
  })

  it('are all refused when leadership ends, and told that they entered no log', () => {
    const { forwarded, refusals, add } = setUp()
    add('b', batch(1))
    add('c', batch(5))
    forwarded.refuseAll()
    expect(refusals).toEqual([
      ['b', 1, [1], 'no-leader'],
      ['c', 2, [5], 'no-leader'],
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
