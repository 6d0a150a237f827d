// The write-ahead log: entries, term and vote, in segments of batches. What it has acknowledged survives a loss of power;
// what it cannot vouch for it refuses to open (`safety.md`, rules 1 to 5).
//
// `wal-format.ts` has the bytes of batches, `wal-segment.ts` those of segment headers, `wal-recovery.ts` reads a log
// after a stop, `wal-state.ts` holds what is known of it in memory, `wal-encoder.ts` and `wal-writer.ts` write.

import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import type { Configuration, Entry, HardState, Position } from '../raft/types.ts'
import type { Disk } from './disk.ts'
import type { Founding } from './types.ts'
import { BatchEncoder } from './wal-encoder.ts'
import type { BatchBody } from './wal-format.ts'
import type { EntryRange } from './wal-read.ts'
import { readEntries } from './wal-read.ts'
import { recover } from './wal-recovery.ts'
import type { LogBase, SegmentHeader } from './wal-segment.ts'
import { LogError, listSegments, readHeader, segmentPath } from './wal-segment.ts'
import type { BatchPlace } from './wal-state.ts'
import { LogState } from './wal-state.ts'
import { SegmentWriter } from './wal-writer.ts'

export type { LogBase } from './wal-segment.ts'
export { LogError } from './wal-segment.ts'

/** The LevelDB directory that a founded log begins with. */
const firstDirectory = 'state-0'

const defaultSegmentBytes = 64 * 1024 * 1024

/** What the log held when it was opened, all of it durable by then. */
export type Recovered = {
  readonly base: LogBase
  readonly hardState: HardState
  /** The number of this start: greater than that of any start before, and durable. */
  readonly boot: number
  readonly lastIndex: number
  /** The first index of each term after the base, ascending. */
  readonly terms: readonly Position[]
  /** The base's configuration and those of the entries, in order. */
  readonly configurations: readonly { readonly index: number; readonly configuration: Configuration }[]
  readonly repaired: {
    /** Bytes at the end that were no whole batch: an append that a crash cut short, never acknowledged. */
    readonly cutBytes: number
    /** Entries that could be read but were not proven durable, and are now. */
    readonly rewrittenEntries: number
  }
}

export type WalCounters = {
  /** Appends made durable since the start. */
  readonly syncs: number
  /** What they wrote. */
  readonly bytes: number
  /** How long the last one took. */
  readonly lastSyncMilliseconds: number
  /** Segment files. */
  readonly segments: number
}

type Place = {
  readonly disk: Disk
  /** Holds nothing but the log's segments; its parent exists. */
  readonly directory: string
  /** A segment ends before it grows beyond this, unless a single append is larger. 64 MiB unless given. */
  readonly segmentBytes?: number
}

type Start = Place & {
  /** The peer id whose log it is. */
  readonly node: string
  /** Milliseconds since the epoch: new boots are never below its seconds, even if the last boot number is lost. */
  readonly now: () => number
  /** Milliseconds of a clock that never goes back, for measuring. The process's own unless given. */
  readonly elapsed?: (() => number) | undefined
  /** Draws a segment's salt, from 1 to 2^32 - 1. The machine's own randomness unless given. */
  readonly drawSalt?: (() => number) | undefined
}

/** What one append makes durable. */
type Batch = { readonly hardState?: HardState | undefined; readonly entries: readonly Entry[] }

type Beginning = {
  readonly start: Start
  /** Of the new segment; what was prepared is filled in. */
  readonly header: SegmentHeader
  /** The log that the header speaks of. */
  readonly state: LogState
  readonly salts: Map<number, number>
  /** What follows it. */
  readonly tail: BatchBody
  readonly cutBytes: number
}

type Opened = Pick<Beginning, 'start' | 'state' | 'salts'> & {
  readonly recovered: Recovered
  readonly encoder: BatchEncoder
  readonly writer: SegmentWriter
}

export class Wal {
  readonly recovered: Recovered
  readonly #start: Start
  readonly #elapsed: () => number
  readonly #state: LogState
  readonly #salts: Map<number, number>
  readonly #encoder: BatchEncoder
  #writer: SegmentWriter
  /** Up to this offset of the current segment, the bytes there prove themselves durable: by its header or a batch. */
  #proven: number
  #appending: Promise<void> | undefined
  /** Why it takes nothing any more. */
  #refusal: Error | undefined
  #syncs = 0
  #bytes = 0
  #lastSyncMilliseconds = 0

  private constructor(opened: Opened) {
    this.recovered = opened.recovered
    this.#start = opened.start
    this.#elapsed = opened.start.elapsed ?? (() => performance.now())
    this.#state = opened.state
    this.#salts = opened.salts
    this.#encoder = opened.encoder
    this.#writer = opened.writer
    this.#proven = opened.writer.seat.offset
  }

  /**
   * What the log in a directory begins with and whose it is; undefined when there is no log. Reads only, so that the
   * LevelDB directory can be locked before anything is written. Throws `LogError`.
   */
  static async peek({
    disk,
    directory,
  }: Place): Promise<{ readonly base: LogBase; readonly node: string } | undefined> {
    const newest = (await listSegments(disk, directory)).segments.at(-1)
    if (newest === undefined) return undefined
    const path = segmentPath(directory, newest)
    const file = await disk.open(path, { access: 'read' })
    try {
      const { base, node } = (await readHeader(file, path)).header
      return { base, node }
    } finally {
      await file.close()
    }
  }

  /** Founds a log: term 0, no vote, no entries. Durable, with its directory, when it resolves. */
  static async create(start: Start & { readonly founding: Founding }): Promise<Wal> {
    const { disk, directory, founding } = start
    await disk.makeDirectory(directory)
    if ((await listSegments(disk, directory)).segments.length > 0) {
      throw new LogError('exists', `There is a log in ${directory} already, so none is founded over it.`)
    }
    const { configuration } = founding
    const base = { directory: firstDirectory, index: 0, term: 0, configuration, founding }
    const header: SegmentHeader = {
      node: start.node,
      segment: 1,
      boot: nextBoot(0, start.now()),
      salt: newSalt(start),
      previousEnd: 0,
      previousSalt: 0,
      preparedBytes: 0,
      last: { index: 0, term: 0 },
      base,
      hardState: { term: 0, votedFor: undefined },
      configuration: { index: 0, configuration },
    }
    return Wal.#begin({
      start,
      header,
      state: new LogState(header),
      salts: new Map(),
      tail: { hardState: undefined, entries: [] },
      cutBytes: 0,
    })
  }

  /**
   * Opens a log after a stop of any kind. `applied` is the last entry that LevelDB holds, so it was durable here: a
   * log without it is damaged. Everything `recovered` says is durable when it resolves, in a new segment where it was
   * not before. Throws `LogError`, and has then written nothing.
   */
  static async open(start: Start & { readonly applied: Position }): Promise<Wal> {
    const { state, header, salts, proven, tail, cutBytes } = await recover(start)
    return Wal.#begin({
      start,
      state,
      salts,
      tail,
      cutBytes,
      header: {
        ...header,
        segment: header.segment + 1,
        boot: nextBoot(header.boot, start.now()),
        salt: newSalt(start),
        previousEnd: proven.offset,
        previousSalt: header.salt,
        last: state.last,
        hardState: state.hardState,
        configuration: state.configuration,
      },
    })
  }

  /** Every start begins a segment: it makes the boot durable, and the tail that was only readable. */
  static async #begin(beginning: Beginning): Promise<Wal> {
    const { start, state, tail, salts, header } = beginning
    const { disk, directory } = start
    const { leftovers } = await listSegments(disk, directory)
    for (const name of leftovers) await disk.remove(join(directory, name))
    // A name can be read and not be durable either. Were this segment's to outlive the one before, the log had a hole.
    await disk.syncDirectory(directory)
    const encoder = new BatchEncoder()
    const isTail = tail.hardState !== undefined || tail.entries.length > 0
    const preparedBytes = isTail ? encoder.encode(tail.hardState, tail.entries) : 0
    const { writer, value: batches } = await SegmentWriter.create({
      disk,
      directory,
      segmentBytes: start.segmentBytes ?? defaultSegmentBytes,
      header: { ...header, preparedBytes },
      prepare: (seat) => {
        const { segment, offset } = seat
        const sealed = isTail
          ? encoder.seal(seat, { segment, offset })
          : { bytes: Buffer.alloc(0), batches: [] }
        return { bytes: sealed.bytes, value: sealed.batches }
      },
    })
    take(state, { hardState: tail.hardState, entries: tail.entries, batches })
    salts.set(header.segment, header.salt)
    const recovered = {
      base: state.base,
      hardState: state.hardState,
      boot: header.boot,
      lastIndex: state.last.index,
      terms: [...state.terms],
      configurations: [...state.configurations],
      repaired: { cutBytes: beginning.cutBytes, rewrittenEntries: tail.entries.length },
    }
    return new Wal({ start, recovered, state, salts, encoder, writer })
  }

  /**
   * Appends hard state and entries in one write, durable when it resolves. Entries are consecutive and may begin below
   * the end: they take the place of everything from there on. One call at a time. After a rejection nothing is known
   * of what is on disk: the log refuses everything, and the process must exit without another promise.
   */
  async append(batch: Batch): Promise<void> {
    assert(this.#appending === undefined, 'one append is under way at a time')
    this.#checkUsable()
    if (batch.hardState === undefined && batch.entries.length === 0) return
    this.#checkFollows(batch)
    this.#appending = this.#append(batch)
    try {
      await this.#appending
    } catch (cause) {
      this.#refusal = new Error('The log takes nothing more: an append has failed.', { cause })
      throw cause
    } finally {
      this.#appending = undefined
    }
  }

  async #append({ hardState, entries }: Batch): Promise<void> {
    const bytes = this.#encoder.encode(hardState, entries)
    if (this.#writer.isFullFor(bytes)) await this.#roll()
    const batches = await this.#write()
    take(this.#state, { hardState, entries, batches })
  }

  /** Writes what was encoded. Its batches say that all before them is durable, as it is. */
  async #write(): Promise<readonly BatchPlace[]> {
    const seat = this.#writer.seat
    const { bytes, batches } = this.#encoder.seal(seat, { segment: seat.segment, offset: seat.offset })
    const begun = this.#elapsed()
    await this.#writer.write(bytes)
    this.#lastSyncMilliseconds = this.#elapsed() - begun
    this.#proven = seat.offset
    this.#syncs += 1
    this.#bytes += bytes.length
    return batches
  }

  /** Goes on in a new segment. Its header proves the one before durable to the end. */
  async #roll(): Promise<void> {
    const old = this.#writer
    const header: SegmentHeader = {
      node: this.#start.node,
      segment: old.seat.segment + 1,
      boot: this.recovered.boot,
      salt: newSalt(this.#start),
      previousEnd: old.seat.offset,
      previousSalt: old.seat.salt,
      preparedBytes: 0,
      last: this.#state.last,
      base: this.#state.base,
      hardState: this.#state.hardState,
      configuration: this.#state.configuration,
    }
    const { writer } = await SegmentWriter.create({
      disk: this.#start.disk,
      directory: this.#start.directory,
      segmentBytes: this.#start.segmentBytes ?? defaultSegmentBytes,
      header,
      prepare: () => ({ bytes: Buffer.alloc(0), value: undefined }),
    })
    this.#salts.set(header.segment, header.salt)
    this.#writer = writer
    this.#proven = writer.seat.offset
    await old.close()
  }

  /**
   * Reads entries of the log from disk, checking them again. The data of commands share the memory of what was read
   * around them. Throws `LogError` when bytes are damaged.
   */
  async read(range: EntryRange): Promise<Entry[]> {
    this.#checkUsable()
    const { first, last, batches } = this.#state
    const { from, to } = range
    assert(first <= from && from <= to && to <= last.index, 'only entries of the log are read')
    const { directory } = this.#start
    const readSegment = this.#readSegment.bind(this)
    return readEntries({ directory, batches, salts: this.#salts, readSegment }, range)
  }

  async #readSegment(segment: number, position: number, into: Buffer): Promise<number> {
    if (segment === this.#writer.seat.segment) return this.#writer.read(position, into)
    const { disk, directory } = this.#start
    const file = await disk.open(segmentPath(directory, segment), { access: 'read' })
    try {
      return await file.read(position, into)
    } finally {
      await file.close()
    }
  }

  counters(): WalCounters {
    return {
      syncs: this.#syncs,
      bytes: this.#bytes,
      lastSyncMilliseconds: this.#lastSyncMilliseconds,
      segments: this.#salts.size,
    }
  }

  /**
   * Ends the log after the append under way. One more empty batch proves the last append durable, so that damage to it
   * can be told from a torn write; a log that has failed is closed without.
   */
  async close(): Promise<void> {
    await this.#appending?.catch(() => 'its caller has the error')
    if (this.#refusal === undefined) {
      this.#refusal = new Error('The log is closed.')
      if (this.#proven < this.#writer.seat.offset) {
        this.#encoder.encode(undefined, [])
        await this.#write()
      }
    }
    await this.#writer.close()
  }

  #checkUsable(): void {
    if (this.#refusal !== undefined) throw this.#refusal
  }

  #checkFollows({ hardState, entries }: Batch): void {
    const old = this.#state.hardState
    if (hardState !== undefined) {
      assert(hardState.term >= old.term, 'the term never goes back')
      const keepsVote = old.votedFor === undefined || hardState.votedFor === old.votedFor
      assert(hardState.term > old.term || keepsVote, 'a vote is given once in a term')
    }
    let previous: Entry | undefined
    for (const entry of entries) {
      if (previous === undefined) assert(this.#state.accepts(entry), 'entries follow the log')
      else
        assert(entry.index === previous.index + 1 && entry.term >= previous.term, 'entries are consecutive')
      previous = entry
    }
  }
}

function nextBoot(previous: number, now: number): number {
  return Math.max(previous + 1, Math.floor(now / 1000))
}

/** Checksums begin with it, so that a batch of another segment is none here. */
function newSalt({ drawSalt }: Start): number {
  return drawSalt === undefined ? randomInt(1, 2 ** 32) : drawSalt()
}

/** What was made durable becomes part of the log. */
function take(
  state: LogState,
  { hardState, entries, batches }: Batch & { readonly batches: readonly BatchPlace[] },
): void {
  if (hardState !== undefined) state.setHardState(hardState)
  for (const entry of entries) {
    assert(state.accepts(entry), 'entries follow the log')
    state.add(entry)
  }
  for (const batch of batches) state.batches.add(batch)
}
