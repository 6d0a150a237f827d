// The digest: what it sums up, what it shows, and how the rows are held against it.

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { StateDamagedError, seal } from '../../src/store/record.ts'
import { hashRow } from '../../src/store/row-hash.ts'
import { hexOf, RowSum } from '../../src/store/state-digest.ts'
import type { StateMachine } from '../../src/store/state-machine.ts'
import { closedKey, metaKey, recordKey } from '../../src/store/state-rows.ts'
import { realTime } from '../../src/store/state-time.ts'
import type { MemoryState } from './memory-state.ts'
import { backends, batch, bytes, dump, entry, log, memory, rows, set, Workshop } from './state-fixtures.ts'

let workshop: Workshop

beforeEach(() => {
  workshop = new Workshop()
})

afterEach(async () => {
  await workshop[Symbol.asyncDispose]()
})

async function applied(count: number, level: MemoryState): Promise<StateMachine> {
  const { state } = await workshop.open(level, { flushEveryMs: 0 })
  for (const one of log(count)) {
    await state.apply([one])
    await state.flush()
  }
  return state
}

/** Ends the process without a word to LevelDB, in the twin's eyes. */
async function killed(count: number): Promise<MemoryState> {
  const level = await memory()
  await applied(count, level)
  return level.restart()
}

/** The damage that opening or recomputing comes upon. */
async function damageOf(level: MemoryState): Promise<unknown> {
  try {
    const { state } = await workshop.open(level)
    await state.recompute()
    return undefined
  } catch (error) {
    return error
  }
}

/** Members must agree, whatever their builds: another function is another format of the first row. */
const pinned = [
  '0b9abddd2cf2a185573ea0332633db9f',
  '869055f92d57a8a6915614c945760c85',
  '3ddcaad3a1a11710ab86fe761d5a2738',
]

describe('the sum of rows', () => {
  it('does not depend on their order, and forgets what is taken out', () => {
    const all = ['a', 'b', 'c'].map((key) => hashRow(bytes(key), bytes(`value of ${key}`)))
    const forth = new RowSum()
    const back = new RowSum()
    for (const one of all) forth.add(one)
    for (const one of all.toReversed()) back.add(one)
    expect(forth.hex).toBe(back.hex)
    expect(new RowSum(forth.hex).hex).toBe(forth.hex)
    for (const one of all) forth.remove(one)
    expect(forth.hex).toBe(new RowSum().hex)
  })

  it('tells where a key ends and its value begins, in small rows and large ones', () => {
    expect(hashRow(bytes('ab'), bytes('c'))).not.toEqual(hashRow(bytes('a'), bytes('bc')))
    const large = Buffer.alloc(1 << 20, 'x')
    expect(hashRow(bytes('ab'), large)).not.toEqual(hashRow(bytes('a'), Buffer.concat([bytes('b'), large])))
  })

  it('is the same however long a row is, on every machine', () => {
    // On both sides of what is hashed in one piece, and what an earlier row left in there does not matter.
    const sizes = [0, 1, 15, 16, 17, 300, 65_531, 65_532, 65_533, 200_000]
    const row = (size: number) => hashRow(bytes('k'), Buffer.alloc(size, 'abc'))
    const found = sizes.map((size) => hexOf(row(size)))
    expect(sizes.toReversed().map((size) => hexOf(row(size)))).toEqual(found.toReversed())
    expect(new Set(found).size).toBe(sizes.length)
    expect([found[0], found[5], found[9]]).toEqual(pinned)
  })

  it('changes in every part with any bit of a row', () => {
    const row = Buffer.alloc(100, 'abc')
    const seen = new Set<number>(hashRow(bytes('k'), row))
    for (let bit = 0; bit < 800; bit++) {
      const flipped = Buffer.from(row)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      for (const lane of hashRow(bytes('k'), flipped)) seen.add(lane)
    }
    // Of 3,204 lanes of 32 bits one or two may be equal by chance; in this build none is.
    expect(seen.size).toBe(801 * 4)
  })
})

describe.each(backends)('the digest on $name', ({ make }) => {
  it('is what the rows come to, from the founding on and after every entry', async () => {
    const { open } = await make(workshop)
    const { state } = await workshop.open(await open())
    for (const one of [undefined, ...log(70)]) {
      if (one !== undefined) await state.apply([one])
      await state.flush()
      const verified = await state.recompute()
      expect(verified).toMatchObject(state.digest)
      expect(verified.index).toBe(state.lastApplied)
    }
  })

  it('goes on where it was after a restart', async () => {
    const { open } = await make(workshop)
    const { state } = await workshop.open(await open())
    await state.apply(log(20))
    await state.close()
    const { state: found } = await workshop.open(await open())
    expect(found.digest).toEqual(state.digest)
    await found.apply(log(40).slice(20))
    await found.flush()
    expect(await found.recompute()).toMatchObject(found.digest)
  })
})

describe('the digest', () => {
  it('is equal on members at the same index, and another at each', async () => {
    const slow = await applied(12, await memory())
    const { state: quick } = await workshop.open(await memory())
    await quick.apply(log(12))
    await quick.flush()
    expect(quick.digest).toEqual(slow.digest)
    const seen = new Set<string>()
    for (let count = 0; count <= 12; count++) seen.add((await applied(count, await memory())).digest.digest)
    expect(seen.size).toBe(13)
  })

  it('is kept at multiples of 1,024 entries, alike on members whose batches fell differently', async () => {
    const entries = log(2500)
    const { state: one } = await workshop.open(await memory(), { flushEveryMs: 60_000 })
    const { state: two } = await workshop.open(await memory(), { flushEveryMs: 0 })
    await one.apply(entries.slice(0, 1023))
    expect(one.digestAt).toBeUndefined()
    await one.apply(entries.slice(1023))
    for (let at = 0; at < entries.length; at += 7) {
      await two.apply(entries.slice(at, at + 7))
      if (at % 5 === 0) await two.flush()
    }
    expect(one.digestAt?.index).toBe(2048)
    expect(two.digestAt).toEqual(one.digestAt)
    const { state: at2048 } = await workshop.open(await memory())
    await at2048.apply(entries.slice(0, 2048))
    await at2048.flush()
    expect(at2048.digest).toEqual(one.digestAt)
  })

  it('at a multiple of 1,024 entries outlives a restart', async () => {
    const level = await memory()
    const { state } = await workshop.open(level)
    await state.apply(log(1030))
    await state.close()
    const { state: found } = await workshop.open(await level.restart())
    expect(found.digestAt).toEqual(state.digestAt)
    expect(found.digestAt?.index).toBe(1024)
  })
})

describe('a row that is not as it was left', () => {
  it.each(['absent', 'altered'] as const)('but %s is noticed, whichever row it is', async (how) => {
    const level = await killed(9)
    const all = await rows(level)
    // The first row, stores, tokens, an origin and its outcomes, records.
    expect(all.length).toBe(1 + 2 + 4 + 1 + 1 + 5)
    for (const [key, value] of all) {
      const changed = Buffer.from(value)
      changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1
      const survivor = await level.altered(key, how === 'absent' ? undefined : changed)
      expect(await damageOf(survivor), Buffer.from(key).toString('hex')).toBeInstanceOf(StateDamagedError)
    }
  })

  it('but an older version of itself is noticed, whichever row and version', async () => {
    const level = await memory()
    await applied(9, level)
    const survivors = await level.restart()
    let tried = 0
    const keys = [...(await rows(level)).map(([key]) => key), recordKey(1, bytes('key-2'))]
    for (const key of keys) {
      const now = await level.get(key)
      for (const version of level.versions(key)) {
        if (version === undefined || (now !== undefined && Buffer.compare(version, now) === 0)) continue
        const survivor = await survivors.altered(key, version)
        expect(await damageOf(survivor), Buffer.from(key).toString('hex')).toBeInstanceOf(StateDamagedError)
        tried += 1
      }
    }
    expect(tried).toBeGreaterThan(20)
  })

  it('stays noticed after it was overwritten', async () => {
    const level = await killed(9)
    const key = recordKey(1, bytes('shared'))
    const stale = level.versions(key)[3]
    const { state } = await workshop.open(await level.altered(key, stale))
    await state.apply(log(12).slice(9))
    await state.flush()
    await expect(state.recompute()).rejects.toThrow('rows are absent, stale or altered')
  })

  it('but under the key of another is noticed', async () => {
    const level = await killed(9)
    const moved = await level.get(recordKey(1, bytes('key-8')))
    const survivor = await level.altered(recordKey(1, bytes('key-9')), moved)
    expect(await damageOf(survivor)).toBeInstanceOf(StateDamagedError)
  })

  it('ends the state machine with that damage, and nothing is served after it', async () => {
    const level = await killed(9)
    const { state } = await workshop.open(await level.altered(recordKey(1, bytes('key-9')), undefined))
    expect((await state.list({ store: 'default', limit: 9, maxBytes: 999 })).items).toHaveLength(4)
    await expect(state.recompute()).rejects.toThrow(StateDamagedError)
    expect(workshop.failures.map(({ type }) => type)).toEqual(['damaged'])
    expect(state.failure?.type).toBe('damaged')
    expect(state.verified).toBe(false)
    await expect(state.get('default', bytes('shared'))).rejects.toThrow(StateDamagedError)
  })

  it('of a table this build does not know is refused at open, and not called damage', async () => {
    for (const table of [0x0a, 0x11, 0xff]) {
      const key = Buffer.from([table, 1])
      const survivor = await (await killed(2)).altered(key, seal(key, 1, Buffer.alloc(20)))
      const error = await workshop.open(survivor).catch((cause: unknown) => cause)
      expect(error).not.toBeInstanceOf(StateDamagedError)
      expect(String(error)).toContain(`table ${table}, which this build does not know`)
    }
  })
})

describe('recomputing', () => {
  it('reads one moment while batches go on', async () => {
    const level = await memory()
    const state = await applied(3, level)
    let applying: Promise<unknown> = Promise.resolve()
    const { state: writer } = await workshop.open(await level.restart(), {
      flushEveryMs: 0,
      time: {
        ...realTime,
        // Every pause of the reader lets a batch in.
        after: (ms, run) => {
          if (ms < 1) return realTime.after(ms, run)
          applying = applying
            .then(() => writer.apply([entry(writer.lastApplied + 1, [])]))
            .then(() => writer.flush())
          void applying.then(run)
          return () => undefined
        },
      },
    })
    const verified = await writer.recompute({ bytesPerSecond: 1 })
    await applying
    expect(verified.index).toBe(3)
    expect(verified).toMatchObject(state.digest)
    expect(writer.lastApplied).toBeGreaterThan(3)
  })

  it('keeps to its pace, and ends when it is told to, also while it rests', async () => {
    const level = await memory()
    await applied(3, level)
    let now = 0
    const rests: number[] = []
    const controller = new AbortController()
    const time = {
      now: () => now,
      turn: realTime.turn,
      after: (ms: number, run: () => void) => {
        rests.push(ms)
        now += ms
        return realTime.after(0, run)
      },
    }
    const { state } = await workshop.open(await level.restart(), { time })
    const { bytes: size } = await state.recompute({ bytesPerSecond: 1000 })
    expect(rests.reduce((sum, ms) => sum + ms, 0)).toBeCloseTo(size)
    const { state: other } = await workshop.open(await level.restart(), {
      time: { ...time, after: () => () => undefined },
    })
    const recomputing = other.recompute({ bytesPerSecond: 1, signal: controller.signal })
    controller.abort(new Error('enough'))
    await expect(recomputing).rejects.toThrow('enough')
    expect(workshop.failures).toEqual([])
  })

  it('ends when the state machine is closed', async () => {
    const level = await memory()
    await applied(3, level)
    let wake: (() => void) | undefined
    const time = {
      ...realTime,
      after: (_: number, run: () => void) => {
        wake = run
        return () => undefined
      },
    }
    const { state } = await workshop.open(await level.restart(), { time })
    const recomputing = state.recompute({ bytesPerSecond: 1 })
    await expect.poll(() => wake, { interval: 1 }).toBeDefined()
    await state.close()
    wake?.()
    await expect(recomputing).rejects.toMatchObject({ code: 'shutting-down' })
    expect(workshop.failures).toEqual([])
  })

  it('changes nothing', async () => {
    const level = await memory()
    const state = await applied(5, level)
    const before = await dump(level)
    const { writes } = level
    await state.recompute()
    expect(await dump(level)).toEqual(before)
    expect(level.writes).toBe(writes)
  })
})

describe('a state', () => {
  it('is verified when it was founded, and after it was closed properly', async () => {
    const level = await memory()
    const { state } = await workshop.open(level)
    expect(state.verified).toBe(true)
    await state.apply(log(2))
    await state.close()
    const { state: found } = await workshop.open(await level.restart())
    expect(found.verified).toBe(true)
  })

  it('is not verified after an unclean stop until its rows were read, though nothing was written before the stop', async () => {
    const level = await memory()
    const { state } = await workshop.open(level)
    await state.apply(log(2))
    await state.close()
    const second = await level.restart()
    await workshop.open(second)
    const third = await second.powerLoss(1)
    expect(await third.get(closedKey)).toBeUndefined()
    const { state: found } = await workshop.open(third)
    expect(found.verified).toBe(false)
    await found.recompute()
    expect(found.verified).toBe(true)
  })

  it('that was never verified is not called whole because it was closed', async () => {
    const { state } = await workshop.open(await killed(2))
    expect(state.verified).toBe(false)
    await state.close()
    const level = await killed(2)
    const { state: unverified } = await workshop.open(level)
    await unverified.close()
    const { state: found } = await workshop.open(await level.restart())
    expect(found.verified).toBe(false)
  })

  it('is not verified by the mark of an earlier close', async () => {
    const level = await memory()
    const { state } = await workshop.open(level)
    await state.apply(log(2))
    await state.close()
    const second = await level.restart()
    const mark = await second.get(closedKey)
    const { state: later } = await workshop.open(second)
    await later.apply([entry(3, [batch([[99, set('a', '1')]])])])
    await later.flush()
    const { state: found } = await workshop.open(await second.altered(closedKey, mark))
    expect(found.verified).toBe(false)
  })

  it('led to by commands of a newer version is refused in a sentence', async () => {
    const level = await killed(2)
    const row = Buffer.from((await level.get(metaKey)) ?? [])
    const text = row.toString('utf8', 5).replace('"commandVersion":1', '"commandVersion":9')
    const newer = seal(metaKey, row[0] ?? 0, Buffer.concat([Buffer.alloc(5), bytes(text)]))
    const error = await damageOf(await level.altered(metaKey, newer))
    expect(error).not.toBeInstanceOf(StateDamagedError)
    expect(String(error)).toContain('commands of version 9, and this build understands version 3')
  })
})
