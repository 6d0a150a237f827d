// Opening the state machine: LevelDB in its directory, and all of the state that is kept in memory.

import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Level } from 'level'
import { commandVersion } from './commands.ts'
import type { Row } from './overlay.ts'
import { StateDamagedError } from './record.ts'
import { emptySum, Ledger } from './state-digest.ts'
import { hasCode, isCorruption, reason, StateDiskError } from './state-failure.ts'
import { emptyHistory, type LoadedHistory, loadHistory } from './state-history.ts'
import { IdempotencyKeys } from './state-idempotency.ts'
import { Origins } from './state-origins.ts'
import { Repeats } from './state-repeats.ts'
import {
  closedKey,
  decodeMark,
  decodeMeta,
  decodeStore,
  decodeToken,
  loadingKey,
  type Meta,
  metaKey,
  type ReplicatedTable,
  type StoreRow,
  tableOf,
  tableRange,
  unknownRanges,
} from './state-rows.ts'
import { Sessions } from './state-sessions.ts'
import { appStore } from './state-stores.ts'
import { lastBatch, type StateLevel } from './state-writer.ts'
import type { Founding, Token } from './types.ts'

/**
 * What LevelDB gathers in memory before it writes a table. Its own 4 MiB make a compaction of almost every write: with keys at
 * random among many, each table that comes overlaps all that are there, and merging took as much CPU as everything else.
 */
const writeBufferSize = 32 * 1024 * 1024

/**
 * LevelDB in this directory, made if it is not there. Rejects with an operator's sentence when another process has it
 * open, with `StateDiskError` when the disk refuses, and with `StateDamagedError` when LevelDB itself finds it damaged.
 */
export async function openLevel(directory: string): Promise<StateLevel> {
  const level = new Level<Uint8Array, Uint8Array>(directory, {
    keyEncoding: 'view',
    valueEncoding: 'view',
    writeBufferSize,
  })
  try {
    await level.open()
  } catch (error) {
    if (hasCode(error, 'LEVEL_LOCKED')) {
      throw new Error(`The state in ${directory} is in use by another process. Stop that one first.`, {
        cause: error,
      })
    }
    if (isCorruption(error)) {
      throw new StateDamagedError(`The state in ${directory} is damaged: ${reason(error)}.`, { cause: error })
    }
    throw new StateDiskError(`The state in ${directory} cannot be opened: ${reason(error)}.`, {
      cause: error,
    })
  }
  // LevelDB syncs its files. That they have a name after a power loss is up to the directories.
  await syncDirectory(directory)
  await syncDirectory(dirname(directory))
  return level
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** The replicated state as far as it is kept in memory: everything but the records. */
export type State = {
  readonly meta: Meta
  /** Knows all rows that are kept in memory. */
  readonly ledger: Ledger
  readonly stores: readonly StoreRow[]
  readonly tokens: readonly Token[]
  readonly origins: Origins
  readonly repeats: Repeats
  /** The rows of a restore under way, by their keys; empty without one. */
  readonly restore: readonly Row[]
  readonly history: LoadedHistory
  /** The number of the last batch; 0 when LevelDB is empty and the state is the founding's. */
  readonly lastBatch: number
  /** LevelDB was closed by `StateMachine.close` the last time, with a state that was whole. */
  readonly clean: boolean
}

/**
 * The state in LevelDB, or the founding's where LevelDB is empty. Throws `StateDamagedError` when rows or batches are
 * missing or not what was written, and a plain error for the state of another cluster.
 */
export async function loadState(level: StateLevel, founding: Founding): Promise<State> {
  const batch = await lastBatch(level)
  if ((await level.get(loadingKey)) !== undefined) {
    throw new StateDamagedError('The state on this disk is the beginning of a snapshot that was never whole.')
  }
  const metaRow = await level.get(metaKey)
  if (batch === undefined || metaRow === undefined) {
    for await (const _ of level.keys({ limit: 1 })) {
      throw new StateDamagedError(
        'The state on this disk is damaged: there are rows, but not the first of them.',
      )
    }
    return foundedState(founding)
  }
  const meta = decodeMeta(metaRow)
  if (meta.commandVersion > commandVersion) {
    throw new Error(
      `The state on this disk came from commands of version ${meta.commandVersion}, and this build understands version ${commandVersion}: install a newer Trivet on this node.`,
    )
  }
  for (const range of unknownRanges()) {
    for await (const key of level.keys({ ...range, limit: 1 })) tableOf(key)
  }
  if (meta.clusterId !== founding.clusterId) {
    throw new Error(
      `The state on this disk belongs to cluster ${meta.clusterId}, and this node to ${founding.clusterId}.`,
    )
  }
  if (meta.lastApplied !== batch.lastApplied) {
    throw new StateDamagedError(
      `The state on this disk is damaged: it says entry ${meta.lastApplied}, and its last batch says ${batch.lastApplied}.`,
    )
  }
  const stores: StoreRow[] = []
  const tokens: Token[] = []
  const origins = new Origins()
  const sessions = new Sessions()
  const keys = new IdempotencyKeys()
  const ledger = new Ledger(meta.sum)
  const load = async (
    table: ReplicatedTable,
    take: (key: Uint8Array, value: Uint8Array) => void,
  ): Promise<void> => {
    for await (const [key, value] of level.iterator(tableRange(table))) {
      take(key, value)
      ledger.load(key, value)
    }
  }
  await load('stores', (key, value) => stores.push(decodeStore(key, value)))
  await load('tokens', (key, value) => tokens.push(decodeToken(key, value)))
  await load('origins', (key, value) => origins.loadOrigin(key, value))
  await load('outcomes', (key, value) => origins.loadOutcomes(key, value))
  await load('sessions', (key, value) => sessions.load(key, value))
  const restore: Row[] = []
  await load('restore', (key, value) => restore.push({ key, value }))
  for await (const [key, value] of level.iterator(tableRange('idempotencyKeys'))) keys.load(key, value)
  const closed = await level.get(closedKey)
  const mark = closed === undefined ? undefined : decodeMark(closedKey, closed)
  const clean = mark?.number === batch.number && mark.lastApplied === batch.lastApplied
  const repeats = new Repeats(sessions, keys)
  const history = await loadHistory(level, meta.revision)
  const last = batch.number
  return { meta, ledger, stores, tokens, origins, repeats, restore, history, lastBatch: last, clean }
}

/**
 * What the cluster is at index 0. Stores get their internal numbers in the order of the founding, and after them those of the
 * apps that its tokens speak for, in the order of the tokens.
 */
function foundedState(founding: Founding): State {
  const { clusterId, name: cluster, configuration, valueBytes, commandVersion, foundedAt } = founding
  const apps = founding.tokens.flatMap(({ principal }) => (principal.type === 'app' ? [principal.app] : []))
  const definitions = [...founding.stores, ...[...new Set(apps)].map(appStore)]
  assert(new Set(definitions.map(({ name }) => name)).size === definitions.length, 'Store names are unique')
  return {
    meta: {
      clusterId,
      cluster,
      lastApplied: 0,
      lastAppliedTerm: 0,
      revision: 0,
      time: foundedAt,
      nextStore: definitions.length + 1,
      valueBytes,
      commandVersion,
      configuration,
      sum: emptySum,
      checkpoint: undefined,
    },
    ledger: new Ledger(emptySum),
    stores: definitions.map((definition, index) => ({
      number: index + 1,
      definition,
      keys: 0,
      bytes: 0,
    })),
    tokens: founding.tokens,
    origins: new Origins(),
    repeats: new Repeats(new Sessions(), new IdempotencyKeys()),
    restore: [],
    history: emptyHistory(0),
    lastBatch: 0,
    clean: true,
  }
}
