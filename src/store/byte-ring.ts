// Bytes that are remembered for a while, in one place that is written round and round, the newest over the oldest.
//
// Buffers of their own would live long enough to be work for the collector of old objects, and each would keep the 8 KiB of the
// pool that it was cut from: ten times what a small row takes.

import assert from 'node:assert/strict'

export class ByteRing {
  /** The most that is written at once, in bytes. */
  readonly largest: number
  /** Pieces of that size, there as far as they have been written. */
  readonly #pieces: Buffer[] = []
  readonly #size: number
  #end = 0

  constructor(options: { readonly pieces: number; readonly pieceBytes: number }) {
    this.largest = options.pieceBytes
    this.#size = options.pieces * options.pieceBytes
  }

  /** The position behind everything that was written, counted from 0 on, what was left out at the end of pieces included. */
  get end(): number {
    return this.#end
  }

  /** From this position on everything is still there. */
  get oldest(): number {
    return this.#end - this.#size
  }

  /** Copies the bytes; returns their position. */
  write(bytes: Uint8Array): number {
    assert(bytes.length <= this.largest, 'What is remembered fits into a piece')
    const left = this.largest - (this.#end % this.largest)
    const position = bytes.length <= left ? this.#end : this.#end + left
    this.#piece(position).set(bytes, position % this.largest)
    this.#end = position + bytes.length
    return position
  }

  /** A copy of so many bytes that were written at this position. */
  read(position: number, length: number): Buffer {
    assert(position >= this.oldest, 'What was overwritten is read no more')
    const from = position % this.largest
    return Buffer.from(this.#piece(position).subarray(from, from + length))
  }

  #piece(position: number): Buffer {
    const at = Math.floor((position % this.#size) / this.largest)
    let piece = this.#pieces[at]
    if (piece === undefined) {
      piece = Buffer.allocUnsafeSlow(this.largest)
      this.#pieces[at] = piece
    }
    return piece
  }
}
