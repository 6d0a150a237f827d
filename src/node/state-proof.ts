// Whether a state may be served from before its rows were read: its files are what LevelDB wrote, and LevelDB had nothing else before.
//
// Whole files (`store/level-files.ts`) say nothing of what LevelDB was given. Opened over a log that cannot be read it drops what
// is in there and writes sound files without it; a compaction takes over a rotten block as it is. So the rows must have been read once
// and held against the digest, and before LevelDB opens anything that is not proven, what is known of that state is forgotten,
// durably. What has rotted while LevelDB ran is for the daily reading of all rows: when the last one was is kept here, so that a node
// which starts more often than that comes to it too.

import { join } from 'node:path'
import type { Disk } from '../store/disk.ts'
import type { LevelFiles } from '../store/level-files.ts'
import { StateDamagedError } from '../store/record.ts'
import { readSmallFile, removeSmallFile, writeSmallFile } from '../store/small-file.ts'

const fileName = 'proven'

/** How long ago all rows of a proven state were last read, in milliseconds; or why they have to be read first. */
export type Proof =
  | { readonly type: 'proven'; readonly readAgoMs: number }
  | { readonly type: 'unproven'; readonly why: string }

/** When all rows of the state of this name were last read, in milliseconds since the epoch. */
type Reading = { readonly directory: string; readonly readAt: number }

export type StateProofOptions = {
  readonly disk: Disk
  /** The node's data directory. */
  readonly directory: string
  /** Looks at the files of a LevelDB that nobody has open; without it nothing is ever proven. */
  readonly checkFiles?: ((directory: string) => Promise<LevelFiles>) | undefined
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/** To be asked before LevelDB opens a state. Throws `StateDamagedError` when its files are not what LevelDB wrote. */
export async function proveState(
  { disk, directory, checkFiles, now }: StateProofOptions,
  name: string,
): Promise<Proof> {
  if (checkFiles === undefined) {
    await forgetProof(disk, directory, name)
    return { type: 'unproven', why: 'its files cannot be looked at' }
  }
  const path = join(directory, name)
  const files = await checkFiles(path)
  if (files.type === 'damaged') throw new StateDamagedError(`The state in ${path} is damaged: ${files.why}.`)
  if (files.type === 'unproven') {
    await forgetProof(disk, directory, name)
    return files
  }
  const reading = readingIn(await readSmallFile(disk, join(directory, fileName)))
  return reading?.directory === name
    ? { type: 'proven', readAgoMs: Math.max(0, now() - reading.readAt) }
    : { type: 'unproven', why: 'its rows were not read since this node has it' }
}

/** To be called, and awaited, before LevelDB opens the state of this name, or any of them, without having proven it. */
export async function forgetProof(disk: Disk, directory: string, name?: string): Promise<void> {
  const path = join(directory, fileName)
  const stored = await readSmallFile(disk, path)
  if (stored === 'absent') return
  const known = readingIn(stored)?.directory
  if (name === undefined || known === undefined || known === name) await removeSmallFile(disk, path)
}

/** Makes durable that all rows of this state came to its digest at `readAt`. */
export async function recordReading(disk: Disk, directory: string, reading: Reading): Promise<void> {
  await writeSmallFile(disk, join(directory, fileName), reading)
}

/** One that cannot be read is as good as none. */
function readingIn(stored: object | string): Reading | undefined {
  if (typeof stored !== 'object') return undefined
  const { directory, readAt } = stored as Partial<Reading>
  return typeof directory === 'string' && typeof readAt === 'number' ? { directory, readAt } : undefined
}
