// A state sent in chunks: what the sender promises, what the receiver believes, and what becomes of either's faults.

import { setImmediate as turn } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { StateDamagedError } from '../../src/store/record.ts'
import { type Chunk, ChunkRefusedError, decodeChunk, encodeChunk } from '../../src/store/state-chunk.ts'
import { StateDiskError } from '../../src/store/state-failure.ts'
import { StateLoader } from '../../src/store/state-loader.ts'
import type { StateMachine } from '../../src/store/state-machine.ts'
import { openLevel } from '../../src/store/state-open.ts'
import { recordKey } from '../../src/store/state-rows.ts'
import type { StateSnapshot } from '../../src/store/state-snapshot.ts'
import type { StateLevel } from '../../src/store/state-writer.ts'
import type { MemoryState } from './memory-state.ts'
import {
  backends,
  batch,
  bytes,
  dump,
  entry,
  founding,
  iterators,
  log,
  memory,
  rows,
  set,
  transfer,
  Workshop,
} from './state-fixtures.ts'

let workshop: Workshop

beforeEach(() => {
  workshop = new Workshop()
})

afterEach(async () => {
  await workshop[Symbol.asyncDispose]()
})

const maxBytes = 1200

type Sender = {
  readonly level: MemoryState
  readonly state: StateMachine
  readonly snapshot: StateSnapshot
  readonly chunks: readonly Chunk[]
}

/** A state after 20 entries, and its snapshot in many chunks. */
async function sender(): Promise<Sender> {
  const level = await memory()
  const { state } = await workshop.open(level, { flushEveryMs: 0 })
  const large = Array.from({ length: 9 }, (_, n) => [n + 1, set(`large-${n}`, 'x'.repeat(800))] as const)
  await state.apply([...log(19), entry(20, [batch(large, { peer: 'peer-2' })])])
  const snapshot = await state.snapshot()
  return { level, state, snapshot, chunks: await chunksOf(snapshot) }
}

async function chunksOf(snapshot: StateSnapshot, atMost = maxBytes): Promise<readonly Chunk[]> {
  const chunks: Chunk[] = []
  let after: Uint8Array | undefined
  do {
    const chunk = await snapshot.chunk(after, atMost)
    chunks.push(chunk)
    after = chunk.next
  } while (after !== undefined)
  return chunks
}

function load(level: StateLevel, expected: StateSnapshot): Promise<StateLoader> {
  return StateLoader.open({ level, expected })
}

/** Until they are durable. */
async function addAll(loader: StateLoader, chunks: readonly Chunk[]): Promise<void> {
  for (const chunk of chunks) await loader.add(chunk)
  await loader.flush()
}

describe.each(backends)('a snapshot on $name', ({ make }) => {
  it('says which state it is, and stays that while the state goes on', async () => {
    const level = await (await make(workshop)).open()
    const { state } = await workshop.open(level)
    await state.apply(log(20))
    const snapshot = await state.snapshot()
    const before = await dump(level)
    expect(snapshot).toMatchObject({
      index: 20,
      term: 1,
      revision: 60,
      configuration: founding.configuration,
      digest: state.digest.digest,
    })
    await state.apply(log(40).slice(20))
    await state.flush()
    expect(await dump(level)).not.toEqual(before)
    const target = await (await make(workshop)).open()
    const loader = await load(target, snapshot)
    await transfer(snapshot, loader, maxBytes)
    expect(await loader.finish()).toMatchObject({ index: 20, digest: snapshot.digest })
    expect(await dump(target)).toEqual(before)
    expect(await snapshot.verify()).toMatchObject({ index: 20, digest: snapshot.digest })
    await snapshot.close()
    await expect(snapshot.chunk(undefined, maxBytes)).rejects.toThrow()
    expect(workshop.failures).toEqual([])
  })

  it('carries values of 8 MiB in chunks of at most the size asked for', async () => {
    const large = { ...founding, valueBytes: 8 << 20 }
    const value = Buffer.alloc(8 << 20)
    for (let at = 0; at < value.length; at += 4) value.writeUInt32BE((at * 2_654_435_761) >>> 0, at)
    const { open } = await make(workshop)
    const machine = await workshop.open(await open(), { founding: large })
    await machine.run(set('a', '1'), set('b', value), set('c', value.subarray(1)), set('d', '2'))
    const snapshot = await machine.state.snapshot()
    const level = await (await make(workshop)).open()
    const loader = await load(level, snapshot)
    expect(await transfer(snapshot, loader, 256 * 1024)).toBe(256 * 1024)
    await loader.finish()
    const { state } = await workshop.open(level, { founding: large })
    expect(Buffer.compare((await state.get('default', bytes('b')))?.value ?? bytes(''), value)).toBe(0)
    expect(state.digest.digest).toBe(snapshot.digest)
  })

  it('of the founding alone is a state too', async () => {
    const { state } = await workshop.open(await (await make(workshop)).open())
    const snapshot = await state.snapshot()
    const level = await (await make(workshop)).open()
    const loader = await load(level, snapshot)
    await transfer(snapshot, loader, maxBytes)
    await loader.finish()
    const { state: found } = await workshop.open(level)
    expect(found.lastApplied).toBe(0)
    expect(found.digest).toEqual(state.digest)
  })
})

describe('a chunk', () => {
  it('is the same however often it is asked for, and whatever was asked for in between', async () => {
    const { snapshot, chunks } = await sender()
    expect(chunks.length).toBeGreaterThan(5)
    for (const chunk of chunks.toReversed()) {
      const { after } = decodeChunk(chunk)
      const again = await snapshot.chunk(after, maxBytes)
      expect(Buffer.compare(again.bytes, chunk.bytes)).toBe(0)
    }
  })

  it('does not come from a cursor that is of no row, and the state machine lives on', async () => {
    const { snapshot, state } = await sender()
    await expect(snapshot.chunk(bytes(''), maxBytes)).rejects.toThrow(ChunkRefusedError)
    await expect(snapshot.chunk(Buffer.from([0, 0, 0, 9, 0x10, 1]), maxBytes)).rejects.toThrow(
      ChunkRefusedError,
    )
    expect(state.failure).toBeUndefined()
  })

  it('with any bit changed is refused, and nothing of it taken', async () => {
    const { snapshot, chunks } = await sender()
    const level = await memory()
    const loader = await load(level, snapshot)
    const [chunk] = chunks
    if (chunk === undefined) throw new Error('There is a first chunk')
    for (let bit = 0; bit < chunk.bytes.length * 8; bit += 7) {
      const changed = Buffer.from(chunk.bytes)
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      await expect(loader.add({ ...chunk, bytes: changed })).rejects.toThrow(ChunkRefusedError)
    }
    expect(level.writes).toBe(0)
    await addAll(loader, chunks)
    await loader.finish()
  })

  it('out of its order, come again, or of another snapshot is refused, and nothing of it taken', async () => {
    const { snapshot, chunks, state } = await sender()
    await state.apply(log(21).slice(20))
    const others = await chunksOf(await state.snapshot())
    const loader = await load(await memory(), snapshot)
    for (const [at, chunk] of chunks.entries()) {
      for (const [other, wrong] of chunks.entries()) {
        if (other !== at) await expect(loader.add(wrong)).rejects.toThrow('out of its order')
      }
      await expect(loader.add(others[at] ?? chunk)).rejects.toThrow('at 21 came for the one at 20')
      await loader.add(chunk)
    }
    await expect(loader.add(chunks[0] as Chunk)).rejects.toThrow('The last chunk')
    await loader.finish()
  })

  it('whose content does not hold together is refused', async () => {
    const { snapshot, chunks } = await sender()
    const loader = await load(await memory(), snapshot)
    const content = decodeChunk(chunks[0] as Chunk)
    const [first, second, ...rest] = content.pieces
    if (first === undefined || second === undefined) throw new Error('The first chunk has two rows')
    const foul = Buffer.from(second.bytes)
    foul[7] = (foul[7] ?? 0) ^ 1
    for (const [pieces, why] of [
      [[second, first, ...rest], 'out of their order'],
      [[first, first, second, ...rest], 'out of their order'],
      [[first, second], 'ends elsewhere'],
      [[first, { ...second, offset: 3 }, ...rest], 'does not fit'],
      [[first, { ...second, size: second.size - 1 }, ...rest], 'does not fit'],
      [[first, { ...second, size: 2 ** 32 - 1 }, ...rest], 'does not fit'],
      [[first, { ...second, bytes: Buffer.alloc(0) }, ...rest], 'does not fit'],
      [[first, { ...second, bytes: foul }, ...rest], 'not what was written'],
    ] as const) {
      await expect(loader.add(encodeChunk({ ...content, pieces })), why).rejects.toThrow(why)
    }
    const cut = encodeChunk(content).bytes.subarray(0, -1)
    await expect(loader.add(encodeChunkBytes(cut))).rejects.toThrow('cut short')
    await loader.add(chunks[0] as Chunk)
  })
})

/** Bytes with the sum that belongs to them. */
function encodeChunkBytes(content: Uint8Array): Chunk {
  return { bytes: content, crc: crc32(content) }
}

/** After so many turns of the event loop. */
async function turns(count: number): Promise<'not yet'> {
  for (let n = 0; n < count; n++) await turn()
  return 'not yet'
}

describe('a receiver', () => {
  it('goes on after a power loss from what it had written, at every chunk', async () => {
    const { snapshot, chunks, level: origin } = await sender()
    const expected = await dump(origin)
    for (let stop = 0; stop <= chunks.length; stop++) {
      const level = await memory()
      const loader = await load(level, snapshot)
      await addAll(loader, chunks.slice(0, stop))
      const survivor = await level.powerLoss(stop)
      const second = await load(survivor, snapshot)
      expect(second.complete).toBe(stop === chunks.length)
      expect(second.after).toEqual(loader.after)
      await transfer(snapshot, second, maxBytes)
      await second.finish()
      expect(await dump(survivor)).toEqual(expected)
    }
  })

  it('takes a chunk while the one before it is written, and no third one before that is durable', async () => {
    const { snapshot, chunks, level: origin } = await sender()
    const level = await memory()
    const loader = await load(level, snapshot)
    const [first, second] = chunks as [Chunk, Chunk]
    let release = level.hang()
    await loader.add(first)
    expect(loader.after).toEqual(decodeChunk(first).next)
    const adding = loader.add(second).then(() => 'taken')
    expect(await Promise.race([adding, turns(20)])).toBe('not yet')
    expect(level.writes).toBe(1)
    release()
    expect(await adding).toBe('taken')
    release = level.hang()
    // What is still being written is lost with the power, or is not, and what was written before is there.
    const places = new Set<string>()
    for (let seed = 1; seed <= 12; seed++) {
      const survivor = await level.powerLoss(seed)
      const resumed = await load(survivor, snapshot)
      places.add(`${resumed.after}`)
      await transfer(snapshot, resumed, maxBytes)
      await resumed.finish()
      expect(await dump(survivor)).toEqual(await dump(origin))
    }
    expect([...places]).not.toContain('undefined')
    release()
  })

  it('does not finish before the last chunk is durable', async () => {
    const { snapshot, chunks } = await sender()
    const level = await memory()
    const loader = await load(level, snapshot)
    await addAll(loader, chunks.slice(0, -1))
    level.failWrite(1, 'EIO')
    await loader.add(chunks.at(-1) as Chunk)
    await expect(loader.finish()).rejects.toThrow(StateDiskError)
  })

  it('goes on at the beginning of a row that was sent in part', async () => {
    const machine = await workshop.open(await memory())
    await machine.run(set('a', '1'), set('b', 'x'.repeat(1000)), set('c', 'y'.repeat(1000)))
    const snapshot = await machine.state.snapshot()
    const level = await memory()
    const loader = await load(level, snapshot)
    let large = 0
    while (!loader.complete) {
      const second = await load(await level.restart(), snapshot)
      if (second.after !== undefined && Buffer.compare(second.after, loader.after ?? bytes('')) !== 0)
        large += 1
      await transfer(snapshot, second, 500)
      await second.finish()
      await addAll(loader, [await snapshot.chunk(loader.after, 500)])
    }
    expect(large).toBeGreaterThan(1)
  })

  it('is told that a batch is missing where the disk lied about its syncs, or loads the same bytes', async () => {
    const { snapshot, chunks, level: origin } = await sender()
    const expected = await dump(origin)
    const seen = { damaged: 0, loaded: 0 }
    for (let seed = 1; seed <= 40; seed++) {
      const level = await memory({ syncs: false })
      const loader = await load(level, snapshot)
      await addAll(loader, chunks.slice(0, 4))
      const survivor = await level.powerLoss(seed)
      try {
        const second = await load(survivor, snapshot)
        await transfer(snapshot, second, maxBytes)
        await second.finish()
        expect(await dump(survivor), `seed ${seed}`).toEqual(expected)
        seen.loaded += 1
      } catch (error) {
        expect(error, `seed ${seed}`).toBeInstanceOf(StateDamagedError)
        seen.damaged += 1
      }
    }
    expect(seen.damaged).toBeGreaterThan(0)
    expect(seen.loaded).toBeGreaterThan(0)
  })

  it('does not go on where a batch is missing below the last, whichever it is', async () => {
    const { snapshot, chunks } = await sender()
    const level = await memory()
    const loader = await load(level, snapshot)
    await addAll(loader, chunks)
    for (let lost = 0; lost < chunks.length - 1; lost++) {
      const survivor = await level.without((index) => index !== lost)
      await expect(load(survivor, snapshot)).rejects.toThrow(`batch ${lost + 1} is missing`)
    }
    const shorter = await load(await level.without((index) => index !== chunks.length - 1), snapshot)
    expect(shorter.complete).toBe(false)
    await transfer(snapshot, shorter, maxBytes)
    await shorter.finish()
  })

  it('whose disk refuses goes on with what it had, opened again', async () => {
    const { snapshot, chunks, level: origin } = await sender()
    const seen = new Set<string>()
    for (let seed = 1; seed <= 12; seed++) {
      const level = await memory()
      const loader = await load(level, snapshot)
      await addAll(loader, chunks.slice(0, 1))
      level.failWrite(1, 'ENOSPC')
      await loader.add(chunks[1] as Chunk)
      await expect(loader.flush()).rejects.toThrow(StateDiskError)
      // Nothing more is written through a handle that has failed.
      const { writes } = level
      await expect(loader.add(chunks[2] as Chunk)).rejects.toThrow(StateDiskError)
      expect(level.writes).toBe(writes)
      const survivor = await level.reopened(seed)
      const second = await load(survivor, snapshot)
      // The batch that failed may have come to the disk.
      seen.add(`${second.after}`)
      await transfer(snapshot, second, maxBytes)
      await second.finish()
      expect(await dump(survivor)).toEqual(await dump(origin))
    }
    expect(seen.size).toBe(2)
  })

  it('does not begin where there is a state, other rows, or part of another snapshot', async () => {
    const { snapshot, chunks, state, level } = await sender()
    await expect(load(await level.restart(), snapshot)).rejects.toThrow(StateDamagedError)
    const strange = await (await memory()).altered(recordKey(1, bytes('a')), Buffer.alloc(9))
    await expect(load(strange, snapshot)).rejects.toThrow('there are rows')
    const half = await memory()
    const loader = await load(half, snapshot)
    await addAll(loader, chunks.slice(0, 1))
    await state.apply(log(21).slice(20))
    await expect(load(await half.restart(), await state.snapshot())).rejects.toThrow('something else')
  })

  it('never has part of a snapshot for a state, at whatever chunk it stopped and before it has finished', async () => {
    const { state } = await workshop.open(await memory())
    const small = await state.snapshot()
    const { snapshot } = await sender()
    for (const one of [snapshot, small]) {
      const level = await memory()
      const loader = await load(level, one)
      while (!loader.complete) {
        await addAll(loader, [await one.chunk(loader.after, maxBytes)])
        await expect(workshop.open(await level.restart())).rejects.toThrow(StateDamagedError)
      }
      await loader.finish()
      await workshop.open(await level.restart())
    }
  })

  it('has a whole state when it is finished, which a power loss does not take', async () => {
    const { snapshot, level: origin } = await sender()
    const level = await memory()
    const loader = await load(level, snapshot)
    await transfer(snapshot, loader, maxBytes)
    await loader.finish()
    const survivor = await level.powerLoss(1)
    const { state } = await workshop.open(survivor)
    expect(state.verified).toBe(true)
    expect(await dump(survivor)).toEqual(await dump(origin))
  })

  it.each([
    ['index', { index: 20 + 1 }],
    ['term', { term: 2 }],
    ['digest', { digest: '0'.repeat(32) }],
  ])('does not finish with another %s than was said', async (what, difference) => {
    const { snapshot, chunks } = await sender()
    const { index, term, digest } = snapshot
    const loader = await StateLoader.open({
      level: await memory(),
      expected: { index, term, digest, ...difference },
    })
    const adding = chunks.map((chunk) => () => {
      const content = decodeChunk(chunk)
      return loader.add(what === 'index' ? encodeChunk({ ...content, index: 21 }) : chunk)
    })
    for (const add of adding) await add()
    await expect(loader.finish()).rejects.toThrow(StateDamagedError)
    await expect(loader.finish()).rejects.toThrow(`has ${what} `)
  })
})

describe("damage on the sender's disk", () => {
  it('of a row ends the sending state machine, and nothing of the row leaves', async () => {
    const { level } = await sender()
    const key = recordKey(1, bytes('shared'))
    const row = Buffer.from((await level.get(key)) ?? [])
    row[row.length - 1] = (row.at(-1) ?? 0) ^ 1
    const { state } = await workshop.open(await level.altered(key, row))
    const snapshot = await state.snapshot()
    await expect(chunksOf(snapshot)).rejects.toThrow(StateDamagedError)
    expect(state.failure?.type).toBe('damaged')
    await expect(snapshot.chunk(undefined, maxBytes)).rejects.toThrow(StateDamagedError)
  })

  it('that no row shows is found by either end, whichever row is absent or older', async () => {
    const level = await memory()
    const { state } = await workshop.open(level)
    for (const one of log(8)) {
      await state.apply([one])
      await state.flush()
    }
    let tried = 0
    for (const [key, now] of await rows(level)) {
      const older = level.versions(key).find((one) => one !== undefined && Buffer.compare(one, now) !== 0)
      for (const value of [undefined, ...(older === undefined ? [] : [older])]) {
        const damaged = await level.altered(key, value)
        const opened = await workshop.open(damaged).catch((error: unknown) => {
          // Missing rows of what is kept in memory may show at once.
          expect(error).toBeInstanceOf(StateDamagedError)
          return undefined
        })
        if (opened === undefined) continue
        const snapshot = await opened.state.snapshot()
        const loader = await load(await memory(), snapshot)
        await transfer(snapshot, loader, maxBytes)
        await expect(loader.finish()).rejects.toThrow(StateDamagedError)
        await expect(snapshot.verify()).rejects.toThrow(StateDamagedError)
        expect(opened.state.failure?.type).toBe('damaged')
        tried += 1
      }
    }
    expect(tried).toBeGreaterThan(10)
  })
})

describe('the check of a snapshot', () => {
  /** A row that is gone, of a state that shows it nowhere else, and its snapshot. */
  async function lacking(): Promise<StateSnapshot> {
    const { level } = await sender()
    const { state } = await workshop.open(await level.altered(recordKey(1, bytes('shared')), undefined))
    return state.snapshot()
  }

  it('reads nothing again that was handed out in its order, however often and whatever else was', async () => {
    const { level, snapshot, chunks } = await sender()
    const again = await snapshot.chunk(decodeChunk(chunks[2] as Chunk).after, maxBytes)
    expect(Buffer.compare(again.bytes, (chunks[2] as Chunk).bytes)).toBe(0)
    const opened = iterators(level)
    expect(await snapshot.verify()).toMatchObject({ index: 20, digest: snapshot.digest })
    expect(opened()).toBe(0)
  })

  it('counts the same rows and bytes on the way as when it reads them, rows in pieces too', async () => {
    const machine = await workshop.open(await memory())
    await machine.run(set('a', '1'), set('b', 'x'.repeat(1000)), set('c', 'y'.repeat(1000)), set('d', '2'))
    const [one, other] = [await machine.state.snapshot(), await machine.state.snapshot()]
    expect((await chunksOf(one, 500)).length).toBeGreaterThan(5)
    expect(await one.verify()).toEqual(await other.verify())
  })

  it('reads all rows where some were passed over', async () => {
    const { level, state, chunks } = await sender()
    const snapshot = await state.snapshot()
    for (const chunk of chunks.slice(3)) await snapshot.chunk(decodeChunk(chunk).after, maxBytes)
    const opened = iterators(level)
    expect(await snapshot.verify()).toMatchObject({ index: 20 })
    expect(opened()).toBe(1)
  })

  it('finds that a row is absent, whether the rows were handed out or not', async () => {
    await expect((await lacking()).verify()).rejects.toThrow(StateDamagedError)
    const handedOut = await lacking()
    await chunksOf(handedOut)
    await expect(handedOut.verify()).rejects.toThrow('rows are absent')
  })
})

describe('on real LevelDB', () => {
  it('a receiver that was closed in the middle goes on, and its directory opens as the state', async () => {
    const { snapshot, chunks, level: origin } = await sender()
    const directory = await workshop.directory()
    const first = await openLevel(directory)
    const loader = await load(first, snapshot)
    await addAll(loader, chunks.slice(0, 3))
    await first.close()
    const second = await openLevel(directory)
    const resumed = await load(second, snapshot)
    expect(resumed.after).toEqual(loader.after)
    await transfer(snapshot, resumed, maxBytes)
    await resumed.finish()
    await second.close()
    const third = await openLevel(directory)
    const { state } = await workshop.open(third)
    expect(state.verified).toBe(true)
    await state.apply([entry(21, [])])
    await state.flush()
    expect(await state.recompute()).toMatchObject(state.digest)
    expect((await rows(third)).length).toBe((await rows(origin)).length)
  })
})
