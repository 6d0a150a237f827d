// Room on the disk: when a node says that it has none, and what it keeps back for then (rule 27).

import { describe, expect, it } from 'vitest'
import { SpaceWatch } from '../../src/node/space.ts'
import { Reserve } from '../../src/store/reserve.ts'
import { MemoryDisk } from '../store/memory-disk.ts'

const MiB = 1024 * 1024

describe('the watch over free space', () => {
  it('says that room is short below 256 MiB, and that it is back above 320 MiB, each once', () => {
    const watch = new SpaceWatch()
    const free = [300, 256, 255, 100, 300, 320, 321, 400, 257, 10]
    const said = free.map((each) => watch.observe(each * MiB))
    expect(said).toEqual([
      'unchanged',
      'unchanged',
      'low',
      'unchanged',
      'unchanged',
      'unchanged',
      'clear',
      'unchanged',
      'unchanged',
      'low',
    ])
    expect(watch.isLow).toBe(true)
  })
})

describe('the reserve', () => {
  const place = { path: '/data/reserve', bytes: 3 * MiB + 512 }

  async function make(capacity?: number) {
    const disk = new MemoryDisk({ seed: 1, ...(capacity === undefined ? {} : { capacity }) })
    await disk.makeDirectory('/data')
    await disk.syncDirectory('/')
    return { disk, reserve: new Reserve({ disk, ...place }) }
  }

  it('takes up its room durably, gives it once, and takes it again', async () => {
    const { disk, reserve } = await make()
    expect(await reserve.release()).toBe(false)
    expect(await reserve.hold()).toBe(true)
    disk.losePower({ keep: 0 })
    expect(disk.contents(place.path)).toHaveLength(place.bytes)
    expect(await reserve.release()).toBe(true)
    expect(await reserve.release()).toBe(false)
    disk.losePower({ keep: 0 })
    expect(await disk.list('/data')).toEqual([])
    expect(await reserve.hold()).toBe(true)
  })

  it('takes nothing where there is not room for all of it', async () => {
    const { disk, reserve } = await make(2 * MiB)
    expect(await reserve.hold()).toBe(false)
    expect(await disk.list('/data')).toEqual([])
  })

  it('goes on with what a stop has left unfinished', async () => {
    const { disk } = await make()
    const stopped = disk.stopAfter(4)
    void new Reserve({ disk, ...place }).hold()
    await stopped
    disk.crash()
    expect(disk.contents(place.path).length).toBeLessThan(place.bytes)
    expect(await new Reserve({ disk, ...place }).hold()).toBe(true)
    expect(disk.contents(place.path)).toHaveLength(place.bytes)
  })
})
