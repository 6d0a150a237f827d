// A table of LevelDB, checked byte for byte: each block lies under a CRC that LevelDB writes and, reading, does not look at.
//
// Data blocks, filter, metaindex, index and footer lie behind each other without a gap. So the places that footer, index and metaindex
// name are known from one another, and no byte of the file is left that nothing speaks for.

import { maskedCrc32c } from './crc32c.ts'
import { blockEntries, LevelFormatError, LevelReader, unsnap } from './level-bytes.ts'
import type { LiveTable } from './level-records.ts'

/** The two places of the footer, padded to 40 bytes, and a magic number. */
const footerSize = 48
const placesSize = 40
const magic = Buffer.from('57fb808b247547db', 'hex')
/** Behind each block: how it is compressed u8, masked CRC u32. */
const trailerSize = 5
const filterName = 'filter.leveldb.BuiltinBloomFilter2'

type Place = { readonly offset: number; readonly size: number }

/** Throws `LevelFormatError` unless `file` is what LevelDB has written as this table. */
export function checkTable(file: Buffer, { bytes, smallest, largest }: LiveTable): void {
  if (file.length !== bytes) throw new LevelFormatError(`it has ${file.length} bytes, not ${bytes}`)
  if (bytes < footerSize) throw new LevelFormatError('it is too short')
  const footer = file.subarray(bytes - footerSize)
  if (!footer.subarray(placesSize).equals(magic)) throw new LevelFormatError('its footer is not one')
  const places = new LevelReader(footer)
  const metaindex = placeAt(places)
  const index = placeAt(places)
  if (footer.subarray(places.at, placesSize).some((byte) => byte !== 0)) {
    throw new LevelFormatError('its footer is not one')
  }
  follows(index, metaindex)
  if (endOf(index) !== bytes - footerSize) throw new LevelFormatError('its index is not where it ends')
  const filters = [...blockEntries(blockAt(file, metaindex))]
  const data = [...blockEntries(blockAt(file, index))].map(({ value }) => onlyPlace(value))
  let before: Place = { offset: 0, size: -trailerSize }
  for (const place of data) {
    follows(place, before)
    checkBlock(file, place)
    before = place
  }
  if (filters.length > 1 || (filters[0] !== undefined && filters[0].key.toString() !== filterName)) {
    throw new LevelFormatError('it has a filter that is not known')
  }
  for (const { value } of filters) {
    const filter = onlyPlace(value)
    follows(filter, before)
    checkBlock(file, filter)
    before = filter
  }
  follows(metaindex, before)
  checkEnds(file, data, { smallest, largest })
}

/** That it is this table and not another one, whole as it may be. */
function checkEnds(
  file: Buffer,
  data: readonly Place[],
  { smallest, largest }: Pick<LiveTable, 'smallest' | 'largest'>,
): void {
  const [first, last] = [data[0], data.at(-1)]
  if (first === undefined || last === undefined) throw new LevelFormatError('it has no rows')
  const begins = blockEntries(blockAt(file, first)).next().value?.key
  const ends = [...blockEntries(blockAt(file, last))].at(-1)?.key
  if (begins?.equals(smallest) !== true || ends?.equals(largest) !== true) {
    throw new LevelFormatError('it is another table')
  }
}

function placeAt(reader: LevelReader): Place {
  return { offset: reader.varint(), size: reader.varint() }
}

function onlyPlace(bytes: Buffer): Place {
  const reader = new LevelReader(bytes)
  const place = placeAt(reader)
  if (!reader.isAtEnd) throw new LevelFormatError('the place of a block is not one')
  return place
}

function endOf({ offset, size }: Place): number {
  return offset + size + trailerSize
}

function follows(place: Place, before: Place): void {
  if (place.offset !== endOf(before)) throw new LevelFormatError('a block does not follow the one before it')
}

function checkBlock(file: Buffer, { offset, size }: Place): void {
  const end = offset + size + 1
  if (end + 4 > file.length - footerSize) throw new LevelFormatError('a block reaches past its end')
  if (maskedCrc32c(file, offset, end) !== file.readUInt32LE(end)) {
    throw new LevelFormatError(`the block at ${offset} fails its checksum`)
  }
  const compression = file[offset + size] ?? 0
  if (compression > 1) throw new LevelFormatError(`the block at ${offset} is compressed in an unknown way`)
}

/** What is in a block. */
function blockAt(file: Buffer, place: Place): Buffer {
  checkBlock(file, place)
  const { offset, size } = place
  const bytes = file.subarray(offset, offset + size)
  return file[offset + size] === 1 ? unsnap(bytes) : bytes
}
