// Frames: how a stream of bytes carries whole messages, cut into pieces small enough that none holds up the line for long.
//
// A frame is a header of 8 bytes and a payload. All numbers are little-endian.
//
//   0  u16  bytes of payload, 0 to 65,528
//   2  u8   flags; bit 0: more frames of this message follow
//   3  u8   0, so that garbage is told early
//   4  u32  group, 0
//
// A frame without payload is a sign of life and carries no message. The frames of one message follow each other.

import assert from 'node:assert/strict'

export const frameHeaderBytes = 8

/** The most a frame takes on the wire, header included. */
export const maxFrameBytes = 65_536

export const maxPayloadBytes = maxFrameBytes - frameHeaderBytes

const moreFollows = 1

/** The replica group that frames belong to: a process drives one. */
const group = 0

/** Bytes from a peer that are no frames, or a message beyond its bound. The stream they came on is of no more use. */
export class FramingError extends Error {
  override readonly name = 'FramingError'
}

/** How many bytes a message of this size takes on the wire. */
export function framedBytes(messageBytes: number): number {
  return messageBytes + Math.max(1, Math.ceil(messageBytes / maxPayloadBytes)) * frameHeaderBytes
}

/**
 * Writes the next frame of `message`, from `position` on, and returns the position after it. `target` must have room
 * for it at `offset`: its size is what `nextFrameBytes` says.
 */
export function writeFrame(target: Buffer, offset: number, message: Uint8Array, position: number): number {
  const end = Math.min(position + maxPayloadBytes, message.length)
  assert(end > position, 'a message has at least one byte')
  writeHeader(target, offset, end - position, end < message.length)
  target.set(message.subarray(position, end), offset + frameHeaderBytes)
  return end
}

/** The size on the wire of the frame that `writeFrame` would write. */
export function nextFrameBytes(message: Uint8Array, position: number): number {
  return Math.min(maxPayloadBytes, message.length - position) + frameHeaderBytes
}

/** A frame that carries nothing. */
export function signOfLife(): Buffer {
  const frame = Buffer.allocUnsafe(frameHeaderBytes)
  writeHeader(frame, 0, 0, false)
  return frame
}

/** All frames of one message in one buffer, for streams that carry but a few. */
export function frameMessage(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(framedBytes(message.length))
  let offset = 0
  let position = 0
  while (position < message.length) {
    const size = nextFrameBytes(message, position)
    position = writeFrame(framed, offset, message, position)
    offset += size
  }
  assert(offset === framed.length)
  return framed
}

function writeHeader(target: Buffer, offset: number, payloadBytes: number, more: boolean): void {
  target.writeUInt16LE(payloadBytes, offset)
  target[offset + 2] = more ? moreFollows : 0
  target[offset + 3] = 0
  target.writeUInt32LE(group, offset + 4)
}

export type FrameSink = {
  /** A whole message, in memory of its own: nothing else will write there. */
  readonly message: (bytes: Buffer) => void
  /** A frame arrived that does not end its message. */
  readonly part?: () => void
}

/**
 * Puts messages together from whatever pieces the stream delivers. Holds at most one unfinished message, of at most
 * `maxMessageBytes`.
 */
export class FrameReader {
  readonly #maxMessageBytes: number
  readonly #header = Buffer.alloc(frameHeaderBytes)
  #headerFilled = 0
  /** Payload bytes of the present frame that have not arrived. */
  #missing = 0
  #more = false
  /** What has arrived of the present message: views of the stream's pieces, copied once when the message is whole. */
  #parts: Uint8Array[] = []
  #size = 0
  #failed = false

  constructor(options: { readonly maxMessageBytes: number }) {
    this.#maxMessageBytes = options.maxMessageBytes
  }

  /** Takes the next piece. Throws `FramingError` when it cannot be: the reader is spent then. */
  push(piece: Uint8Array, sink: FrameSink): void {
    assert(!this.#failed, 'a reader that failed takes no more bytes')
    let offset = 0
    while (offset < piece.length) {
      if (this.#headerFilled < frameHeaderBytes) {
        const taken = Math.min(frameHeaderBytes - this.#headerFilled, piece.length - offset)
        this.#header.set(piece.subarray(offset, offset + taken), this.#headerFilled)
        this.#headerFilled += taken
        offset += taken
        if (this.#headerFilled === frameHeaderBytes) this.#openFrame()
        continue
      }
      const taken = Math.min(this.#missing, piece.length - offset)
      this.#parts.push(piece.subarray(offset, offset + taken))
      this.#missing -= taken
      offset += taken
      if (this.#missing === 0) this.#closeFrame(sink)
    }
  }

  #openFrame(): void {
    const length = this.#header.readUInt16LE(0)
    const flags = this.#header[2] ?? 0
    if (length > maxPayloadBytes) throw this.#failure(`a frame of ${length} bytes`)
    if (flags > moreFollows || this.#header[3] !== 0) throw this.#failure('unknown flags in a frame header')
    const named = this.#header.readUInt32LE(4)
    if (named !== group) throw this.#failure(`a frame for group ${named}`)
    this.#more = flags === moreFollows
    if (length === 0) {
      if (this.#more || this.#size > 0) throw this.#failure('an empty frame within a message')
      this.#headerFilled = 0
      return
    }
    if (this.#size + length > this.#maxMessageBytes) {
      throw this.#failure(`a message of more than ${this.#maxMessageBytes} bytes`)
    }
    this.#missing = length
    this.#size += length
  }

  #closeFrame(sink: FrameSink): void {
    this.#headerFilled = 0
    if (this.#more) {
      sink.part?.()
      return
    }
    const message = Buffer.allocUnsafe(this.#size)
    let offset = 0
    for (const part of this.#parts) {
      message.set(part, offset)
      offset += part.length
    }
    assert(offset === this.#size)
    this.#parts = []
    this.#size = 0
    sink.message(message)
  }

  #failure(what: string): FramingError {
    this.#failed = true
    this.#parts = []
    return new FramingError(`the peer sent ${what}`)
  }
}
