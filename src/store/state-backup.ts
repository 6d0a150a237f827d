// The state as a backup: stores, tokens and records from one explicit LevelDB snapshot, as the frames of `backup-format.ts`.

import type { AbstractSnapshot } from 'abstract-level'
import { type BackupHeader, type BackupRow, encodeBackup } from './backup-format.ts'
import { decodeRecord } from './record.ts'
import {
  decodeStore,
  decodeToken,
  keyOfRecord,
  type Meta,
  recordsWith,
  type StoreRow,
  tableRange,
} from './state-rows.ts'
import { isOpen } from './state-stores.ts'
import { pages, readMeta } from './state-verify.ts'
import type { StateLevel } from './state-writer.ts'
import type { Token } from './types.ts'

type Source = {
  readonly level: StateLevel
  /** Runs a read of the state machine, which ends with it if the read comes upon damage. */
  readonly reading: <T>(read: () => Promise<T>) => Promise<T>
}

type Pinned = Source & { readonly snapshot: AbstractSnapshot }

const everything = new Uint8Array(0)

/** From the first read on it pins every version that it can read in LevelDB, until it has ended or is ended. */
export async function* backupOf(source: Source): AsyncGenerator<Uint8Array, void> {
  const pinned: Pinned = { ...source, snapshot: source.level.snapshot() }
  try {
    const { stores, tokens, meta } = await source.reading(() => readTables(pinned))
    const { cluster, clusterId, revision, time } = meta
    const header: BackupHeader = {
      cluster,
      clusterId,
      revision,
      time,
      stores: stores.map(({ definition, keys, bytes }) => ({ ...definition, keys, bytes })),
      tokens,
    }
    yield* encodeBackup(header, readRows(pinned, stores))
  } finally {
    await pinned.snapshot.close()
  }
}

type Tables = {
  /** Those that can be opened, by number. */
  readonly stores: readonly StoreRow[]
  readonly tokens: readonly Token[]
  readonly meta: Meta
}

async function readTables({ level, snapshot }: Pinned): Promise<Tables> {
  const stores: StoreRow[] = []
  const tokens: Token[] = []
  for await (const [key, value] of level.iterator({ ...tableRange('stores'), snapshot })) {
    const store = decodeStore(key, value)
    if (isOpen(store)) stores.push(store)
  }
  for await (const [key, value] of level.iterator({ ...tableRange('tokens'), snapshot })) {
    tokens.push(decodeToken(key, value))
  }
  return { stores, tokens, meta: await readMeta(level, snapshot) }
}

async function* readRows(source: Pinned, stores: readonly StoreRow[]): AsyncGenerator<BackupRow, void> {
  const { level, snapshot, reading } = source
  for (const [at, { number }] of stores.entries()) {
    const read = pages(level, { ...recordsWith(number, everything), snapshot })
    try {
      for (;;) {
        const page = await reading(() => read.next())
        if (page.done === true) break
        yield* await reading(async () =>
          page.value.map(([rowKey, row]) => ({
            store: at,
            key: keyOfRecord(rowKey),
            ...decodeRecord(rowKey, row),
          })),
        )
      }
    } finally {
      await read.return()
    }
  }
}
