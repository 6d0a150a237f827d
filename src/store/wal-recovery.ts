// What a log says after a stop of any kind: which of its bytes are durable, which must be written again, which were
// never promised, and whether any are damaged (`safety.md`, rules 1, 2 and 5). Only reads.

import assert from 'node:assert/strict'
import type { Entry, HardState, Position } from '../raft/types.ts'
import type { Disk, DiskFile } from './disk.ts'
import type { BatchBody, BatchHeader, Place } from './wal-format.ts'
import {
  batchBytes,
  isBodySound,
  MalformedEntryError,
  openBatch,
  readBatchHeader,
  readBody,
  readClaim,
  sectorBytes,
} from './wal-format.ts'
import type { SegmentHeader } from './wal-segment.ts'
import { checkOwner, damage, LogError, listSegments, readHeader, segmentPath } from './wal-segment.ts'
import { LogState } from './wal-state.ts'

export type Recovery = {
  /** The log up to `proven`. */
  readonly state: LogState
  /** The newest segment's header. */
  readonly header: SegmentHeader
  /** The salt of each segment that belongs to the log. */
  readonly salts: Map<number, number>
  /** Where the newest segment stops being proven durable. */
  readonly proven: Place
  /** What could be read past it: never promised by a proven write, so it is kept, but must be made durable first. */
  readonly tail: BatchBody
  /** Bytes after that which are no whole batch. */
  readonly cutBytes: number
}

type Segment = {
  readonly path: string
  readonly header: SegmentHeader
  readonly start: number
  readonly size: number
}

/**
 * Reads the whole log. `applied` is the last entry that LevelDB holds, undefined when nothing is known of it. Throws
 * `LogError` when the log must not be used.
 */
export async function recover(log: {
  readonly disk: Disk
  readonly directory: string
  readonly node: string
  readonly applied: Position | undefined
}): Promise<Recovery> {
  const segments = await readHeaders(log)
  const newest = segments.at(-1)
  const oldest = segments[0]
  if (newest === undefined || oldest === undefined) {
    throw new LogError('absent', `There is no log in ${log.directory}, so there is nothing to open.`)
  }
  const state = new LogState(oldest.header)
  for (const [at, segment] of segments.entries()) {
    checkStart(segment, state)
    const next = segments[at + 1]
    if (next !== undefined) await replay(log.disk, segment, state, next.header.previousEnd)
  }
  const survey = await withReader(log.disk, newest, (reader) => surveyTail(reader, newest, log.applied))
  await replay(log.disk, newest, state, survey.proven)
  const tail = await readTail(log.disk, newest, { from: survey.proven, to: survey.end })
  const where = { path: newest.path, offset: survey.end }
  rebase(where, state, newest.header)
  const lastIndex = tail.entries.at(-1)?.index ?? state.last.index
  if (log.applied !== undefined) checkApplied(where, state, { applied: log.applied, lastIndex })
  const { segment } = newest.header
  return {
    state,
    header: newest.header,
    salts: new Map(segments.map(({ header }) => [header.segment, header.salt])),
    proven: { segment, offset: survey.proven },
    tail,
    cutBytes: survey.cutBytes,
  }
}

/** From the newest header back to the oldest segment that it needs: what lies before is not looked at. */
async function readHeaders(log: { disk: Disk; directory: string; node: string }): Promise<Segment[]> {
  const { segments: numbers } = await listSegments(log.disk, log.directory)
  const found: Segment[] = []
  for (const number of numbers.toReversed()) {
    const later = found[0]
    if (later !== undefined && number < oldestOf(found)) break
    const path = segmentPath(log.directory, number)
    const segment = await withFile(log.disk, path, async (file) => {
      const { header, end } = await readHeader(file, path)
      return { path, header, start: end, size: await file.size() }
    })
    checkOwner(segment.header, log)
    if (segment.header.segment !== number) {
      throw damage(
        { path, offset: 0 },
        `there is segment ${segment.header.segment} under the name of another`,
      )
    }
    if (later !== undefined) checkOrder(segment, later)
    found.unshift(segment)
  }
  const first = found[0]
  if (first !== undefined && first.header.segment > oldestOf(found)) {
    const missing = `segments ${oldestOf(found)} to ${first.header.segment - 1} are missing`
    throw damage({ path: first.path, offset: 0 }, missing)
  }
  return found
}

function oldestOf(segments: readonly Segment[]): number {
  return segments.at(-1)?.header.oldest ?? 0
}

/** A segment that is missing between others, or was exchanged for another, is as bad as a broken one. */
function checkOrder(segment: Segment, later: Segment): void {
  const where = { path: later.path, offset: 0 }
  const { header } = later
  const { segment: number, salt } = segment.header
  if (header.segment !== number + 1) {
    throw damage(where, `segment ${header.segment} follows ${number}: those between are missing`)
  }
  if (header.previousSalt !== salt) {
    throw damage(where, 'the segment was written after another one than the one before it')
  }
  if (header.previousEnd < segment.start || header.previousEnd > segment.size) {
    throw damage({ path: segment.path, offset: segment.size }, 'the file ends before the log does')
  }
}

/** A header repeats where the log stood, so that nothing before it can be lost unnoticed. */
function checkStart({ path, header }: Segment, state: LogState): void {
  const { last, hardState } = state
  if (header.last.index !== last.index || header.last.term !== last.term) {
    const says = `the segment begins after entry ${header.last.index} of term ${header.last.term}`
    throw damage(
      { path, offset: 0 },
      `${says}, but those before it end at ${last.index} of term ${last.term}`,
    )
  }
  if (!isSameVote(header.hardState, hardState)) {
    throw damage({ path, offset: 0 }, 'the segment begins with another vote than those before it end with')
  }
}

function isSameVote(a: HardState, b: HardState): boolean {
  return a.term === b.term && a.votedFor === b.votedFor
}

/** Cuts what was read at the base that the newest segment names: entries up to there may be left, and count no more. */
function rebase(where: { path: string; offset: number }, state: LogState, { base }: SegmentHeader): void {
  if (state.first > base.index + 1) {
    throw damage(where, `entries ${base.index + 1} to ${state.first - 1} are missing with their segments`)
  }
  // Of an entry before the first one that is left the header alone knows the term.
  const term = state.termAt(base.index) ?? base.term
  if (base.index > state.last.index || term !== base.term) {
    throw damage(
      where,
      `the log has no entry ${base.index} of term ${base.term}, after which it should begin`,
    )
  }
  state.rebase(base)
}

/** `state` is the log as far as it is proven, and an applied entry proves itself: none is in the tail. */
function checkApplied(
  where: { path: string; offset: number },
  state: LogState,
  { applied, lastIndex }: { applied: Position; lastIndex: number },
): void {
  assert(applied.index >= state.base.index, 'a log is opened with a state that reaches its base')
  const term = state.termAt(applied.index)
  if (term === undefined) {
    throw damage(where, `the log ends with entry ${lastIndex}, but entry ${applied.index} has been applied`)
  }
  if (term !== applied.term) {
    const has = `entry ${applied.index} is of term ${term}`
    throw damage(where, `${has}, but the one of term ${applied.term} that took its place has been applied`)
  }
}

/** Takes the batches below `to`, all of which are known to have been durable. */
async function replay(disk: Disk, segment: Segment, state: LogState, to: number): Promise<void> {
  await withReader(disk, segment, async (reader) => {
    for (let offset = segment.start; offset < to; ) {
      const batch = await reader.sound(offset)
      const where = { path: segment.path, offset }
      if (batch === undefined || offset + batch.bytes > to) {
        throw damage(where, 'a batch cannot be read that had been made durable')
      }
      const { hardState, entries } = decode(batch.open(), where)
      if (hardState !== undefined) state.setHardState(hardState)
      for (const entry of entries) {
        if (!state.accepts(entry))
          throw damage(where, `entry ${entry.index} does not follow ${state.last.index}`)
        state.add(entry)
      }
      const first = entries[0]
      if (first !== undefined) {
        const place = { segment: segment.header.segment, offset, bytes: batch.bytes }
        state.batches.add({ ...place, firstIndex: first.index })
      }
      offset += batch.bytes
    }
  })
}

/** Decodes a body whose checksum holds: what is not understood then was written by another version. */
export function decode(body: Uint8Array, where: { path: string; offset: number }): BatchBody {
  try {
    return readBody(body)
  } catch (error) {
    if (!(error instanceof MalformedEntryError)) throw error
    throw new LogError(
      'unknown-format',
      `The log file ${where.path} holds a record at position ${where.offset} that this version of Trivet does not ` +
        `know (${error.message}): start the node with the version that wrote it, or a later one.`,
      { cause: error },
    )
  }
}

/**
 * How far the newest segment goes (`end`) and how far that was surely durable (`proven`): as far as it was written
 * before it had its name, as any later batch says, and as LevelDB has applied.
 */
async function surveyTail(
  reader: SegmentReader,
  { path, header, start }: Segment,
  applied: Position | undefined,
): Promise<{ readonly proven: number; readonly end: number; readonly cutBytes: number }> {
  let proven = start + header.preparedBytes
  let end = start
  for (let batch = await reader.sound(end); batch !== undefined; batch = await reader.sound(end)) {
    const { durable, firstIndex, count } = batch.header
    if (durable.segment === header.segment) proven = Math.max(proven, durable.offset)
    end += batch.bytes
    const holdsApplied =
      applied !== undefined && firstIndex <= applied.index && applied.index < firstIndex + count
    if (holdsApplied) proven = Math.max(proven, end)
  }
  const rest = await reader.searchBeyond(end)
  if (Math.max(proven, rest.claimed) > end) {
    throw damage(
      { path, offset: end },
      'a batch cannot be read that a later record proves to have been durable',
    )
  }
  return { proven, end, cutBytes: rest.usedBytes }
}

/** The batches of an append that had not been proven, as one: later entries replace those they overwrite. */
async function readTail(
  disk: Disk,
  segment: Segment,
  part: { from: number; to: number },
): Promise<BatchBody> {
  let hardState: HardState | undefined
  let entries: Entry[] = []
  await withReader(disk, segment, async (reader) => {
    for (let offset = part.from; offset < part.to; ) {
      const batch = await reader.sound(offset)
      const where = { path: segment.path, offset }
      if (batch === undefined)
        throw damage(where, 'a batch could be read a moment ago and cannot be any more')
      const body = decode(Buffer.from(batch.open()), where)
      const first = body.entries[0]
      if (first !== undefined) entries = entries.filter((entry) => entry.index < first.index)
      for (const entry of body.entries) entries.push(entry)
      hardState = body.hardState ?? hardState
      offset += batch.bytes
    }
  })
  return { hardState, entries }
}

/** `open` hands out the body once, as a view that the reader's next call overwrites. */
type SoundBatch = { readonly header: BatchHeader; readonly bytes: number; readonly open: () => Uint8Array }

async function withFile<T>(disk: Disk, path: string, use: (file: DiskFile) => Promise<T>): Promise<T> {
  const file = await disk.open(path, { access: 'read' })
  try {
    return await use(file)
  } finally {
    await file.close()
  }
}

function withReader<T>(disk: Disk, segment: Segment, use: (reader: SegmentReader) => Promise<T>): Promise<T> {
  return withFile(disk, segment.path, (file) => use(new SegmentReader(file, segment)))
}

/** Reads a segment from front to back through a window, so that a log need not fit in memory. */
class SegmentReader {
  readonly #file: DiskFile
  readonly #segment: Segment
  #window: Buffer
  /** What the window holds: `#length` bytes from offset `#start`. */
  #start = 0
  #length = 0

  constructor(file: DiskFile, segment: Segment) {
    this.#file = file
    this.#segment = segment
    this.#window = Buffer.allocUnsafeSlow(Math.min(largestWindow, segment.size))
  }

  /** The batch at this offset, when it is whole and its checksums hold. */
  async sound(offset: number): Promise<SoundBatch | undefined> {
    if (!this.#holds(offset, sectorBytes) && !(await this.#load(offset, sectorBytes))) return undefined
    const seat = this.#seat(offset)
    const header = readBatchHeader(this.#window, offset - this.#start, seat)
    if (header === undefined) return undefined
    const bytes = batchBytes(header.bodyBytes)
    if (!this.#holds(offset, bytes) && !(await this.#load(offset, bytes))) return undefined
    const buffer = this.#window
    const start = offset - this.#start
    if (!isBodySound(buffer, start, seat, header)) return undefined
    return { header, bytes, open: () => openBatch(buffer, start, header) }
  }

  /**
   * Looks at every sector from `offset` to the end: what the headers there claim had been durable, whatever became
   * of the bytes before them, and how many bytes up to the last one that is not zero.
   */
  async searchBeyond(offset: number): Promise<{ readonly claimed: number; readonly usedBytes: number }> {
    const { header, size } = this.#segment
    let claimed = 0
    let usedEnd = offset
    for (let at = offset; at < size; at += sectorBytes) {
      const bytes = Math.min(sectorBytes, size - at)
      if (!this.#holds(at, bytes) && !(await this.#load(at, bytes))) break
      const start = at - this.#start
      if (emptySector.compare(this.#window, start, start + bytes, 0, bytes) === 0) continue
      usedEnd = at + bytes
      const durable = bytes < sectorBytes ? undefined : readClaim(this.#window, start, header)
      if (durable?.segment === header.segment) claimed = Math.max(claimed, durable.offset)
    }
    return { claimed, usedBytes: usedEnd - offset }
  }

  #seat(offset: number): { segment: number; offset: number; salt: number } {
    return { segment: this.#segment.header.segment, salt: this.#segment.header.salt, offset }
  }

  #holds(offset: number, bytes: number): boolean {
    return offset >= this.#start && offset + bytes <= this.#start + this.#length
  }

  /** Moves the window to `offset`; false when the file has not so many bytes there. */
  async #load(offset: number, bytes: number): Promise<boolean> {
    if (offset + bytes > this.#segment.size) return false
    if (bytes > this.#window.length) this.#window = Buffer.allocUnsafeSlow(bytes)
    this.#start = offset
    this.#length = 0
    this.#length = await this.#file.read(offset, this.#window)
    return bytes <= this.#length
  }
}

const largestWindow = 1024 * 1024

const emptySector = Buffer.alloc(sectorBytes)
