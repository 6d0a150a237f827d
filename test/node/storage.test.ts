// What a node finds in its data directory after damage, and what it does about it by itself (rules 6 to 10).

import { describe, expect, it } from 'vitest'
import { Storage } from '../../src/node/storage.ts'
import type { Entry } from '../../src/raft/types.ts'
import type { LevelFiles } from '../../src/store/level-files.ts'
import { StateDamagedError } from '../../src/store/record.ts'
import { StateMachine } from '../../src/store/state-machine.ts'
import { MemoryDisk } from '../store/memory-disk.ts'
import { MemoryState } from '../store/memory-state.ts'
import { configurationOf, founding } from '../store/wal-harness.ts'

const hour = 3_600_000
const log = '/data/log'
const self = founding.configuration.members[0]?.peer ?? ''

/** One machine: a disk, the LevelDBs on it, and a clock. */
class Place {
  readonly disk = new MemoryDisk({ seed: 7 })
  readonly notices: string[] = []
  /** Directories whose LevelDB says that it is damaged. */
  readonly damaged = new Set<string>()
  /** What a look at the files of a LevelDB comes to; nobody looks unless given. */
  files: LevelFiles | undefined
  /** Told when LevelDB opens a state. */
  onOpen = async (): Promise<void> => {}
  now = 1_800_000_000_000
  #states = new Map<object, MemoryState>()

  static async make(): Promise<Place> {
    const place = new Place()
    await place.disk.makeDirectory('/data')
    await place.disk.syncDirectory('/')
    return place
  }

  open(options: { self?: string } = {}): Promise<Storage> {
    return Storage.open({
      disk: this.disk,
      directory: '/data',
      self: options.self ?? self,
      openLevel: async (directory) => {
        if (this.damaged.has(directory))
          throw new StateDamagedError(`The state in ${directory} is damaged: so it is.`)
        if (directory.includes('state-')) await this.onOpen()
        const place = this.disk.directoryAt(directory)
        const state = this.#states.get(place) ?? new MemoryState()
        this.#states.set(place, state)
        await state.open()
        return state
      },
      checkFiles: this.files && (async () => this.files ?? { type: 'unproven', why: 'nobody looks' }),
      now: () => this.now,
      segmentBytes: 4096,
      reserveBytes: 4096,
      onNotice: (error) => this.notices.push(error.message),
      onFailure: (error) => {
        throw error
      },
    })
  }

  /** The machine loses its power: what was synced is there. */
  async losePower(): Promise<void> {
    this.disk.losePower({ keep: 0 })
    for (const [place, state] of this.#states) this.#states.set(place, await state.powerLoss(3))
  }

  async names(): Promise<string[]> {
    return [...(await this.disk.list('/data'))].sort()
  }

  async segments(directory = log): Promise<string[]> {
    return [...(await this.disk.list(directory))].sort().map((name) => `${directory}/${name}`)
  }

  /** Flips a bit in the middle of every segment's header, or of the first batch of the first one. */
  async damageLog(where: 'headers' | 'batch'): Promise<void> {
    const segments = await this.segments()
    if (where === 'headers') for (const path of segments) this.disk.flip(path, 100 * 8)
    else this.disk.flip(segments[0] ?? '', (await this.#firstBatch(segments[0] ?? '')) * 8 + 80)
  }

  async #firstBatch(path: string): Promise<number> {
    return Math.ceil((24 + Buffer.from(this.disk.contents(path)).readUInt32LE(12)) / 512) * 512
  }
}

const noops = (from: number, to: number): Entry[] =>
  Array.from({ length: to - from + 1 }, (_, at) => ({ type: 'noop', index: from + at, term: 2 }))

/** A node of twelve entries, ten of them applied, that was stopped. */
async function aged(options: { compacted?: boolean } = {}): Promise<{ place: Place; boot: number }> {
  const place = await Place.make()
  const storage = await place.open()
  await storage.found(founding)
  await storage.begin()
  const { wal, machine } = open(storage)
  await wal.append({ hardState: { term: 2, votedFor: self }, entries: [] })
  for (const entry of noops(1, 12)) await wal.append({ entries: [entry] })
  await machine.apply(noops(1, 10))
  await machine.flush()
  if (options.compacted === true) {
    wal.compact({ index: 8, term: 2 })
    for (const entry of noops(13, 20)) await wal.append({ entries: [entry] })
    expect(wal.base.index).toBe(8)
  }
  const { boot } = wal.recovered
  await storage.close()
  return { place, boot }
}

function open(storage: Storage) {
  if (storage.opened === undefined) throw new Error('the storage has no log and state')
  return storage.opened
}

describe('a data directory', () => {
  it('is empty until a founding is durable in it, and then that of its node', async () => {
    const place = await Place.make()
    const storage = await place.open()
    expect(storage.identity).toEqual({ type: 'empty' })
    await storage.found(founding)
    await place.losePower()
    expect((await place.open()).identity).toEqual({ type: 'founded', founding, begun: false })
    await expect(place.open({ self: 'another' })).rejects.toThrow('belongs to node')
  })

  it('joins a cluster under a boot that it has not had, however its clock goes', async () => {
    const place = await Place.make()
    const storage = await place.open()
    const boot = Math.floor(place.now / 1000) + 1_000_000
    await storage.join({ founding, configuration: configurationOf('n1', 'n4'), boot })
    expect(open(storage).wal.recovered.boot).toBe(boot + 1)
  })

  it('joins a cluster at its beginning, with the configuration that a member told', async () => {
    const place = await Place.make()
    const storage = await place.open()
    const configuration = configurationOf('n1', 'n4')
    await storage.join({ founding, configuration, boot: 0 })
    await place.losePower()
    const again = await place.open()
    expect(again.identity).toEqual({ type: 'founded', founding, begun: true })
    expect(again.opened?.wal.recovered).toMatchObject({
      lastIndex: 0,
      configurations: [{ index: 0, configuration }],
    })
  })

  it('keeps only the state that its log names', async () => {
    const { place } = await aged()
    for (const name of ['state-7', 'state-9']) await place.disk.makeDirectory(`/data/${name}`)
    const storage = await place.open()
    expect(await storage.nextStateDirectory()).toBe('state-10')
    expect(await place.names()).toEqual(['lock', 'log', 'state-0'])
  })

  it('is open although the LevelDB that locks it is damaged', async () => {
    const { place } = await aged()
    place.damaged.add('/data/lock')
    const remove = place.disk.removeDirectory.bind(place.disk)
    place.disk.removeDirectory = (directory) => {
      place.damaged.delete(directory)
      return remove(directory)
    }
    expect(open(await place.open()).wal.recovered.lastIndex).toBe(12)
  })
})

describe('a lost log', () => {
  it('is moved aside, and a new one begins after the state, with a boot above every earlier one', async () => {
    const { place, boot } = await aged()
    await place.damageLog('batch')
    const storage = await place.open()
    const { wal, machine, hardState } = open(storage)
    expect(storage.rebuilding?.why).toContain('The log is damaged: in /data/log/segment-0000000001.wal')
    expect(storage.rebuilding?.boot).toBeGreaterThan(boot)
    expect(wal.recovered.boot).toBeGreaterThanOrEqual(storage.rebuilding?.boot ?? 0)
    expect(wal.base).toMatchObject({ index: 10, term: 2, directory: 'state-0' })
    expect(machine.lastApplied).toBe(10)
    expect(hardState).toEqual({ term: 2, votedFor: self })
    expect(storage.identity).toMatchObject({ type: 'founded', begun: true })
    expect(await place.names()).toEqual([
      'lock',
      'log',
      'log.damaged-1',
      'rebuilding',
      'repairs.json',
      'state-0',
    ])
  })

  it('counts as lost through every restart, until the cluster has promoted the node again', async () => {
    const { place } = await aged()
    await place.damageLog('headers')
    const first = await place.open()
    await first.close()
    const again = await place.open()
    expect(again.rebuilding).toEqual(first.rebuilding)
    expect(again.repairs).toHaveLength(1)
    if (again.opened === undefined)
      await again.join({ founding, configuration: founding.configuration, boot: 0 })
    await again.rebuilt()
    await again.close()
    expect((await place.open()).rebuilding).toBeUndefined()
  })

  it.each(['headers', 'batch'] as const)(
    'is made up for through a loss of power at any step, as one repair (damage in %s)',
    async (where) => {
      for (let stop = 1; ; stop++) {
        const { place, boot } = await aged()
        await place.damageLog(where)
        const stopped = place.disk.stopAfter(stop).then(() => 'stopped' as const)
        const opening = await Promise.race([stopped, place.open()])
        await place.losePower()
        const storage = await place.open()
        expect(storage.rebuilding?.boot).toBeGreaterThan(boot)
        expect(storage.repairs.length).toBeLessThanOrEqual(1)
        if (where === 'headers') expect(storage.identity.type).toBe('rebuilding')
        else expect(open(storage).wal.recovered.boot).toBeGreaterThanOrEqual(storage.rebuilding?.boot ?? 0)
        expect(await place.names()).toContain('log.damaged-1')
        if (opening !== 'stopped') return expect(stop).toBeGreaterThan(10)
      }
    },
  )

  it('that says nothing any more leaves a node which never founds, knows its cluster, and can be told', async () => {
    const { place } = await aged()
    await place.damageLog('headers')
    const storage = await place.open()
    expect(storage.identity).toMatchObject({
      type: 'rebuilding',
      clusterId: founding.clusterId,
      configuration: founding.configuration,
    })
    await expect(storage.found(founding)).rejects.toThrow('only an empty node')
    await storage.close()
    const again = await place.open()
    const other = { ...founding, clusterId: 'f'.repeat(32) }
    await expect(
      again.join({ founding: other, configuration: founding.configuration, boot: 0 }),
    ).rejects.toThrow('belongs to cluster')
    await again.close()
    const third = await place.open()
    await third.join({ founding, configuration: configurationOf('n1', 'n2'), boot: 0 })
    expect(open(third).wal.base).toMatchObject({ index: 10, term: 2, directory: 'state-0' })
    expect(third.rebuilding).toBeDefined()
  })

  it('may be gone, and the state tells that there was one', async () => {
    const { place } = await aged()
    await place.disk.removeDirectory(log)
    const storage = await place.open()
    expect(storage.identity).toMatchObject({ type: 'rebuilding', clusterId: founding.clusterId })
    expect(storage.rebuilding?.why).toContain('is missing, though state-0 in /data came from one')
  })

  it('with a damaged state begins at the founding, in a new directory, and keeps the old one until it counts again', async () => {
    const { place } = await aged()
    await place.damageLog('batch')
    place.damaged.add('/data/state-0')
    const storage = await place.open()
    const { configuration } = founding
    expect(open(storage).wal.base).toMatchObject({ index: 0, term: 0, directory: 'state-1', configuration })
    expect(open(storage).machine.lastApplied).toBe(0)
    expect(await place.names()).toContain('state-0')
    await storage.rebuilt()
    expect(await place.names()).not.toContain('state-0')
  })

  it('is kept aside, and of those before it one', async () => {
    const { place } = await aged()
    for (let loss = 1; loss <= 4; loss++) {
      await place.damageLog('headers')
      const storage = await place.open()
      await storage.join({ founding, configuration: founding.configuration, boot: 0 })
      await storage.close()
      place.now += 2 * hour
    }
    expect((await place.names()).filter((name) => name.startsWith('log.'))).toEqual([
      'log.damaged-3',
      'log.damaged-4',
    ])
  })
})

describe('a damaged state', () => {
  it('is replayed into a new directory while the log reaches back to the founding', async () => {
    const { place } = await aged()
    place.damaged.add('/data/state-0')
    const storage = await place.open()
    const { wal, machine } = open(storage)
    expect(storage.rebuilding).toBeUndefined()
    expect(wal.base).toMatchObject({ index: 0, directory: 'state-1' })
    expect(wal.recovered.lastIndex).toBe(12)
    await machine.apply(noops(1, 12))
    await machine.flush()
    expect(storage.repairs).toMatchObject([
      { what: 'state', why: 'The state in /data/state-0 is damaged: so it is.' },
    ])
    await storage.close()
    const again = await place.open()
    expect(open(again).machine.lastApplied).toBe(12)
    expect(await place.names()).toEqual(['lock', 'log', 'repairs.json', 'state-1'])
  })

  it('is replayed through a loss of power at any step, and leaves nothing behind', async () => {
    for (let stop = 1; ; stop++) {
      const { place } = await aged()
      place.damaged.add('/data/state-0')
      const stopped = place.disk.stopAfter(stop).then(() => 'stopped' as const)
      const opening = await Promise.race([stopped, place.open()])
      await place.losePower()
      const storage = await place.open()
      expect(open(storage).wal.recovered.lastIndex).toBe(12)
      expect(open(storage).wal.base.directory).not.toBe('state-0')
      await storage.close()
      await (await place.open()).close()
      expect(await place.names()).not.toContain('stateless')
      expect(await place.names()).not.toContain('state-0')
      if (opening !== 'stopped') return expect(stop).toBeGreaterThan(10)
    }
  })

  it('leaves the log to vote with until a snapshot is installed', async () => {
    const { place } = await aged({ compacted: true })
    place.damaged.add('/data/state-0')
    const first = await place.open()
    expect(first.opened).toBeUndefined()
    expect(first.stateless?.wal.recovered.lastIndex).toBe(20)
    expect(first.identity).toMatchObject({ type: 'founded', begun: true })
    await first.close()
    place.damaged.clear()
    const again = await place.open()
    expect(again.stateless?.why).toBe('The state in /data/state-0 is damaged: so it is.')
    const directory = await again.nextStateDirectory()
    const level = await again.openState(directory)
    const { configuration } = founding
    // A whole state at entry 15, as a snapshot brings it.
    const maker = await StateMachine.open({
      level,
      founding,
      onFailure: ({ error }) => expect.fail(error.message),
    })
    await maker.apply(noops(1, 15))
    await maker.close()
    await level.open()
    const { wal, machine } = await again.install({ directory, index: 15, term: 2, configuration, level })
    expect(wal.base).toMatchObject({ index: 15, directory })
    expect(machine.lastApplied).toBe(15)
    expect(await place.names()).toEqual(['lock', 'log', 'repairs.json', directory])
    await again.close()
    await place.losePower()
    expect(open(await place.open()).machine.lastApplied).toBe(15)
  })

  it('is one that ends before its log begins', async () => {
    const { place } = await aged({ compacted: true })
    await place.disk.removeDirectory('/data/state-0')
    const { stateless } = await place.open()
    expect(stateless?.why).toContain('it ends with entry 0, and the log begins after entry 8')
  })

  it('found while it runs is not opened again', async () => {
    const { place } = await aged()
    const storage = await place.open()
    await storage.loseState('The digest of n2 is another than that of n1 and n3.')
    await storage.close()
    expect(open(await place.open()).wal.base.directory).toBe('state-1')
  })
})

describe('a state whose files are whole', () => {
  const whole: LevelFiles = { type: 'whole', bytes: 1 }
  const torn: LevelFiles = { type: 'unproven', why: 'the log ends within a record' }

  it('is proven once all its rows were read, and says at later starts how long ago that was', async () => {
    const { place } = await aged()
    place.files = whole
    const storage = await place.open()
    expect(storage.proof).toEqual({ type: 'unproven', why: 'its rows were not read since this node has it' })
    await storage.rowsRead()
    await storage.close()
    await place.losePower()
    place.now += hour
    const again = await place.open()
    expect(again.proof).toEqual({ type: 'proven', readAgoMs: hour })
    await again.close()
    expect((await place.open()).proof).toEqual({ type: 'proven', readAgoMs: hour })
  })

  it('has to be read again from before LevelDB opens files that are not whole, whatever it makes of them', async () => {
    const { place } = await aged()
    place.files = whole
    const storage = await place.open()
    await storage.rowsRead()
    await storage.close()
    place.files = torn
    // The power is lost while LevelDB opens.
    place.onOpen = async () => {
      await place.losePower()
      throw new Error('the power is lost')
    }
    await expect(place.open()).rejects.toThrow('the power is lost')
    place.onOpen = async () => {}
    place.files = whole
    const after = await place.open()
    expect(after.proof.type).toBe('unproven')
    await after.rowsRead()
    await after.close()
    expect((await place.open()).proof.type).toBe('proven')
  })

  it('proves nothing of another directory, nor to who cannot look at files', async () => {
    const { place } = await aged()
    place.files = whole
    const storage = await place.open()
    await storage.rowsRead()
    await storage.loseState('The digest of n2 is another than that of n1 and n3.')
    await storage.close()
    const replayed = await place.open()
    expect(open(replayed).wal.base.directory).toBe('state-1')
    expect(replayed.proof.type).toBe('unproven')
    await replayed.rowsRead()
    await replayed.close()
    place.files = undefined
    const blind = await place.open()
    expect(blind.proof.type).toBe('unproven')
    await blind.close()
    place.files = whole
    expect((await place.open()).proof.type).toBe('unproven')
  })

  it('is damaged without a look at its rows where one of its files is', async () => {
    const { place } = await aged()
    place.files = whole
    const storage = await place.open()
    await storage.rowsRead()
    await storage.close()
    place.files = { type: 'damaged', why: '000005.ldb: the block at 0 fails its checksum' }
    await expect(place.open()).rejects.toThrow('000005.ldb: the block at 0 fails its checksum')
  })
})

describe('a second repair within an hour', () => {
  it('stops the node with an alarm and changes nothing; an hour later it is tried', async () => {
    const { place } = await aged()
    place.damaged.add('/data/state-0')
    const first = await place.open()
    await first.close()
    place.now += hour / 2
    await place.damageLog('headers')
    const before = await place.names()
    await expect(place.open()).rejects.toThrow(/^ALARM: The log is damaged.*less than an hour ago/)
    expect(await place.names()).toEqual(before)
    place.now += hour
    expect((await place.open()).rebuilding).toBeDefined()
  })
})
