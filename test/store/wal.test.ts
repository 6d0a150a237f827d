// What the log promises, one behaviour at a time: rules 1 to 5 of safety, and how it refuses.

import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import type { Entry } from '../../src/raft/types.ts'
import { realDisk } from '../../src/store/real-disk.ts'
import { LogError, Wal } from '../../src/store/wal.ts'
import { batchBytes, batchHeaderBytes, sealBatch } from '../../src/store/wal-format.ts'
import { MemoryDisk } from './memory-disk.ts'
import {
  beginning,
  command,
  configurationOf,
  createLog,
  directory,
  foundedBase,
  founding,
  node,
  openLog,
  plain,
  readAll,
  segment,
} from './wal-harness.ts'

async function emptyDisk(options: { capacity?: number; seed?: number } = {}): Promise<MemoryDisk> {
  const disk = new MemoryDisk({ seed: 1, ...options })
  await disk.makeDirectory('/data')
  await disk.syncDirectory('/')
  return disk
}

/** Where batches begin in a segment: after its header, whose length stands at byte 12. */
function firstBatch(disk: MemoryDisk, number: number): number {
  return Math.ceil((24 + Buffer.from(disk.contents(segment(number))).readUInt32LE(12)) / 512) * 512
}

async function refusal(opening: Promise<unknown>): Promise<LogError> {
  const error = await opening.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (error instanceof LogError) return error
  throw new Error(`expected a LogError, not ${error}`)
}

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

describe('a torn tail', () => {
  it('is cut although a whole batch of the same write follows, and never comes back', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    await wal.append({ entries: [command(1, 1, 'a')] })
    const torn = firstBatch(disk, 1) + 512
    // Two batches, for the two do not fit into one.
    await wal.append({
      entries: [command(2, 1, Buffer.alloc(90_000, 2)), command(3, 1, Buffer.alloc(90_000, 3))],
    })
    disk.crash()
    disk.flip(segment(1), (torn + 1000) * 8)
    // The new segment holds all that is left, so that the old one would go.
    disk.fail({ call: 'remove', code: 'EIO' })
    const notices: Error[] = []
    const opened = await openLog(disk, { onNotice: (error) => notices.push(error) })
    expect(opened.recovered.lastIndex).toBe(1)
    expect(opened.recovered.repaired.cutBytes).toBeGreaterThan(180_000)
    await opened.append({ entries: [command(2, 2, 'B')] })
    await opened.close()
    expect(notices.map(String)).toEqual(['Error: Old segments of the log in /data/log could not be removed.'])
    disk.flip(segment(1), (torn + 1000) * 8)
    const again = await openLog(disk)
    expect(plain(await readAll(again))).toEqual(plain([command(1, 1, 'a'), command(2, 2, 'B')]))
  })

  it('is told from damage although a value in it forges headers for the places where it stands', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    await wal.append({ entries: [command(1, 1, 'a')] })
    const salt = Buffer.from(disk.contents(segment(1))).readUInt32LE(16)
    const start = firstBatch(disk, 1) + 512
    // The body begins with 1 + 1 + 1 + 3 bytes of the entry's own.
    const value = Buffer.alloc(100 * 512)
    for (let sector = 1; sector < 99; sector++) {
      const place = { segment: 1, offset: start + sector * 512 }
      const forged = Buffer.alloc(batchBytes(0))
      const durable = { segment: 1, offset: start + 100 * 512 }
      sealBatch(forged, 0, { ...place, salt }, { bodyBytes: 0, durable, firstIndex: 0, count: 0 })
      forged.copy(value, sector * 512 - batchHeaderBytes - 6)
    }
    await wal.append({ entries: [command(2, 1, value)] })
    expect(plain(await wal.read({ from: 2, to: 2, maxBytes: 1 }))).toEqual(plain([command(2, 1, value)]))
    disk.crash()
    disk.flip(segment(1), start * 8)
    expect((await openLog(disk)).recovered).toMatchObject({ lastIndex: 1 })
  })

  it('may be a segment that never got its name', async () => {
    const disk = await emptyDisk()
    await createLog(disk)
    let calls = 1
    while (!(await disk.list(directory)).some((name) => name.endsWith('.new'))) {
      disk.crash()
      const stopped = disk.stopAfter(calls++)
      openLog(disk).catch(() => {})
      await stopped
      disk.crash()
    }
    const opened = await openLog(disk)
    expect((await disk.list(directory)).filter((name) => name.endsWith('.new'))).toEqual([])
    expect(opened.recovered.boot).toBe(2)
  })
})

describe('damage', () => {
  async function logOf(appends: number): Promise<{ disk: MemoryDisk; start: number }> {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    for (let index = 1; index <= appends; index++)
      await wal.append({ entries: [command(index, 1, `v${index}`)] })
    disk.crash()
    return { disk, start: firstBatch(disk, 1) }
  }

  it('in the length of a batch hides nothing that follows, and is named with its file and position', async () => {
    const { disk, start } = await logOf(3)
    disk.flip(segment(1), (start + 12) * 8 + 13)
    const error = await refusal(openLog(disk))
    expect(error.code).toBe('damaged')
    expect(error.message).toContain(
      `The log is damaged: in ${segment(1)} at position ${start}, a batch cannot be read that a later record proves ` +
        'to have been durable.',
    )
    expect(error.message).not.toContain('\n')
  })

  it('by a batch that the disk has put in the place of the last one is told by what that batch says was durable', async () => {
    const { disk, start } = await logOf(3)
    const bytes = Buffer.from(disk.contents(segment(1)))
    const file = await disk.open(segment(1), { access: 'write', durable: true })
    await file.write(start + 512, bytes.subarray(start + 1024, start + 1536))
    await file.write(start + 1024, Buffer.alloc(512))
    await file.close()
    const error = await refusal(openLog(disk))
    expect(error.code).toBe('damaged')
    expect(error.message).toContain(`at position ${start + 512}`)
  })

  it('in the last batch is a torn write, unless the state has applied it or the log was closed', async () => {
    const last = async (how: 'crash' | 'close' | 'applied') => {
      const disk = await emptyDisk()
      const wal = await createLog(disk)
      await wal.append({ entries: [command(1, 1, 'a')] })
      await wal.append({ entries: [command(2, 1, 'b')] })
      if (how === 'close') await wal.close()
      disk.crash()
      disk.flip(segment(1), (firstBatch(disk, 1) + 512 + 60) * 8)
      return openLog(disk, how === 'applied' ? { applied: { index: 2, term: 1 } } : {})
    }
    expect((await last('crash')).recovered).toMatchObject({ lastIndex: 1, repaired: { cutBytes: 512 } })
    expect((await refusal(last('close'))).code).toBe('damaged')
    expect((await refusal(last('applied'))).message).toContain(
      'ends with entry 1, but entry 2 has been applied',
    )
  })

  it('in what an opening wrote again is damage, though nothing was appended since', async () => {
    const { disk } = await logOf(2)
    await openLog(disk)
    disk.crash()
    disk.flip(segment(2), (firstBatch(disk, 2) + 60) * 8)
    expect((await refusal(openLog(disk))).code).toBe('damaged')
  })

  it('in a batch that replaced applied entries is told by their term, though the old ones are there', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    await wal.append({ entries: [command(1, 1, 'a'), command(2, 1, 'b'), command(3, 1, 'c')] })
    await wal.append({ entries: [command(2, 2, 'B')] })
    disk.crash()
    disk.flip(segment(1), (firstBatch(disk, 1) + 512 + 60) * 8)
    const error = await refusal(openLog(disk, { applied: { index: 2, term: 2 } }))
    expect(error.message).toContain('entry 2 is of term 1, but the one of term 2')
  })

  it('is a header that does not match, a file cut short, and a segment that is gone', async () => {
    const build = async () => {
      const disk = await emptyDisk()
      const wal = await createLog(disk, { segmentBytes: 8192 })
      for (let index = 1; index < 12; index++)
        await wal.append({ entries: [command(index, 1, Buffer.alloc(3000))] })
      expect(wal.counters().segments).toBeGreaterThan(3)
      await wal.close()
      return disk
    }
    const headerFlipped = await build()
    headerFlipped.flip(segment(3), 100 * 8)
    expect((await refusal(openLog(headerFlipped))).message).toContain('does not match its checksum')
    const middleGone = await build()
    await middleGone.remove(segment(2))
    expect((await refusal(openLog(middleGone))).message).toContain('segment 3 follows 1')
    const firstGone = await build()
    await firstGone.remove(segment(1))
    expect((await refusal(openLog(firstGone))).message).toContain('segments 1 to 1 are missing')
    const swapped = await build()
    await swapped.rename(segment(2), segment(3))
    expect((await refusal(openLog(swapped))).message).toContain('under the name of another')
    const { disk: mixed } = await logOf(3)
    await openLog(mixed)
    const { disk: shorter } = await logOf(2)
    await openLog(shorter)
    const file = await mixed.open(segment(2), { access: 'write' })
    await file.write(0, shorter.contents(segment(2)))
    expect((await refusal(openLog(mixed))).message).toContain('written after another one')
  })

  it('leaves the disk as it was', async () => {
    const { disk, start } = await logOf(3)
    disk.flip(segment(1), (start + 70) * 8)
    const before = disk.contents(segment(1))
    await refusal(openLog(disk))
    expect(await disk.list(directory)).toEqual(['segment-0000000001.wal'])
    expect(disk.contents(segment(1))).toEqual(before)
  })

  it('is never read past while the log runs', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    await wal.append({ entries: [command(1, 1, 'a')] })
    await wal.append({ entries: [command(2, 1, 'b')] })
    disk.flip(segment(1), (firstBatch(disk, 1) + 52) * 8)
    expect((await refusal(wal.read({ from: 1, to: 2, maxBytes: 1000 }))).code).toBe('damaged')
    expect(await wal.read({ from: 2, to: 2, maxBytes: 1000 })).toHaveLength(1)
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

it('opening proves what LevelDB says it holds from the start', async () => {
  const disk = await emptyDisk()
  await createLog(disk)
  expect((await openLog(disk, { applied: beginning })).recovered.lastIndex).toBe(0)
  expect((await refusal(openLog(disk, { applied: { index: 1, term: 1 } }))).code).toBe('damaged')
})

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

describe('a proof', () => {
  it('is written once nothing was appended between two calls, and makes damage to the last append damage', async () => {
    const disk = await emptyDisk()
    const wal = await createLog(disk)
    await wal.append({ entries: [command(1, 1, 'a')] })
    const at = (firstBatch(disk, 1) + 60) * 8
    await wal.prove()
    const { syncs } = wal.counters()
    await wal.prove()
    expect(wal.counters().syncs).toBe(syncs + 1)
    await wal.prove()
    await wal.prove()
    expect(wal.counters().syncs).toBe(syncs + 1)
    disk.crash()
    disk.flip(segment(1), at)
    expect((await refusal(openLog(disk))).code).toBe('damaged')
  })

  it('makes an append wait that comes meanwhile', async () => {
    const wal = await createLog(await emptyDisk())
    await wal.append({ entries: [command(1, 1, 'a')] })
    await wal.prove()
    const proving = wal.prove()
    await wal.append({ entries: [command(2, 1, 'b')] })
    await proving
    expect(plain(await wal.read({ from: 1, to: 2, maxBytes: 1000 }))).toEqual(
      plain([command(1, 1, 'a'), command(2, 1, 'b')]),
    )
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
