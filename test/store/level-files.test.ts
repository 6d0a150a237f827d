// What the files of real LevelDB say of themselves: whole, or else noticed, whichever byte or file is not what was written.

import { cp, mkdtemp, open, readdir, readFile, rm, truncate, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { crc32c } from '../../src/store/crc32c.ts'
import { LevelFormatError, unsnap } from '../../src/store/level-bytes.ts'
import { checkLevelFiles } from '../../src/store/level-files.ts'
import { levelRecords, readManifest } from '../../src/store/level-records.ts'
import { checkTable } from '../../src/store/level-table.ts'
import { realDisk } from '../../src/store/real-disk.ts'
import { openLevel } from '../../src/store/state-open.ts'
import { seeded } from './memory-disk.ts'

const made: string[] = []

async function temporary(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'trivet-files-'))
  made.push(directory)
  return directory
}

/** Rows as text, half of them with values that compress well; `turn` makes them differ. */
function rowsOf(count: number, turn: number): readonly (readonly [string, string])[] {
  const random = seeded(turn)
  return Array.from({ length: count }, (_, n) => {
    const noise = Array.from({ length: 20 }, () => random().toString(36).slice(2)).join('')
    return [
      `key-${String(n).padStart(6, '0')}`,
      n % 2 === 0 ? noise : `${turn}`.padEnd(300, 'again and '),
    ] as const
  })
}

/** Writes these rows, as one batch of ten after the other, and closes LevelDB. */
async function write(directory: string, rows: readonly (readonly [string, string])[]): Promise<void> {
  const level = await openLevel(directory)
  for (let at = 0; at < rows.length; at += 10) {
    const batch = level.batch()
    for (const [key, value] of rows.slice(at, at + 10)) batch.put(Buffer.from(key), Buffer.from(value))
    await batch.write({ sync: true })
  }
  await level.close()
}

/** Every row, by walking over all and by asking for each: a filter that is wrong hides rows from the second alone. */
async function dump(directory: string): Promise<readonly string[]> {
  const level = await openLevel(directory)
  const rows: string[] = []
  for await (const [key, value] of level.iterator()) rows.push(`${Buffer.from(key)}=${Buffer.from(value)}`)
  const keys = rows.map((row) => Buffer.from(row.slice(0, row.indexOf('='))))
  const values = await level.getMany(keys)
  await level.close()
  expect(values.map((value, at) => `${keys[at]}=${Buffer.from(value ?? [])}`)).toEqual(rows)
  return rows
}

const check = (directory: string) => checkLevelFiles(realDisk, directory)

/** Tables of several openings, and rows that are in the log alone. */
let whole: string
let expected: readonly string[]
let tables: readonly string[]
let manifest: string
let log: string

beforeAll(async () => {
  whole = await temporary()
  await write(whole, rowsOf(3000, 1))
  await write(whole, rowsOf(40, 2))
  await write(whole, rowsOf(500, 3))
  const copy = await temporary()
  await cp(whole, copy, { recursive: true })
  expected = await dump(copy)
  const names = await readdir(whole)
  tables = names.filter((name) => name.endsWith('.ldb')).sort()
  manifest = names.find((name) => name.startsWith('MANIFEST')) ?? ''
  log = names.find((name) => name.endsWith('.log')) ?? ''
  expect(tables.length).toBeGreaterThan(1)
})

afterAll(() => Promise.all(made.map((directory) => rm(directory, { recursive: true }))))

async function copied(): Promise<string> {
  const directory = await temporary()
  await cp(whole, directory, { recursive: true })
  return directory
}

/** In place; the same call again takes it back. */
async function flip(path: string, at: number, bit: number): Promise<void> {
  await using handle = await open(path, 'r+')
  const byte = Buffer.alloc(1)
  await handle.read(byte, 0, 1, at)
  byte[0] = (byte[0] ?? 0) ^ (1 << bit)
  await handle.write(byte, 0, 1, at)
}

describe('the files of LevelDB', () => {
  it('are whole as they were written: closed, and as a killed process leaves them', async () => {
    expect(await check(whole)).toMatchObject({ type: 'whole', bytes: expect.any(Number) })
    const directory = await copied()
    const level = await openLevel(directory)
    for (const [key, value] of rowsOf(200, 4)) {
      await level.batch([{ type: 'put', key: Buffer.from(key), value: Buffer.from(value) }])
    }
    const killed = await temporary()
    await cp(directory, killed, { recursive: true })
    await level.close()
    expect(await check(killed)).toMatchObject({ type: 'whole' })
  })

  it('are whole with more rows than one table takes, of every size', async () => {
    const directory = await temporary()
    const level = await openLevel(directory)
    const random = seeded(5)
    for (let n = 0; n < 24; n++) {
      const value = Buffer.from(Array.from({ length: 400_000 }, () => Math.floor(random() * 256)))
      await level.put(Buffer.from(`large-${n % 20}`), value)
      await level.put(Buffer.from(`none-${n}`), Buffer.alloc(0))
    }
    await level.close()
    await (await openLevel(directory)).close()
    expect(await check(directory)).toMatchObject({ type: 'whole' })
  })

  it('show every byte of a table that is not what it was, wherever it is', async () => {
    // The smallest one, byte by byte: data, filter, index, the places of all of them, and the padding between.
    const named = readManifest(await readFile(join(whole, manifest))).tables
    const [table] = named.toSorted((one, other) => one.bytes - other.bytes)
    if (table === undefined) throw new Error('There is no table')
    const file = await readFile(
      join(whole, tables.find((name) => Number.parseInt(name, 10) === table.number) ?? ''),
    )
    expect(() => checkTable(file, table)).not.toThrow()
    for (let at = 0; at < file.length; at++) {
      const byte = file[at] ?? 0
      file[at] = byte ^ (1 << (at % 8))
      expect(() => checkTable(file, table), `byte ${at} of ${file.length}`).toThrow(LevelFormatError)
      file[at] = byte
    }
  }, 30_000)

  it('show a flipped bit in any of them, or nothing depends on it', async () => {
    const seed = Date.now() % 1_000_000
    process.stdout.write(`seed ${seed}\n`)
    const random = seeded(seed)
    const directory = await copied()
    const names = (await readdir(directory)).filter((name) => !/^LO(CK|G)/.test(name))
    const seen = { whole: 0, unproven: 0, damaged: 0 }
    for (let trial = 0; trial < 300; trial++) {
      // Each file as often as the others: what is small is as important.
      const name = names[Math.floor(random() * names.length)] ?? ''
      const { length } = await readFile(join(directory, name))
      if (length === 0) continue
      const [at, bit] = [Math.floor(random() * length), Math.floor(random() * 8)]
      await flip(join(directory, name), at, bit)
      const found = await check(directory)
      seen[found.type]++
      if (found.type === 'whole') {
        const opened = await temporary()
        await cp(directory, opened, { recursive: true })
        expect(await dump(opened), `seed ${seed}: bit ${bit} of byte ${at} of ${name}`).toEqual(expected)
      } else {
        expect(found.type, `seed ${seed}: byte ${at} of ${name}`).toBe(
          tables.includes(name) ? 'damaged' : 'unproven',
        )
      }
      await flip(join(directory, name), at, bit)
    }
    expect(await check(directory)).toMatchObject({ type: 'whole' })
    expect(seen.damaged).toBeGreaterThan(50)
    expect(seen.unproven).toBeGreaterThan(50)
  }, 60_000)

  it('show a table that is gone, cut or empty, or another one of the same state', async () => {
    const [first = '', second = ''] = tables
    const tampers: readonly (readonly [string, (directory: string) => Promise<void>])[] = [
      ['gone', (directory) => unlink(join(directory, first))],
      ['cut', (directory) => truncate(join(directory, first), 5000)],
      ['empty', (directory) => truncate(join(directory, first), 0)],
      ['longer', (directory) => writeFile(join(directory, first), 'x', { flag: 'a' })],
      ['another', (directory) => cp(join(directory, second), join(directory, first))],
    ]
    for (const [how, tamper] of tampers) {
      const directory = await copied()
      await tamper(directory)
      expect(await check(directory), how).toMatchObject({
        type: 'damaged',
        why: expect.stringContaining(first),
      })
    }
  })

  it('show a table of the same size with other keys, and an older version of the same keys', async () => {
    // Two histories of one length: tables of the same names and sizes, each sound in itself.
    const [one, other, later] = [await temporary(), await temporary(), await temporary()]
    const rows = rowsOf(60, 7)
    await write(one, rows)
    await write(one, [])
    const changed = rows.map(([key, value]) => [key.replace('key', 'kez'), value] as const)
    await write(other, changed)
    await write(other, [])
    await write(later, [['first', 'x']])
    await write(later, rows)
    await write(later, [])
    const [table = ''] = (await readdir(one)).filter((name) => name.endsWith('.ldb'))
    const tableLater =
      (await readdir(later))
        .filter((name) => name.endsWith('.ldb'))
        .sort()
        .at(-1) ?? ''
    const [own, theirs, newer] = await Promise.all(
      [join(one, table), join(other, table), join(later, tableLater)].map((path) => readFile(path)),
    )
    expect(own?.length).toBe(theirs?.length)
    expect(own?.length).toBe(newer?.length)
    await cp(join(other, table), join(one, table))
    expect(await check(one)).toMatchObject({ type: 'damaged', why: expect.stringContaining('another table') })
    await writeFile(join(later, tableLater), own ?? '')
    expect(await check(later)).toMatchObject({
      type: 'damaged',
      why: expect.stringContaining('another table'),
    })
  })

  it('prove nothing where there is something that is not known, or not all that counts', async () => {
    const tampers: readonly (readonly [string, (directory: string) => Promise<unknown>, string])[] = [
      ['a file nobody knows', (at) => writeFile(join(at, 'readme.txt'), ''), 'readme.txt'],
      ['a table of an older LevelDB', (at) => writeFile(join(at, '000099.sst'), ''), '000099.sst'],
      ['a second MANIFEST', (at) => cp(join(at, manifest), join(at, 'MANIFEST-000999')), '2 MANIFESTs'],
      ['no MANIFEST', (at) => unlink(join(at, manifest)), '0 MANIFESTs'],
      ['no CURRENT', (at) => unlink(join(at, 'CURRENT')), 'CURRENT'],
      [
        'a CURRENT that names another',
        (at) => writeFile(join(at, 'CURRENT'), 'MANIFEST-000001\n'),
        'CURRENT',
      ],
      ['no log', (at) => unlink(join(at, log)), 'log'],
      ['a log that ends early', (at) => truncate(join(at, log), 1000), log],
      ['a log with more behind', (at) => writeFile(join(at, log), 'more', { flag: 'a' }), log],
      ['a MANIFEST that ends early', (at) => truncate(join(at, manifest), 50), manifest],
    ]
    for (const [what, tamper, why] of tampers) {
      const directory = await copied()
      await tamper(directory)
      expect(await check(directory), what).toMatchObject({
        type: 'unproven',
        why: expect.stringContaining(why),
      })
    }
    expect(await check(join(whole, 'nowhere'))).toMatchObject({ type: 'unproven' })
  })

  it('prove nothing where whole batches are missing from the middle of the log', async () => {
    const bytes = await readFile(join(whole, log))
    const records = [...levelRecords(bytes)]
    expect(records.length).toBeGreaterThan(20)
    // The first block holds a few whole records: one of them is taken out, and what follows in the block with it.
    const second = (records[0]?.length ?? 0) + 7
    const gone = (records[1]?.length ?? 0) + 7
    const cut = Buffer.concat([bytes.subarray(0, second), bytes.subarray(second + gone, 32_768)])
    const lastWhole = [...cutAtRecords(cut)].at(-1) ?? 0
    const directory = await copied()
    await writeFile(join(directory, log), cut.subarray(0, lastWhole))
    expect(await check(directory)).toMatchObject({ type: 'unproven', why: `${log}: a batch is missing` })
  })

  it('are whole without the last whole batches of the log: that is what they once were', async () => {
    const bytes = await readFile(join(whole, log))
    const places = [...cutAtRecords(bytes.subarray(0, 32_768))]
    const directory = await copied()
    await truncate(join(directory, log), places[2] ?? 0)
    expect(await check(directory)).toMatchObject({ type: 'whole' })
  })

  it('are never whole with a MANIFEST that lacks what was said last, unless that names the same tables', async () => {
    const bytes = await readFile(join(whole, manifest))
    const all = readManifest(bytes)
    const places = [...cutAtRecords(bytes)]
    expect(places.length).toBeGreaterThan(1)
    for (const place of places.slice(0, -1)) {
      const directory = await copied()
      await truncate(join(directory, manifest), place)
      const found = await check(directory)
      const left = readManifest(bytes.subarray(0, place))
      if (JSON.stringify(left) !== JSON.stringify(all)) expect(found.type).not.toBe('whole')
    }
  })
})

/** Where the first records end that lie in one block each. */
function* cutAtRecords(bytes: Buffer): Generator<number> {
  let at = 0
  while (at + 7 <= bytes.length) {
    const end = at + 7 + bytes.readUInt16LE(at + 4)
    if (bytes[at + 6] !== 1 || end > bytes.length) return
    yield end
    at = end
  }
}

describe('the checksum of LevelDB', () => {
  it('is that of RFC 3720, and takes up any bytes from anywhere', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283)
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa)
    expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43)
    expect(crc32c(Buffer.from(Array.from({ length: 32 }, (_, n) => n)))).toBe(0x46dd794e)
    expect(crc32c(Buffer.from('..123456789..'), 2, 11)).toBe(0xe3069283)
    expect(crc32c(Buffer.alloc(0))).toBe(0)
  })
})

describe('what Snappy has compressed', () => {
  it('is read as it was: bytes as they are, and those that were there before, also over themselves', () => {
    expect(unsnap(Buffer.from([3, 2 << 2, 97, 98, 99])).toString()).toBe('abc')
    expect(unsnap(Buffer.from([10, 1 << 2, 97, 98, (7 << 2) | 2, 2, 0])).toString()).toBe('ababababab')
    expect(unsnap(Buffer.from([6, 1 << 2, 97, 98, 1, 2])).toString()).toBe('ababab')
    expect(unsnap(Buffer.from([5, 60 << 2, 0, 97, (3 << 2) | 3, 1, 0, 0, 0])).toString()).toBe('aaaaa')
  })

  it.each([
    ['is longer than it says', [2, 2 << 2, 97, 98, 99]],
    ['is shorter than it says', [4, 2 << 2, 97, 98, 99]],
    ['ends within', [3, 2 << 2, 97]],
    ['repeats what is not there', [6, 1 << 2, 97, 98, 1, 3]],
    ['repeats nothing', [6, 1 << 2, 97, 98, 1, 0]],
    ['says that it is huge', [0xff, 0xff, 0xff, 0xff, 0x0f, 0]],
  ])('is refused when it %s', (_, bytes) => {
    expect(() => unsnap(Buffer.from(bytes))).toThrow(LevelFormatError)
  })
})
