// Two lanes to each peer, so that a heartbeat or a vote never waits behind a megabyte of entries.

import assert from 'node:assert/strict'

import { signOfLife } from './framing.ts'
import { maxValueBytes } from './names.ts'
import { Outbox } from './outbox.ts'
import type { PeerMessage } from './transport.ts'

export type Lane = 'control' | 'bulk'

export const lanes: readonly Lane[] = ['control', 'bulk']

const mebibyte = 1_024 * 1_024

/** What may wait for a peer in each lane, and the longest message that may come in on it. */
export const laneBounds = {
  control: { outboxBytes: mebibyte, messageBytes: mebibyte },
  bulk: { outboxBytes: 16 * mebibyte, messageBytes: maxValueBytes + 2 * mebibyte },
} as const satisfies Record<Lane, { readonly outboxBytes: number; readonly messageBytes: number }>

/** Which lane a message takes. All `append` messages take the same one: among themselves they must stay in order. */
export function laneOf(message: PeerMessage): Lane {
  switch (message.type) {
    case 'forward':
      return 'bulk'
    case 'raft':
      return message.message.type === 'append' ? 'bulk' : 'control'
    case 'forwardRefused':
    case 'status':
    case 'members':
    case 'transferLeadership':
      return 'control'
    default:
      throw new assert.AssertionError({
        message: `no such message: ${JSON.stringify(message satisfies never)}`,
      })
  }
}

/** What is used of a stream of bytes to or from a peer. */
export type ByteStream = {
  /** Open, and holding nothing that it could not pass on: the time to write more. */
  readonly ready: boolean
  /** Never throws; on a stream that has ended it does nothing. */
  write(bytes: Uint8Array): void
  /** Ends it after what was written. */
  end(): void
  /** Ends it at once. */
  reset(reason: Error): void
}

export type ByteStreamEvents = {
  readonly bytes: (piece: Uint8Array) => void
  /** May be `ready` again. */
  readonly drained: () => void
  /** Nothing more will come. Called once, also after our own `end` or `reset`. */
  readonly closed: () => void
}

/** Messages on their way to one peer by one lane. Whatever is offered in one turn of the event loop leaves in one write. */
export class OutgoingLane {
  readonly #outbox: Outbox
  #stream: ByteStream | undefined
  #pumpQueued = false
  #wroteAt = 0

  constructor(lane: Lane) {
    this.#outbox = new Outbox({ maxBytes: laneBounds[lane].outboxBytes })
  }

  get attached(): boolean {
    return this.#stream !== undefined
  }

  /** Everything offered has been handed to the stream. */
  get empty(): boolean {
    return this.#outbox.empty
  }

  /** Of messages that are not wholly handed to the stream. */
  get waitingBytes(): number {
    return this.#outbox.bytes
  }

  hasRoom(messageBytes: number): boolean {
    return this.#outbox.hasRoom(messageBytes)
  }

  /** False when the outbox is full. */
  offer(message: Buffer): boolean {
    if (!this.#outbox.offer(message)) return false
    if (!this.#pumpQueued) {
      this.#pumpQueued = true
      queueMicrotask(() => {
        this.#pumpQueued = false
        this.pump()
      })
    }
    return true
  }

  attach(stream: ByteStream): void {
    this.detach()
    this.#stream = stream
    this.pump()
  }

  /** Lets go of the stream, ending it after what it took. What waits stays for the next one. */
  detach(): void {
    this.#stream?.end()
    this.#stream = undefined
    this.#outbox.rewind()
  }

  clear(): void {
    this.#outbox.clear()
  }

  /** Writes while the stream passes on what it gets: what does not leave stays in the outbox, which is bounded. */
  pump(): void {
    while (this.#stream?.ready === true) {
      const write = this.#outbox.take()
      if (write === undefined) return
      this.#stream.write(write)
      this.#wroteAt = performance.now()
    }
  }

  /** Shows the peer that this node lives, when nothing has been written for so long. */
  showLife(idleMilliseconds: number): void {
    const now = performance.now()
    if (this.#stream?.ready !== true || now - this.#wroteAt < idleMilliseconds) return
    this.#stream.write(signOfLife())
    this.#wroteAt = now
  }
}
