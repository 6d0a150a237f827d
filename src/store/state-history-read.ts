// Reading the history of one store: its events in their order, each with what it wrote, from one LevelDB snapshot.

import type { AbstractSnapshot } from 'abstract-level'
import { decodeRecord, StateDamagedError } from './record.ts'
import { type ChangeEvent, isAfter, type Position } from './state-changes.ts'
import {
  decodeChunk,
  decodeHeader,
  headerKey,
  type KeptEvent,
  rangeOf,
  replacedKey,
} from './state-history-rows.ts'
import { historyTables, recordKey } from './state-rows.ts'
import { pages, readMeta } from './state-verify.ts'
import type { StateLevel } from './state-writer.ts'

/** Which events are wanted. */
type HistoryQuery = {
  readonly after: Position
  readonly store: number
  readonly matches: (key: Uint8Array) => boolean
  /** Whether events come with their values. */
  readonly values: boolean
}

/** Some events, and the last revision of which all have been looked at. */
export type HistoryPage = { readonly events: readonly ChangeEvent[]; readonly through: number }

/** What is kept, as of one moment. To be closed; it pins what it can read until then. */
export type HistoryReader = {
  /** Every event of a later revision, up to `through`, is there. */
  readonly since: number
  readonly through: number
  /** Events after a position at or above `since`; a page may be empty, where nothing matches for long. */
  readonly pages: (query: HistoryQuery) => AsyncIterable<HistoryPage>
  readonly close: () => Promise<void>
}

/** Values are read together as long as they are not more than this, in bytes; one that is larger comes alone. */
const valueBytes = 1024 * 1024

type Source = { readonly level: StateLevel; readonly snapshot: AbstractSnapshot }

/** Runs a read of the state machine, which ends with it if the read comes upon damage. */
type Reading = <T>(read: () => Promise<T>) => Promise<T>

/** Takes over the snapshot. Rejects with `StateDamagedError`, as reading does. */
export async function openHistory(source: Source & { readonly reading: Reading }): Promise<HistoryReader> {
  const { level, snapshot, reading } = source
  const { revision } = await readMeta(level, snapshot)
  const row = await level.get(headerKey, { snapshot })
  const header = row === undefined ? undefined : decodeHeader(row)
  return {
    // Until the first batch, LevelDB has what was found when it was opened: see `loadHistory`.
    since: header?.through === revision ? header.since : revision,
    through: revision,
    pages: (query) => guarded(read(source, revision, query), reading),
    close: () => snapshot.close(),
  }
}

async function* read(
  source: Source,
  through: number,
  query: HistoryQuery,
): AsyncGenerator<HistoryPage, void> {
  const { level, snapshot } = source
  const range = rangeOf(historyTables.events, query.after.revision, through)
  let whole = query.after.revision
  for await (const rows of pages(level, { ...range, snapshot })) {
    const wanted: KeptEvent[] = []
    for (const event of rows.flatMap(([key, value]) => decodeChunk(key, value))) {
      if (event.last) whole = event.revision
      const isWanted = event.store === query.store && isAfter(event, query.after) && query.matches(event.key)
      if (isWanted) wanted.push(event)
    }
    for (const some of portions(wanted, query.values)) {
      const events = query.values ? await withValues(source, some) : some.map(withoutValue)
      const end = events.at(-1)
      // Of a revision that a portion ends in not all was told.
      yield { events, through: end === undefined || some === wanted ? whole : lastWhole(end) }
    }
  }
  yield { events: [], through }
}

async function* guarded<T>(steps: AsyncGenerator<T, void>, reading: Reading): AsyncGenerator<T, void> {
  try {
    for (;;) {
      const step = await reading(() => steps.next())
      if (step.done === true) return
      yield step.value
    }
  } finally {
    await steps.return()
  }
}

function lastWhole({ revision, last }: ChangeEvent): number {
  return last ? revision : revision - 1
}

/** At least one, so that a page that has nothing says how far it came. */
function* portions(events: readonly KeptEvent[], values: boolean): Generator<readonly KeptEvent[], void> {
  const total = values ? events.reduce((sum, { record }) => sum + (record?.size ?? 0), 0) : 0
  if (total <= valueBytes) {
    yield events
    return
  }
  let some: KeptEvent[] = []
  let bytes = 0
  for (const event of events) {
    const size = event.record?.size ?? 0
    if (some.length > 0 && bytes + size > valueBytes) {
      yield some
      some = []
      bytes = 0
    }
    some.push(event)
    bytes += size
  }
  yield some
}

async function withValues(
  { level, snapshot }: Source,
  events: readonly KeptEvent[],
): Promise<readonly ChangeEvent[]> {
  const sets = events.filter(({ record }) => record !== undefined && record.value === undefined)
  const standing = await level.getMany(sets.map(placeOf), { snapshot })
  const found = new Map<KeptEvent, Uint8Array>()
  const gone: KeptEvent[] = []
  for (const [at, event] of sets.entries()) {
    const row = standing[at]
    const record = row === undefined ? undefined : decodeRecord(placeOf(event), row)
    if (record?.revision === event.revision) found.set(event, record.value)
    else gone.push(event)
  }
  const replaced = await level.getMany(
    gone.map((event) => replacedKey(event.revision, placeOf(event))),
    { snapshot },
  )
  for (const [at, event] of gone.entries()) {
    const row = replaced[at]
    if (row === undefined) {
      throw new StateDamagedError(
        `The state on this disk is damaged: the history has lost what revision ${event.revision} wrote.`,
      )
    }
    found.set(event, decodeRecord(placeOf(event), row).value)
  }
  return events.map((event) => {
    const { record, ...change } = event
    if (record === undefined) return { ...change, record }
    const { contentType, expires } = record
    return { ...change, record: { contentType, expires, value: record.value ?? found.get(event) } }
  })
}

function withoutValue(event: KeptEvent): ChangeEvent {
  const { record, ...change } = event
  if (record === undefined) return { ...change, record }
  return { ...change, record: { contentType: record.contentType, expires: record.expires, value: undefined } }
}

function placeOf({ store, key }: KeptEvent): Buffer {
  return recordKey(store, key)
}
