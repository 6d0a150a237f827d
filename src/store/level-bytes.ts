// How LevelDB writes numbers, strings and blocks in its files; read without believing them.

/** Bytes in a file of LevelDB that LevelDB does not write. */
export class LevelFormatError extends Error {
  override readonly name = 'LevelFormatError'
}

/** Reads from the front to the end of some bytes; throws `LevelFormatError` where they end too early. */
export class LevelReader {
  readonly #bytes: Buffer
  #at: number

  constructor(bytes: Buffer, at = 0) {
    this.#bytes = bytes
    this.#at = at
  }

  get at(): number {
    return this.#at
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  /** A number of seven bits a byte, the lowest first. */
  varint(): number {
    let value = 0
    for (let factor = 1; factor <= 2 ** 49; factor *= 128) {
      const byte = this.byte()
      value += (byte & 127) * factor
      if (byte < 128) {
        if (value > Number.MAX_SAFE_INTEGER) break
        return value
      }
    }
    throw new LevelFormatError('a number is too large')
  }

  byte(): number {
    const byte = this.#bytes[this.#at]
    if (byte === undefined) throw new LevelFormatError('it ends too early')
    this.#at += 1
    return byte
  }

  /** So many bytes; a view. */
  take(length: number): Buffer {
    if (length > this.#bytes.length - this.#at) throw new LevelFormatError('it ends too early')
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  /** Bytes behind their length; a view. */
  slice(): Buffer {
    return this.take(this.varint())
  }
}

export type BlockEntry = { readonly key: Buffer; readonly value: Buffer }

/** The entries of a block that is not compressed, in their order: each key shares its beginning with the one before. */
export function* blockEntries(block: Buffer): Generator<BlockEntry, void> {
  if (block.length < 4) throw new LevelFormatError('a block is too short')
  const end = block.length - 4 - 4 * block.readUInt32LE(block.length - 4)
  if (end < 0) throw new LevelFormatError('a block is too short')
  const reader = new LevelReader(block.subarray(0, end))
  let key = Buffer.alloc(0)
  while (!reader.isAtEnd) {
    const shared = reader.varint()
    const added = reader.varint()
    const size = reader.varint()
    if (shared > key.length) throw new LevelFormatError('a key shares more than there is')
    key = Buffer.concat([key.subarray(0, shared), reader.take(added)])
    yield { key, value: reader.take(size) }
  }
}

/** What Snappy has compressed (its `format_description.txt`). */
export function unsnap(bytes: Buffer): Buffer {
  const reader = new LevelReader(bytes)
  const size = reader.varint()
  // No element makes more than 64 bytes of three.
  if (size > bytes.length * 32) throw new LevelFormatError('a block says that it is larger than it can be')
  const out = Buffer.alloc(size)
  let filled = 0
  const room = (length: number): void => {
    if (length > size - filled) throw new LevelFormatError('a block is larger than it says')
  }
  while (!reader.isAtEnd) {
    const tag = reader.byte()
    const kind = tag & 3
    if (kind === 0) {
      const short = tag >> 2
      const length = 1 + (short < 60 ? short : little(reader, short - 59))
      room(length)
      out.set(reader.take(length), filled)
      filled += length
      continue
    }
    const length = kind === 1 ? 4 + ((tag >> 2) & 7) : 1 + (tag >> 2)
    const offset = kind === 1 ? ((tag >> 5) << 8) + reader.byte() : little(reader, kind === 2 ? 2 : 4)
    room(length)
    if (offset === 0 || offset > filled) throw new LevelFormatError('a block repeats what it does not have')
    // Byte by byte: it may repeat what it is just writing.
    for (const end = filled + length; filled < end; filled++) out[filled] = out[filled - offset] ?? 0
  }
  if (filled !== size) throw new LevelFormatError('a block is smaller than it says')
  return out
}

function little(reader: LevelReader, bytes: number): number {
  return reader.take(bytes).readUIntLE(0, bytes)
}
