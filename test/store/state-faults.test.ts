// What LevelDB can do to the state machine: lose power, lie, fill up, rot, hang.

import { cp, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Entry } from '../../src/raft/types.ts'
import { UnknownCommandError } from '../../src/store/commands.ts'
import { StateDamagedError, seal } from '../../src/store/record.ts'
import type { StateFailure } from '../../src/store/state-failure.ts'
import type { StateMachine } from '../../src/store/state-machine.ts'
import { openLevel } from '../../src/store/state-open.ts'
import { historyTables, metaKey, recordKey } from '../../src/store/state-rows.ts'
import { realTime } from '../../src/store/state-time.ts'
import type { MemoryState } from './memory-state.ts'
import { batch, bytes, dump, entry, log, memory, set, Workshop } from './state-fixtures.ts'

let workshop: Workshop

beforeEach(() => {
  workshop = new Workshop()
})

afterEach(async () => {
  await workshop[Symbol.asyncDispose]()
})

async function stateAfter(entries: readonly Entry[]): Promise<readonly string[]> {
  const level = await memory()
  const { state } = await workshop.open(level)
  await state.apply(entries)
  await state.flush()
  return dump(level)
}

/** Applies the rest of the log after whatever a restart found. */
async function catchUp(level: MemoryState, entries: readonly Entry[], least = 0): Promise<StateMachine> {
  const { state } = await workshop.open(level)
  expect(state.lastApplied).toBeGreaterThanOrEqual(least)
  await state.apply(entries.slice(state.lastApplied))
  await state.flush()
  return state
}

describe('power loss', () => {
  it('leaves a state at an entry from which the log leads to the same bytes', async () => {
    const entries = log(24)
    const expected = await stateAfter(entries)
    for (let seed = 1; seed <= 40; seed++) {
      const level = await memory()
      const { state } = await workshop.open(level, { flushEveryMs: 0 })
      const stop = seed % entries.length
      // Without waiting for anything: batches are on their way when the power goes.
      for (const one of entries.slice(0, stop)) await state.apply([one])
      const durable = state.durableIndex
      const survivor = await level.powerLoss(seed)
      const found = await catchUp(survivor, entries)
      expect(found.lastApplied, `seed ${seed}`).toBe(entries.length)
      expect(found.durableIndex, `seed ${seed}`).toBeGreaterThanOrEqual(durable)
      expect(await dump(survivor), `seed ${seed}`).toEqual(expected)
    }
  })

  it('takes nothing of what durableIndex promises', async () => {
    const level = await memory()
    const { state } = await workshop.open(level)
    for (const one of log(5)) {
      await state.apply([one])
      await state.flush()
      const { state: found } = await workshop.open(await level.powerLoss(one.index))
      expect(found.lastApplied).toBe(one.index)
    }
  })

  it('is seen as damage, or leads to the same bytes, when the disk lied about its syncs', async () => {
    const entries = log(3)
    const expected = await stateAfter(entries)
    const seen = { damaged: 0, caughtUp: 0 }
    for (let seed = 1; seed <= 60; seed++) {
      const level = await memory({ syncs: false })
      const { state } = await workshop.open(level)
      for (const one of entries) {
        await state.apply([one])
        await state.flush()
      }
      const survivor = await level.powerLoss(seed)
      try {
        await catchUp(survivor, entries)
        expect(await dump(survivor), `seed ${seed}`).toEqual(expected)
        seen.caughtUp += 1
      } catch (error) {
        expect(error, `seed ${seed}`).toBeInstanceOf(StateDamagedError)
        seen.damaged += 1
      }
    }
    expect(seen.damaged).toBeGreaterThan(0)
    expect(seen.caughtUp).toBeGreaterThan(0)
  })

  it.each([
    { name: 'a timer', urge: false },
    { name: 'somebody who waits', urge: true },
  ])(
    'never leaves half an entry, however long it takes and though $name asks for a batch',
    async ({ urge }) => {
      const level = await memory()
      const { state } = await workshop.open(level, { flushEveryMs: 0 })
      const commands = Array.from(
        { length: 4000 },
        (_, n) => [n + 10, set(`key-${n}`, 'x'.repeat(500))] as const,
      )
      const applying = state.apply([entry(1, [batch([[1, set('a', '1')]])]), entry(2, [batch(commands)])])
      let done = false
      void applying.then(() => {
        done = true
      })
      const flushes: Promise<void>[] = []
      while (!done) {
        if (urge) flushes.push(state.flush())
        await turn()
        const { state: found } = await workshop.open(await level.restart())
        expect(found.revision).toBe([0, 1, 4001][found.lastApplied])
      }
      await Promise.all([applying, ...flushes])
    },
  )
})

describe('being closed', () => {
  it('in the middle of an entry ends that entry, and no other begins', async () => {
    const level = await memory()
    let clock = 0
    let turns = 0
    let closing: Promise<void> | undefined
    const time = {
      ...realTime,
      // Every step takes long, so that there is a turn of others at every look at the clock.
      now: () => (clock += 10),
      turn: async () => {
        turns += 1
        if (turns === 100) closing = state.close()
      },
    }
    const { state } = await workshop.open(level, { time })
    // More keys than are fetched at once.
    const commands = Array.from({ length: 3000 }, (_, n) => [n + 1, set(`key-${n}`, 'x')] as const)
    const applying = state.apply([entry(1, [batch(commands)]), entry(2, [])])
    await expect(applying).rejects.toMatchObject({ code: 'shutting-down' })
    await closing
    const { state: found } = await workshop.open(await level.restart())
    expect(found.lastApplied).toBe(1)
    expect(found.revision).toBe(3000)
    expect(found.verified).toBe(true)
  })
})

describe('reading one row after the other', () => {
  it('leaves it to the threads while rows come from the disk, and not where they are at hand', async () => {
    const keys = Array.from({ length: 100 }, (_, n) => Buffer.from(`key-${n}`))
    const written = await memory()
    const { state: writer } = await workshop.open(written)
    await writer.apply([entry(1, [batch(keys.map((key, n) => [n + 1, set(key, 'x')] as const))])])
    await writer.close()
    // What was written lately is in memory; a state that was opened anew has nothing there.
    const level = await written.restart()
    const read = { atOnce: 0 }
    const { getSync } = level
    level.getSync = function (this: typeof level, ...args: Parameters<typeof getSync>) {
      read.atOnce += 1
      return getSync.apply(this, args)
    } as typeof getSync
    let clock = 0
    let step = 0
    const time = { ...realTime, now: () => (clock += step) }
    const { state } = await workshop.open(level, { time })
    const found = async (): Promise<number> => {
      let count = 0
      await state.getEach('default', keys, (item) => {
        if (item !== undefined) count += 1
      })
      return count
    }
    expect([await found(), read.atOnce]).toEqual([100, 100])
    step = 1
    read.atOnce = 0
    expect(await found()).toBe(100)
    expect(read.atOnce).toBeGreaterThan(5)
    expect(read.atOnce).toBeLessThan(20)
  })
})

describe('a lost batch', () => {
  it('is a gap at open, wherever it was', async () => {
    const level = await memory()
    const { state } = await workshop.open(level)
    for (const one of log(6)) {
      await state.apply([one])
      await state.flush()
    }
    // The founding is batch 1, the entries 2 to 7.
    for (let lost = 0; lost < 6; lost++) {
      const survivor = await level.without((index) => index !== lost)
      await expect(workshop.open(survivor), `batch ${lost + 1}`).rejects.toThrow(
        `The state on this disk is damaged: batch ${lost + 1} is missing below batch 7.`,
      )
    }
    const { state: shorter } = await workshop.open(await level.without((index) => index !== 6))
    expect(shorter.lastApplied).toBe(5)
  })

  it('is seen when the first row is an older one', async () => {
    const level = await memory()
    const { state } = await workshop.open(level)
    await state.apply(log(1))
    await state.flush()
    const older = await level.get(metaKey)
    await state.apply(log(2).slice(1))
    await state.close()
    const survivor = await level.restart()
    await survivor.put(metaKey, older ?? Buffer.alloc(0))
    await expect(workshop.open(survivor)).rejects.toThrow('it says entry 1, and its last batch says 2')
  })

  it('is seen when nothing but its rows are left', async () => {
    const level = await memory()
    await level.put(recordKey(1, bytes('a')), Buffer.alloc(30))
    await expect(workshop.open(level)).rejects.toThrow(StateDamagedError)
  })
})

describe("a flipped bit in LevelDB's own log", () => {
  it('is seen as damage, or leads to the same bytes', async () => {
    const entries = log(60)
    const expected = await stateAfter(entries)
    const directory = await workshop.directory()
    const { state } = await workshop.open(await openLevel(directory))
    for (const one of entries) {
      await state.apply([one])
      await state.flush()
    }
    await state.close()
    const logFile = (await readdir(directory)).find((name) => name.endsWith('.log')) ?? ''
    const whole = await readFile(join(directory, logFile))
    const seen = { damaged: 0, caughtUp: 0 }
    const tries = 16
    for (let n = 0; n < tries; n++) {
      const copy = await workshop.directory()
      await cp(directory, copy, { recursive: true })
      const flipped = Buffer.from(whole)
      const at = Math.floor((whole.length * (n + 0.5)) / tries)
      flipped[at] = (flipped[at] ?? 0) ^ 16
      await writeFile(join(copy, logFile), flipped)
      try {
        const level = await openLevel(copy)
        const { state: found } = await workshop.open(level)
        await found.apply(entries.slice(found.lastApplied))
        await found.flush()
        expect(await dump(level), `byte ${at}`).toEqual(expected)
        seen.caughtUp += 1
      } catch (error) {
        expect(error, `byte ${at}`).toBeInstanceOf(StateDamagedError)
        seen.damaged += 1
      }
    }
    expect(seen.damaged).toBeGreaterThan(0)
    expect(seen.damaged + seen.caughtUp).toBe(tries)
  })
})

describe('a failing write', () => {
  it.each(['ENOSPC', 'EIO'] as const)(
    'of %s is told once, and nothing is written or served after it',
    async (code) => {
      const level = await memory()
      const { state } = await workshop.open(level, { flushEveryMs: 0 })
      level.failWrite(2, code)
      await state.apply(log(1))
      await state.flush()
      const release = level.hang()
      await state.apply(log(2).slice(1))
      const flush = state.flush()
      // Applied while the batch that fails is on its way.
      await state.apply(log(3).slice(2))
      release()
      await expect(flush).rejects.toThrow('can no longer be written')
      const { writes } = level
      await expect(state.apply(log(4).slice(3))).rejects.toThrow('can no longer be written')
      await expect(state.flush()).rejects.toThrow('can no longer be written')
      await expect(state.get('default', bytes('shared'))).rejects.toThrow('can no longer be written')
      await expect(state.list({ store: 'default', limit: 1, maxBytes: 1 })).rejects.toThrow(
        'can no longer be written',
      )
      expect(workshop.failures).toHaveLength(1)
      expect(workshop.failures[0]?.error.message).toContain(
        code === 'EIO' ? 'Input/output error' : 'No space left on device',
      )
      expect(state.durableIndex).toBe(1)
      // Timers of the same length fire in the order they were set: a batch still to come would have come.
      await new Promise((resolve) => setTimeout(resolve))
      expect(level.writes).toBe(writes)
      await state.close()
      expect(level.writes).toBe(writes)
      const { state: found } = await workshop.open(await level.powerLoss(1))
      // The batch that failed had the second entry; it may have come to the disk.
      expect([1, 2]).toContain(found.lastApplied)
    },
  )

  it.each(['ENOSPC', 'EIO'] as const)(
    'of %s is got over by closing, opening again and applying the log from there',
    async (code) => {
      const entries = log(24)
      const expected = await stateAfter(entries)
      for (let seed = 1; seed <= 40; seed++) {
        const level = await memory()
        const failures: StateFailure[] = []
        const { state } = await workshop.open(level, {
          flushEveryMs: 0,
          onFailure: (failure) => failures.push(failure),
        })
        level.failWrite(1 + (seed % 20), code)
        for (const one of entries) {
          // Nothing is acknowledged after the failure, whatever the handle would say to further writes.
          if (state.failure !== undefined) break
          const applying = state.apply([one]).then(() => state.flush())
          await applying.catch((error: unknown) => expect(error).toBe(state.failure?.error))
        }
        expect(failures.map(({ type }) => type)).toEqual(['disk'])
        const { writes } = level
        const durable = state.durableIndex
        await state.close()
        expect(level.writes).toBe(writes)
        const survivor = await level.reopened(seed)
        const found = await catchUp(survivor, entries, durable)
        expect(found.verified, `seed ${seed}`).toBe(false)
        expect(await found.recompute(), `seed ${seed}`).toMatchObject(found.digest)
        expect(await dump(survivor), `seed ${seed}`).toEqual(expected)
      }
    },
  )

  it('of a batch that LevelDB finds damaged is damage', async () => {
    const level = await memory()
    const { state } = await workshop.open(level, { flushEveryMs: 0 })
    level.failWrite(1, 'corruption')
    await state.apply(log(1))
    await expect(state.flush()).rejects.toThrow(StateDamagedError)
    expect(workshop.failures.map(({ type }) => type)).toEqual(['damaged'])
  })

  it('ends a listing that waits for it, and an apply that waits for room', async () => {
    const level = await memory()
    const { state } = await workshop.open(level, { overlayBytes: 10_000, flushEveryMs: 60_000 })
    level.failWrite(1, 'EIO')
    await state.apply(log(1))
    const listing = state.list({ store: 'default', limit: 1, maxBytes: 1 })
    const applying = state.apply(log(40).slice(1))
    await expect(listing).rejects.toThrow('Input/output error')
    await expect(applying).rejects.toThrow('Input/output error')
    expect(workshop.failures).toHaveLength(1)
  })
})

describe('a damaged row', () => {
  async function damaged(key: string): Promise<StateMachine> {
    const level = await memory()
    const { state } = await workshop.open(level)
    await state.apply(log(3))
    await state.close()
    const survivor = await level.restart()
    const row = Buffer.from((await survivor.get(recordKey(1, bytes(key)))) ?? [])
    row[row.length - 1] = (row.at(-1) ?? 0) ^ 1
    await survivor.put(recordKey(1, bytes(key)), row)
    return (await workshop.open(survivor)).state
  }

  it('is never read, and stops all reading', async () => {
    const state = await damaged('shared')
    await expect(state.get('default', bytes('shared'))).rejects.toThrow(StateDamagedError)
    await expect(state.get('default', bytes('key-1'))).rejects.toThrow(StateDamagedError)
    expect(workshop.failures).toHaveLength(1)
  })

  it('is never listed', async () => {
    const state = await damaged('shared')
    await expect(state.list({ store: 'default', limit: 9, maxBytes: 999 })).rejects.toThrow(StateDamagedError)
    expect(workshop.failures).toHaveLength(1)
  })

  it('is never the ground of an outcome', async () => {
    const state = await damaged('shared')
    await expect(state.apply(log(4).slice(3))).rejects.toThrow(StateDamagedError)
    expect(workshop.failures).toHaveLength(1)
    await expect(state.flush()).rejects.toThrow(StateDamagedError)
  })

  it('of the tables in memory is found at open', async () => {
    const level = await memory()
    const { state } = await workshop.open(level, { flushEveryMs: 60_000 })
    await state.apply(log(3))
    await state.close()
    let tried = 0
    for await (const [key, value] of (await level.restart()).iterator({ lt: recordKey(0, bytes('')) })) {
      // What a watcher that comes back is told is looked at then.
      const isToldLater = [historyTables.events, historyTables.replaced].some(
        ([table, kind]) => key[0] === table && key[1] === kind,
      )
      if (isToldLater) continue
      const survivor = await level.restart()
      const row = Buffer.from(value)
      row[row.length >> 1] = (row[row.length >> 1] ?? 0) ^ 4
      await survivor.put(key, row)
      await expect(workshop.open(survivor)).rejects.toThrow(StateDamagedError)
      tried += 1
    }
    // Batches, the mark of a clean close, the history's header, the first row, stores, tokens, an origin and its outcomes.
    expect(tried).toBe(2 + 1 + 1 + 1 + 2 + 4 + 1 + 1)
  })

  it('of a newer format is not called damage', async () => {
    const level = await memory()
    const { state } = await workshop.open(level)
    await state.close()
    const survivor = await level.restart()
    await survivor.put(metaKey, seal(metaKey, 9, Buffer.alloc(20)))
    await expect(workshop.open(survivor)).rejects.toThrow('format 9')
  })
})

describe('a disk that hangs', () => {
  it('stops applying at the bound of the overlay and loses nothing', async () => {
    const level = await memory()
    const { state } = await workshop.open(level, { overlayBytes: 20_000, flushEveryMs: 0 })
    const release = level.hang()
    const entries = log(200)
    const applying = state.apply(entries)
    await expect.poll(() => level.volatile, { interval: 1, timeout: 5000 }).toBe(1)
    let stopped = 0
    for (let still = 0; still < 100; still++) {
      await turn()
      if (state.lastApplied !== stopped) still = 0
      stopped = state.lastApplied
    }
    expect(stopped).toBeGreaterThan(0)
    expect(stopped).toBeLessThan(entries.length)
    // What was applied is read meanwhile, though LevelDB has none of it.
    const item = await state.get('default', bytes('shared'))
    expect(Buffer.from(item?.value ?? []).toString()).toBe(`${stopped}`)
    release()
    expect(await applying).toHaveLength(600)
    await state.flush()
    expect(await dump(level)).toEqual(await stateAfter(entries))
  })
})

describe('what should not be in a log', () => {
  it('a command of an unknown version stops the state machine with nothing of its entry written', async () => {
    const level = await memory()
    const { state } = await workshop.open(level)
    await state.apply(log(1))
    const known = batch([[1000, set('a', '1')]])
    const unknown = { ...known, commands: [{ number: 1001, bytes: Buffer.from([0x92, 9, 9]) }] }
    await expect(state.apply([entry(2, [known, unknown])])).rejects.toThrow(UnknownCommandError)
    expect(workshop.failures.map(({ type }) => type)).toEqual(['broken'])
    await state.close()
    const { state: found } = await workshop.open(await level.restart())
    expect(found.lastApplied).toBeLessThanOrEqual(1)
    expect(found.revision).toBeLessThanOrEqual(3)
  })

  it('an entry out of order is a broken invariant', async () => {
    const { state } = await workshop.open(await memory())
    await expect(state.apply(log(2).slice(1))).rejects.toThrow('Entry 2 follows 0')
  })
})

describe('the directory of LevelDB', () => {
  it('that is locked is refused in one sentence', async () => {
    const directory = await workshop.directory()
    const level = await openLevel(directory)
    await expect(openLevel(directory)).rejects.toThrow(
      `The state in ${directory} is in use by another process.`,
    )
    await level.close()
  })

  it('is free again after a failed open', async () => {
    const directory = await workshop.directory()
    const level = await openLevel(directory)
    await level.put(metaKey, Buffer.alloc(3))
    await expect(workshop.open(level)).rejects.toThrow(StateDamagedError)
    await (await openLevel(directory)).close()
  })
})
