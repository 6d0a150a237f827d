// Runs broken variants until the simulator catches them: each is a copy of the program and of the simulator with one edit.

import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { runInThreads, seedsFrom } from './seeds.ts'
import type { Variant } from './variants.ts'

const root = resolve(import.meta.dirname, '../..')

/** What of the tests the simulator imports. */
const parts = ['src', 'test/sim', 'test/store', 'test/node', 'test/linear', 'test/raft', 'package.json']

export type Caught =
  | { readonly type: 'caught'; readonly seed: number; readonly seeds: number; readonly by: string }
  | { readonly type: 'missed'; readonly seeds: number }

/** Runs seeds, from this one on, until one of them breaks a promise. Throws when the variant's edits do not fit the source. */
export async function hunt(
  variant: Variant,
  { first, most }: { readonly first: number; readonly most: number },
): Promise<Caught> {
  const home = mkdtempSync(join(tmpdir(), 'trivet-variant-'))
  try {
    copy(variant, home)
    const folder = pathToFileURL(`${join(home, 'test/sim')}/`)
    let seeds = 0
    for await (const { seed, violation } of runInThreads(seedsFrom(first, most), 1, folder)) {
      seeds += 1
      if (violation !== undefined) return { type: 'caught', seed, seeds, by: violation }
    }
    return { type: 'missed', seeds }
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

function copy(variant: Variant, home: string): void {
  mkdirSync(join(home, 'test'))
  for (const part of parts) cpSync(join(root, part), join(home, part), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(home, 'node_modules'))
  const source = join(home, 'src')
  for (const [file, text] of edited(variant, (name) => readFileSync(join(source, name), 'utf8')))
    writeFileSync(join(source, file), text)
}

/**
 * Its files as they become. Throws when what is to be replaced is not there, or there more than once: then the variant is no
 * longer what it says.
 */
export function edited({ name, edits }: Variant, read: (file: string) => string): Map<string, string> {
  const texts = new Map<string, string>()
  for (const { file, find, replace } of edits) {
    const text = texts.get(file) ?? read(file)
    const [before, after, ...more] = text.split(find)
    if (before === undefined || after === undefined || more.length > 0) {
      const times = text.split(find).length - 1
      throw new Error(
        `The variant "${name}" looks for this in src/${file}, which has it ${times} times: ${find}`,
      )
    }
    texts.set(file, before + replace + after)
  }
  return texts
}
