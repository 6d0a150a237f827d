// What the log makes of bytes that are not what was written: torn or damaged (rule 2 of safety).

import { describe, expect, it } from 'vitest'
import { batchBytes, batchHeaderBytes, sealBatch } from '../../src/store/wal-format.ts'
import type { MemoryDisk } from './memory-disk.ts'
import {
  command,
  createLog,
  directory,
  emptyDisk,
  firstBatch,
  openLog,
  plain,
  readAll,
  refusal,
  segment,
} from './wal-harness.ts'

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
