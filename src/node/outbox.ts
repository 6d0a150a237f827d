// An outbox: the encoded messages that wait for one stream, bounded in bytes, handed out as writes of many frames.

import { maxFrameBytes, nextFrameBytes, writeFrame } from './framing.ts'

/**
 * Keeps messages in order. Survives its stream: when that is replaced, a message that was cut in the middle starts
 * again from its first frame.
 */
export class Outbox {
  readonly #maxBytes: number
  #messages: Buffer[] = []
  /** Messages before this position are written. The array is shortened when it has been emptied. */
  #head = 0
  /** How far the message at the head is written. */
  #position = 0
  #bytes = 0

  constructor(options: { readonly maxBytes: number }) {
    this.#maxBytes = options.maxBytes
  }

  /** Bytes of messages that are not wholly written. */
  get bytes(): number {
    return this.#bytes
  }

  get empty(): boolean {
    return this.#head === this.#messages.length
  }

  /** Whether a message of this size would be kept. One above the bound is when it is alone. */
  hasRoom(messageBytes: number): boolean {
    return this.#bytes === 0 || this.#bytes + messageBytes <= this.#maxBytes
  }

  /** False, and nothing kept, when there is no room. */
  offer(message: Buffer): boolean {
    if (!this.hasRoom(message.length)) return false
    this.#messages.push(message)
    this.#bytes += message.length
    return true
  }

  /** The next write: as many frames as fit into 64 KiB, at least one. Undefined when nothing waits. */
  take(): Buffer | undefined {
    const size = this.#nextWriteBytes()
    if (size === 0) return undefined
    const write = Buffer.allocUnsafe(size)
    let offset = 0
    while (offset < size) {
      const message = this.#messages[this.#head]
      if (message === undefined) break
      const frame = nextFrameBytes(message, this.#position)
      this.#position = writeFrame(write, offset, message, this.#position)
      offset += frame
      if (this.#position === message.length) this.#drop(message)
    }
    return write
  }

  /** The stream ended: what it had of the message at the head is lost. */
  rewind(): void {
    this.#position = 0
  }

  clear(): void {
    this.#messages = []
    this.#head = 0
    this.#position = 0
    this.#bytes = 0
  }

  #nextWriteBytes(): number {
    let size = 0
    let position = this.#position
    for (let at = this.#head; at < this.#messages.length; at++) {
      const message = this.#messages[at]
      if (message === undefined) break
      const frame = nextFrameBytes(message, position)
      if (size + frame > maxFrameBytes) break
      size += frame
      // Where this message goes on, its frame has filled the write: nothing follows.
      position = 0
    }
    return size
  }

  #drop(message: Buffer): void {
    this.#head += 1
    this.#position = 0
    this.#bytes -= message.length
    if (this.#head === this.#messages.length) {
      this.#messages = []
      this.#head = 0
    } else if (this.#head >= 1_024) {
      this.#messages = this.#messages.slice(this.#head)
      this.#head = 0
    }
  }
}
