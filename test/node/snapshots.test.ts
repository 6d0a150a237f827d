// A state on its way from one node to another: what the sender holds and checks, what the receiver asks for again and gives up.

import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  type Loaded,
  SnapshotReceiver,
  type SnapshotReceiverOptions,
} from '../../src/node/snapshot-receiver.ts'
import { SnapshotSender } from '../../src/node/snapshot-sender.ts'
import type { Answer, Question } from '../../src/node/transport.ts'
import { decodeChunk, encodeCursor, peekNext } from '../../src/store/state-chunk.ts'
import type { StateMachine } from '../../src/store/state-machine.ts'
import { recordKey } from '../../src/store/state-rows.ts'
import type { MemoryState } from '../store/memory-state.ts'
import {
  batch,
  bytes,
  dump,
  entry,
  founding,
  iterators,
  log,
  memory,
  set,
  Workshop,
} from '../store/state-fixtures.ts'

let workshop: Workshop

beforeEach(() => {
  workshop = new Workshop()
})

afterEach(async () => {
  await workshop[Symbol.asyncDispose]()
})

type Sending = {
  readonly sender: SnapshotSender
  readonly level: MemoryState
  readonly clock: { now: number }
  readonly state: StateMachine
  /** What there is to send: that state, unless it is lost. */
  machine: StateMachine | undefined
  /** How often a snapshot was taken. */
  readonly taken: () => number
  /** How long the event loop has worked, by the same clock. */
  readonly work: { ms: number }
  readonly slept: number[]
}

/** A node with a state of 20 entries and several chunks, and what sends it. */
async function sending(from?: MemoryState): Promise<Sending> {
  const level = from ?? (await memory())
  const { state } = await workshop.open(level, {
    flushEveryMs: 0,
    founding: { ...founding, valueBytes: 2 ** 20 },
  })
  if (from === undefined) {
    const large = Array.from(
      { length: 16 },
      (_, n) => [n + 1, set(`large-${n}`, 'x'.repeat(200_000))] as const,
    )
    await state.apply([...log(19), entry(20, [batch(large, { peer: 'peer-2' })])])
    await state.flush()
  }
  const clock = { now: 1000 }
  let snapshots = 0
  const counted = Object.create(state, {
    snapshot: {
      value: () => {
        snapshots++
        return state.snapshot()
      },
    },
  }) as StateMachine
  const work = { ms: 0 }
  const slept: number[] = []
  const made = {
    level,
    clock,
    work,
    slept,
    state,
    machine: counted as StateMachine | undefined,
    taken: () => snapshots,
  }
  const sender = new SnapshotSender({
    machine: () => made.machine,
    now: () => clock.now,
    worked: () => work.ms,
    sleep: async (ms) => {
      slept.push(ms)
      clock.now += ms
    },
  })
  return Object.assign(made, { sender })
}

async function answered(sender: SnapshotSender): Promise<Extract<Answer, { type: 'snapshot' }>> {
  const answer = await sender.answer({ type: 'holdSnapshot' })
  if (answer.type !== 'snapshot') throw new Error(`the answer was ${JSON.stringify(answer)}`)
  return answer
}

describe('the sender', () => {
  it('holds one snapshot for all that ask within half a minute, and a new one for those that come later', async () => {
    const { sender, clock, state, taken } = await sending()
    const [one, other] = await Promise.all([answered(sender), answered(sender)])
    expect([one.index, other.index]).toEqual([20, 20])
    expect(taken()).toBe(1)
    await state.apply([entry(21, [batch([[1, set('more', '1')]], { peer: 'peer-3' })])])
    clock.now += 29_999
    expect((await answered(sender)).index).toBe(20)
    clock.now += 2
    expect((await answered(sender)).index).toBe(21)
    // What follows the older one in the log is still needed by whoever reads it.
    expect(sender.lowestIndex).toBe(20)
  })

  it('lets one go that nobody has read for ten minutes, and not before', async () => {
    const { sender, clock } = await sending()
    await answered(sender)
    clock.now += 599_000
    sender.tick()
    expect(await sender.answer({ type: 'sendChunk', index: 20 })).toMatchObject({ type: 'chunk' })
    clock.now += 599_000
    sender.tick()
    expect(sender.lowestIndex).toBe(20)
    clock.now += 1001
    sender.tick()
    expect(sender.lowestIndex).toBeUndefined()
    expect(await sender.answer({ type: 'sendChunk', index: 20 })).toMatchObject({ type: 'refused' })
  })

  it('sends nothing of a snapshot but the one asked for', async () => {
    const { sender } = await sending()
    await answered(sender)
    expect(await sender.answer({ type: 'sendChunk', index: 19 })).toMatchObject({
      type: 'refused',
      reason: expect.stringContaining('19'),
    })
  })

  it('has nothing to send while its state is not whole, and lets go of what an earlier one held', async () => {
    const made = await sending()
    await answered(made.sender)
    made.machine = undefined
    made.sender.tick()
    expect(made.sender.lowestIndex).toBeUndefined()
    expect(await made.sender.answer({ type: 'holdSnapshot' })).toMatchObject({
      type: 'refused',
      reason: expect.stringContaining('no whole state'),
    })
  })

  it('never gives out the last chunk of a state that lacks a row to one that has asked for no other', async () => {
    const whole = await sending()
    const lacking = await whole.level.altered(recordKey(1, bytes('shared')), undefined)
    await lacking.open()
    const { sender, state } = await sending(lacking)
    await answered(sender)
    const after = Buffer.from(encodeCursor({ key: Buffer.from([0xff]), sent: undefined })).toString('base64')
    const question = { type: 'sendChunk', index: 20, after } as const
    expect(await sender.answer(question)).toMatchObject({
      type: 'refused',
      reason: expect.stringContaining('damaged'),
    })
    expect(state.failure?.type).toBe('damaged')
  })

  it('reads the next chunk while one is on its way, and no further', async () => {
    const { sender, level } = await sending()
    await answered(sender)
    const reads = iterators(level)
    const first = await sender.answer({ type: 'sendChunk', index: 20 })
    if (first.type !== 'chunk') throw new Error(`the answer was ${first.type}`)
    for (let n = 0; n < 20; n++) await new Promise(setImmediate)
    expect(reads()).toBe(2)
    const after = Buffer.from(peekNext(first) ?? []).toString('base64')
    const second = await sender.answer({ type: 'sendChunk', index: 20, after })
    if (second.type !== 'chunk') throw new Error(`the answer was ${second.type}`)
    expect(decodeChunk(second).after).toEqual(peekNext(first))
    expect(reads()).toBe(3)
    // Whoever lost the first gets it again.
    expect(await sender.answer({ type: 'sendChunk', index: 20 })).toEqual(first)
  })

  it('rests until its event loop was idle half as long as it was at work, whatever the work was', async () => {
    const { sender, clock, work, slept } = await sending()
    await answered(sender)
    const question = { type: 'sendChunk', index: 20 } as const
    await sender.answer(question)
    slept.length = 0
    for (const [passed, worked] of [
      [60, 60],
      [60, 50],
      [60, 40],
      [1000, 100],
      [1000, 1000],
    ] as const) {
      clock.now += passed
      work.ms += worked
      await sender.answer(question)
    }
    // 30 ms and 15 ms are missing, then none twice, and then more than a chunk ever waits.
    expect(slept).toEqual([30, 15, 100])
  })

  it('never gives out the whole of a state that lacks a row', async () => {
    const whole = await sending()
    const lacking = await whole.level.altered(recordKey(1, bytes('shared')), undefined)
    await lacking.open()
    const { sender, state } = await sending(lacking)
    const refusals: string[] = []
    const { run, receiver, seen } = await receiving(
      async (peer, question) => {
        const answer = await answering(sender)(peer, question)
        if (answer.type === 'refused') refusals.push(answer.reason)
        return answer
      },
      { sources: () => ['b'], sleep: async (ms) => (ms === 0 ? undefined : void receiver.stop()) },
    )
    await run()
    expect(new Set(refusals)).toEqual(new Set([expect.stringContaining('damaged')]))
    expect(seen.discarded).toEqual(['state-1'])
    expect(seen.offered).toEqual([])
    expect(state.failure?.type).toBe('damaged')
  })
})

/** A receiver whose peers answer by `ask`; it needs a state from index 5 on until it has been offered one. */
async function receiving(
  ask: (peer: string, question: Question) => Promise<Answer>,
  more: Partial<SnapshotReceiverOptions> = {},
) {
  const seen = {
    needed: 5 as number | undefined,
    offered: [] as Loaded[],
    discarded: [] as string[],
    slept: [] as number[],
    asked: [] as string[],
  }
  let directories = 0
  const receiver = new SnapshotReceiver({
    sources: () => ['b', 'c'],
    ask: (peer, question) => {
      seen.asked.push(`${peer} ${question.type}`)
      return ask(peer, question)
    },
    nextDirectory: async () => `state-${++directories}`,
    openLevel: () => memory(),
    discard: async (directory, level) => {
      seen.discarded.push(directory)
      await level?.close()
    },
    offer: async (loaded) => {
      seen.offered.push(loaded)
      seen.needed = undefined
      return true
    },
    needed: () => seen.needed,
    sleep: async (ms) => {
      seen.slept.push(ms)
    },
    now: () => 0,
    time: undefined,
    name: (peer) => peer,
    logger: pino({ level: 'silent' }),
    ...more,
  })
  const run = async () => {
    receiver.start()
    await expect.poll(() => receiver.isRunning).toBe(false)
  }
  return { receiver, run, seen }
}

function answering(sender: SnapshotSender) {
  return async (_: string, question: Question): Promise<Answer> => {
    if (question.type !== 'holdSnapshot' && question.type !== 'sendChunk') throw new Error(question.type)
    return sender.answer(question)
  }
}

describe('the receiver', () => {
  it('loads what another member sends into a directory of its own, and offers it once it is whole', async () => {
    const { sender, level } = await sending()
    const { run, seen } = await receiving(answering(sender))
    await run()
    expect(seen.offered).toHaveLength(1)
    const [loaded] = seen.offered
    expect(loaded).toMatchObject({ index: 20, term: 1, directory: 'state-1' })
    if (loaded !== undefined) expect(await dump(loaded.level)).toEqual(await dump(level))
    expect(seen.discarded).toEqual([])
    expect(new Set(seen.asked)).toEqual(new Set(['b holdSnapshot', 'b sendChunk']))
  })

  it('asks again for a chunk that was lost or came damaged, and for no other', async () => {
    const { sender } = await sending()
    const ask = answering(sender)
    const asked: Question[] = []
    const { run, seen } = await receiving(async (peer, question) => {
      const answer = await ask(peer, question)
      if (answer.type !== 'chunk') return answer
      asked.push(question)
      if (asked.length === 2) throw new Error('the connection ended')
      if (asked.length === 4) return { ...answer, crc: answer.crc ^ 1 }
      return answer
    })
    await run()
    expect(seen.offered).toHaveLength(1)
    expect(seen.asked.filter((one) => one.endsWith('holdSnapshot'))).toHaveLength(1)
    const places = new Set(asked.map((question) => JSON.stringify(question)))
    expect(places.size).toBeGreaterThan(2)
    expect(asked).toHaveLength(places.size + 2)
    expect(seen.slept.filter((ms) => ms === 500)).toHaveLength(2)
  })

  it('gives a member up after five tries, throws away what it had, and asks the next', async () => {
    const { sender } = await sending()
    const ask = answering(sender)
    const { run, seen } = await receiving(async (peer, question) => {
      if (peer === 'b' && question.type === 'sendChunk') throw new Error('the connection ended')
      return ask(peer, question)
    })
    await run()
    expect(seen.asked.filter((one) => one === 'b sendChunk')).toHaveLength(5)
    expect(seen.discarded).toEqual(['state-1'])
    expect(seen.offered).toMatchObject([{ directory: 'state-2' }])
  })

  it('never offers what does not come to the digest it was promised', async () => {
    const { sender } = await sending()
    const ask = answering(sender)
    const { run, seen } = await receiving(async (peer, question) => {
      const answer = await ask(peer, question)
      if (peer !== 'b' || answer.type !== 'snapshot') return answer
      const first = answer.digest.startsWith('0') ? '1' : '0'
      return { ...answer, digest: `${first}${answer.digest.slice(1)}` }
    })
    await run()
    expect(seen.discarded).toEqual(['state-1'])
    expect(seen.offered).toMatchObject([{ directory: 'state-2' }])
    expect(seen.asked).toContain('c holdSnapshot')
  })

  it('asks nobody for a state that does not reach as far as it needs', async () => {
    const { sender } = await sending()
    const { run, seen, receiver } = await receiving(answering(sender), {
      sleep: async () => void receiver.stop(),
    })
    seen.needed = 21
    await run()
    expect(seen.asked).toEqual(['b holdSnapshot', 'c holdSnapshot'])
    expect(seen.offered).toEqual([])
  })

  it('throws away what is of no use any more when it has come', async () => {
    const { sender } = await sending()
    const { run, seen } = await receiving(answering(sender), {
      offer: async () => {
        seen.needed = undefined
        return false
      },
    })
    await run()
    expect(seen.discarded).toEqual(['state-1'])
  })

  it('stops before the next chunk when it is told to, and begins no other transfer', async () => {
    const { sender } = await sending()
    const { receiver, seen } = await receiving(async (peer, question) => {
      if (question.type === 'holdSnapshot') void receiver.stop()
      return answering(sender)(peer, question)
    })
    receiver.start()
    await receiver.stop()
    expect(seen.asked).toEqual(['b holdSnapshot'])
    expect(seen.discarded).toEqual(['state-1'])
    receiver.start()
    expect(receiver.isRunning).toBe(false)
  })

  it('asks for the next chunk before it takes the one that has come, and for no chunk twice', async () => {
    const { sender } = await sending()
    const ask = answering(sender)
    const asked: string[] = []
    const held = Promise.withResolvers<void>()
    let level: MemoryState | undefined
    let release: (() => void) | undefined
    const { run, seen } = await receiving(
      async (peer, question) => {
        if (question.type === 'sendChunk') {
          asked.push(question.after ?? '')
          // What has come is not written, and so the one after the next is not asked for.
          if (asked.length === 1) release = level?.hang()
          if (asked.length === 3) held.resolve()
        }
        return ask(peer, question)
      },
      {
        openLevel: async () => {
          level = await memory()
          return level
        },
      },
    )
    const running = run()
    await held.promise
    for (let n = 0; n < 20; n++) await new Promise(setImmediate)
    expect(asked).toHaveLength(3)
    expect(level?.writes).toBe(1)
    release?.()
    await running
    expect(seen.offered).toHaveLength(1)
    expect(new Set(asked).size).toBe(asked.length)
    expect(seen.slept).toEqual([])
  })

  it('writes nothing any more when it has stopped', async () => {
    const { sender } = await sending()
    let level: MemoryState | undefined
    let release: (() => void) | undefined
    const closed: number[] = []
    const { receiver } = await receiving(
      async (peer, question) => {
        if (question.type === 'sendChunk' && release === undefined) release = level?.hang()
        else if (question.type === 'sendChunk') void receiver.stop()
        return answering(sender)(peer, question)
      },
      {
        openLevel: async () => {
          level = await memory()
          return level
        },
        discard: async () => {
          closed.push(level?.volatile ?? -1)
        },
      },
    )
    receiver.start()
    await expect.poll(() => level?.writes).toBe(1)
    for (let n = 0; n < 20; n++) await new Promise(setImmediate)
    expect(closed).toEqual([])
    release?.()
    await receiver.stop()
    expect(closed).toEqual([0])
  })
})
