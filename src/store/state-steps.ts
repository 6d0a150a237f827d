// Entries taken apart: steps to apply one by one, in stretches whose keys are fetched together.

import type { Entry } from '../raft/types.ts'
import { decodeCommand, decodeEntryData } from './commands.ts'
import { rowName } from './overlay.ts'
import { idempotencyKeyRow } from './state-idempotency.ts'
import { recordKey } from './state-rows.ts'
import type { Command, CommandBatch, CommandId, StoreDefinition, Token } from './types.ts'

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
  readonly row: (RowPlace & { readonly store: OpenStore }) | undefined
  /** Where its idempotency key is remembered; undefined when it has none, or its token is unknown. */
  readonly memory: RowPlace | undefined
}

/** A row's key, and its name in maps. */
export type RowPlace = { readonly key: Buffer; readonly name: string }

// At most this many keys are fetched at once, and this many bytes should each value be as large as its store allows.
const fetchKeys = 1024
const fetchBytes = 128 * 1024 * 1024

/** What commands are read against. Equal for all of a stretch: a command that changes it has to end one. */
type Known = {
  readonly stores: ReadonlyMap<string, OpenStore>
  readonly tokens: ReadonlyMap<string, Token>
  /** The largest value where a store names none, in bytes. */
  readonly valueBytes: number
}

/** Decodes as it is asked for more, so that a long list of entries is neither one pause nor all in memory. */
export function* stretches(entries: readonly Entry[], known: Known): Generator<readonly Step[], void> {
  const { stores, valueBytes } = known
  // Where all that is stored is less than the bound, no choice of keys can fetch more.
  const stored = [...stores.values()].reduce((sum, store) => sum + store.bytes, 0)
  let steps: Step[] = []
  let keys = 0
  let bytes = 0
  for (const entry of entries) {
    for (const step of stepsOf(entry, known)) {
      if (step.type === 'command') {
        const most = stored > fetchBytes ? largest(step, valueBytes) : 0
        if (keys > 0 && (keys >= fetchKeys || bytes + most > fetchBytes)) {
          yield steps
          steps = []
          keys = 0
          bytes = 0
        }
        keys += step.memory === undefined ? 1 : 2
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

function* stepsOf(entry: Entry, known: Known): Generator<Step, void> {
  const data = entry.type === 'commands' ? decodeEntryData(entry.data) : undefined
  yield { type: 'begin', entry, time: data?.time }
  for (const batch of data?.batches ?? []) {
    yield { type: 'origin', batch }
    const { peer, boot } = batch
    for (const { number, bytes } of batch.commands) {
      const command = decodeCommand(bytes)
      const row = recordOf(command, known)
      const memory = memoryOf(command, known)
      yield { type: 'command', id: { peer, boot, number }, index: entry.index, command, row, memory }
    }
  }
  yield { type: 'end', entry }
}

function recordOf(command: Command, { stores }: Known): CommandStep['row'] {
  if (!('key' in command)) return undefined
  const store = stores.get(command.store)
  return store === undefined ? undefined : { ...placeOf(recordKey(store.number, command.key)), store }
}

function memoryOf(command: Command, { tokens }: Known): CommandStep['memory'] {
  if (!('once' in command) || command.once?.type !== 'key') return undefined
  const token = tokens.get(command.token)
  return token === undefined ? undefined : placeOf(idempotencyKeyRow(token.name, command.once.key))
}

function placeOf(key: Buffer): RowPlace {
  return { key, name: rowName(key) }
}
