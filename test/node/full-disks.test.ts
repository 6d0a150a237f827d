// Nodes whose disks run full: who leads, what is refused where, and that it passes by itself (rule 27).

import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { Town } from './town.ts'

const MiB = 1024 * 1024

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await delay(10)
  }
}

function alarmsOf(town: Town, asked: string, of: string): readonly string[] {
  return (
    town
      .node(asked)
      .cluster()
      .members.find(({ id }) => id === of)?.alarms ?? []
  )
}

/** Whether a set through a node is refused for want of room; other failures are its caller's. */
async function isFull(town: Town, id: string): Promise<boolean> {
  try {
    await town.set(id, 'probe', 'value')
    return false
  } catch (error) {
    expect(error).toMatchObject({ code: 'storage-full' })
    return true
  }
}

describe('a disk that is short of room', () => {
  it('is an alarm with its number at every member, and none once there is room', async () => {
    await using town = await Town.start({ seed: 1, free: { n2: 200 * MiB } })
    await until('the alarm', () => alarmsOf(town, 'n1', 'n2').length > 0)
    expect(alarmsOf(town, 'n1', 'n2')).toEqual([
      'its disk has 200 MiB free, less than 256 MiB; the alarm clears above 320 MiB',
    ])
    town.setFree('n2', 300 * MiB)
    await until('the new number', () => alarmsOf(town, 'n1', 'n2')[0]?.includes('300 MiB') === true)
    town.setFree('n2', 321 * MiB)
    await until('the end of the alarm', () => alarmsOf(town, 'n1', 'n2').length === 0)
  })

  it('keeps no node from writing while a quorum has room, and its node does not lead', async () => {
    await using town = await Town.start({ seed: 2, free: { n2: 100 * MiB } })
    await until('the alarm', () => alarmsOf(town, 'n1', 'n2').length > 0)
    if ((await town.leader()) !== 'n2') {
      town
        .node('n1')
        .transferLeadership('n2', { deadline: performance.now() + 2000 })
        .catch(() => {})
      await until('n2 to lead', async () => (await town.leader()) === 'n2')
    }
    await until('n2 to hand over', async () => (await town.leader()) !== 'n2')
    for (const id of town.ids) await town.set(id, `through-${id}`, 'value')
  })

  it('refuses what grows at every node once no quorum has room, takes deletes, and passes by itself', async () => {
    await using town = await Town.start({ seed: 3, free: { n2: 100 * MiB, n3: 80 * MiB } })
    await town.set('n1', 'old', 'value').catch((error: unknown) => {
      // It may be known by now.
      expect(error).toMatchObject({ code: 'storage-full' })
    })
    for (const id of town.ids) await until(`a refusal by ${id}`, () => isFull(town, id))
    const limits = { field: 'free space', limit: 256 * MiB, actual: 80 * MiB }
    await expect(town.set('n1', 'more', 'value')).rejects.toMatchObject(limits)
    await expect(town.set('n1', 'more', 'value')).rejects.toThrow(
      'No quorum of voters has room: n2 has 100 MiB free, n3 has 80 MiB free, less than 256 MiB. Deletes are still taken.',
    )
    for (const id of town.ids) await town.change(id, { type: 'delete', key: 'old' })
    await town.openSession('n2', 'ABCDEFGHIJKLMNOPQRSTUV')
    expect(await town.get('n3', 'more')).toBeUndefined()
    town.setFree('n3', 400 * MiB)
    for (const id of town.ids) await until(`room at ${id}`, async () => !(await isFull(town, id)))
  })

  it('counts a silent voter as none: the leader refuses what the rest cannot hold, also for others', async () => {
    await using town = await Town.start({ seed: 4, free: { n2: 100 * MiB } })
    await until('the alarm', () => alarmsOf(town, 'n1', 'n2').length > 0)
    await until('another leader', async () => (await town.leader()) !== 'n2')
    const leader = await town.leader()
    const silent = leader === 'n1' ? 'n3' : 'n1'
    await town.crash(silent)
    // n2 does not know whom the leader hears, and forwards.
    await until('a refusal through n2', () => isFull(town, 'n2'))
    await until('a refusal by the leader', () => isFull(town, leader))
    await town.start(silent)
    await until('room', async () => !(await isFull(town, 'n2')))
  })
})

describe('the reserve of a node', () => {
  it('is held while there is room, and not taken from the last of it', async () => {
    await using town = await Town.start({ seed: 5, free: { n2: 310 * MiB } })
    const has = async (id: string) => (await town.disk(id).list('/data')).includes('reserve')
    await until('the reserves', async () => (await has('n1')) && (await has('n3')))
    expect(await has('n2')).toBe(false)
    expect(town.disk('n1').contents('/data/reserve')).toHaveLength(4096)
  })
})
