import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Chance } from '../raft/chance.ts'
import { cutFile, flipBit, openFilesOf, pickFile } from './damage.ts'

let data: string

beforeEach(async () => {
  data = await mkdtemp(join(tmpdir(), 'trivet-damage-'))
  await mkdir(join(data, 'log'))
  await mkdir(join(data, 'state-0'))
  await writeFile(join(data, 'peer.key'), 'a key')
  await writeFile(join(data, 'log/1.wal'), Buffer.concat([Buffer.alloc(1000, 7), Buffer.alloc(5000)]))
  await writeFile(join(data, 'log/2.wal'), 'small')
  for (const name of ['CURRENT', 'MANIFEST-000002', '000003.log', 'LOG', 'LOCK']) {
    await writeFile(join(data, 'state-0', name), 'x'.repeat(100))
  }
})

afterEach(() => rm(data, { recursive: true }))

describe('damage', () => {
  it('flips one bit among the bytes that were written, and nothing else', async () => {
    const path = join(data, 'log/1.wal')
    const before = await readFile(path)
    for (let seed = 0; seed < 20; seed++) {
      await flipBit(path, new Chance(seed))
      const after = await readFile(path)
      expect(after.length).toBe(before.length)
      const changed = [...after.keys()].filter((at) => after[at] !== before[at])
      expect(changed).toHaveLength(1)
      const [at = 0] = changed
      expect(at).toBeLessThan(1000)
      const difference = (after[at] ?? 0) ^ (before[at] ?? 0)
      expect(Math.log2(difference) % 1).toBe(0)
      await writeFile(path, before)
    }
  })

  it('cuts off an end, and leaves the rest as it was', async () => {
    const path = join(data, 'log/1.wal')
    const before = await readFile(path)
    await cutFile(path, new Chance(3))
    const after = await readFile(path)
    expect(after.length).toBeLessThan(before.length)
    expect(after.equals(before.subarray(0, after.length))).toBe(true)
  })

  it('hits every file that holds something, and neither the key nor what nobody reads', async () => {
    const hit = async (place: 'log' | 'level') => {
      const names = new Set<string>()
      for (let seed = 0; seed < 100; seed++) {
        names.add(basename((await pickFile(data, place, new Chance(seed))) ?? ''))
      }
      return [...names].sort()
    }
    expect(await hit('log')).toEqual(['1.wal', '2.wal'])
    expect(await hit('level')).toEqual(['000003.log', 'CURRENT', 'MANIFEST-000002'])
  })

  it('leaves files alone that a process has open', async () => {
    await using file = await open(join(data, 'log/1.wal'), 'r')
    expect(file.fd).toBeGreaterThan(0)
    const isOpen = await openFilesOf(process.pid)
    for (let seed = 0; seed < 20; seed++) {
      expect(await pickFile(data, 'log', new Chance(seed), isOpen)).toBe(join(data, 'log/2.wal'))
    }
  })
})
