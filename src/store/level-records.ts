// The files of LevelDB that grow: its log and its MANIFEST, both a row of records in blocks of 32 KiB, each part under a CRC.
//
// LevelDB itself forgives: it drops what it cannot read, and takes a part that reaches past the end for the last words of a process that
// died. Here that is an error, because what it drops is gone without a trace.

import { maskedCrc32c } from './crc32c.ts'
import { LevelFormatError, LevelReader } from './level-bytes.ts'

const blockSize = 32 * 1024
/** masked CRC u32 | length u16 | type u8 */
const headerSize = 7
const full = 1
const first = 2
const last = 4

/** Every record of a file, to its last byte. Throws `LevelFormatError` for anything else that is in it. */
export function* levelRecords(file: Buffer): Generator<Buffer, void> {
  let parts: Buffer[] | undefined
  let at = 0
  while (at < file.length) {
    const blockEnd = Math.min(file.length, at - (at % blockSize) + blockSize)
    if (blockSize - (at % blockSize) < headerSize) {
      at = blockEnd
      continue
    }
    if (blockEnd - at < headerSize) throw new LevelFormatError('it ends within a record')
    const length = file.readUInt16LE(at + 4)
    const type = file[at + 6] ?? 0
    const begin = at + headerSize
    const end = begin + length
    if (end > blockEnd) throw new LevelFormatError('a record reaches past its end')
    if (maskedCrc32c(file, at + 6, end) !== file.readUInt32LE(at)) {
      throw new LevelFormatError('a record fails its checksum')
    }
    if (type < full || type > last) throw new LevelFormatError('a record is of an unknown type')
    const begins = type === full || type === first
    if (begins !== (parts === undefined)) throw new LevelFormatError('a part of a record is missing')
    parts = [...(parts ?? []), file.subarray(begin, end)]
    if (type === full || type === last) {
      yield parts.length === 1 ? file.subarray(begin, end) : Buffer.concat(parts)
      parts = undefined
    }
    at = end
  }
  if (parts !== undefined) throw new LevelFormatError('it ends within a record')
}

/** The batches of one log: how many changes they number, from which number to before which. */
export type LogNumbers = { readonly from: bigint; readonly to: bigint } | undefined

/** Throws `LevelFormatError` unless the log is whole to its last byte, and its batches follow each other without a gap. */
export function numbersInLog(file: Buffer): LogNumbers {
  let numbers: LogNumbers
  for (const batch of levelRecords(file)) {
    if (batch.length < 12) throw new LevelFormatError('a batch is too short')
    const from = batch.readBigUInt64LE(0)
    if (numbers !== undefined && numbers.to !== from) throw new LevelFormatError('a batch is missing')
    numbers = { from: numbers?.from ?? from, to: from + BigInt(batch.readUInt32LE(8)) }
  }
  return numbers
}

/** A table as the MANIFEST names it. Keys are LevelDB's own: the user's with the number of the change behind it. */
export type LiveTable = {
  readonly number: number
  readonly bytes: number
  readonly smallest: Buffer
  readonly largest: Buffer
}

/** What a MANIFEST says in the end. */
export type Manifest = {
  readonly comparator: string | undefined
  /** Logs from this number on count. */
  readonly logNumber: number | undefined
  readonly tables: readonly LiveTable[]
}

/** Throws `LevelFormatError` unless it is whole to its last byte. */
export function readManifest(file: Buffer): Manifest {
  let comparator: string | undefined
  let logNumber: number | undefined
  const tables = new Map<string, LiveTable>()
  for (const record of levelRecords(file)) {
    const edit = new LevelReader(record)
    const added = new Map<string, LiveTable>()
    while (!edit.isAtEnd) {
      const tag = edit.varint()
      switch (tag) {
        case 1:
          comparator = edit.slice().toString()
          break
        case 2:
          logNumber = edit.varint()
          break
        // The next file's number, the last change's, and the previous log's, which no LevelDB of today writes but as 0.
        case 3:
        case 4:
          edit.varint()
          break
        case 9:
          if (edit.varint() !== 0) throw new LevelFormatError('it names a previous log')
          break
        // How far a level was compacted: it matters to speed alone.
        case 5:
          edit.varint()
          edit.slice()
          break
        case 6:
          tables.delete(`${edit.varint()}/${edit.varint()}`)
          break
        case 7: {
          const level = edit.varint()
          const number = edit.varint()
          const [bytes, smallest, largest] = [edit.varint(), edit.slice(), edit.slice()]
          added.set(`${level}/${number}`, { number, bytes, smallest, largest })
          break
        }
        default:
          throw new LevelFormatError(`it has a field of the unknown kind ${tag}`)
      }
    }
    // A table that changes its level goes and comes in one record.
    for (const [place, table] of added) tables.set(place, table)
  }
  return { comparator, logNumber, tables: [...tables.values()] }
}
