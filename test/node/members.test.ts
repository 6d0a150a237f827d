// Whole nodes whose cluster changes under them: who is added catches up and votes, who is removed is quiet, nothing is lost.

import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { TrivetError } from '../../src/errors.ts'
import type { MemberStatus } from '../../src/node/surface.ts'
import { Town } from './town.ts'

async function until(holds: () => boolean, what: string, ms = 15_000): Promise<void> {
  const deadline = performance.now() + ms
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`)
    await delay(2)
  }
}

function soon(ms = 5000) {
  return { deadline: performance.now() + ms }
}

function shown(town: Town, through: string): readonly MemberStatus[] {
  return town.node(through).cluster().members
}

function voters(town: Town, through: string): readonly string[] {
  return shown(town, through)
    .filter(({ voter }) => voter)
    .map(({ id }) => id)
}

/** Writers through whichever of `through()` answers, until `stop`; resolves with the last acknowledged turn of each key. */
function write(town: Town, writers: number, through: () => readonly string[]) {
  const acknowledged = new Map<string, number>()
  const failures: string[] = []
  const stopped = { now: false }
  const running = Array.from({ length: writers }, async (_, writer) => {
    const key = `key-${writer}`
    for (let turn = 1; !stopped.now; turn++) {
      const ids = through()
      try {
        await town.set(ids[(writer + turn) % ids.length] ?? '', key, String(turn), 1000)
        acknowledged.set(key, turn)
      } catch (error) {
        if (error instanceof TrivetError) failures.push(error.code)
        else if (!(error instanceof Error && /does not run|has ended|no machine/.test(error.message)))
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
  return { acknowledged, failures, stop }
}

async function missing(town: Town, through: string, acknowledged: ReadonlyMap<string, number>) {
  const lost: string[] = []
  for (const [key, turn] of acknowledged) {
    const value = await town.get(through, key)
    if (value === undefined || Number(value) < turn) lost.push(`${key}: ${value} instead of ${turn}`)
  }
  return lost
}

describe('a node that is added', () => {
  it('waits, says what helps, and joins, catches up and votes once it is added, through any node', async () => {
    await using town = await Town.start({ seed: 1 })
    for (let turn = 0; turn < 50; turn++) await town.set('n1', 'k', String(turn))
    await town.build('n4')
    await town.start('n4')
    const waiting = () => town.node('n4').unreadiness().join()
    await until(() => waiting().includes('trivet member add n4 --http http://n4'), 'n4 says what helps')

    const leader = await town.leader()
    const follower = town.ids.find((id) => id !== leader && id !== 'n4') ?? ''
    await town.node(follower).addMember(town.address('n4'), soon())
    expect(shown(town, follower).find(({ id }) => id === 'n4')).toMatchObject({ voter: false })
    await until(() => voters(town, follower).length === 4, 'n4 votes')
    await town.ready(['n4'])
    expect(await town.get('n4', 'k')).toBe('49')
    // One that votes is needed for a majority of four.
    await town.crash(...town.ids.filter((id) => id !== leader && id !== 'n4').slice(0, 1))
    await town.set('n4', 'k', 'last')
    expect(await town.get(leader, 'k')).toBe('last')
  })

  it('stays a learner while it is not heard', async () => {
    await using town = await Town.start({ seed: 2 })
    await town.build('n4')
    await town.node('n1').addMember(town.address('n4'), soon())
    await delay(500)
    expect(voters(town, 'n1')).toEqual(['n1', 'n2', 'n3'])
    // Two of three still make a quorum.
    const [gone = ''] = town.ids.filter((id) => id !== 'n1' && id !== 'n4')
    await town.crash(gone)
    await town.set('n1', 'k', 'v')
  })

  it('is a learner after a restart, and after it moved', async () => {
    await using town = await Town.start({ seed: 3 })
    await town.build('n4')
    await town.start('n4')
    const leader = await town.leader()
    // It hears what it is to know, and nobody hears that it does: it is not promoted.
    for (const id of ['n1', 'n2', 'n3']) town.cutOneWay('n4', id)
    await town.node('n1').addMember(town.address('n4'), soon())
    town.network.heal()
    await town.crash('n4')
    town.move('n4', 'elsewhere')
    expect(shown(town, leader).find(({ id }) => id === 'n4')?.peer).toBe('peer-n4')
    await town.start('n4')
    await until(() => voters(town, 'n1').includes('n4'), 'n4 votes')
    await until(
      () => shown(town, 'n1').find(({ id }) => id === 'n4')?.http === 'http://elsewhere',
      'its new address is known',
    )
  })
})

describe('a node that comes back under another address', () => {
  it('tells so itself, and is found there', async () => {
    await using town = await Town.start({ seed: 4 })
    await town.crash('n2')
    town.move('n2', 'moved')
    await town.start('n2')
    await until(
      () =>
        ['n1', 'n3'].every((through) =>
          shown(town, through).some(({ id, p2p }) => id === 'n2' && p2p === '/dns4/moved/tcp/1'),
        ),
      'everybody knows where n2 is',
    )
    expect(voters(town, 'n1')).toEqual(['n1', 'n2', 'n3'])
  })
})

describe('a node that is removed', () => {
  it('says so, takes no requests, and disturbs nobody', async () => {
    await using town = await Town.start({ seed: 5 })
    const leader = await town.leader()
    const gone = town.ids.find((id) => id !== leader) ?? ''
    const stay = town.ids.filter((id) => id !== gone)
    await town.node(leader).removeMember(gone, soon())
    expect(voters(town, leader)).toEqual(stay)
    await until(() => town.node(gone).unreadiness().join().includes('was removed'), 'it knows')
    await expect(town.set(gone, 'k', 'v')).rejects.toMatchObject({ code: 'not-ready' })
    expect(shown(town, gone).some(({ self }) => self)).toBe(false)
    const term = town.node(leader).status?.term
    await delay(600)
    expect(town.node(leader).status).toMatchObject({ term, role: 'leader' })
  })

  it('learns so when it was away meanwhile', async () => {
    await using town = await Town.start({ seed: 6 })
    const leader = await town.leader()
    const gone = town.ids.find((id) => id !== leader) ?? ''
    await town.crash(gone)
    await town.node(leader).removeMember(gone, soon())
    await town.start(gone)
    await until(() => town.node(gone).unreadiness().join().includes('was removed'), 'it knows')
    const term = town.node(leader).status?.term
    await delay(600)
    expect(town.node(leader).status).toMatchObject({ term, role: 'leader' })
  })

  it('may be the leader: it is followed by another within no time, and no write fails', async () => {
    await using town = await Town.start({ seed: 7, nodes: 4 })
    const leader = await town.leader()
    const stay = town.ids.filter((id) => id !== leader)
    const load = write(town, 4, () => stay)
    await until(() => load.acknowledged.size === 4, 'there is load')
    await town.node(stay[0] ?? '').removeMember(leader, soon())
    await until(() => town.node(stay[0] ?? '').cluster().leader !== leader, 'another leads')
    await until(() => town.node(leader).unreadiness().join().includes('was removed'), 'it knows')
    const acknowledged = await load.stop()
    expect(load.failures).toEqual([])
    expect(await missing(town, stay[1] ?? '', acknowledged)).toEqual([])
    expect(await town.leader()).not.toBe(leader)
  })
})

describe('a change', () => {
  it('is refused when the voters left could not commit, and done when it is forced', async () => {
    await using town = await Town.start({ seed: 8 })
    const leader = await town.leader()
    const [dead = '', other = ''] = town.ids.filter((id) => id !== leader)
    await town.crash(dead)
    await until(() => shown(town, leader).some(({ id, healthy }) => id === dead && !healthy), 'it is missed')
    await expect(town.node(leader).removeMember(other, soon())).rejects.toMatchObject({
      code: 'quorum-at-risk',
    })
    await town.node(other).removeMember(dead, soon())
    expect(voters(town, leader)).toHaveLength(2)
    await town.set(other, 'k', 'v')
  })

  it('is refused while another one is not over', async () => {
    await using town = await Town.start({ seed: 9, nodes: 5 })
    const leader = await town.leader()
    const others = town.ids.filter((id) => id !== leader)
    // Nothing more is committed, though the leader does not know yet.
    town.partition([leader], others)
    const node = town.node(leader)
    const one = node.addMember(
      { ...town.address(others[0] ?? ''), id: 'n8', peer: 'p8', ...at(8) },
      soon(400),
    )
    const two = node.addMember(
      { ...town.address(others[0] ?? ''), id: 'n9', peer: 'p9', ...at(9) },
      soon(400),
    )
    await expect(two).rejects.toMatchObject({ code: 'change-in-progress' })
    await expect(one).rejects.toMatchObject({ code: 'outcome-unknown' })
  })

  it('that was never committed is taken back with its entry', async () => {
    await using town = await Town.start({ seed: 10, nodes: 5 })
    const leader = await town.leader()
    const others = town.ids.filter((id) => id !== leader)
    town.partition([leader], others)
    const lost = town.node(leader).addMember({ id: 'n9', peer: 'p9', ...at(9) }, soon(300))
    await expect(lost).rejects.toMatchObject({ code: 'outcome-unknown' })
    expect(shown(town, leader).map(({ id }) => id)).toContain('n9')
    await until(() => town.node(others[0] ?? '').cluster().leader !== leader, 'another leads')
    await town.set(others[0] ?? '', 'k', 'v')
    town.network.heal()
    await until(() => !shown(town, leader).some(({ id }) => id === 'n9'), 'it is taken back')
    expect(voters(town, leader)).toHaveLength(5)
  })

  it('puts a new node in the place of a dead one, under its name', async () => {
    await using town = await Town.start({ seed: 11 })
    await town.set('n1', 'k', 'v')
    const leader = await town.leader()
    const dead = town.ids.find((id) => id !== leader) ?? ''
    await town.crash(dead)
    await town.build(dead, `peer-${dead}-again`)
    await until(() => shown(town, leader).some(({ id, healthy }) => id === dead && !healthy), 'it is missed')
    await town.start(dead)
    await until(
      () => town.node(dead).unreadiness().join().includes(`trivet member replace ${dead}`),
      'it says what helps',
    )
    await town.node(leader).addMember(town.address(dead), { ...soon(), replaces: dead })
    await until(() => voters(town, leader).length === 3, 'it votes')
    await town.ready([dead])
    expect(await town.get(dead, 'k')).toBe('v')
  })
})

describe('a cluster of three', () => {
  it.each([21, 22])(
    'becomes five and then three others, under load and kills, and loses nothing (seed %i)',
    async (seed) => {
      await using town = await Town.start({ seed })
      let ids: readonly string[] = ['n1', 'n2', 'n3']
      const load = write(town, 6, () => ids)
      await until(() => load.acknowledged.size === 6, 'there is load')
      for (const id of ['n4', 'n5', 'n6']) {
        const through = ids[0] ?? ''
        if (id === 'n6') {
          // One member is down during this change and the next.
          await town.crash('n2')
        }
        await town.build(id)
        await town.start(id)
        await town.node(through).addMember(town.address(id), soon())
        await until(() => voters(town, through).includes(id), `${id} votes`)
        await town.ready([id])
        ids = [...ids, id].filter((each) => each !== 'n2' || id !== 'n6')
        if (id === 'n5') {
          await town.crash('n4')
          await town.start('n4')
        }
      }
      for (const id of ['n3', 'n2', 'n1']) {
        ids = ids.filter((each) => each !== id)
        await town.node('n6').removeMember(id, soon())
        if (id === 'n3') await town.start('n2')
        await until(() => !voters(town, 'n6').includes(id), `${id} does not vote`)
        if (id === 'n2') {
          const leader = await town.leader()
          await town.crash(leader)
          await town.start(leader)
          await town.ready(ids)
        }
      }
      await town.crash('n1', 'n2', 'n3')
      const acknowledged = await load.stop()
      expect(voters(town, 'n6')).toEqual(['n4', 'n5', 'n6'])
      expect(await missing(town, 'n4', acknowledged)).toEqual([])
      const turns = [...acknowledged.values()].reduce((sum, turn) => sum + turn, 0)
      expect(turns).toBeGreaterThan(100)
    },
    60_000,
  )
})

function at(number: number) {
  return { http: `http://10.0.0.${number}:1`, p2p: `/ip4/10.0.0.${number}/tcp/1` }
}
