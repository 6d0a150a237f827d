// The write-ahead log: entries, term and vote, in segments of batches. What it has acknowledged survives a loss of power;
// what it cannot vouch for it refuses to open (`safety.md`, rules 1 to 5).
//
// `wal-format.ts` has the bytes of batches, `wal-segment.ts` those of segment headers, `wal-recovery.ts` reads a log
// after a stop, `wal-state.ts` holds what is known of it in memory, `wal-encoder.ts` and `wal-writer.ts` write.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { Entry, Position } from '../raft/types.ts'
import { Durations } from './durations.ts'
import { SegmentCollector } from './wal-collector.ts'
import { BatchEncoder } from './wal-encoder.ts'
import type { BatchBody } from './wal-format.ts'
import type { Batch, Birth, Install, Place, Recovered, Start, WalCounters } from './wal-options.ts'
import { isRefusal, newSalt, nextBoot, withRoom } from './wal-options.ts'
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

const defaultSegmentBytes = 64 * 1024 * 1024

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
  /** Segments that are there and belong to the log no more. */
  readonly unneeded: readonly number[]
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
  /** Where the last append ends in the current segment. */
  #written: number
  /** What that was when `prove` was called last. */
  #quietEnd = 0
  #proving: Promise<void> | undefined
  readonly #collector: SegmentCollector
  readonly #reads = new Set<Promise<unknown>>()
  /** What the next segment is to begin with; the base until a compaction is asked for. */
  #nextBase: LogBase
  #appending: Promise<void> | undefined
  /** Why it takes nothing any more. */
  #refusal: Error | undefined
  #syncs = 0
  #bytes = 0
  readonly #durations = new Durations()

  private constructor(opened: Opened) {
    this.recovered = opened.recovered
    this.#start = opened.start
    this.#elapsed = opened.start.elapsed ?? (() => performance.now())
    this.#state = opened.state
    this.#salts = opened.salts
    this.#encoder = opened.encoder
    this.#writer = opened.writer
    this.#proven = opened.writer.seat.offset
    this.#written = this.#proven
    this.#nextBase = opened.state.base
    this.#collector = new SegmentCollector(opened.start)
    this.#collector.collect(opened.unneeded, [])
  }

  /**
   * What the log in a directory begins with, whose it is, and its last boot; undefined when there is no log. Reads only,
   * so that the directory can be locked before anything is written. Throws `LogError`.
   */
  static async peek({
    disk,
    directory,
  }: Place): Promise<Pick<SegmentHeader, 'base' | 'node' | 'boot'> | undefined> {
    const newest = (await listSegments(disk, directory)).segments.at(-1)
    if (newest === undefined) return undefined
    const path = segmentPath(directory, newest)
    const file = await disk.open(path, { access: 'read' })
    try {
      const { base, node, boot } = (await readHeader(file, path)).header
      return { base, node, boot }
    } finally {
      await file.close()
    }
  }

  /** Makes a log without entries. Durable, with its directory, when it resolves. */
  static async create(birth: Birth): Promise<Wal> {
    const { base, hardState = { term: 0, votedFor: undefined }, previousBoot = 0, ...start } = birth
    const { disk, directory } = start
    assert(hardState.term >= base.term, 'no entry is of a later term than its node has seen')
    await disk.makeDirectory(directory)
    if ((await listSegments(disk, directory)).segments.length > 0) {
      throw new LogError('exists', `There is a log in ${directory} already, so none is founded over it.`)
    }
    const { index, term, configuration } = base
    const header: SegmentHeader = {
      node: start.node,
      segment: 1,
      oldest: 1,
      boot: nextBoot(previousBoot, start.now()),
      salt: newSalt(start),
      previousEnd: 0,
      previousSalt: 0,
      preparedBytes: 0,
      last: { index, term },
      base,
      hardState,
      configuration: { index, configuration },
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
   * log without it is damaged. It is not below the base; undefined when LevelDB is of no use. Everything `recovered` says is durable when it resolves, in a new segment where it was
   * not before. Throws `LogError`, and has then written nothing.
   */
  static async open(start: Start & { readonly applied: Position | undefined }): Promise<Wal> {
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
        oldest: state.segmentAfter(state.base.index) ?? header.segment + 1,
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
    const { leftovers, segments } = await listSegments(disk, directory)
    for (const name of leftovers) await disk.remove(join(directory, name))
    // A name can be read and not be durable either. Were this segment's to outlive the one before, the log had a hole.
    await disk.syncDirectory(directory)
    const encoder = new BatchEncoder()
    const isTail = tail.hardState !== undefined || tail.entries.length > 0
    const { writer, value: batches } = await withRoom(start, () => {
      const preparedBytes = isTail ? encoder.encode(tail.hardState, tail.entries) : 0
      return SegmentWriter.create({
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
    const unneeded = segments.filter((segment) => segment < header.oldest)
    for (const segment of unneeded) salts.delete(segment)
    return new Wal({ start, recovered, state, salts, encoder, writer, unneeded })
  }

  /** What the newest segment's header says the log begins with: entries after its index are here. */
  get base(): LogBase {
    return this.#state.base
  }

  /** Bytes of the log after an index, but for a batch that holds entries before it too. */
  bytesAfter(index: number): number {
    return this.#state.batches.bytesAfter(index)
  }

  /**
   * Lets the log begin after this entry: it is committed, and durable in LevelDB. The next segment's header says so, and
   * with it the segments go that hold nothing after it. A position at or below an earlier one changes nothing.
   */
  compact({ index, term }: Position): void {
    if (index <= this.#nextBase.index) return
    assert(this.#state.termAt(index) === term, 'a log is compacted up to one of its entries')
    const configuration = this.#state.configurationAt(index)
    this.#nextBase = { ...this.#state.base, index, term, configuration }
  }

  /**
   * Switches to the LevelDB in another directory, which holds the state at this position (`safety.md`, rule 6): durable
   * when it resolves, and until then as if it had not been called. Entries after it stay if the log has the entry
   * itself, else the log is empty afterwards. Not while an append is under way; it waits for a proof. Rejects with the
   * code `full` when there is no room, and then has changed nothing; after any other rejection the log refuses everything.
   */
  async install(install: Install): Promise<void> {
    if (this.#proving !== undefined) await this.#proving
    const { index, term } = install
    const { base, hardState } = this.#state
    const isKept = this.#state.termAt(index) === term
    assert(index > base.index || (index === base.index && isKept), 'no older state is installed')
    assert(hardState.term >= term, 'no entry is of a later term than its node has seen')
    await this.#exclusively(() => this.#install(install, isKept))
  }

  async #install({ directory, index, term, configuration }: Install, isKept: boolean): Promise<void> {
    const base = { directory, index, term, configuration, founding: this.#state.base.founding }
    const latest = this.#state.configuration
    await withRoom(this.#start, () =>
      this.#startSegment(base, {
        oldest: isKept ? this.#state.segmentAfter(index) : undefined,
        last: isKept ? this.#state.last : { index, term },
        configuration: isKept && latest.index > index ? latest : { index, configuration },
      }),
    )
    if (isKept) this.#state.rebase(base)
    else this.#state.empty(base)
    this.#discardUnneeded()
  }

  /**
   * Appends hard state and entries in one write, durable when it resolves. Entries are consecutive and may begin below
   * the end: they take the place of everything from there on. One call at a time. After a rejection nothing is known
   * of what is on disk: the log refuses everything, and the process must exit without another promise.
   */
  async append(batch: Batch): Promise<void> {
    if (this.#proving !== undefined) await this.#proving
    assert(this.#appending === undefined, 'one append is under way at a time')
    this.#checkUsable()
    if (batch.hardState === undefined && batch.entries.length === 0) return
    this.#checkFollows(batch)
    await this.#exclusively(() => this.#append(batch))
  }

  /** One thing at a time. When it fails nothing is known of what is on disk, but when it says that it wrote nothing. */
  async #exclusively(write: () => Promise<void>): Promise<void> {
    assert(this.#appending === undefined, 'one append is under way at a time')
    this.#checkUsable()
    this.#appending = write()
    try {
      await this.#appending
    } catch (cause) {
      if (!isRefusal(cause)) {
        this.#refusal = new Error('The log takes nothing more: an append has failed.', { cause })
      }
      throw cause
    } finally {
      this.#appending = undefined
    }
  }

  /**
   * To be called now and then. When nothing was appended since the last call, one empty batch proves the last append
   * durable, so that damage to it can be told from a torn write. An append and an install wait for it. A rejection is that of an append.
   */
  async prove(): Promise<void> {
    const isQuiet = this.#quietEnd === this.#written
    this.#quietEnd = this.#written
    if (!isQuiet || this.#appending !== undefined || this.#proven >= this.#written) return
    if (this.#refusal !== undefined || this.#proving !== undefined) return
    this.#proving = this.#exclusively(() => this.#writeProof())
    try {
      await this.#proving
    } finally {
      this.#proving = undefined
    }
  }

  /** Where there is no room for it, the last append stays unproven, as it does in a crash. */
  async #writeProof(): Promise<void> {
    try {
      await this.#writer.secure(this.#encoder.encode(undefined, []))
    } catch (error) {
      if (isRefusal(error)) return
      throw error
    }
    await this.#write()
  }

  async #append({ hardState, entries }: Batch): Promise<void> {
    const bytes = this.#encoder.encode(hardState, entries)
    if (this.#writer.isFullFor(bytes)) await withRoom(this.#start, () => this.#roll())
    await withRoom(this.#start, () => this.#writer.secure(bytes))
    const batches = await this.#write()
    this.#written = this.#writer.seat.offset
    take(this.#state, { hardState, entries, batches })
  }

  /** Writes what was encoded. Its batches say that all before them is durable, as it is. */
  async #write(): Promise<readonly BatchPlace[]> {
    const seat = this.#writer.seat
    const { bytes, batches } = this.#encoder.seal(seat, { segment: seat.segment, offset: seat.offset })
    const begun = this.#elapsed()
    await this.#writer.write(bytes)
    this.#durations.add(this.#elapsed() - begun)
    this.#proven = seat.offset
    this.#syncs += 1
    this.#bytes += bytes.length
    return batches
  }

  /** Goes on in a new segment. Its header proves the one before durable to the end. */
  async #roll(): Promise<void> {
    const base = this.#nextBase
    const { last, configuration } = this.#state
    await this.#startSegment(base, {
      oldest: this.#state.segmentAfter(base.index),
      last,
      configuration:
        configuration.index > base.index
          ? configuration
          : { index: base.index, configuration: base.configuration },
    })
    this.#state.rebase(base)
    this.#discardUnneeded()
  }

  /** `oldest` is undefined when no entry of the log is left. */
  async #startSegment(
    base: LogBase,
    log: Pick<SegmentHeader, 'last' | 'configuration'> & { readonly oldest: number | undefined },
  ): Promise<void> {
    const old = this.#writer
    const segment = old.seat.segment + 1
    const header: SegmentHeader = {
      node: this.#start.node,
      segment,
      oldest: log.oldest ?? segment,
      boot: this.recovered.boot,
      salt: newSalt(this.#start),
      previousEnd: old.seat.offset,
      previousSalt: old.seat.salt,
      preparedBytes: 0,
      last: log.last,
      base,
      hardState: this.#state.hardState,
      configuration: log.configuration,
    }
    const { writer } = await SegmentWriter.create({
      disk: this.#start.disk,
      directory: this.#start.directory,
      segmentBytes: this.#start.segmentBytes ?? defaultSegmentBytes,
      header,
      prepare: () => ({ bytes: Buffer.alloc(0), value: undefined }),
    })
    this.#salts.set(segment, header.salt)
    this.#writer = writer
    this.#proven = writer.seat.offset
    this.#written = this.#proven
    this.#nextBase = base
    await old.close()
  }

  /** What the newest header does not need goes, beside everything else. */
  #discardUnneeded(): void {
    const { base } = this.#state
    const oldest = this.#state.segmentAfter(base.index) ?? this.#writer.seat.segment
    const unneeded = [...this.#salts.keys()].filter((segment) => segment < oldest)
    for (const segment of unneeded) this.#salts.delete(segment)
    this.#collector.collect(unneeded, this.#reads)
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
    const reading = readEntries({ directory, batches, salts: new Map(this.#salts), readSegment }, range)
    this.#reads.add(reading)
    try {
      return await reading
    } finally {
      this.#reads.delete(reading)
    }
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
      durations: this.#durations.counts,
      segments: this.#salts.size + this.#collector.size,
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
      if (this.#proven < this.#written) await this.#writeProof()
    }
    await this.#collector.settled()
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
    assert((entries[0]?.index ?? Infinity) > this.#nextBase.index, 'what is committed is not replaced')
    let previous: Entry | undefined
    for (const entry of entries) {
      if (previous === undefined) assert(this.#state.accepts(entry), 'entries follow the log')
      else
        assert(entry.index === previous.index + 1 && entry.term >= previous.term, 'entries are consecutive')
      previous = entry
    }
  }
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
