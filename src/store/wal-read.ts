// Reading entries back while the log runs: from an index to places, from places to as few reads as can be, every
// batch checked again.

import type { Entry } from '../raft/types.ts'
import { encodedSize, isBodySound, openBatch, readBatchHeader } from './wal-format.ts'
import { decode } from './wal-recovery.ts'
import { damage, segmentPath } from './wal-segment.ts'
import type { BatchIndex, BatchPlace } from './wal-state.ts'

/** Entries `from` to `to`, both included, as many as about `maxBytes` hold and at least one. */
export type EntryRange = { readonly from: number; readonly to: number; readonly maxBytes: number }

/** What reading needs of the log. */
type ReadableLog = {
  readonly directory: string
  readonly batches: BatchIndex
  /** The salt of each segment. */
  readonly salts: ReadonlyMap<number, number>
  /** Fills the buffer from the segment; fewer bytes only at the file's end. */
  readonly readSegment: (segment: number, position: number, into: Buffer) => Promise<number>
}

/** A batch of a run, and the index at which a later one takes over. */
type Piece = { readonly place: BatchPlace; readonly until: number }

/** Batches that stand side by side in one segment. */
type Run = { readonly segment: number; readonly offset: number; bytes: number; readonly pieces: Piece[] }

/**
 * Reads a range of the log as it is now: an append may take the place of a suffix meanwhile, but never of its bytes.
 * The data of commands share the memory of what was read around them. Throws `LogError` when bytes are damaged.
 */
export async function readEntries(log: ReadableLog, range: EntryRange): Promise<Entry[]> {
  const entries: Entry[] = []
  let left = range.maxBytes
  for (const run of findRuns(log.batches, range)) {
    const bytes = await readRun(log, run)
    for (const { place, until } of run.pieces) {
      for (const entry of openPiece(log, place, { bytes, start: place.offset - run.offset })) {
        if (entry.index < range.from || entry.index >= until || entry.index > range.to) continue
        left -= encodedSize(entry)
        if (left < 0 && entries.length > 0) return entries
        entries.push(entry)
      }
    }
  }
  return entries
}

function findRuns(batches: BatchIndex, { from, to, maxBytes }: EntryRange): Run[] {
  const runs: Run[] = []
  let bytes = 0
  for (let row = batches.find(from); bytes <= maxBytes; row++) {
    const place = batches.at(row)
    if (place === undefined || place.firstIndex > to) break
    const { segment, offset } = place
    const piece = { place, until: batches.at(row + 1)?.firstIndex ?? Number.POSITIVE_INFINITY }
    const run = runs.at(-1)
    if (run?.segment === segment && run.offset + run.bytes === offset) {
      run.pieces.push(piece)
      run.bytes += place.bytes
    } else {
      runs.push({ segment, offset, bytes: place.bytes, pieces: [piece] })
    }
    bytes += place.bytes
  }
  return runs
}

async function readRun(log: ReadableLog, run: Run): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(run.bytes)
  const found = await log.readSegment(run.segment, run.offset, bytes)
  if (found < bytes.length) {
    const where = { path: segmentPath(log.directory, run.segment), offset: run.offset + found }
    throw damage(where, 'the file ends before the log does')
  }
  return bytes
}

function openPiece(
  log: ReadableLog,
  { segment, offset, firstIndex }: BatchPlace,
  { bytes, start }: { bytes: Buffer; start: number },
): readonly Entry[] {
  const where = { path: segmentPath(log.directory, segment), offset }
  const seat = { segment, offset, salt: log.salts.get(segment) ?? 0 }
  const header = readBatchHeader(bytes, start, seat)
  if (header?.firstIndex !== firstIndex || !isBodySound(bytes, start, seat, header)) {
    throw damage(where, 'a batch cannot be read that had been made durable')
  }
  return decode(openBatch(bytes, start, header), where).entries
}
