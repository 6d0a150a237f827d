// Logs for tests: a founding, entries to fill them with, and how to open one and read all of it.

import type { Configuration, Entry, Position } from '../../src/raft/types.ts'
import type { Disk } from '../../src/store/disk.ts'
import type { Founding } from '../../src/store/types.ts'
import { type LogBase, LogError, Wal } from '../../src/store/wal.ts'
import { MemoryDisk } from './memory-disk.ts'

export const node = '12D3KooWNodeOne'

export const directory = '/data/log'

export function configurationOf(...names: string[]): Configuration {
  return {
    members: names.map((id) => ({
      peer: `12D3KooW${id}`,
      id,
      http: `http://${id}:7001`,
      p2p: `/dns4/${id}/tcp/7101`,
      voter: true,
      since: 0,
      commandVersion: 1,
    })),
  }
}

export const founding: Founding = {
  clusterId: '0123456789abcdef0123456789abcdef',
  name: 'test',
  configuration: configurationOf('n1', 'n2', 'n3'),
  stores: [{ name: 'default' }],
  tokens: [{ name: 'admin', hash: 'x'.repeat(43), principal: { type: 'admin' } }],
  valueBytes: 4_194_304,
  foundedAt: 1_700_000_000_000,
  commandVersion: 1,
}

/** A clock that stands long before any boot number that matters, so that boots count up by one. */
const earlyClock = () => 1_000

/** What a founded log begins with. */
export const foundedBase: LogBase = {
  directory: 'state-0',
  index: 0,
  term: 0,
  configuration: founding.configuration,
  founding,
}

function onNotice(error: Error): void {
  throw new Error('nothing goes wrong that a test has not asked for', { cause: error })
}

export const beginning: Position = { index: 0, term: 0 }

export async function createLog(
  disk: Disk,
  options: Partial<Parameters<typeof Wal.create>[0]> = {},
): Promise<Wal> {
  return Wal.create({ disk, directory, node, base: foundedBase, now: earlyClock, onNotice, ...options })
}

export async function openLog(
  disk: Disk,
  options: Partial<Parameters<typeof Wal.open>[0]> = {},
): Promise<Wal> {
  return Wal.open({ disk, directory, node, applied: undefined, now: earlyClock, onNotice, ...options })
}

export function command(index: number, term: number, data: string | Uint8Array): Entry {
  return { type: 'commands', index, term, data: Buffer.from(data) }
}

/** Everything the log holds, by as many reads as `maxBytes` takes. */
export async function readAll(wal: Wal, maxBytes = 1024 * 1024): Promise<Entry[]> {
  const entries: Entry[] = []
  const first = wal.recovered.base.index + 1
  const to = wal.recovered.lastIndex
  for (let from = first; from <= to; from = first + entries.length) {
    entries.push(...(await wal.read({ from, to, maxBytes })))
  }
  return entries
}

/** Compares entries by what they say, whatever kind of array holds their data. */
export function plain(entries: readonly Entry[]): unknown[] {
  return entries.map((entry) =>
    entry.type === 'commands' ? { ...entry, data: Buffer.from(entry.data).toString('base64') } : entry,
  )
}

/** The path of a segment. */
export function segment(number: number): string {
  return `${directory}/segment-${String(number).padStart(10, '0')}.wal`
}

export async function emptyDisk(options: { capacity?: number; seed?: number } = {}): Promise<MemoryDisk> {
  const disk = new MemoryDisk({ seed: 1, ...options })
  await disk.makeDirectory('/data')
  await disk.syncDirectory('/')
  return disk
}

/** Where batches begin in a segment: after its header, whose length stands at byte 12. */
export function firstBatch(disk: MemoryDisk, number: number): number {
  return Math.ceil((24 + Buffer.from(disk.contents(segment(number))).readUInt32LE(12)) / 512) * 512
}

export async function refusal(opening: Promise<unknown>): Promise<LogError> {
  const error = await opening.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (error instanceof LogError) return error
  throw new Error(`expected a LogError, not ${error}`)
}
