// A process that owns a directory says so in a file there: its process id, a line of text.

import { mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { readIfThere } from './text-file.ts'

/** Where a running node with this data directory is named. */
export function nodePidPath(directory: string): string {
  return join(directory, 'trivet.pid')
}

export async function writePid(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  await writeFile(path, `${process.pid}\n`)
}

export async function removePid(path: string): Promise<void> {
  await rm(path, { force: true })
}

/**
 * The process in the file, if it is alive; undefined when there is none. Not our own: in a container every start has the
 * same id, so that a file with it was left behind by a run that was killed.
 */
export async function runningPid(path: string): Promise<number | undefined> {
  const pid = await readPid(path)
  if (pid === undefined || pid === process.pid) return undefined
  try {
    process.kill(pid, 0)
    return pid
  } catch (error) {
    // Another user's process may not be signalled, and is alive.
    return error instanceof Error && 'code' in error && error.code === 'EPERM' ? pid : undefined
  }
}

async function readPid(path: string): Promise<number | undefined> {
  const pid = Number((await readIfThere(path)) ?? Number.NaN)
  return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined
}
