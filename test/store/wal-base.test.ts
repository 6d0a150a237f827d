// Where the log begins: after a compaction, an install, or for a node that goes on with a state (rule 6 of safety).

import { describe, expect, it } from 'vitest'
import type { Entry } from '../../src/raft/types.ts'
import type { Wal } from '../../src/store/wal.ts'
import type { MemoryDisk } from './memory-disk.ts'
import {
  command,
  configurationOf,
  createLog,
  directory,
  emptyDisk,
  firstBatch,
  foundedBase,
  founding,
  openLog,
  plain,
  readAll,
  refusal,
  segment,
} from './wal-harness.ts'

describe('compaction', () => {
  /** Small segments, one entry of about 3 kB each; the third entry is a configuration. */
  async function logOf(disk: MemoryDisk, entries: number): Promise<Wal> {
    const wal = await createLog(disk, { segmentBytes: 8192 })
    await wal.append({ hardState: { term: 3, votedFor: 'v' }, entries: [] })
    for (let index = 1; index <= entries; index++) await wal.append({ entries: [entryAt(index)] })
    return wal
  }

  function entryAt(index: number): Entry {
    return index === 3
      ? { type: 'configuration', index, term: 2, configuration: configurationOf('n3') }
      : command(index, 2, Buffer.alloc(3000, index))
  }

  it('removes the segments that hold nothing after the base, and keeps term, vote and configuration', async () => {
    const disk = await emptyDisk()
    const wal = await logOf(disk, 9)
    const before = wal.counters().segments
    wal.compact({ index: 8, term: 2 })
    expect(wal.base.index).toBe(0)
    for (let index = 10; wal.base.index === 0; index++) await wal.append({ entries: [entryAt(index)] })
    const base = { ...foundedBase, index: 8, term: 2, configuration: configurationOf('n3') }
    expect(wal.base).toEqual(base)
    await wal.close()
    expect(wal.counters().segments).toBeLessThan(before)
    expect(await disk.list(directory)).toHaveLength(wal.counters().segments)
    disk.losePower({ keep: 0 })
    const again = await openLog(disk)
    expect(again.recovered).toMatchObject({ base, hardState: { term: 3, votedFor: 'v' } })
    expect(again.recovered.terms).toEqual([{ index: 9, term: 2 }])
    expect(again.recovered.configurations).toEqual([{ index: 8, configuration: configurationOf('n3') }])
    expect(plain(await readAll(again))[0]).toEqual(plain([entryAt(9)])[0])
    await expect(again.read({ from: 8, to: 9, maxBytes: 1 })).rejects.toThrow('only entries of the log')
  })

  it('does not depend on when old segments go, nor on which of their names outlive a loss of power', async () => {
    for (let seed = 0; seed < 40; seed++) {
      const disk = await emptyDisk({ seed })
      const wal = await logOf(disk, 12)
      wal.compact({ index: 11, term: 2 })
      // The names that are removed are never synced.
      const release = disk.hold('syncDirectory', { skip: 2 })
      for (let index = 13; wal.base.index === 0; index++) await wal.append({ entries: [entryAt(index)] })
      disk.losePower({ keep: 0.5 })
      release()
      expect((await openLog(disk)).recovered).toMatchObject({
        base: { index: 11 },
        hardState: { term: 3, votedFor: 'v' },
      })
    }
  })

  it('lets a read end that began before', async () => {
    const disk = await emptyDisk()
    const wal = await logOf(disk, 9)
    wal.compact({ index: 9, term: 2 })
    const release = disk.hold('read', { count: 1 })
    const reading = wal.read({ from: 1, to: 9, maxBytes: 100_000 })
    for (let index = 10; wal.base.index === 0; index++) await wal.append({ entries: [entryAt(index)] })
    release()
    expect(plain(await reading)).toEqual(plain(Array.from({ length: 9 }, (_, at) => entryAt(at + 1))))
  })

  it('tells how many bytes lie after an index', async () => {
    const disk = await emptyDisk()
    const wal = await logOf(disk, 9)
    const one = wal.bytesAfter(8)
    expect(one).toBe(3072)
    expect([wal.bytesAfter(9), wal.bytesAfter(7), wal.bytesAfter(3)]).toEqual([0, 2 * one, 6 * one])
    wal.compact({ index: 6, term: 2 })
    for (let index = 10; wal.base.index === 0; index++) await wal.append({ entries: [entryAt(index)] })
    const last = wal.bytesAfter(7) / one
    expect(wal.bytesAfter(6)).toBe((last + 1) * one)
  })

  it('never goes past an entry of the log, nor are entries below it replaced', async () => {
    const wal = await logOf(await emptyDisk(), 5)
    expect(() => wal.compact({ index: 6, term: 2 })).toThrow('one of its entries')
    expect(() => wal.compact({ index: 4, term: 1 })).toThrow('one of its entries')
    wal.compact({ index: 4, term: 2 })
    await expect(wal.append({ entries: [command(4, 3, 'x')] })).rejects.toThrow('committed is not replaced')
  })

  it('with damage in a committed batch is damage still, and in old segments is nothing', async () => {
    const disk = await emptyDisk()
    const wal = await logOf(disk, 12)
    wal.compact({ index: 10, term: 2 })
    disk.fail({ call: 'remove', code: 'EIO' })
    const notices: string[] = []
    await wal.close()
    const opened = await openLog(disk, {
      segmentBytes: 8192,
      onNotice: (error) => notices.push(error.message),
    })
    opened.compact({ index: 10, term: 2 })
    for (let index = 13; opened.base.index === 0; index++) await opened.append({ entries: [entryAt(index)] })
    await opened.close()
    expect(notices).toHaveLength(1)
    const names = [...(await disk.list(directory))].sort()
    disk.flip(`${directory}/${names[0]}`, 100 * 8)
    const again = await openLog(disk)
    expect(again.base.index).toBe(10)
    await again.close()
    const [oldest] = [...(await disk.list(directory))].sort()
    const number = Number(oldest?.slice(8, 18))
    disk.flip(segment(number), (firstBatch(disk, number) + 100) * 8)
    expect((await refusal(openLog(disk))).code).toBe('damaged')
  })
})

describe('an install', () => {
  const configuration = configurationOf('n9')

  async function logOf(entries: number): Promise<{ disk: MemoryDisk; wal: Wal }> {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    await wal.append({ hardState: { term: 5, votedFor: undefined }, entries: [] })
    for (let index = 1; index <= entries; index++)
      await wal.append({ entries: [command(index, 2, `${index}`)] })
    return { disk, wal }
  }

  it.each([
    ['at an entry of the log keeps what follows', 4, 2, [5, 6]],
    ['beyond the log empties it', 20, 5, []],
    ['at an entry of another term empties it', 4, 3, []],
  ] as const)('%s', async (_, index, term, left) => {
    const { disk, wal } = await logOf(6)
    const base = { directory: 'state-1', index, term, configuration }
    await wal.install(base)
    expect(wal.base).toEqual({ ...base, founding })
    disk.losePower({ keep: 0 })
    const again = await openLog(disk)
    expect(again.recovered).toMatchObject({ base: { ...base, founding }, hardState: { term: 5 } })
    expect((await readAll(again)).map((entry) => entry.index)).toEqual(left)
    const next = index + left.length + 1
    await again.append({ entries: [command(next, 5, 'goes on')] })
    disk.losePower({ keep: 0 })
    expect((await openLog(disk)).recovered.lastIndex).toBe(next)
  })

  it('leaves one log or the other after a loss of power at any disk call', async () => {
    for (let stop = 1; ; stop++) {
      const { disk, wal } = await logOf(6)
      const stopped = disk.stopAfter(stop).then(() => 'stopped' as const)
      const install = { directory: 'state-1', index: 20, term: 5, configuration }
      const done = await Promise.race([stopped, wal.install(install).then(() => wal.close())])
      disk.losePower({ keep: stop % 2 })
      const { recovered } = await openLog(disk)
      if (recovered.base.index === 20) expect(recovered).toMatchObject({ lastIndex: 20, base: install })
      else expect(recovered).toMatchObject({ lastIndex: 6, base: foundedBase })
      if (done !== 'stopped') return expect(recovered.base.index).toBe(20)
    }
  })

  it('below the base is refused, as is one while an append is under way', async () => {
    const { disk, wal } = await logOf(6)
    await wal.install({ directory: 'state-1', index: 4, term: 2, configuration })
    const older = { directory: 'state-2', index: 3, term: 2, configuration }
    await expect(wal.install(older)).rejects.toThrow('no older state')
    // The same position again is what a node needs whose LevelDB is damaged.
    await wal.install({ ...older, index: 4 })
    expect(wal.base.directory).toBe('state-2')
    const release = disk.hold('write', { count: 1 })
    const appending = wal.append({ entries: [command(7, 2, 'x')] })
    await expect(wal.install({ ...older, index: 6 })).rejects.toThrow('one append is under way')
    release()
    await appending
  })

  it('waits for a proof, and a proof lets it pass', async () => {
    const { wal } = await logOf(6)
    await wal.prove()
    const proving = wal.prove()
    await wal.install({ directory: 'state-1', index: 4, term: 2, configuration })
    await proving
    const installing = wal.install({ directory: 'state-2', index: 5, term: 2, configuration })
    await wal.prove()
    await installing
    expect(wal.base).toMatchObject({ index: 5, directory: 'state-2' })
  })
})

describe('a log made for a node that goes on', () => {
  it('begins at the base it is given, with its term, above the boots before', async () => {
    const disk = await emptyDisk()
    const base = {
      ...foundedBase,
      directory: 'state-4',
      index: 70,
      term: 6,
      configuration: configurationOf('n1'),
    }
    const wal = await createLog(disk, { base, hardState: { term: 7, votedFor: 'v' }, previousBoot: 900 })
    expect(wal.recovered).toMatchObject({
      base,
      boot: 901,
      lastIndex: 70,
      hardState: { term: 7, votedFor: 'v' },
    })
    await wal.append({ entries: [command(71, 7, 'a')] })
    disk.losePower({ keep: 0 })
    const again = await openLog(disk, { applied: { index: 70, term: 6 } })
    expect(plain(await readAll(again))).toEqual(plain([command(71, 7, 'a')]))
    expect((await refusal(openLog(disk, { applied: { index: 72, term: 7 } }))).code).toBe('damaged')
  })
})
