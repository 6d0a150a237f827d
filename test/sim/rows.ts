// Whether LevelDBs hold the same, row by row, but for what is each node's own.

import { localTable } from '../../src/store/state-rows.ts'
import type { MemoryState } from '../store/memory-state.ts'

type Named = { readonly id: string; readonly level: MemoryState }

/** The first row in which any two differ, as people read it; undefined when all are equal. */
export async function differences(levels: readonly Named[]): Promise<string | undefined> {
  const [first, ...others] = await Promise.all(
    levels.map(async ({ id, level }) => ({ id, rows: await replicatedRows(level) })),
  )
  for (const other of others) {
    for (const key of new Set([...(first?.rows.keys() ?? []), ...other.rows.keys()])) {
      const [one, two] = [first?.rows.get(key), other.rows.get(key)]
      if (one === two) continue
      return `row ${key} is ${one ?? 'absent'} at ${first?.id}, ${two ?? 'absent'} at ${other.id}`
    }
  }
  return undefined
}

async function replicatedRows(level: MemoryState): Promise<Map<string, string>> {
  const rows = new Map<string, string>()
  for (const [key, value] of await level.iterator().all()) {
    if (key[0] !== localTable) rows.set(hex(key), hex(value))
  }
  return rows
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
