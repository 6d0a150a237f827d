// Whole nodes on disks that lose: what was acknowledged is there, and nothing is applied twice.

import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { TrivetError } from '../../src/errors.ts'
import { Town } from './town.ts'

/** Writers through every node until `stop`; resolves with the last acknowledged turn of each key. */
function write(town: Town, writers: number) {
  const acknowledged = new Map<string, number>()
  const stopped = { now: false }
  const running = Array.from({ length: writers }, async (_, writer) => {
    const key = `key-${writer}`
    for (let turn = 1; !stopped.now; turn++) {
      const id = town.ids[(writer + turn) % town.ids.length] ?? ''
      try {
        await town.set(id, key, String(turn), 500)
        acknowledged.set(key, turn)
      } catch (error) {
        // A node that is down, or an outcome that nobody knows: neither was acknowledged.
        if (
          !(error instanceof TrivetError) &&
          !(error instanceof Error && /does not run|has ended/.test(error.message))
        )
          throw error
        await delay(1)
      }
    }
  })
  const stop = async () => {
    stopped.now = true
    await Promise.all(running)
    return acknowledged
  }
  return { acknowledged, stop }
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000
  while (!holds()) {
    if (performance.now() > deadline) throw new Error('waited in vain')
    await delay(1)
  }
}

/** Keys whose last acknowledged turn, or a later one, is not found. */
async function lost(town: Town, acknowledged: ReadonlyMap<string, number>): Promise<string[]> {
  const missing: string[] = []
  for (const [key, turn] of acknowledged) {
    const value = await town.get('n1', key)
    if (value === undefined || Number(value) < turn) missing.push(`${key}: ${value} instead of ${turn}`)
  }
  return missing
}

async function losesPowerUnderLoad(options: { seed: number; syncs: boolean }): Promise<string[]> {
  await using town = await Town.start(options)
  const load = write(town, 16)
  await until(() => [...load.acknowledged.values()].reduce((sum, turn) => sum + turn, 0) > 300)
  await town.losePower(...town.ids)
  const acknowledged = new Map(load.acknowledged)
  await load.stop()
  await town.startAll()
  return await lost(town, acknowledged)
}

describe('a cluster whose power fails everywhere at once', () => {
  it.each([1, 2, 3, 4, 5, 6])('has every acknowledged write when it comes back (seed %i)', async (seed) => {
    expect(await losesPowerUnderLoad({ seed, syncs: true })).toEqual([])
  })

  it('loses acknowledged writes when syncs are a lie, so the test above can fail', async () => {
    const losses: string[] = []
    for (let seed = 1; seed <= 5 && losses.length === 0; seed++) {
      losses.push(
        // A node may also find its log damaged, which is a loss as well.
        ...(await losesPowerUnderLoad({ seed, syncs: false }).catch((error: unknown) => [String(error)])),
      )
    }
    expect(losses.length).toBeGreaterThan(0)
  })
})

describe('a cluster whose nodes crash one after another', () => {
  it.each([11, 12, 13])('keeps every acknowledged write (seed %i)', async (seed) => {
    await using town = await Town.start({ seed })
    const load = write(town, 8)
    for (let round = 0; round < 6; round++) {
      const before = load.acknowledged.size
      await until(() => load.acknowledged.size >= Math.min(before, 8))
      const victim = round % 2 === 0 ? await town.leader() : (town.ids[round % 3] ?? 'n1')
      if (round % 3 === 0) await town.losePower(victim)
      else await town.crash(victim)
      await delay(30)
      await town.start(victim)
      await town.ready()
    }
    expect(await lost(town, await load.stop())).toEqual([])
  })
})

describe('a command that is sent again', () => {
  it('takes effect once, though every message may arrive twice or never', async () => {
    await using town = await Town.start({ seed: 21 })
    town.network.change({ delay: { least: 0, most: 3 }, loss: 0.1, duplication: 0.2 })
    // Each write names the revision it builds on, so that one applied twice would break the chain.
    let revision = (await town.set('n1', 'chain', '0', 5000)).revision
    const revisions = new Set([revision])
    for (let turn = 1; turn <= 40; turn++) {
      const id = town.ids[turn % 3] ?? 'n1'
      const executed = await town.set(id, 'chain', String(turn), 10_000)
      if (executed.outcome.type !== 'set') throw new Error(executed.outcome.type)
      expect(executed.outcome.revision).toBe(revision + 1)
      revision = executed.outcome.revision
      revisions.add(revision)
    }
    expect(revisions.size).toBe(41)
  })
})

describe('a node that stops', () => {
  it('hands leadership over first, so that nobody waits for an election timeout', async () => {
    await using town = await Town.start({ seed: 31 })
    const leader = await town.leader()
    const others = town.ids.filter((id) => id !== leader)
    const node = town.node(leader)
    const term = node.status?.term ?? 0
    await node.stop()
    const next = await town.leader()
    expect(others).toContain(next)
    expect(town.node(next).status?.term).toBe(term + 1)
    expect((await town.set(next, 'k', 'v')).outcome.type).toBe('set')
  })

  it('tells those who wait that it is stopping', async () => {
    await using town = await Town.start({ seed: 32 })
    const [first, second, third] = town.ids
    if (first === undefined || second === undefined || third === undefined) throw new Error('three nodes')
    town.partition([first], [second, third])
    const read = town.node(first).barrier({ deadline: performance.now() + 5000 })
    const rejected = expect(read).rejects.toMatchObject({ code: 'shutting-down' })
    await town.node(first).stop()
    await rejected
  })
})

describe('a node whose disk fails', () => {
  it('ends with one sentence instead of going on after a failed sync', async () => {
    await using town = await Town.start({ seed: 41 })
    const leader = await town.leader()
    const survivors = town.ids.filter((id) => id !== leader)
    town.disk(leader).fail({ call: 'write', code: 'EIO', path: '/log' })
    const [through] = survivors
    if (through === undefined) throw new Error('survivors')
    await town.set(through, 'k', 'v', 8000)
    await until(() => town.failure(leader) !== undefined)
    expect(town.failure(leader)?.message).toMatch(/EIO/)
    expect(await town.get(through, 'k')).toBe('v')
  })
})

describe('a node whose disk hangs', () => {
  it('hands leadership over, neither ends nor campaigns, and goes on when the disk does', async () => {
    await using town = await Town.start({ seed: 42 })
    const leader = await town.leader()
    const survivors = town.ids.filter((id) => id !== leader)
    const [through] = survivors
    if (through === undefined) throw new Error('survivors')
    const release = town.disk(leader).hold('write')
    await town.set(through, 'k', 'v', 8000)
    const leads = (id: string) => town.node(id).status?.role === 'leader'
    await until(() => survivors.some(leads) && !leads(leader))
    await town.set(through, 'k', 'w', 8000)
    expect(town.failure(leader)).toBeUndefined()
    release()
    await until(() => town.node(leader).unreadiness().length === 0)
    expect(await town.get(leader, 'k')).toBe('w')
  })
})

describe('a deposed leader', () => {
  it('never answers a read from its past, and says outcome-unknown for a write it cannot commit', async () => {
    await using town = await Town.start({ seed: 51 })
    const leader = await town.leader()
    const others = town.ids.filter((id) => id !== leader)
    const [other] = others
    if (other === undefined) throw new Error('others')
    await town.set(leader, 'k', 'old')
    town.partition([leader], others)
    const stale = town.node(leader).barrier({ deadline: performance.now() + 1500 })
    const readRejected = expect(stale).rejects.toMatchObject({ code: 'no-leader' })
    const write = town.set(leader, 'k', 'lost?', 1500)
    const writeRejected = expect(write).rejects.toMatchObject({ code: 'outcome-unknown' })
    await town.set(other, 'k', 'new', 5000)
    await readRejected
    await writeRejected
    town.network.heal()
    await town.ready()
    expect(['new', 'lost?']).toContain(await town.get(leader, 'k'))
    expect(await town.get(leader, 'k')).toBe(await town.get(other, 'k'))
  })
})
