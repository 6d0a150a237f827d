// The bytes under the wire format: whole numbers, flags and byte strings, written into one buffer and read with every length checked.

import assert from 'node:assert/strict'

/** Bytes that are not what they should be. The stream they came on is ended. */
export class WireError extends Error {
  override readonly name = 'WireError'
}

/** Bytes that one whole number takes: the lower 32 bits, then the upper 21, little-endian. */
export const wholeBytes = 8

const upper = 2 ** 32
const maxUpper = 2 ** 21

/** Fills a buffer of exactly the size that was reckoned beforehand. */
export class WireWriter {
  readonly buffer: Buffer
  #offset = 0

  constructor(size: number) {
    this.buffer = Buffer.allocUnsafe(size)
  }

  get offset(): number {
    return this.#offset
  }

  byte(value: number): void {
    this.#offset = this.buffer.writeUInt8(value, this.#offset)
  }

  flag(value: boolean): void {
    this.byte(value ? 1 : 0)
  }

  count(value: number): void {
    this.#offset = this.buffer.writeUInt32LE(value, this.#offset)
  }

  /** A number from 0 to 2^53 - 1. */
  whole(value: number): void {
    assert(Number.isSafeInteger(value) && value >= 0, `not a whole number: ${value}`)
    this.buffer.writeUInt32LE(value % upper, this.#offset)
    this.#offset = this.buffer.writeUInt32LE(Math.floor(value / upper), this.#offset + 4)
  }

  bytes(value: Uint8Array): void {
    this.count(value.length)
    this.buffer.set(value, this.#offset)
    this.#offset += value.length
  }

  /** For codecs that write by themselves: `write` gets buffer and offset, and returns the offset after. */
  put(write: (target: Buffer, offset: number) => number): void {
    this.#offset = write(this.buffer, this.#offset)
  }

  /** The buffer, now full to the last byte. */
  finish(): Buffer {
    assert(this.#offset === this.buffer.length, 'a message fills the size reckoned for it')
    return this.buffer
  }
}

/** Reads what a `WireWriter` wrote. Throws `WireError` for anything else. */
export class WireReader {
  readonly #source: Buffer
  #offset: number

  constructor(source: Buffer, offset: number) {
    this.#source = source
    this.#offset = offset
  }

  byte(): number {
    this.#need(1)
    return this.#source.readUInt8(this.#offset++)
  }

  flag(): boolean {
    const value = this.byte()
    if (value > 1) throw new WireError(`a flag of ${value}`)
    return value === 1
  }

  count(): number {
    this.#need(4)
    const value = this.#source.readUInt32LE(this.#offset)
    this.#offset += 4
    return value
  }

  whole(): number {
    this.#need(wholeBytes)
    const high = this.#source.readUInt32LE(this.#offset + 4)
    if (high >= maxUpper) throw new WireError('a number above 2^53')
    const value = high * upper + this.#source.readUInt32LE(this.#offset)
    this.#offset += wholeBytes
    return value
  }

  /** A view into the source, not a copy. */
  bytes(): Buffer {
    const length = this.count()
    this.#need(length)
    const value = this.#source.subarray(this.#offset, this.#offset + length)
    this.#offset += length
    return value
  }

  /** For codecs that read by themselves. Whatever they throw is turned into a `WireError`. */
  take<T>(read: (source: Buffer, offset: number) => { readonly value: T; readonly end: number }): T {
    let taken: { readonly value: T; readonly end: number }
    try {
      taken = read(this.#source, this.#offset)
    } catch (error) {
      throw new WireError(`unreadable bytes: ${error instanceof Error ? error.message : String(error)}`)
    }
    if (!(taken.end > this.#offset && taken.end <= this.#source.length)) {
      throw new WireError('bytes that end too early')
    }
    this.#offset = taken.end
    return taken.value
  }

  get left(): number {
    return this.#source.length - this.#offset
  }

  /** Nothing may follow. */
  finish(): void {
    if (this.left !== 0) throw new WireError(`${this.left} bytes too many`)
  }

  #need(bytes: number): void {
    if (this.left < bytes) throw new WireError('bytes that end too early')
  }
}
