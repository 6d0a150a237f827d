// Text files that need not be there.

import { readFile } from 'node:fs/promises'

import { hasCode } from '../store/disk.ts'

/** What a file holds; undefined where there is none. Rejects with the system's error, which names the file, when it cannot be read. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}
