// What comes in on a stream that a peer opened: first its hello, then its messages, each checked before anyone sees it.

import { FrameReader, FramingError, frameMessage } from './framing.ts'
import { type ByteStream, type ByteStreamEvents, type Lane, laneBounds } from './lanes.ts'
import type { Hello, PeerMessage } from './transport.ts'
import {
  decodeGreeting,
  decodePeerMessage,
  encodeGreeting,
  type Link,
  type Refusal,
  WireError,
} from './wire.ts'

/** A peer that opened a stream says who it is within this time. */
const helloTimeout = 5_000

export type IncomingPorts = {
  readonly hello: () => Hello
  /** Any bytes came. */
  readonly heard: () => void
  readonly greeted: (hello: Hello) => void
  readonly message: (message: PeerMessage, boot: number) => void
  /** Part of a longer message came. */
  readonly progress: () => void
  /** We refused the peer, and told it. */
  readonly refused: (refusal: Refusal) => void
  /** The stream was ended for what came on it. */
  readonly broken: (error: Error) => void
}

export class IncomingLane implements ByteStreamEvents {
  readonly #link: Link
  readonly #ports: IncomingPorts
  readonly #reader: FrameReader
  readonly #deadline: NodeJS.Timeout
  #stream: ByteStream | undefined
  #hello: Hello | undefined
  #ended = false

  constructor(lane: Lane, link: Link, ports: IncomingPorts) {
    this.#link = link
    this.#ports = ports
    this.#reader = new FrameReader({ maxMessageBytes: laneBounds[lane].messageBytes })
    this.#deadline = setTimeout(() => this.#break(new WireError('no hello came')), helloTimeout)
  }

  /** Names the stream whose events come here. To be called before the first of them. */
  start(stream: ByteStream): void {
    this.#stream = stream
  }

  readonly bytes = (piece: Uint8Array): void => {
    if (this.#ended) return
    this.#ports.heard()
    try {
      this.#reader.push(piece, { message: this.#message, part: this.#ports.progress })
    } catch (error) {
      // Anything else is a broken invariant of whoever got the message, and none of the peer's doing.
      if (!(error instanceof FramingError || error instanceof WireError)) throw error
      this.#break(error)
    }
  }

  readonly drained = (): void => undefined

  readonly closed = (): void => {
    clearTimeout(this.#deadline)
    this.#ended = true
  }

  readonly #message = (bytes: Buffer): void => {
    // Frames that came in one piece with those of a refused or ended stream.
    if (this.#ended) return
    if (this.#hello === undefined) this.#greet(bytes)
    else this.#ports.message(decodePeerMessage(bytes, this.#link), this.#hello.boot)
  }

  #greet(bytes: Buffer): void {
    const greeting = decodeGreeting(bytes)
    if (greeting.type === 'refusal') throw new WireError('a refusal where a hello belongs')
    clearTimeout(this.#deadline)
    const own = this.#ports.hello()
    const refusal = judge(own, greeting.hello)
    if (refusal !== undefined) {
      this.#ended = true
      this.#stream?.write(frameMessage(encodeGreeting({ type: 'refusal', refusal })))
      this.#stream?.end()
      this.#ports.refused(refusal)
      return
    }
    this.#hello = greeting.hello
    this.#stream?.write(frameMessage(encodeGreeting({ type: 'hello', hello: own })))
    this.#ports.greeted(greeting.hello)
  }

  #break(error: Error): void {
    this.closed()
    this.#stream?.reset(error)
    this.#ports.broken(error)
  }
}

/** Only members of one cluster speak about its log. */
function judge(own: Hello, other: Hello): Refusal | undefined {
  if (own.clusterId === undefined) {
    return { cause: 'empty', reason: `${own.id} is empty: it belongs to no cluster yet.` }
  }
  if (other.clusterId === undefined) {
    return { cause: 'empty', reason: `${other.id} is empty: it belongs to no cluster yet.` }
  }
  if (other.clusterId === own.clusterId) return undefined
  return {
    cause: 'other-cluster',
    reason: `${other.id} belongs to cluster ${other.clusterId}, ${own.id} to ${own.clusterId}.`,
  }
}
