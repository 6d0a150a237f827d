// Whether the files of a LevelDB are what it has written, found without LevelDB and without looking at a row.
//
// LevelDB writes a CRC for every block of its tables, and neither a read nor a compaction checks it: a flipped bit in a key makes a row
// absent without a word. In its log it drops what it cannot read. So before it opens its files they are read once, in the order in
// which they lie, at the speed of the disk.
//
// What speaks for a state that is `whole`, missing nothing:
// - CURRENT names the one MANIFEST that is there, which is sound to its last byte and says which tables and logs count.
// - Each of these tables is there, of its size, begins and ends with its keys, and each of its bytes is spoken for (`level-table.ts`).
// - The first of these logs is there, all are sound to their last byte, and the numbers of their changes follow each other.
// Lost with whole records from the end of log or MANIFEST can be only batches: from the end, which is an earlier state that the
// node's own log brings up again, or from the middle, which is a gap in the batches' numbers (`state-writer.ts`).

import { join } from 'node:path'
import type { Disk } from './disk.ts'
import { hasCode } from './disk.ts'
import { LevelFormatError } from './level-bytes.ts'
import {
  type LiveTable,
  type LogNumbers,
  type Manifest,
  numbersInLog,
  readManifest,
} from './level-records.ts'
import { checkTable } from './level-table.ts'

/**
 * `unproven`: there is something in these files that does not speak for them, which may be no more than the torn end of a
 * log. LevelDB and the rows themselves have to be asked. `damaged`: a table is not what LevelDB has written; the filter of one
 * shows in no row, though LevelDB may no longer find what it hides. `why` is the end of a sentence.
 */
export type LevelFiles =
  | { readonly type: 'whole'; readonly bytes: number }
  | { readonly type: 'unproven'; readonly why: string }
  | { readonly type: 'damaged'; readonly why: string }

/** Of other names nothing is known. Those of tables and logs that do not count any more, and of LevelDB's own diary, mean nothing. */
const known = /^(CURRENT|LOCK|LOG|LOG\.old|MANIFEST-\d+|\d+\.(log|ldb|dbtmp))$/

/** Reads all files that count; nobody may have this LevelDB open. An error of the disk makes them unproven. */
export async function checkLevelFiles(disk: Disk, directory: string): Promise<LevelFiles> {
  let names: ReadonlySet<string>
  let tables: readonly LiveTable[]
  let doubt: string | undefined
  try {
    names = new Set(await disk.list(directory))
    const unknown = [...names].find((name) => !known.test(name))
    if (unknown !== undefined) return { type: 'unproven', why: `${unknown} is not known` }
    const found = await readCurrent(disk, directory, names)
    tables = found.tables
    doubt = await doubtInLogs(disk, directory, { names, from: found.logNumber })
  } catch (error) {
    return { type: 'unproven', why: reasonOf(error) }
  }
  const checked = await checkTables(disk, directory, tables)
  return checked.type === 'whole' && doubt !== undefined ? { type: 'unproven', why: doubt } : checked
}

/** What the MANIFEST says. Throws what is to be said of it if it cannot be relied on. */
async function readCurrent(
  disk: Disk,
  directory: string,
  names: ReadonlySet<string>,
): Promise<{ readonly logNumber: number; readonly tables: readonly LiveTable[] }> {
  const manifests = [...names].filter((name) => name.startsWith('MANIFEST-'))
  const [name] = manifests
  if (name === undefined || manifests.length > 1) {
    throw new LevelFormatError(`there are ${manifests.length} MANIFESTs`)
  }
  const current = await readWhole(disk, join(directory, 'CURRENT'))
  if (current.toString() !== `${name}\n`) throw new LevelFormatError(`CURRENT does not name ${name}`)
  const bytes = await readWhole(disk, join(directory, name))
  const { comparator, logNumber, tables } = manifestIn(name, bytes)
  if (comparator !== 'leveldb.BytewiseComparator' || logNumber === undefined) {
    throw new LevelFormatError(`${name} says too little`)
  }
  return { logNumber, tables }
}

function manifestIn(name: string, bytes: Buffer): Manifest {
  try {
    return readManifest(bytes)
  } catch (error) {
    throw new LevelFormatError(`${name}: ${reasonOf(error)}`, { cause: error })
  }
}

/** Why the logs that count may be without some of their batches; undefined when they are not. */
async function doubtInLogs(
  disk: Disk,
  directory: string,
  { names, from }: { readonly names: ReadonlySet<string>; readonly from: number },
): Promise<string | undefined> {
  const logs = [...names]
    .filter((name) => name.endsWith('.log'))
    .map((name) => ({ name, number: Number.parseInt(name, 10) }))
    .filter(({ number }) => number >= from)
    .sort((one, other) => one.number - other.number)
  if (logs[0]?.number !== from) return `log ${from} is missing`
  let before: LogNumbers
  for (const { name } of logs) {
    try {
      const numbers = numbersInLog(await readWhole(disk, join(directory, name)))
      if (numbers === undefined) continue
      if (before !== undefined && before.to !== numbers.from) return `batches are missing before ${name}`
      before = numbers
    } catch (error) {
      return `${name}: ${reasonOf(error)}`
    }
  }
  return undefined
}

async function checkTables(disk: Disk, directory: string, tables: readonly LiveTable[]): Promise<LevelFiles> {
  const spare: Spare[] = [{ buffer: Buffer.alloc(0) }, { buffer: Buffer.alloc(0) }]
  const load = (at: number): Promise<Loaded> | undefined => {
    const [table, into] = [tables[at], spare[at % 2]]
    return table && into && loadTable(disk, join(directory, fileOf(table)), into)
  }
  let bytes = 0
  let loading = load(0)
  for (const [at, table] of tables.entries()) {
    const loaded = await loading
    // While one is checked, the next is read.
    loading = load(at + 1)
    try {
      if (loaded === undefined) continue
      if (loaded.type === 'failed') {
        const type = hasCode(loaded.error, 'ENOENT') ? 'damaged' : 'unproven'
        return { type, why: `${fileOf(table)}: ${reasonOf(loaded.error)}` }
      }
      checkTable(loaded.file, table)
      bytes += loaded.file.length
    } catch (error) {
      if (!(error instanceof LevelFormatError)) throw error
      return { type: 'damaged', why: `${fileOf(table)}: ${error.message}` }
    }
  }
  return { type: 'whole', bytes }
}

function fileOf({ number }: LiveTable): string {
  return `${String(number).padStart(6, '0')}.ldb`
}

type Spare = { buffer: Buffer }
type Loaded =
  | { readonly type: 'read'; readonly file: Buffer }
  | { readonly type: 'failed'; readonly error: unknown }

/** Never rejects, since it may be long before anybody looks. */
async function loadTable(disk: Disk, path: string, into: Spare): Promise<Loaded> {
  try {
    return { type: 'read', file: await readInto(disk, path, into) }
  } catch (error) {
    return { type: 'failed', error }
  }
}

/** The whole file; a view of what is spare, which is made large enough. */
async function readInto(disk: Disk, path: string, into: Spare): Promise<Buffer> {
  const file = await disk.open(path, { access: 'read' })
  try {
    const size = await file.size()
    if (into.buffer.length < size) into.buffer = Buffer.allocUnsafeSlow(size)
    return into.buffer.subarray(0, await file.read(0, into.buffer.subarray(0, size)))
  } finally {
    await file.close()
  }
}

function readWhole(disk: Disk, path: string): Promise<Buffer> {
  return readInto(disk, path, { buffer: Buffer.alloc(0) })
}

/** An error of the disk, or what is to be said of a file. */
function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
