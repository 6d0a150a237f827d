// The commands a node answers for: numbers, what is sent again, and the exact truth about what may have been logged.

import { describe, expect, it } from 'vitest'
import type { ErrorCode } from '../../src/errors.ts'
import { OwnCommands } from '../../src/node/own-commands.ts'
import type { Executed } from '../../src/node/surface.ts'

const executed: Executed = {
  outcome: { type: 'set', revision: 1, created: true, changed: true },
  revision: 1,
  timing: { forward: 0, queue: 0, fsync: 0, quorum: 0, apply: 0 },
}

function setUp(options: { maxWaitingBytes?: number } = {}) {
  const clock = { now: 0 }
  const commands = new OwnCommands({
    self: 'a',
    boot: 7,
    maxWaitingBytes: options.maxWaitingBytes ?? 1000,
    resendAfter: 1000,
    now: () => clock.now,
  })
  const add = (size = 10, deadline = 5000, signal?: AbortSignal) =>
    addBytes(new Uint8Array(size), deadline, signal)
  const addBytes = (bytes: Uint8Array, deadline = 5000, signal?: AbortSignal) => {
    const promise = commands.add(bytes, { deadline, signal })
    // Settled later, or never: a rejection nobody has looked at yet is not an unhandled one.
    promise.catch(() => {})
    return promise
  }
  /** What the node `leader` says of the attempt of this number. */
  const refuse = (attempt: number, code: ErrorCode, numbers = [1]) =>
    commands.refused({ from: 'leader', attempt, numbers, code })
  const taken = () => commands.take(1000)?.batch.commands.map((command) => command.number) ?? []
  return { clock, commands, add, addBytes, taken, refuse }
}

describe('own commands', () => {
  it('are numbered from one, and leave in order with this node and boot', () => {
    const { commands, add } = setUp()
    add()
    add()
    expect(commands.take(1000)?.batch).toMatchObject({
      peer: 'a',
      boot: 7,
      acked: 0,
      commands: [{ number: 1 }, { number: 2 }],
    })
    expect(commands.take(1000)).toBeUndefined()
  })

  it('leave in portions of about the bytes asked for, at least one at a time', () => {
    const { commands, add } = setUp()
    for (let count = 0; count < 3; count++) add(10)
    expect(commands.take(25)?.batch.commands).toHaveLength(2)
    expect(commands.take(1)?.batch.commands).toHaveLength(1)
  })

  it('acknowledge every number below the lowest unanswered one, and no other', async () => {
    const { commands, add, taken } = setUp()
    const first = add()
    const second = add()
    taken()
    commands.decided(2, executed)
    await second
    expect(commands.acked).toBe(0)
    commands.decided(1, executed)
    await first
    expect(commands.acked).toBe(2)
    add()
    expect(commands.take(1000)?.batch.acked).toBe(2)
  })

  it('are sent again, under the same number, when another leads', () => {
    const { commands, add, taken } = setUp()
    add()
    expect(taken()).toEqual([1])
    commands.resend()
    expect(taken()).toEqual([1])
  })

  it('are sent again when nothing was heard of them for long', () => {
    const { clock, commands, add, taken } = setUp()
    add()
    taken()
    clock.now = 999
    commands.tick()
    expect(taken()).toEqual([])
    clock.now = 1000
    commands.tick()
    expect(taken()).toEqual([1])
  })

  it('that a node refused because it does not lead wait for the next tick, then go again', () => {
    const { commands, add, taken, refuse } = setUp()
    add()
    taken()
    refuse(1, 'no-leader')
    expect(taken()).toEqual([])
    commands.tick()
    expect(taken()).toEqual([1])
  })

  it('that were never sent end as no-leader at their deadline: they have no effect', async () => {
    const { clock, commands, add } = setUp()
    const promise = add(10, 100)
    clock.now = 100
    commands.tick()
    await expect(promise).rejects.toMatchObject({ code: 'no-leader', outcome: 'none' })
  })

  it('that were sent and not refused end as outcome-unknown', async () => {
    const { clock, commands, add, taken } = setUp()
    const promise = add(10, 100)
    taken()
    clock.now = 100
    commands.tick()
    await expect(promise).rejects.toMatchObject({ code: 'outcome-unknown', outcome: 'unknown' })
  })

  it('that were refused by everybody they were sent to end as no-leader: no log has them', async () => {
    const { clock, commands, add, taken, refuse } = setUp()
    const promise = add(10, 100)
    taken()
    refuse(1, 'no-leader')
    commands.tick()
    taken()
    refuse(2, 'no-leader')
    clock.now = 100
    commands.tick()
    await expect(promise).rejects.toMatchObject({ code: 'no-leader', outcome: 'none' })
  })

  it('that one receiver refused while another may have logged them end as outcome-unknown', async () => {
    const { clock, commands, add, taken, refuse } = setUp()
    const promise = add(10, 100)
    taken()
    commands.resend()
    taken()
    refuse(2, 'overloaded')
    clock.now = 100
    commands.tick()
    await expect(promise).rejects.toMatchObject({ code: 'outcome-unknown' })
  })

  it('are refused once the refusal of every attempt is there, in whatever order', async () => {
    const { clock, commands, add, taken, refuse } = setUp()
    const promise = add(10, 100)
    taken()
    commands.resend()
    taken()
    refuse(2, 'no-leader')
    refuse(1, 'no-leader')
    clock.now = 100
    commands.tick()
    await expect(promise).rejects.toMatchObject({ code: 'no-leader' })
  })

  it('are not refused by a second copy of the refusal of an earlier attempt', async () => {
    const { clock, commands, add, taken, refuse } = setUp()
    const promise = add(10, 100)
    taken()
    refuse(1, 'no-leader')
    commands.tick()
    expect(taken()).toEqual([1])
    refuse(1, 'overloaded')
    clock.now = 100
    commands.tick()
    await expect(promise).rejects.toMatchObject({ code: 'outcome-unknown' })
  })

  it('are not refused by another life of a node that may have logged them in an earlier one', async () => {
    const { clock, commands, add, taken, refuse } = setUp()
    const promise = add(10, 100)
    taken()
    commands.disconnected('leader')
    refuse(1, 'overloaded')
    expect(commands.size).toBe(1)
    clock.now = 100
    commands.tick()
    await expect(promise).rejects.toMatchObject({ code: 'outcome-unknown' })
  })

  it('are refused with the leader’s code when no log can have them', async () => {
    const { commands, add, taken, refuse } = setUp()
    const promise = add()
    taken()
    refuse(1, 'overloaded')
    await expect(promise).rejects.toMatchObject({ code: 'overloaded' })
    expect(commands.size).toBe(0)
  })

  it('that a member could not read are refused before they enter this node’s log', async () => {
    const { commands, addBytes } = setUp()
    const old = addBytes(Uint8Array.of(0x91, 1))
    const tooNew = addBytes(Uint8Array.of(0x91, 2))
    expect(commands.take(1000, 1)?.batch.commands.map(({ number }) => number)).toEqual([1])
    await expect(tooNew).rejects.toMatchObject({ code: 'not-ready', retryable: true, outcome: 'none' })
    commands.decided(1, executed)
    await expect(old).resolves.toBe(executed)
  })

  it('that a member could not read, but a log may have, keep their caller waiting', async () => {
    const { clock, commands, addBytes } = setUp()
    const promise = addBytes(Uint8Array.of(0x91, 2), 100)
    commands.take(1000)
    commands.resend()
    expect(commands.take(1000, 1)).toBeUndefined()
    clock.now = 100
    commands.tick()
    await expect(promise).rejects.toMatchObject({ code: 'outcome-unknown' })
  })

  it('that could not leave were seen by nobody', async () => {
    const { clock, commands, add } = setUp()
    const promise = add(10, 100)
    const batch = commands.take(1000)
    if (batch === undefined) throw new Error('nothing was taken')
    commands.putBack(batch)
    clock.now = 100
    commands.tick()
    await expect(promise).rejects.toMatchObject({ code: 'no-leader' })
  })

  it('beyond the bound are refused with the limit, and nothing is kept of them', async () => {
    const { commands, add } = setUp({ maxWaitingBytes: 100 })
    add(60)
    await expect(add(60)).rejects.toMatchObject({ code: 'overloaded', limit: 100, actual: 120 })
    expect(commands.size).toBe(1)
  })

  it('free what waits once taken, also those answered while they waited', async () => {
    const { clock, commands, add, taken } = setUp({ maxWaitingBytes: 100 })
    const late = add(90, 50)
    clock.now = 50
    commands.tick()
    await expect(late).rejects.toMatchObject({ code: 'no-leader' })
    expect(taken()).toEqual([])
    expect(commands.waitingBytes).toBe(0)
  })

  it('whose caller gives up reject with the signal’s reason and are never sent', async () => {
    const { add, taken } = setUp()
    const controller = new AbortController()
    const promise = add(10, 5000, controller.signal)
    controller.abort(new Error('enough'))
    await expect(promise).rejects.toThrow('enough')
    expect(taken()).toEqual([])
  })

  it('are each told what is true when the node stops', async () => {
    const { commands, add, taken } = setUp()
    const sent = add()
    taken()
    const waiting = add()
    commands.close()
    await expect(sent).rejects.toMatchObject({ code: 'outcome-unknown' })
    await expect(waiting).rejects.toMatchObject({ code: 'shutting-down' })
  })
})

describe('own commands of one caller', () => {
  const many = (commands: OwnCommands, sizes: readonly number[], signal?: AbortSignal) => {
    const promise = commands.addMany(
      sizes.map((size) => new Uint8Array(size)),
      { deadline: 100, signal },
    )
    promise.catch(() => {})
    return promise
  }

  it('are answered together, each with what came of it, once the last one is decided', async () => {
    const { commands, taken, refuse } = setUp()
    const promise = many(commands, [10, 10, 10])
    expect(taken()).toEqual([1, 2, 3])
    commands.decided(3, executed)
    refuse(1, 'storage-full', [2])
    expect(await Promise.race([promise, 'waiting'])).toBe('waiting')
    commands.decided(1, executed)
    expect(await promise).toEqual([
      { value: executed },
      { error: expect.objectContaining({ code: 'storage-full' }) },
      { value: executed },
    ])
    expect(commands.size).toBe(0)
    expect(await many(commands, [])).toEqual([])
  })

  it('are refused one by one where no more may wait', async () => {
    const { commands, taken } = setUp({ maxWaitingBytes: 25 })
    const promise = many(commands, [10, 20, 10])
    expect(taken()).toEqual([1, 2])
    for (const number of [1, 2]) commands.decided(number, executed)
    expect(await promise).toEqual([
      { value: executed },
      { error: expect.objectContaining({ code: 'overloaded', limit: 25, actual: 30 }) },
      { value: executed },
    ])
  })

  it('end at their deadline as each of them does by itself', async () => {
    const { clock, commands } = setUp()
    const promise = many(commands, [10, 10])
    commands.take(10)
    clock.now = 100
    commands.tick()
    expect(await promise).toEqual([
      { error: expect.objectContaining({ code: 'outcome-unknown' }) },
      { error: expect.objectContaining({ code: 'no-leader' }) },
    ])
  })

  it('are forgotten when their caller has gone', async () => {
    const { commands, taken } = setUp()
    const aborter = new AbortController()
    const promise = many(commands, [10, 10], aborter.signal)
    aborter.abort(new Error('gone'))
    await expect(promise).rejects.toThrow('gone')
    expect(commands.size).toBe(0)
    expect(taken()).toEqual([])
    await expect(many(commands, [10], aborter.signal)).rejects.toThrow('gone')
    expect(commands.size).toBe(0)
  })
})
