// When no quorum is left: one node goes on as the first of a new cluster, and the old one never comes between (rule 7).

import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { inspect, type RecoveryPlace, recover } from '../../src/node/recovery.ts'
import { Storage } from '../../src/node/storage.ts'
import type { Entry } from '../../src/raft/types.ts'
import { StateDamagedError } from '../../src/store/record.ts'
import { MemoryDisk } from '../store/memory-disk.ts'
import { MemoryState } from '../store/memory-state.ts'
import { configurationOf, founding } from '../store/wal-harness.ts'
import { Town } from './town.ts'

const self = founding.configuration.members[0]?.peer ?? ''
const newId = 'f'.repeat(32)

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await delay(5)
  }
}

/** A town of three that holds something, all of whose nodes were stopped hard; n1 has all of it. */
async function stopped(seed: number): Promise<Town> {
  const town = await Town.start({ seed })
  for (let at = 0; at < 20; at++) await town.set('n2', `key-${at}`, `value-${at}`)
  await town.openSession('n1', session)
  expect(await town.get('n1', 'key-19')).toBe('value-19')
  await town.losePower(...town.ids)
  return town
}

const session = 'ABCDEFGHIJKLMNOPQRSTUV'

async function recoverTown(town: Town, id: string) {
  const findings = await inspect(town.place(id))
  return { findings, recovered: await recover(town.place(id), findings) }
}

describe('a node that was recovered from a lost quorum', () => {
  it('has every key, token and session, votes alone, and counts revisions from above all that may be lost', async () => {
    await using town = await stopped(1)
    const { findings, recovered } = await recoverTown(town, 'n1')
    expect(findings.configuration.members).toHaveLength(3)
    expect(recovered.formerId).toBe(findings.clusterId)
    await town.start('n1')
    await town.ready(['n1'])
    for (let at = 0; at < 20; at++) expect(await town.get('n1', `key-${at}`)).toBe(`value-${at}`)
    const { id, members } = town.node('n1').cluster()
    expect(id).toBe(recovered.clusterId)
    expect(id).not.toBe(recovered.formerId)
    expect(members.map((member) => [member.id, member.voter])).toEqual([['n1', true]])
    const once = { type: 'session', session, seq: 1, acked: 0 } as const
    const { outcome } = await town.change('n1', { type: 'set', key: 'more', value: 'x', once })
    expect(outcome).toMatchObject({ type: 'set', revision: expect.any(Number) })
    expect(town.node('n1').cluster().revision).toBeGreaterThan(1_000_000_000)
    await town.losePower('n1')
    await town.start('n1')
    await town.ready(['n1'])
    expect(await town.get('n1', 'more')).toBe('x')
  })

  it('and the members of the old cluster, come back as they were, refuse each other', async () => {
    await using town = await stopped(2)
    const { recovered } = await recoverTown(town, 'n1')
    await town.startAll()
    // A majority of the old cluster is back: it is that cluster, under its old id.
    await town.set('n2', 'whose', 'old')
    await town.set('n1', 'whose', 'new')
    expect(await town.get('n3', 'whose')).toBe('old')
    expect(await town.get('n1', 'whose')).toBe('new')
    expect(['n1', 'n2', 'n3'].map((id) => town.node(id).cluster().id)).toEqual([
      recovered.clusterId,
      recovered.formerId,
      recovered.formerId,
    ])
    for (const peer of ['peer-n2', 'peer-n3']) expect(town.network.isConnected('peer-n1', peer)).toBe(false)
    // Also one that is added with what it has, and of a later term.
    const { term } = town.node('n1').cluster()
    const deadline = performance.now() + 10_000
    await town.node('n1').addMember(town.address('n2'), { deadline })
    const other = town.node('n2').cluster().leader === 'n2' ? 'n3' : 'n2'
    await town.node('n2').transferLeadership(other, { deadline })
    await town.set('n2', 'whose', 'old still')
    await town.set('n1', 'whose', 'new still')
    expect(town.network.isConnected('peer-n1', 'peer-n2')).toBe(false)
    expect(town.node('n1').cluster()).toMatchObject({ id: recovered.clusterId, leader: 'n1', term })
    expect(await town.get('n1', 'whose')).toBe('new still')
  })

  it('takes emptied nodes as new members, which get all of it', async () => {
    await using town = await stopped(3)
    await recoverTown(town, 'n1')
    await town.start('n1')
    await town.ready(['n1'])
    for (const id of ['n2', 'n3']) {
      await town.build(id, `peer-${id}-anew`)
      await town.start(id)
      await town.node('n1').addMember(town.address(id), { deadline: performance.now() + 10_000 })
      await town.ready([id])
      expect(await town.get(id, 'key-7')).toBe('value-7')
    }
    const voters = (id: string) =>
      town
        .node(id)
        .cluster()
        .members.filter(({ voter }) => voter).length
    await until('three voters, as each knows', () => town.ids.every((id) => voters(id) === 3))
    await town.crash('n1')
    await town.set('n2', 'key-7', 'after n1')
    expect(await town.get('n3', 'key-7')).toBe('after n1')
  })
})

/** A data directory of a member of three that was stopped, ten of its twelve entries applied. */
class Place {
  readonly disk = new MemoryDisk({ seed: 7 })
  readonly damaged = new Set<string>()
  #states = new Map<object, MemoryState>()
  now = 1_800_000_000_000

  get asRecovery(): RecoveryPlace {
    return {
      disk: this.disk,
      directory: '/data',
      self,
      openLevel: async (directory) => {
        if (this.damaged.has(directory)) throw new StateDamagedError(`${directory} is damaged.`)
        const place = this.disk.directoryAt(directory)
        const state = this.#states.get(place) ?? new MemoryState()
        this.#states.set(place, state)
        await state.open()
        return state
      },
      reserveBytes: 4096,
      now: () => this.now,
      drawClusterId: () => newId,
    }
  }

  open(): Promise<Storage> {
    return Storage.open({
      ...this.asRecovery,
      segmentBytes: 4096,
      onNotice: () => {},
      onFailure: () => {},
    })
  }

  async losePower(): Promise<void> {
    this.disk.losePower({ keep: 0 })
    for (const [place, state] of this.#states) this.#states.set(place, await state.powerLoss(3))
  }

  async damageHeaders(): Promise<void> {
    for (const name of await this.disk.list('/data/log')) this.disk.flip(`/data/log/${name}`, 800)
  }
}

const noop = (index: number): Entry => ({ type: 'noop', index, term: 2 })

async function aged(options: { members?: readonly string[]; compacted?: boolean } = {}): Promise<Place> {
  const place = new Place()
  await place.disk.makeDirectory('/data')
  await place.disk.syncDirectory('/')
  const storage = await place.open()
  const configuration =
    options.members === undefined ? founding.configuration : configurationOf(...options.members)
  await storage.found({ ...founding, configuration })
  await storage.begin()
  const { opened } = storage
  if (opened === undefined) throw new Error('founded and not open')
  const { wal, machine } = opened
  await wal.append({ hardState: { term: 3, votedFor: 'another' }, entries: [] })
  for (let index = 1; index <= 12; index++) await wal.append({ entries: [noop(index)] })
  await machine.apply(Array.from({ length: 10 }, (_, at) => noop(at + 1)))
  if (options.compacted === true) {
    await machine.flush()
    wal.compact({ index: 8, term: 2 })
    for (let index = 13; index <= 20; index++) await wal.append({ entries: [noop(index)] })
  }
  await storage.close()
  return place
}

describe('what a recovery is made from', () => {
  it('is all of the log: what is not known to be committed may be known to nobody else', async () => {
    const place = await aged()
    const findings = await inspect(place.asRecovery)
    expect(findings.log).toMatchObject({ type: 'sound', last: { index: 12, term: 2 }, term: 3 })
    expect(findings.state).toMatchObject({ meta: { lastApplied: 10 } })
    const recovered = await recover(place.asRecovery, findings)
    expect(recovered).toMatchObject({ clusterId: newId, last: { index: 12, term: 2 } })
    const storage = await place.open()
    expect(storage.opened?.hardState).toEqual({ term: 4, votedFor: undefined })
    expect(storage.opened?.machine).toMatchObject({ lastApplied: 12, clusterId: newId })
    expect(storage.opened?.machine.configuration.members).toMatchObject([{ peer: self, voter: true }])
    expect([...(await place.disk.list('/data'))].sort()).toEqual([
      'lock',
      'log',
      'log.before-recovery-1',
      'state-0',
    ])
  })

  it('may be a state whose log was lost, headers and all', async () => {
    for (const marked of [false, true]) {
      const place = await aged()
      await place.damageHeaders()
      if (marked) await (await place.open()).close()
      const findings = await inspect(place.asRecovery)
      expect(findings.log.type).toBe('lost')
      const recovered = await recover(place.asRecovery, findings)
      expect(recovered.last.index).toBe(10)
      const storage = await place.open()
      expect(storage.rebuilding).toBeUndefined()
      expect(storage.identity).toMatchObject({ type: 'founded', begun: true, founding: { clusterId: newId } })
    }
  })

  it('may be a log that reaches back to the founding, whose state is damaged', async () => {
    const place = await aged()
    await place.disk.removeDirectory('/data/state-0')
    await place.disk.syncDirectory('/data')
    const findings = await inspect(place.asRecovery)
    expect(findings.state.type).toBe('lost')
    expect((await recover(place.asRecovery, findings)).last.index).toBe(12)
  })
})

describe('a recovery', () => {
  it('is refused, and changes nothing, where it would not help', async () => {
    const empty = new Place()
    await empty.disk.makeDirectory('/data')
    await expect(inspect(empty.asRecovery)).rejects.toThrow('it holds neither a log nor a state')
    expect(await empty.disk.list('/data')).toEqual([])

    const alone = await aged({ members: ['n1'] })
    const own = configurationOf('n1').members[0]?.peer ?? ''
    await expect(inspect({ ...alone.asRecovery, self: own })).rejects.toThrow(
      own === self ? 'is the only voter of its cluster' : 'belongs to node',
    )

    const removed = await aged({ members: ['n2', 'n3'] })
    await expect(inspect(removed.asRecovery)).rejects.toThrow('was removed from its cluster')

    const hollow = await aged({ compacted: true })
    hollow.damaged.add('/data/state-0')
    await expect(inspect(hollow.asRecovery)).rejects.toThrow('There is no whole state in /data')
  })

  it('is whole or not begun after a loss of power at any step, and goes on at the next start', async () => {
    let begun = 0
    for (let stop = 1; ; stop++) {
      const place = await aged()
      const findings = await inspect(place.asRecovery)
      const halted = place.disk.stopAfter(stop).then(() => 'stopped' as const)
      const done = await Promise.race([halted, recover(place.asRecovery, findings)])
      if (done !== 'stopped') break
      await place.losePower()
      const storage = await place.open()
      const { opened } = storage
      expect(opened?.machine.lastApplied).toBeGreaterThanOrEqual(10)
      const clusterId = opened?.wal.base.founding.clusterId
      expect(opened?.machine.clusterId).toBe(clusterId)
      expect([founding.clusterId, newId]).toContain(clusterId)
      // In the old cluster nobody has said that the last two are committed.
      if (clusterId === founding.clusterId) expect(opened?.machine.lastApplied).toBe(10)
      if (clusterId === newId) {
        begun++
        expect(opened?.machine.lastApplied).toBe(12)
        expect(opened?.hardState).toEqual({ term: 4, votedFor: undefined })
        expect(await place.disk.list('/data')).not.toContain('recovering')
      }
      await storage.close()
    }
    expect(begun).toBeGreaterThan(5)
  })
})
