// Rot in the files of real LevelDB, any of them: noticed, or without meaning; never a wrong state that passes for whole.

import { cp, mkdtemp, open, readdir, rm, stat, truncate, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Entry } from '../../src/raft/types.ts'
import { checkLevelFiles } from '../../src/store/level-files.ts'
import { realDisk } from '../../src/store/real-disk.ts'
import { StateDamagedError } from '../../src/store/record.ts'
import { failureOf } from '../../src/store/state-failure.ts'
import { openLevel } from '../../src/store/state-open.ts'
import { xorshift } from './memory-state.ts'
import { batch, del, dump, entry, founding, set, Workshop } from './state-fixtures.ts'

/** Entries with values that do not compress to nothing, over keys that are written again and deleted. */
const entries: readonly Entry[] = Array.from({ length: 400 }, (_, n) => {
  const random = xorshift(n + 1)
  const value = Buffer.from(Array.from({ length: 20_000 }, () => 32 + Math.floor(random() * 64)))
  const commands = [
    [n * 2 + 1, set(`key-${Math.floor(random() * 300)}`, value)],
    [n * 2 + 2, del(`key-${Math.floor(random() * 300)}`)],
  ] as const
  return entry(n + 1, [batch(commands, { acked: Math.max(0, n * 2 - 30) })])
})
const large = { founding: { ...founding, valueBytes: 1 << 20 } }

/** Where LevelDB lies, whole and closed, with tables and with batches that are in its log alone. */
let whole: string
let expected: readonly string[]

beforeAll(async () => {
  await using workshop = new Workshop()
  whole = await mkdtemp(join(tmpdir(), 'trivet-rot-'))
  // Each opening makes a table of what the log held; a fourth of them would have all merged.
  for (let at = 0; at < 380; at += 190) {
    const { state } = await workshop.open(await openLevel(whole), large)
    for (let from = at; from < at + 190; from += 19) {
      await state.apply(entries.slice(from, from + 19))
      await state.flush()
    }
    await state.close()
  }
  const last = await openLevel(whole)
  const { state } = await workshop.open(last, large)
  for (const one of entries.slice(380)) {
    await state.apply([one])
    await state.flush()
  }
  expected = await dump(last)
  await state.close()
  const names = await readdir(whole)
  expect(names.filter((name) => name.endsWith('.ldb')).length).toBeGreaterThan(1)
}, 60_000)

afterAll(() => rm(whole, { recursive: true }))

type Finding = 'refused at open' | 'found by recomputing' | 'whole' | 'whole once the log was applied'

/** What is found in a copy that was tampered with. Fails for a state that passes for whole and is not. */
async function find(tamper: (directory: string) => Promise<void>): Promise<Finding> {
  await using workshop = new Workshop()
  const directory = await workshop.directory()
  await cp(whole, directory, { recursive: true })
  await tamper(directory)
  const files = await checkLevelFiles(realDisk, directory)
  const found = await findByRows(workshop, directory)
  // Rows may be whole where the files are not; never the other way round.
  if (files.type === 'whole') expect(['whole', 'whole once the log was applied']).toContain(found)
  return found
}

async function findByRows(workshop: Workshop, directory: string): Promise<Finding> {
  let opened: Awaited<ReturnType<typeof workshop.open>>
  const level = await openLevel(directory).catch((error: unknown) => error as Error)
  if (level instanceof Error) {
    expect(failureOf(level).type).not.toBe('broken')
    return 'refused at open'
  }
  try {
    opened = await workshop.open(level, large)
  } catch (error) {
    expect(failureOf(error as Error).type).not.toBe('broken')
    return 'refused at open'
  }
  const { state } = opened
  const before = state.lastApplied
  try {
    await state.recompute()
    await state.apply(entries.slice(before))
    await state.flush()
    expect(await dump(level)).toEqual(expected)
    await state.recompute()
  } catch (error) {
    expect(failureOf(error as Error).type).not.toBe('broken')
    expect(state.failure?.error).toBe(error)
    return 'found by recomputing'
  }
  return before === entries.length ? 'whole' : 'whole once the log was applied'
}

async function flip(path: string, bit: number): Promise<void> {
  await using handle = await open(path, 'r+')
  const byte = Buffer.alloc(1)
  await handle.read(byte, 0, 1, bit >> 3)
  byte[0] = (byte[0] ?? 0) ^ (1 << (bit & 7))
  await handle.write(byte, 0, 1, bit >> 3)
}

/** Every file of LevelDB with its size. */
async function files(): Promise<readonly { readonly name: string; readonly size: number }[]> {
  const names = (await readdir(whole)).sort()
  return Promise.all(names.map(async (name) => ({ name, size: (await stat(join(whole, name))).size })))
}

describe('a flipped bit', () => {
  it('anywhere in the files of LevelDB is noticed, or lies where nothing depends on it', async () => {
    const all = await files()
    const total = all.reduce((sum, { size }) => sum + size, 0)
    const seen = new Map<Finding, number>()
    const random = xorshift(20_261_122)
    for (let trial = 0; trial < 50; trial++) {
      let at = Math.floor(random() * total)
      const hit = all.find(({ size }) => {
        at -= size
        return at < 0
      })
      if (hit === undefined) throw new Error(`Trial ${trial} hits no file`)
      const bit = (at + hit.size) * 8 + Math.floor(random() * 8)
      const finding = await find((directory) => flip(join(directory, hit.name), bit)).catch(
        (cause: unknown) => {
          throw new Error(`Trial ${trial}: bit ${bit} of ${hit.name}`, { cause })
        },
      )
      seen.set(finding, (seen.get(finding) ?? 0) + 1)
    }
    // The rest lies in the log, in what LevelDB left behind, and in this node's own rows.
    expect(seen.get('found by recomputing')).toBeGreaterThan(5)
  }, 120_000)

  it('in the files that say which others count is noticed, or lies where nothing depends on it', async () => {
    for (const { name, size } of await files()) {
      if (!/^(CURRENT|MANIFEST)/.test(name)) continue
      for (let n = 0; n < 16; n++) {
        await find((directory) => flip(join(directory, name), Math.floor(((n + 0.5) / 16) * size * 8)))
      }
    }
  }, 120_000)
})

describe('a file of LevelDB', () => {
  it.each([
    ['is gone', (path: string) => unlink(path)],
    ['ends in the middle', async (path: string) => truncate(path, Math.floor((await stat(path)).size / 2))],
    ['is empty', (path: string) => truncate(path, 0)],
  ])(
    'that %s is noticed, or nothing depends on it',
    async (_, tamper) => {
      const findings = new Map<string, Finding>()
      for (const { name } of await files()) {
        findings.set(name, await find((directory) => tamper(join(directory, name))))
      }
      const tables = [...findings].filter(([name]) => name.endsWith('.ldb')).map(([, finding]) => finding)
      expect(tables).not.toContain('whole')
    },
    120_000,
  )

  it('with a block of another file in it is noticed, or nothing depends on it', async () => {
    const [from, to] = (await files()).filter(({ name }) => name.endsWith('.ldb'))
    if (from === undefined || to === undefined) throw new Error('There are two tables')
    const seen = new Set<Finding>()
    for (let n = 0; n < 10; n++) {
      const place = Math.floor(((n + 0.5) / 10) * Math.min(from.size, to.size))
      const finding = await find(async (directory) => {
        await using source = await open(join(directory, from.name), 'r')
        await using target = await open(join(directory, to.name), 'r+')
        const block = Buffer.alloc(4096)
        await source.read(block, 0, block.length, place)
        await target.write(block, 0, block.length, place)
      })
      seen.add(finding)
    }
    expect(seen).toContain('found by recomputing')
  }, 60_000)
})

describe('damage at open', () => {
  it('is the class that a repair is for', async () => {
    await using workshop = new Workshop()
    const directory = await workshop.directory()
    await cp(whole, directory, { recursive: true })
    const table = (await files()).find(({ name }) => name.endsWith('.ldb'))
    await unlink(join(directory, table?.name ?? ''))
    await expect(openLevel(directory)).rejects.toThrow(StateDamagedError)
  })

  it('is that class, and no refusal of the disk, where a table ends before what is looked for in it', async () => {
    for (const { name, size } of (await files()).filter((file) => file.name.endsWith('.ldb'))) {
      await using workshop = new Workshop()
      const directory = await workshop.directory()
      await cp(whole, directory, { recursive: true })
      await truncate(join(directory, name), Math.floor(size / 10))
      const level = await openLevel(directory)
      const error = await workshop.open(level, large).then(
        ({ state }) => state.recompute().then(String, (failure: Error) => failure),
        (failure: Error) => failure,
      )
      expect(error, name).toBeInstanceOf(StateDamagedError)
    }
  })
})
