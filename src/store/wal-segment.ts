// Segments: the files of the log, how they are named, and the header that says what was true when one began.
//
//   0  8 bytes  "TRIVETWL"
//   8  u32      format number
//  12  u32      length of the JSON
//  16  u32      salt of this segment's checksums
//  20  u32      CRC-32 of bytes 8 to 20 and of the JSON with its padding
//  24           the header as JSON, zeros up to a multiple of 512
//
// A segment is written under a name that ends in `.new`, synced, and only then given its own: a name without that
// ending stands for a header that was durable, so a header that cannot be read is damage and never a torn write.

import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Configuration, HardState, Position } from '../raft/types.ts'
import type { Disk, DiskFile } from './disk.ts'
import { hasCode } from './disk.ts'
import type { Founding } from './types.ts'
import { sectorBytes, wholeSectors } from './wal-format.ts'

const logFormat = 1

const magic = Buffer.from('TRIVETWL')

const fixedBytes = 24

/** Where the log begins: everything up to `index` is in the LevelDB directory of this name, beside the log. */
export type LogBase = Position & {
  readonly directory: string
  /** The one in force at `index`. */
  readonly configuration: Configuration
  readonly founding: Founding
}

/** What a segment says at its start of the log as it then was. */
export type SegmentHeader = {
  /** The peer id whose log this is. */
  readonly node: string
  readonly segment: number
  /** The oldest segment with entries after the base. Those before it are of no more use, whatever is left of them. */
  readonly oldest: number
  readonly boot: number
  readonly salt: number
  /** Offset up to which the segment before belongs to the log; what lies past it was cut or written again. 0 in the first. */
  readonly previousEnd: number
  /** The salt of the segment before, so that files of two copies of a log are never taken for one. 0 in the first. */
  readonly previousSalt: number
  /** How many bytes after the header were durable before the segment got its name. */
  readonly preparedBytes: number
  /** The log's last entry; the base's position when there was none. */
  readonly last: Position
  readonly base: LogBase
  readonly hardState: HardState
  /** The latest configuration, and the entry that brought it. */
  readonly configuration: { readonly index: number; readonly configuration: Configuration }
}

/**
 * Why a log cannot be used, or cannot take an append now (`full`: nothing of it was written, and the log is as good as
 * before). The message is one sentence for an operator, with what to do.
 */
export class LogError extends Error {
  override readonly name = 'LogError'
  readonly code: 'damaged' | 'foreign' | 'unknown-format' | 'exists' | 'absent' | 'full'

  constructor(code: LogError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** What was found broken where: the node may have promised what it no longer knows (`safety.md`, rule 7). */
export function damage(where: { path: string; offset: number }, what: string, cause?: unknown): LogError {
  return new LogError(
    'damaged',
    `The log is damaged: in ${where.path} at position ${where.offset}, ${what}.`,
    cause === undefined ? undefined : { cause },
  )
}

/** The name of a segment's file; numbers begin at 1. */
function segmentName(segment: number): string {
  return `segment-${String(segment).padStart(10, '0')}.wal`
}

/** The ending of a segment that has not been given its name yet. */
export const unnamed = '.new'

/** The numbers of the segments in a directory, ascending, and leftovers of segments that never got their names. */
export async function listSegments(
  disk: Disk,
  directory: string,
): Promise<{ readonly segments: readonly number[]; readonly leftovers: readonly string[] }> {
  const names = await disk.list(directory).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  })
  const segments = names.flatMap((name) => {
    const number = /^segment-(\d{10})\.wal$/.exec(name)?.[1]
    return number === undefined ? [] : [Number(number)]
  })
  const leftovers = names.filter((name) => /^segment-\d{10}\.wal\.new$/.test(name))
  return { segments: segments.sort((a, b) => a - b), leftovers }
}

/** The bytes of a header, whole sectors. */
export function encodeHeader(header: SegmentHeader): Buffer {
  const { base, hardState } = header
  const { founding, ...log } = base
  const json = Buffer.from(
    JSON.stringify({
      cluster: founding.clusterId,
      node: header.node,
      segment: header.segment,
      oldest: header.oldest,
      boot: header.boot,
      previousEnd: header.previousEnd,
      previousSalt: header.previousSalt,
      preparedBytes: header.preparedBytes,
      last: { index: header.last.index, term: header.last.term },
      base: log,
      hardState: { term: hardState.term, votedFor: hardState.votedFor ?? null },
      configuration: header.configuration,
      founding,
    }),
  )
  const bytes = Buffer.alloc(wholeSectors(fixedBytes + json.length))
  magic.copy(bytes)
  bytes.writeUInt32LE(logFormat, 8)
  bytes.writeUInt32LE(json.length, 12)
  bytes.writeUInt32LE(header.salt, 16)
  json.copy(bytes, fixedBytes)
  bytes.writeUInt32LE(checksum(bytes), 20)
  return bytes
}

function checksum(bytes: Buffer): number {
  return crc32(bytes.subarray(fixedBytes), crc32(bytes.subarray(8, 20)))
}

/** Reads the header of a segment; `end` is the offset after it, where the batches begin. Throws `LogError`. */
export async function readHeader(
  file: DiskFile,
  path: string,
): Promise<{ readonly header: SegmentHeader; readonly end: number }> {
  const start = Buffer.alloc(sectorBytes)
  const found = await file.read(0, start)
  const broken = (offset: number, what: string) => damage({ path, offset }, what)
  if (found < sectorBytes || !start.subarray(0, 8).equals(magic)) throw broken(0, 'no segment header begins')
  const jsonBytes = start.readUInt32LE(12)
  const end = wholeSectors(fixedBytes + jsonBytes)
  if (end > (await file.size())) throw broken(12, 'the header is longer than the file')
  const bytes = Buffer.alloc(end)
  await file.read(0, bytes)
  if (bytes.readUInt32LE(20) !== checksum(bytes))
    throw broken(0, 'the segment header does not match its checksum')
  const format = bytes.readUInt32LE(8)
  if (format !== logFormat) {
    throw new LogError(
      'unknown-format',
      `The log file ${path} is written in format ${format}, and this version of Trivet knows only ${logFormat}: ` +
        'start the node with the version that wrote it, or a later one.',
    )
  }
  return {
    header: decodeHeader(bytes.subarray(fixedBytes, fixedBytes + jsonBytes), bytes.readUInt32LE(16)),
    end,
  }
}

type StoredHeader = Omit<SegmentHeader, 'salt' | 'base' | 'hardState'> & {
  readonly base: Omit<LogBase, 'founding'>
  readonly hardState: { readonly term: number; readonly votedFor: string | null }
  readonly founding: Founding
}

/** The JSON is our own, under a checksum and a format number, so its shape is known. */
function decodeHeader(json: Buffer, salt: number): SegmentHeader {
  const stored: StoredHeader = JSON.parse(json.toString())
  return {
    node: stored.node,
    segment: stored.segment,
    oldest: stored.oldest,
    boot: stored.boot,
    salt,
    previousEnd: stored.previousEnd,
    previousSalt: stored.previousSalt,
    preparedBytes: stored.preparedBytes,
    last: stored.last,
    base: { ...stored.base, founding: stored.founding },
    hardState: { term: stored.hardState.term, votedFor: stored.hardState.votedFor ?? undefined },
    configuration: stored.configuration,
  }
}

/** What can be read of a log that may be damaged: the newest header that is whole, and the highest boot of any. */
export type Salvaged = { readonly header: SegmentHeader; readonly boot: number }

/** Looks at every header; undefined when none is whole. Throws `LogError` for the log of another node or version. */
export async function salvageLog(log: {
  readonly disk: Disk
  readonly directory: string
  readonly node: string
}): Promise<Salvaged | undefined> {
  let newest: SegmentHeader | undefined
  let boot = 0
  for (const number of (await listSegments(log.disk, log.directory)).segments) {
    const path = segmentPath(log.directory, number)
    const file = await log.disk.open(path, { access: 'read' })
    try {
      const { header } = await readHeader(file, path)
      checkOwner(header, log)
      newest = header
      boot = Math.max(boot, header.boot)
    } catch (error) {
      if (!(error instanceof LogError && error.code === 'damaged')) throw error
    } finally {
      await file.close()
    }
  }
  return newest === undefined ? undefined : { header: newest, boot }
}

/** Refuses the log of another node. */
export function checkOwner(header: SegmentHeader, log: { directory: string; node: string }): void {
  if (header.node === log.node) return
  throw new LogError(
    'foreign',
    `The log in ${log.directory} belongs to node ${header.node} (cluster ${header.base.founding.clusterId}), ` +
      `not to ${log.node}: start that node on this directory, or give this one a directory of its own.`,
  )
}

/** The path of a segment in its log's directory. */
export function segmentPath(directory: string, segment: number): string {
  return join(directory, segmentName(segment))
}
