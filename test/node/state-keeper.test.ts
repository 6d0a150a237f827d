// Whole nodes whose state falls behind the log, rots or loses a row: each comes to a whole one by itself (rules 6, 8, 9 and 26).

import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { scrubDelay } from '../../src/node/state-keeper.ts'
import type { LevelFiles } from '../../src/store/level-files.ts'
import { recordKey } from '../../src/store/state-rows.ts'
import { Town } from './town.ts'

async function until(holds: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 15_000
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`)
    await delay(2)
  }
}

function inside(town: Town, id: string) {
  const { wal, machine, replica } = town.node(id).inside ?? {}
  if (wal === undefined || machine === undefined || replica === undefined)
    throw new Error(`${id} has a state`)
  return { wal, machine, replica }
}

/** Everything is written through the leader. */
async function fill(town: Town, count: number): Promise<void> {
  const leader = await town.leader()
  const writes = Array.from({ length: count }, (_, n) => town.set(leader, `key-${n}`, `${n}`.padEnd(200)))
  await Promise.all(writes)
}

/** The follower's LevelDB holds all that the leader's log does. */
async function written(town: Town, leader: string, follower: string): Promise<void> {
  const isWritten = () =>
    inside(town, follower).machine.durableIndex === inside(town, leader).replica.raft.log.lastIndex
  await until(isWritten, 'the rows are written')
}

async function cast(town: Town) {
  const leader = await town.leader()
  const [follower = '', other = ''] = town.ids.filter((id) => id !== leader)
  return { leader, follower, other }
}

describe('a node that was away', () => {
  it('comes back by a snapshot when the log no longer reaches back to it', async () => {
    await using town = await Town.start({ seed: 41, parts: { segmentBytes: 4096, keepBytes: 0 } })
    const { leader, follower, other } = await cast(town)
    const { lastIndex } = inside(town, follower).replica.raft.log
    await town.crash(...town.ids)
    // These two have not heard of it since they began, so nothing is kept for it.
    await Promise.all([leader, other].map((id) => town.start(id)))
    await town.ready([leader, other])
    const isShort = () => [leader, other].every((id) => inside(town, id).wal.base.index > lastIndex)
    for (let turn = 0; !isShort(); turn++) {
      expect(turn, 'the log is compacted').toBeLessThan(100)
      await fill(town, 20)
      await delay(50)
    }
    await town.start(follower)
    await town.ready()
    expect(inside(town, follower).wal.base.index).toBeGreaterThan(lastIndex)
    expect(await town.get(follower, 'key-19')).toBe('19'.padEnd(200))
    expect(await town.holds(follower)).toEqual(await town.holds(leader))
  })
})

describe('a node whose state is damaged', () => {
  it('goes on voting and acknowledging, gets another state by itself, and serves again', async () => {
    await using town = await Town.start({ seed: 42 })
    const { follower, other } = await cast(town)
    await fill(town, 5)
    const { machine } = inside(town, follower)
    town.level(follower).failWrite(1, 'corruption')
    await fill(town, 1)
    await until(() => machine.failure !== undefined, 'the damage is found')
    expect(machine.failure?.type).toBe('damaged')
    // Without this one nobody else could make a majority with the leader.
    await town.crash(other)
    await fill(town, 10)
    await town.ready([follower])
    expect(inside(town, follower).machine).not.toBe(machine)
    expect(await town.get(follower, 'key-9')).toBe('9'.padEnd(200))
    expect(town.failure(follower)).toBeUndefined()
  })

  it('hands leadership over first', async () => {
    await using town = await Town.start({ seed: 43 })
    const { leader } = await cast(town)
    const { machine } = inside(town, leader)
    town.level(leader).failWrite(1, 'corruption')
    await town.set(leader, 'key', 'value')
    await until(() => machine.failure !== undefined, 'the damage is found')
    await until(() => town.node(leader).status?.role === 'follower', 'another leads')
    await town.ready()
    expect(await town.get(leader, 'key')).toBe('value')
  })
})

describe('a node that was stopped uncleanly', () => {
  it('does not serve from rows it has not read, and gets another state when one is missing', async () => {
    await using town = await Town.start({ seed: 44 })
    const { leader, follower } = await cast(town)
    await fill(town, 5)
    await written(town, leader, follower)
    await town.crash(follower)
    const key = recordKey(1, Buffer.from('key-3'))
    expect(await town.level(follower).get(key)).toBeDefined()
    await town.level(follower).damage([{ type: 'del', key }])
    await town.start(follower)
    expect(town.node(follower).unreadiness()).not.toEqual([])
    await town.ready()
    // LevelDB follows behind what is served.
    await expect.poll(() => town.level(follower).get(key), { timeout: 5000 }).toBeDefined()
    expect(await town.holds(follower)).toEqual(await town.holds(leader))
  })
})

describe('the reading of all rows', () => {
  it('comes within a day, and within minutes when it is overdue', () => {
    const minute = 60_000
    const day = 24 * 60 * minute
    for (const random of [0, 0.5, 1]) {
      expect(scrubDelay(0, random)).toBeGreaterThan(0.8 * day)
      expect(scrubDelay(day / 2, random)).toBeLessThan(0.6 * day)
      for (const readAgo of [day, 3 * day]) {
        expect(scrubDelay(readAgo, random)).toBeGreaterThan(4 * minute)
        expect(scrubDelay(readAgo, random)).toBeLessThan(6 * minute)
      }
    }
  })
})

describe('a node whose files are whole', () => {
  const key = recordKey(1, Buffer.from('key-3'))

  /** Stopped properly, it lost a row that no file shows: LevelDB itself took that over from a block that rotted while it ran. */
  async function lacking(town: Town) {
    const { leader, follower } = await cast(town)
    await fill(town, 5)
    await written(town, leader, follower)
    await town.stop(follower)
    await town.level(follower).damage([{ type: 'del', key }])
    return follower
  }

  it('serves at once from rows that it has read before, but not after an unclean stop', async () => {
    const files: LevelFiles = { type: 'whole', bytes: 1 }
    await using town = await Town.start({ seed: 45, parts: { checkFiles: async () => files } })
    const follower = await lacking(town)
    await town.start(follower)
    await town.ready()
    expect(await town.get(follower, 'key-3')).toBeUndefined()

    await town.crash(follower)
    await town.start(follower)
    await town.ready()
    expect(await town.get(follower, 'key-3')).toBe('3'.padEnd(200))
  })

  it('reads its rows all the same where the files prove nothing', async () => {
    let files: LevelFiles = { type: 'whole', bytes: 1 }
    await using town = await Town.start({ seed: 46, parts: { checkFiles: async () => files } })
    const follower = await lacking(town)
    files = { type: 'unproven', why: 'the log ends within a record' }
    await town.start(follower)
    await town.ready()
    expect(await town.get(follower, 'key-3')).toBe('3'.padEnd(200))
  })
})
