// The disk of the machine and its twin keep one contract; what only the twin can do is to fail on demand.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { DiskFile } from '../../src/store/disk.ts'
import { realDisk } from '../../src/store/real-disk.ts'
import { diskContract } from './disk-contract.ts'
import { MemoryDisk } from './memory-disk.ts'

const made: string[] = []

afterAll(async () => {
  for (const directory of made) await rm(directory, { recursive: true })
})

diskContract('the real disk', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'trivet-disk-'))
  made.push(directory)
  return { disk: realDisk, directory }
})

diskContract('the disk in memory', async () => {
  const disk = new MemoryDisk({ seed: 1 })
  await disk.makeDirectory('/data')
  return { disk, directory: '/data' }
})

describe('the disk in memory', () => {
  const sector = 512

  async function fileOn(disk: MemoryDisk, how: { durable?: boolean } = {}): Promise<DiskFile> {
    const file = await disk.open('/a', { access: 'create', ...how })
    await disk.syncDirectory('/')
    return file
  }

  it('keeps unsynced bytes and names through a crash of the process, and loses them with the power', async () => {
    const disk = new MemoryDisk({ seed: 1 })
    const file = await fileOn(disk)
    await file.write(0, Buffer.alloc(sector, 1))
    await file.sync()
    await file.write(sector, Buffer.alloc(sector, 2))
    await disk.open('/b', { access: 'create' })
    disk.crash()
    expect(disk.contents('/a').length).toBe(2 * sector)
    expect(await disk.list('/')).toEqual(['a', 'b'])
    disk.losePower({ keep: 0 })
    expect(disk.contents('/a')).toEqual(new Uint8Array(sector).fill(1))
    expect(await disk.list('/')).toEqual(['a'])
  })

  it('keeps what was written durably, without a sync', async () => {
    const disk = new MemoryDisk({ seed: 1 })
    const file = await fileOn(disk, { durable: true })
    await file.write(0, Buffer.alloc(100, 1))
    disk.losePower({ keep: 0 })
    expect(disk.contents('/a')).toEqual(new Uint8Array(100).fill(1))
  })

  it('loses any of the unsynced sectors, in no order, the same for the same seed', async () => {
    const survivors = async (seed: number) => {
      const disk = new MemoryDisk({ seed })
      const file = await fileOn(disk)
      await file.write(0, Buffer.alloc(20 * sector, 1))
      disk.losePower({ keep: 0.5 })
      const bytes = Buffer.alloc(20 * sector)
      bytes.set(disk.contents('/a'))
      return Array.from({ length: 20 }, (_, at) => bytes[at * sector] === 1)
    }
    const first = await survivors(7)
    expect(first).toContain(true)
    expect(first.slice(0, first.lastIndexOf(true))).toContain(false)
    expect(await survivors(7)).toEqual(first)
    expect(await survivors(8)).not.toEqual(first)
  })

  it('keeps a file under its old name when a rename was not synced', async () => {
    const disk = new MemoryDisk({ seed: 1 })
    const file = await fileOn(disk, { durable: true })
    await file.write(0, Buffer.from('a'))
    await disk.rename('/a', '/b')
    disk.losePower({ keep: 0 })
    expect(await disk.list('/')).toEqual(['a'])
  })

  it('loses a whole directory whose name was not synced', async () => {
    const disk = new MemoryDisk({ seed: 1 })
    await disk.makeDirectory('/log')
    await disk.open('/log/a', { access: 'create' })
    await disk.syncDirectory('/log')
    disk.losePower({ keep: 0 })
    expect(await disk.list('/')).toEqual([])
  })

  it('takes names that were not synced along with their directory when it moves', async () => {
    const disk = new MemoryDisk({ seed: 1 })
    await disk.makeDirectory('/a')
    await disk.syncDirectory('/')
    await (await disk.open('/a/old', { access: 'create', durable: true })).close()
    await disk.rename('/a', '/b')
    await disk.makeDirectory('/a')
    await disk.syncDirectory('/')
    await disk.syncDirectory('/a')
    disk.losePower({ keep: 0 })
    expect(await disk.list('/a')).toEqual([])
    expect(await disk.list('/b')).toEqual(['old'])
  })

  it('gives up dirty bytes when a sync fails: they read well, a second sync succeeds, and they are gone', async () => {
    const disk = new MemoryDisk({ seed: 1 })
    const file = await fileOn(disk)
    await file.write(0, Buffer.alloc(sector, 1))
    disk.fail({ call: 'sync', code: 'EIO' })
    await expect(file.sync()).rejects.toMatchObject({ code: 'EIO' })
    await file.sync()
    expect(disk.contents('/a')).toEqual(new Uint8Array(sector).fill(1))
    disk.losePower({ keep: 1 })
    expect(disk.contents('/a')).toEqual(new Uint8Array(sector))
  })

  it('lets a durable write fail in its sync', async () => {
    const disk = new MemoryDisk({ seed: 1 })
    const file = await fileOn(disk, { durable: true })
    disk.fail({ call: 'sync', code: 'EIO' })
    await expect(file.write(0, Buffer.alloc(sector, 1))).rejects.toMatchObject({ code: 'EIO' })
    disk.losePower({ keep: 0 })
    expect(disk.contents('/a')).toEqual(new Uint8Array())
  })

  it('is full at its capacity, after taking what fits', async () => {
    const disk = new MemoryDisk({ seed: 1, capacity: 1000 })
    const file = await fileOn(disk)
    await file.write(0, Buffer.alloc(900, 1))
    await expect(file.write(900, Buffer.alloc(200, 2))).rejects.toMatchObject({ code: 'ENOSPC' })
    expect(await file.size()).toBe(1000)
    await file.write(0, Buffer.alloc(900, 3))
  })

  it('hangs in a sync until it is let go', async () => {
    const disk = new MemoryDisk({ seed: 1 })
    const file = await fileOn(disk)
    const release = disk.hold('sync')
    let done = false
    const syncing = file.sync().then(() => {
      done = true
    })
    await file.write(0, Buffer.alloc(10))
    expect(done).toBe(false)
    release()
    await syncing
  })

  it('stops the process at a call, tears the write there, and answers nothing more', async () => {
    const torn = new Set<number>()
    for (let seed = 0; seed < 20; seed++) {
      const disk = new MemoryDisk({ seed })
      const file = await fileOn(disk)
      const stopped = disk.stopAfter(1)
      let answered = false
      const answer = () => {
        answered = true
      }
      file.write(0, Buffer.alloc(10_000, 1)).then(answer, answer)
      await stopped
      file.size().then(answer, answer)
      disk.crash()
      torn.add(disk.contents('/a').length)
      expect(answered).toBe(false)
    }
    expect(torn.size).toBeGreaterThan(5)
    expect(torn).toContain(10_000)
  })

  it('flips a bit for good', async () => {
    const disk = new MemoryDisk({ seed: 1 })
    const file = await fileOn(disk, { durable: true })
    await file.write(0, Buffer.from([0, 0]))
    disk.flip('/a', 9)
    expect([...disk.contents('/a')]).toEqual([0, 2])
    disk.losePower()
    expect([...disk.contents('/a')]).toEqual([0, 2])
  })

  it('can lie about its syncs', async () => {
    const disk = new MemoryDisk({ seed: 1, syncs: false })
    const file = await disk.open('/a', { access: 'create', durable: true })
    await file.write(0, Buffer.from('a'))
    await file.sync()
    await disk.syncDirectory('/')
    disk.losePower({ keep: 0 })
    expect(await disk.list('/')).toEqual([])
  })
})
