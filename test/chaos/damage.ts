// Damages files of a node's data directory the way disks do: a flipped bit, a missing end.

import { open, readdir, readFile, readlink, stat, truncate } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Chance } from '../raft/chance.ts'

type Found = { readonly path: string; readonly size: number }

/** A file of the log or of LevelDB with something in it, larger ones more often; undefined when there is none. */
export async function pickFile(
  data: string,
  place: 'log' | 'level',
  chance: Chance,
  except: ReadonlySet<string> = new Set(),
): Promise<string | undefined> {
  const names = await readdir(data, { withFileTypes: true })
  const wanted = names.filter(
    (entry) =>
      entry.isDirectory() && (place === 'log' ? entry.name === 'log' : /^state-\d+$/.test(entry.name)),
  )
  const files: Found[] = []
  for (const directory of wanted) {
    for (const name of (await readdir(join(data, directory.name))).sort()) {
      const path = join(data, directory.name, name)
      // LevelDB's own diary and lock hold nothing that anybody reads.
      if (/^(LOG|LOG\.old|LOCK)$/.test(name) || except.has(path)) continue
      const { size } = await stat(path)
      if (size > 0) files.push({ path, size })
    }
  }
  let at = chance.next() * files.reduce((sum, { size }) => sum + weight(size), 0)
  for (const { path, size } of files) {
    at -= weight(size)
    if (at < 0) return path
  }
  return files.at(-1)?.path
}

/** Small files, which name the others, are to be hit as well. */
function weight(size: number): number {
  return Math.sqrt(size) + 64
}

/** Flips one bit below the last byte that is not zero, so that it is one that was written. Returns where. */
export async function flipBit(path: string, chance: Chance): Promise<string> {
  const bytes = await readFile(path)
  let end = bytes.length
  while (end > 1 && bytes[end - 1] === 0) end--
  const at = chance.below(Math.max(1, end))
  const bit = chance.below(8)
  await using file = await open(path, 'r+')
  await file.write(Buffer.of((bytes[at] ?? 0) ^ (1 << bit)), 0, 1, at)
  return `bit ${bit} of byte ${at} of ${end} in ${shortName(path)} flipped`
}

/** Cuts off the end of a file. Returns where. */
export async function cutFile(path: string, chance: Chance): Promise<string> {
  const { size } = await stat(path)
  // Mostly little, sometimes nearly all.
  const lost = Math.max(1, Math.floor(size * chance.next() ** 3))
  await truncate(path, size - lost)
  return `${shortName(path)} lost its last ${lost} of ${size} bytes`
}

function shortName(path: string): string {
  return `${basename(dirname(path))}/${basename(path)}`
}

/** The files that a process has open or mapped (Linux). */
export async function openFilesOf(pid: number): Promise<ReadonlySet<string>> {
  const open = new Set<string>()
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    try {
      open.add(await readlink(`/proc/${pid}/fd/${fd}`))
    } catch {
      // Closed meanwhile.
    }
  }
  for (const line of (await readFile(`/proc/${pid}/maps`, 'utf8')).split('\n')) {
    const at = line.indexOf('/')
    if (at !== -1) open.add(line.slice(at))
  }
  return open
}
