// Entries taken apart: steps to apply one by one, in stretches whose keys are fetched together.

import type { Entry } from '../raft/types.ts'
import { decodeCommand, decodeEntryData } from './commands.ts'
import { rowName } from './overlay.ts'
import { type Place, placeOf } from './places.ts'
import type { RowPlace } from './state-changes.ts'
import { idempotencyKeyRow } from './state-idempotency.ts'
import { recordKey } from './state-rows.ts'
import type { OpenStore, StoreTable } from './state-stores.ts'
import type { TokenTable } from './state-tokens.ts'
import type { Command, CommandBatch, CommandId, KeyCommand } from './types.ts'

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
  /** How many bytes it came in. */
  readonly size: number
  /** Where its record lies; undefined when it has not one, or there is no such store. */
  readonly row: (RowPlace & { readonly store: OpenStore }) | undefined
  /** Where its idempotency key is remembered; undefined when it has none, or its token is unknown. */
  readonly memory: RowPlace | undefined
}

// At most this many keys are fetched at once, and this many bytes should each value be as large as its store allows.
const fetchKeys = 1024
const fetchBytes = 128 * 1024 * 1024

/** What commands are read against. Equal for all of a stretch: a command that changes it ends one. */
export type Known = {
  readonly stores: StoreTable
  readonly tokens: TokenTable
  /** The largest value where a store names none, in bytes. */
  readonly valueBytes: number
}

/** Whether a command reads more than one record of its own, which then are read in a stretch that has no other command. */
export function isAlone({ type }: Command): boolean {
  return type === 'deleteRange' || type === 'transaction' || type === 'expire' || type === 'collect'
}

/**
 * How much work a step is, in bytes that are looked at: without end where its own bytes and what stands under its key do
 * not tell.
 */
export function workOf(step: Step, rows: ReadonlyMap<string, Uint8Array | undefined>): number {
  if (step.type !== 'command') return 0
  if (isAlone(step.command) || step.command.type === 'restore') return Number.POSITIVE_INFINITY
  return step.size + ((step.row && rows.get(step.row.name)?.length) ?? 0)
}

/** The commands after these may mean other stores or tokens. */
const changingKnown: ReadonlySet<Command['type']> = new Set([
  'createStore',
  'dropStore',
  'mintToken',
  'revokeToken',
  'rotateToken',
  'removeApp',
  'restore',
  'expire',
])

/** Decodes as it is asked for more, so that a long list of entries is neither one pause nor all in memory. */
export function* stretches(entries: readonly Entry[], known: Known): Generator<readonly Step[], void> {
  const { stores, valueBytes } = known
  let steps: Step[] = []
  let keys = 0
  let bytes = 0
  const cut = (): readonly Step[] => {
    const stretch = steps
    steps = []
    keys = 0
    bytes = 0
    return stretch
  }
  for (const entry of entries) {
    for (const step of stepsOf(entry, known)) {
      if (step.type === 'command') {
        const alone = isAlone(step.command)
        // Where all that is stored is less than the bound, no choice of keys can fetch more.
        const most = stores.bytes > fetchBytes ? largest(step, valueBytes) : 0
        if ((alone && steps.length > 0) || (keys > 0 && (keys >= fetchKeys || bytes + most > fetchBytes))) {
          yield cut()
        }
        if (alone || changingKnown.has(step.command.type)) {
          steps.push(step)
          yield cut()
          continue
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
      const id = { peer, boot, number }
      yield { type: 'command', id, index: entry.index, command, size: bytes.length, row, memory }
    }
  }
  yield { type: 'end', entry }
}

function recordOf(command: Command, known: Known): CommandStep['row'] {
  return isKeyed(command) ? locate(command, command.token, known) : undefined
}

function isKeyed(command: Command): command is KeyCommand {
  return 'key' in command
}

/** Where a key lies that is named by the bearer of a token. */
export function locate(
  { store, key }: { readonly store: string; readonly key: Uint8Array },
  token: string,
  { stores, tokens }: Pick<Known, 'stores' | 'tokens'>,
): (RowPlace & { readonly store: OpenStore }) | undefined {
  const principal = tokens.get(token)?.principal
  const place = principal === undefined ? store : placeOf(principal, store)
  const open = stores.at(place)
  return open === undefined ? undefined : { ...rowPlace(open.number, keyIn(place, key)), store: open }
}

/** A key as it lies in its store. */
export function keyIn(place: Place, key: Uint8Array): Uint8Array {
  return typeof place === 'string' ? key : Buffer.concat([place.prefix, key])
}

export function rowPlace(store: number, key: Uint8Array): RowPlace {
  return named(recordKey(store, key))
}

function memoryOf(command: Command, { tokens }: Known): CommandStep['memory'] {
  if (!('once' in command) || command.once?.type !== 'key') return undefined
  const token = tokens.get(command.token)
  return token === undefined ? undefined : named(idempotencyKeyRow(token.name, command.once.key))
}

function named(key: Buffer): RowPlace {
  return { key, name: rowName(key) }
}
