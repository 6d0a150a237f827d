// Entries taken apart: steps to apply one by one, in stretches whose keys are fetched together.

import type { Entry } from '../raft/types.ts'
import { decodeCommand, decodeEntryData } from './commands.ts'
import { rowName } from './overlay.ts'
import { recordKey } from './state-rows.ts'
import type { Command, CommandBatch, CommandId, StoreDefinition } from './types.ts'

/** A store as it changes. `number` is its place in LevelDB. */
export type OpenStore = {
  readonly number: number
  readonly definition: StoreDefinition
  keys: number
  /** Sum of key and value bytes. */
  bytes: number
}

export type Step =
  | { readonly type: 'begin'; readonly entry: Entry; readonly time: number | undefined }
  /** A node speaks: the commands that follow are its own. */
  | { readonly type: 'origin'; readonly batch: CommandBatch }
  | CommandStep
  | { readonly type: 'end'; readonly entry: Entry }

export type CommandStep = {
  readonly type: 'command'
  readonly id: CommandId
  readonly index: number
  readonly command: Command
  /** Where its record lies; undefined when there is no such store. */
  readonly row: { readonly key: Buffer; readonly name: string; readonly store: OpenStore } | undefined
}

// At most this many keys are fetched at once, and this many bytes should each value be as large as its store allows.
const fetchKeys = 1024
const fetchBytes = 128 * 1024 * 1024

type Stores = {
  readonly stores: ReadonlyMap<string, OpenStore>
  /** The largest value where a store names none, in bytes. */
  readonly valueBytes: number
}

/** Decodes as it is asked for more, so that a long list of entries is neither one pause nor all in memory. */
export function* stretches(
  entries: readonly Entry[],
  { stores, valueBytes }: Stores,
): Generator<readonly Step[], void> {
  // Where all that is stored is less than the bound, no choice of keys can fetch more.
  const stored = [...stores.values()].reduce((sum, store) => sum + store.bytes, 0)
  let steps: Step[] = []
  let keys = 0
  let bytes = 0
  for (const entry of entries) {
    for (const step of stepsOf(entry, stores)) {
      if (step.type === 'command') {
        const most = stored > fetchBytes ? largest(step, valueBytes) : 0
        if (keys > 0 && (keys >= fetchKeys || bytes + most > fetchBytes)) {
          yield steps
          steps = []
          keys = 0
          bytes = 0
        }
        keys += 1
        bytes += most
      }
      steps.push(step)
    }
  }
  if (steps.length > 0) yield steps
}

/** The most that can stand under the command's key, in bytes. */
function largest({ row }: CommandStep, valueBytes: number): number {
  return row === undefined ? 0 : (row.store.definition.maxValueBytes ?? valueBytes)
}

function* stepsOf(entry: Entry, stores: ReadonlyMap<string, OpenStore>): Generator<Step, void> {
  const data = entry.type === 'commands' ? decodeEntryData(entry.data) : undefined
  yield { type: 'begin', entry, time: data?.time }
  for (const batch of data?.batches ?? []) {
    yield { type: 'origin', batch }
    const { peer, boot } = batch
    for (const { number, bytes } of batch.commands) {
      const command = decodeCommand(bytes)
      const store = stores.get(command.store)
      const key = store === undefined ? undefined : recordKey(store.number, command.key)
      const row = store === undefined || key === undefined ? undefined : { key, name: rowName(key), store }
      yield { type: 'command', id: { peer, boot, number }, index: entry.index, command, row }
    }
  }
  yield { type: 'end', entry }
}
