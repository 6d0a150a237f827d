// The history of changes: what watchers that come back are told, kept by each node for itself (`safety.md`, rule 24).
//
// Three local tables of LevelDB, written in the batches of the entries that they tell of: events, all of a batch in a few rows;
// records that were replaced while their event is still told; and blocks, by which the oldest goes. An event keeps a small value
// that takes the place of another: it is likely to be replaced in its turn. Any other value is read where it stands, and
// the write that replaces it moves it into the history; so a value that stays is written once.
//
// The header, in every batch, says after which revision everything is kept. What lies before that is not looked at,
// and cleared behind it, so that it matters to nobody when and whether it is.

import type { Row } from './overlay.ts'
import type { ChangeEvent } from './state-changes.ts'
import {
  type Block,
  decodeBlock,
  decodeHeader,
  EventChunk,
  encodeBlock,
  encodeHeader,
  headerKey,
  rangeOf,
  replacedKey,
} from './state-history-rows.ts'
import { historyTables } from './state-rows.ts'
import type { StateLevel } from './state-writer.ts'

export type HistoryLimits = {
  /** How long an event is kept, in milliseconds of log time. */
  readonly ageMs: number
  /** How much is kept, in bytes of keys and values. */
  readonly bytes: number
}

export const historyLimits: HistoryLimits = { ageMs: 600_000, bytes: 256 * 1024 * 1024 }

/** A block takes no more events once it has this share of what may be kept, of bytes or of time. */
const blockShare = 1 / 128

/** Rows that are cleared at once: one step of many. */
const clearedRows = 2000

/** About what a waiting row takes of memory besides its bytes: two buffers and an object. */
const perRow = 250

/** The largest value that an event keeps, in bytes. */
export const keptValueBytes = 1024

/** Whether an event keeps the value of its record. Both that write and the one that replaces it can tell. */
function keepsValue(created: boolean, size: number): boolean {
  return !created && size <= keptValueBytes
}

/** Of a record: by which revision it is there, since which its key has one, and the size of its value in bytes. */
export type KeptRecord = {
  readonly revision: number
  readonly createdRevision: number
  readonly size: number
}

/** What opening finds of a history. */
export type LoadedHistory = {
  readonly since: number
  readonly blocks: readonly Block[]
  readonly openedAt: number | undefined
  readonly bytes: number
}

/** A history that begins after this revision. */
export function emptyHistory(since: number): LoadedHistory {
  return { since, blocks: [], openedAt: undefined, bytes: 0 }
}

/**
 * The history in LevelDB, if it tells of every change up to `revision`; one that begins there otherwise: after a
 * snapshot, after a build without one, or where revisions were skipped. Throws `StateDamagedError`.
 */
export async function loadHistory(level: StateLevel, revision: number): Promise<LoadedHistory> {
  const row = await level.get(headerKey)
  const header = row === undefined ? undefined : decodeHeader(row)
  if (header?.through !== revision) return emptyHistory(revision)
  const { since, openedAt, bytes } = header
  const blocks: Block[] = []
  for await (const [key, value] of level.iterator(rangeOf(historyTables.blocks, since + 1, revision))) {
    blocks.push(decodeBlock(key, value))
  }
  return { since, blocks, openedAt, bytes }
}

/** Takes up what is applied, and lets go of what is old. */
export class History {
  readonly #limits: HistoryLimits
  /** Every event of a later revision is kept. */
  #since: number
  /** That is so in LevelDB: what lies up to here may be cleared. */
  #durableSince = -1
  /** Up to here it is. What an earlier process left is cleared anew. */
  #clearedTo = -1
  readonly #blocks: Block[]
  /** Of all blocks. */
  #blockBytes: number
  /** The block that takes events: the stamp of its first, undefined while it has none, and how much it has. */
  #openedAt: number | undefined
  #openBytes: number
  /** The last event. */
  #last: { readonly revision: number; readonly time: number }
  /** For the next batch: whole rows, and the events since. */
  #rows: Row[] = []
  #chunk: EventChunk | undefined
  #waitingBytes = 0
  /** What the batch on its way says of `#since`. */
  #takenSince: number

  constructor(
    loaded: LoadedHistory,
    { revision, time, limits }: { revision: number; time: number; limits: HistoryLimits },
  ) {
    this.#limits = limits
    this.#since = loaded.since
    this.#takenSince = loaded.since
    this.#blocks = [...loaded.blocks]
    this.#blockBytes = loaded.blocks.reduce((sum, { bytes }) => sum + bytes, 0)
    this.#openedAt = loaded.openedAt
    this.#openBytes = loaded.bytes
    this.#last = { revision, time }
  }

  /** About what waits here for the next batch, in bytes of memory. */
  get waitingBytes(): number {
    return this.#waitingBytes
  }

  /** What counts against the bound: keys and values, never less than what LevelDB has of them. */
  get bytes(): number {
    return this.#blockBytes + this.#openBytes
  }

  /** The changes of one command, the stamp of its entry, and of each change whether it created its record. */
  record(
    events: readonly ChangeEvent[],
    { time, of }: { readonly time: number; readonly of: readonly { readonly created: boolean }[] },
  ): void {
    const { ageMs, bytes } = this.#limits
    if (this.#openedAt !== undefined && time - this.#openedAt >= ageMs * blockShare) this.#closeBlock()
    this.#openedAt ??= time
    for (const [at, event] of events.entries()) {
      this.#add(event, keepsValue(of[at]?.created === true, event.record?.value?.length ?? 0))
      this.#last = { revision: event.revision, time }
    }
    if (this.#openBytes >= bytes * blockShare) this.#closeBlock()
  }

  /** Whether a record has to be `replaced` when it goes: its event is still told, and has no value. */
  wants({ revision, createdRevision, size }: KeptRecord): boolean {
    return revision > this.#since && !keepsValue(createdRevision === revision, size)
  }

  /** A record that is wanted goes, or another takes its place. `row`: as it lies under `rowKey`. */
  replaced(revision: number, rowKey: Uint8Array, row: Uint8Array): void {
    const key = replacedKey(revision, rowKey)
    const size = key.length + row.length
    this.#rows.push({ key, value: row })
    this.#openBytes += size
    this.#waitingBytes += perRow + size
  }

  /** Nothing that was told leads to the state of this revision: the history begins anew behind it. */
  restart(revision: number, time: number): void {
    this.#since = revision
    this.#blocks.length = 0
    this.#blockBytes = 0
    this.#openedAt = undefined
    this.#openBytes = 0
    this.#last = { revision, time }
    this.#rows = []
    this.#chunk = undefined
    this.#waitingBytes = 0
  }

  /** What the next batch carries. `revision` and `time` are those of the state that it brings LevelDB up to. */
  takeRows(revision: number, time: number): readonly Row[] {
    this.#closeChunk()
    this.#drop(time)
    this.#takenSince = this.#since
    const header = encodeHeader({
      since: this.#since,
      through: revision,
      openedAt: this.#openedAt,
      bytes: this.#openBytes,
    })
    const rows = [...this.#rows, header]
    this.#rows = []
    this.#waitingBytes = 0
    return rows
  }

  /** The batch that was taken last is durable. */
  settled(): void {
    this.#durableSince = this.#takenSince
  }

  /** Whether there is something that `clear` could clear. */
  get clearable(): boolean {
    return this.#clearedTo < this.#durableSince
  }

  /** Clears one step of what is not kept any more. Rejects with LevelDB's error. */
  async clear(level: StateLevel): Promise<void> {
    const upTo = this.#durableSince
    for (const table of [historyTables.events, historyTables.replaced, historyTables.blocks]) {
      const range = rangeOf(table, Math.max(0, this.#clearedTo), upTo)
      await level.clear({ ...range, limit: clearedRows })
      const [rest] = await level.keys({ ...range, limit: 1 }).all()
      if (rest !== undefined) return
    }
    this.#clearedTo = upTo
  }

  #add(event: ChangeEvent, withValue: boolean): void {
    let size = 0
    if (this.#chunk === undefined) {
      this.#chunk = new EventChunk()
      size = EventChunk.overhead
    }
    size += this.#chunk.add(event, withValue)
    this.#openBytes += size
    this.#waitingBytes += size
    if (this.#chunk.isFull) this.#closeChunk()
  }

  #closeChunk(): void {
    if (this.#chunk === undefined) return
    this.#rows.push(this.#chunk.seal())
    this.#chunk = undefined
    this.#waitingBytes += perRow
  }

  #closeBlock(): void {
    // A chunk goes with its block, so it has events of no other.
    this.#closeChunk()
    const block = { last: this.#last.revision, time: this.#last.time, bytes: this.#openBytes }
    this.#blocks.push(block)
    this.#blockBytes += block.bytes
    this.#openedAt = undefined
    this.#openBytes = 0
    this.#rows.push(encodeBlock(block))
  }

  #drop(time: number): void {
    const { ageMs, bytes } = this.#limits
    const expired = time - ageMs
    if (this.#openedAt !== undefined && (this.#openBytes > bytes || this.#last.time < expired))
      this.#closeBlock()
    for (let first = this.#blocks[0]; first !== undefined; first = this.#blocks[0]) {
      if (this.bytes <= bytes && first.time >= expired) return
      this.#since = first.last
      this.#blockBytes -= first.bytes
      this.#blocks.shift()
    }
  }
}
