// What the log promises, one behaviour at a time: rules 1, 3 and 4 of safety, and how it refuses.

import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { realDisk } from '../../src/store/real-disk.ts'
import { Wal } from '../../src/store/wal.ts'
import {
  beginning,
  command,
  configurationOf,
  createLog,
  directory,
  emptyDisk,
  firstBatch,
  foundedBase,
  founding,
  node,
  openLog,
  plain,
  readAll,
  refusal,
  segment,
} from './wal-harness.ts'

it('opening proves what LevelDB says it holds from the start', async () => {
  const disk = await emptyDisk()
  await createLog(disk)
  expect((await openLog(disk, { applied: beginning })).recovered.lastIndex).toBe(0)
  expect((await refusal(openLog(disk, { applied: { index: 1, term: 1 } }))).code).toBe('damaged')
})

it.skipIf(process.platform !== 'linux')(
  'a disk of the machine that refuses a write ends the log there, and it opens with all it acknowledged',
  async () => {
    const parent = await mkdtemp(join(tmpdir(), 'trivet-log-'))
    try {
      const place = join(parent, 'log')
      const child = fileURLToPath(new URL('limited-child.ts', import.meta.url))
      // In blocks of 512 or 1,024 bytes, as the shell counts; more than the header and less than a segment.
      const limited = `ulimit -f 300; exec "${process.execPath}" "${child}" "${place}"`
      const { stdout } = await promisify(execFile)('sh', ['-c', limited])
      const told: { acknowledged: number; error: string; again: string } = JSON.parse(stdout)
      expect(told.error).toContain('EFBIG')
      expect(told.again).toContain('takes nothing more')
      expect(told.acknowledged).toBeGreaterThan(20)
      const options = { disk: realDisk, directory: place, node, now: Date.now, applied: undefined }
      const onNotice = (error: Error) => expect.fail(error.message)
      const { recovered } = await Wal.open({ ...options, onNotice })
      expect(recovered.lastIndex).toBeGreaterThanOrEqual(told.acknowledged)
    } finally {
      await rm(parent, { recursive: true })
    }
  },
)

describe('a log', () => {
  it('begins with its founding, at term 0, without a vote', async () => {
    const disk = await emptyDisk()
    expect(await Wal.peek({ disk, directory })).toBeUndefined()
    const wal = await createLog(disk)
    const { configuration } = founding
    expect(wal.recovered).toEqual({
      base: { directory: 'state-0', index: 0, term: 0, configuration, founding },
      hardState: { term: 0, votedFor: undefined },
      boot: 1,
      lastIndex: 0,
      terms: [],
      configurations: [{ index: 0, configuration }],
      repaired: { cutBytes: 0, rewrittenEntries: 0 },
    })
    disk.losePower({ keep: 0 })
    expect(await Wal.peek({ disk, directory })).toEqual({ base: wal.recovered.base, node, boot: 1 })
  })

  it('keeps entries, term and vote through a loss of power, and knows its terms and configurations', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    const configuration = configurationOf('n1', 'n2')
    const entries = [
      { type: 'noop' as const, index: 1, term: 2 },
      command(2, 2, 'two'),
      { type: 'configuration' as const, index: 3, term: 3, configuration },
      command(4, 3, Buffer.alloc(300_000, 4)),
    ]
    await wal.append({ hardState: { term: 3, votedFor: '12D3KooWn2' }, entries: entries.slice(0, 3) })
    await wal.append({ entries: entries.slice(3) })
    disk.losePower({ keep: 0 })
    const again = await openLog(disk)
    expect(plain(await readAll(again))).toEqual(plain(entries))
    expect(again.recovered).toMatchObject({
      hardState: { term: 3, votedFor: '12D3KooWn2' },
      lastIndex: 4,
      terms: [
        { index: 1, term: 2 },
        { index: 3, term: 3 },
      ],
      configurations: [
        { index: 0, configuration: founding.configuration },
        { index: 3, configuration },
      ],
    })
  })

  it('works on the disk of the machine', async () => {
    const parent = await mkdtemp(join(tmpdir(), 'trivet-log-'))
    try {
      const place = {
        disk: realDisk,
        directory: join(parent, 'log'),
        node,
        now: Date.now,
        onNotice: (error: Error) => expect.fail(error.message),
        segmentBytes: 100_000,
      }
      const wal = await Wal.create({ ...place, base: foundedBase })
      const entries = Array.from({ length: 50 }, (_, at) => command(at + 1, 1, Buffer.alloc(at * 300, at)))
      for (const entry of entries)
        await wal.append({ hardState: { term: 1, votedFor: node }, entries: [entry] })
      expect(wal.counters()).toMatchObject({ syncs: 50 })
      expect(wal.counters().segments).toBeGreaterThan(3)
      await wal.close()
      const again = await Wal.open({ ...place, applied: { index: 50, term: 1 } })
      expect(again.recovered.boot).toBeGreaterThan(wal.recovered.boot)
      expect(plain(await readAll(again))).toEqual(plain(entries))
      await again.close()
    } finally {
      await rm(parent, { recursive: true })
    }
  })

  it('replaces a suffix by appending, never by touching what was written', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    const configuration = configurationOf('n1')
    await wal.append({
      entries: [
        command(1, 1, 'a'),
        command(2, 1, 'b'),
        { type: 'configuration', index: 3, term: 1, configuration },
      ],
    })
    const used = firstBatch(disk, 1) + 512
    const before = disk.contents(segment(1)).subarray(0, used)
    await wal.append({ hardState: { term: 2, votedFor: undefined }, entries: [command(2, 2, 'B')] })
    expect(disk.contents(segment(1)).subarray(0, used)).toEqual(before)
    expect(plain(await wal.read({ from: 1, to: 2, maxBytes: 1000 }))).toEqual(
      plain([command(1, 1, 'a'), command(2, 2, 'B')]),
    )
    disk.losePower({ keep: 0 })
    const again = await openLog(disk)
    expect(plain(await readAll(again))).toEqual(plain([command(1, 1, 'a'), command(2, 2, 'B')]))
    expect(again.recovered.configurations).toHaveLength(1)
  })

  it('reads at least one entry and about as many bytes as asked for', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    const entries = Array.from({ length: 20 }, (_, at) => command(at + 1, 1, Buffer.alloc(1000, at)))
    for (const entry of entries.slice(0, 10)) await wal.append({ entries: [entry] })
    await wal.append({ entries: entries.slice(10) })
    const indexes = async (from: number, to: number, maxBytes: number) =>
      (await wal.read({ from, to, maxBytes })).map(({ index }) => index)
    expect(await indexes(3, 20, 1)).toEqual([3])
    expect(await indexes(4, 6, 100_000)).toEqual([4, 5, 6])
    expect(await indexes(15, 20, 3500)).toEqual([15, 16, 17])
    expect((await indexes(1, 20, 8000)).length).toBeGreaterThan(3)
    expect(await indexes(1, 20, 100_000)).toHaveLength(20)
  })

  it('raises its boot at every start, to the seconds of the clock at least', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk, { now: () => 5_000_900 })
    expect(wal.recovered.boot).toBe(5000)
    expect((await openLog(disk, { now: () => 1_000 })).recovered.boot).toBe(5001)
    disk.losePower({ keep: 0 })
    expect((await openLog(disk, { now: () => 1_000 })).recovered.boot).toBe(5002)
    expect((await openLog(disk, { now: () => 9_000_000 })).recovered.boot).toBe(9000)
  })

  it('begins each segment with what held then, so that older ones are not needed to know term and vote', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk, { segmentBytes: 8192 })
    const hardState = { term: 4, votedFor: '12D3KooWn3' }
    const configuration = configurationOf('n1', 'n9')
    await wal.append({ hardState, entries: [{ type: 'configuration', index: 1, term: 4, configuration }] })
    for (let index = 2; index < 8; index++)
      await wal.append({ entries: [command(index, 4, Buffer.alloc(3000))] })
    expect(wal.counters().segments).toBeGreaterThan(2)
    const bytes = Buffer.from(disk.contents(segment(3)))
    const header: unknown = JSON.parse(bytes.subarray(24, 24 + bytes.readUInt32LE(12)).toString())
    expect(header).toMatchObject({
      cluster: founding.clusterId,
      node,
      segment: 3,
      boot: 1,
      base: { index: 0, directory: 'state-0' },
      hardState,
      configuration: { index: 1, configuration },
      founding,
    })
  })

  it('answers reads while a write hangs, and acknowledges nothing before its sync', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    await wal.append({ entries: [command(1, 1, 'a')] })
    const release = disk.hold('write')
    let acknowledged = false
    const appending = wal.append({ entries: [command(2, 1, 'b')] }).then(() => {
      acknowledged = true
    })
    await expect(wal.append({ entries: [command(3, 1, 'c')] })).rejects.toThrow('one append is under way')
    expect(plain(await wal.read({ from: 1, to: 1, maxBytes: 100 }))).toEqual(plain([command(1, 1, 'a')]))
    await expect(wal.read({ from: 2, to: 2, maxBytes: 100 })).rejects.toThrow('only entries of the log')
    expect(acknowledged).toBe(false)
    release()
    await appending
  })

  it('refuses what would go back on a term or a vote, or leave a gap', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    await wal.append({ hardState: { term: 2, votedFor: 'a' }, entries: [command(1, 2, 'a')] })
    const none = { entries: [] }
    await expect(wal.append({ hardState: { term: 1, votedFor: 'a' }, ...none })).rejects.toThrow(
      'never goes back',
    )
    await expect(wal.append({ hardState: { term: 2, votedFor: 'b' }, ...none })).rejects.toThrow('given once')
    await expect(wal.append({ entries: [command(3, 2, 'c')] })).rejects.toThrow('follow the log')
    await expect(wal.append({ entries: [command(2, 1, 'b')] })).rejects.toThrow('follow the log')
    await expect(wal.append({ entries: [command(2, 2, 'b'), command(4, 2, 'd')] })).rejects.toThrow(
      'consecutive',
    )
  })
})

describe('readable is not durable', () => {
  it('writes again what a killed process left readable, before it opens', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    await wal.append({ entries: [command(1, 1, 'a')] })
    // The write reaches the cache, its sync fails: nothing was acknowledged and everything reads well.
    disk.fail({ call: 'sync', code: 'EIO' })
    await expect(
      wal.append({
        hardState: { term: 1, votedFor: 'v' },
        entries: [command(2, 1, 'b'), command(3, 1, 'c')],
      }),
    ).rejects.toMatchObject({ code: 'EIO' })
    const opened = await openLog(disk)
    expect(opened.recovered).toMatchObject({ lastIndex: 3, repaired: { rewrittenEntries: 2 } })
    disk.losePower({ keep: 0 })
    const again = await openLog(disk)
    expect(again.recovered).toMatchObject({ lastIndex: 3, hardState: { term: 1, votedFor: 'v' } })
    expect(plain(await readAll(again)).slice(1)).toEqual(plain([command(2, 1, 'b'), command(3, 1, 'c')]))
  })

  it('makes the names it found durable before it adds one, so that none outlives the one before it', async () => {
    const counted = await emptyDisk()
    await createLog(counted)
    const before = counted.calls
    await openLog(counted)
    const last = counted.calls - before
    // Two openings are stopped, each at every call that may matter, and the machine loses any of the names.
    for (let first = last - 8; first <= last; first++) {
      for (let second = last; second <= last + 3; second++) {
        for (let seed = 0; seed < 8; seed++) {
          const disk = await emptyDisk({ seed })
          await createLog(disk)
          for (const calls of [first, second]) {
            await Promise.race([disk.stopAfter(calls), openLog(disk)])
            if (calls === first) disk.crash()
          }
          disk.losePower({ keep: 0.5 })
          expect((await openLog(disk)).recovered.boot).toBeGreaterThan(1)
        }
      }
    }
  })

  it('is dead after a failed sync: it takes, reads and promises nothing more', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    await wal.append({ entries: [command(1, 1, 'a')] })
    disk.fail({ call: 'sync', code: 'EIO' })
    await expect(wal.append({ entries: [command(2, 1, 'b')] })).rejects.toMatchObject({ code: 'EIO' })
    await expect(wal.append({ entries: [command(2, 1, 'b')] })).rejects.toThrow('takes nothing more')
    await expect(wal.read({ from: 1, to: 1, maxBytes: 1 })).rejects.toThrow('takes nothing more')
    await wal.close()
    disk.losePower({ keep: 0 })
    expect((await openLog(disk)).recovered.lastIndex).toBe(1)
  })

  it('opens without writing again what a clean stop or a later batch has proven', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    await wal.append({ entries: [command(1, 1, 'a')] })
    await wal.append({ entries: [command(2, 1, 'b')] })
    disk.crash()
    const crashed = await openLog(disk)
    expect(crashed.recovered.repaired).toEqual({ cutBytes: 0, rewrittenEntries: 1 })
    await crashed.append({ entries: [command(3, 1, 'c')] })
    await crashed.close()
    const closed = await openLog(disk)
    expect(closed.recovered.repaired).toEqual({ cutBytes: 0, rewrittenEntries: 0 })
    await closed.append({ entries: [command(4, 1, 'd')] })
    disk.crash()
    const applied = await openLog(disk, { applied: { index: 4, term: 1 } })
    expect(applied.recovered.repaired).toEqual({ cutBytes: 0, rewrittenEntries: 0 })
  })
})

describe('zeros written ahead', () => {
  it('never arrive after bytes of the log', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    const release = disk.hold('write', { skip: 1, count: 1 })
    await wal.append({ entries: [command(1, 1, 'a')] })
    // Reaches into where the zeros go, which hang.
    const entry = command(2, 1, Buffer.alloc(50_000, 2))
    const appending = wal.append({ entries: [entry] })
    await new Promise(setImmediate)
    release()
    await appending
    await wal.close()
    disk.losePower({ keep: 0 })
    const again = await openLog(disk)
    expect(plain(await readAll(again)).slice(1)).toEqual(plain([entry]))
  })
})

describe('a log that is not to be opened', () => {
  it('of another node is refused by both names, and nothing is touched', async () => {
    const disk = await emptyDisk()
    await createLog(disk)
    const error = await refusal(openLog(disk, { node: '12D3KooWOther' }))
    expect(error.code).toBe('foreign')
    expect(error.message).toBe(
      `The log in ${directory} belongs to node ${node} (cluster ${founding.clusterId}), not to 12D3KooWOther: start ` +
        'that node on this directory, or give this one a directory of its own.',
    )
    expect(await disk.list(directory)).toHaveLength(1)
  })

  it('in a format of the future is refused by number', async () => {
    const disk = await emptyDisk()
    await createLog(disk)
    const bytes = Buffer.from(disk.contents(segment(1)))
    const { crc32 } = await import('node:zlib')
    bytes.writeUInt32LE(2, 8)
    bytes.writeUInt32LE(crc32(bytes.subarray(24), crc32(bytes.subarray(8, 20))), 20)
    const file = await disk.open(segment(1), { access: 'write' })
    await file.write(0, bytes)
    for (const opening of [openLog(disk), Wal.peek({ disk, directory })]) {
      const error = await refusal(opening)
      expect(error.code).toBe('unknown-format')
      expect(error.message).toContain('is written in format 2, and this version of Trivet knows only 1')
    }
  })

  it('that is absent is not opened, and one that is there is not founded over', async () => {
    const disk = await emptyDisk()
    expect((await refusal(openLog(disk))).code).toBe('absent')
    await createLog(disk)
    expect((await refusal(createLog(disk))).code).toBe('exists')
  })
})

describe('a full disk', () => {
  it('ends the log at the append that does not fit, and loses nothing acknowledged', async () => {
    const disk = await emptyDisk({ capacity: 100_000 })
    const wal = await createLog(disk)
    let acknowledged = 0
    const failing = async () => {
      for (;;) {
        await wal.append({ entries: [command(acknowledged + 1, 1, Buffer.alloc(2000, acknowledged))] })
        acknowledged += 1
      }
    }
    await expect(failing()).rejects.toMatchObject({ code: 'full' })
    // The zeros written ahead must not have cost room: all that fits has been acknowledged.
    expect(acknowledged).toBeGreaterThan(35)
    await wal.close()
    disk.capacity = 1_000_000
    disk.losePower({ keep: 0.5 })
    const again = await openLog(disk)
    expect(again.recovered.lastIndex).toBe(acknowledged)
    await again.append({ entries: [command(acknowledged + 1, 1, 'room again')] })
  })

  it('is an error of the append also when zeros ahead were lost to a failing disk', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    disk.fail({ call: 'write', code: 'EIO', skip: 1 })
    await wal.append({ entries: [command(1, 1, 'a')] })
    const failing = async () => {
      for (let index = 2; index < 20; index++) await wal.append({ entries: [command(index, 1, 'b')] })
    }
    await expect(failing()).rejects.toMatchObject({ code: 'EIO' })
  })
})

describe('a disk with a reserve', () => {
  it('goes on with what is freed, for a new segment and for the one it is in', async () => {
    for (const segmentBytes of [30_000, 1_000_000]) {
      const disk = await emptyDisk({ capacity: 100_000 })
      let freed = 0
      const makeRoom = async () => {
        freed += 1
        disk.capacity += 20_000
        return freed <= 3
      }
      const wal = await createLog(disk, { segmentBytes, makeRoom })
      let acknowledged = 0
      const failing = async () => {
        for (;;) {
          await wal.append({ entries: [command(acknowledged + 1, 1, Buffer.alloc(900, acknowledged))] })
          acknowledged += 1
        }
      }
      await expect(failing()).rejects.toMatchObject({ code: 'full' })
      expect(freed).toBe(4)
      // What was refused has left the log as it was: with room it takes the same append.
      disk.capacity += 1_000_000
      await wal.append({ entries: [command(acknowledged + 1, 1, 'room again')] })
      disk.losePower({ keep: 0 })
      expect((await openLog(disk)).recovered.lastIndex).toBe(acknowledged + 1)
    }
  })
})
