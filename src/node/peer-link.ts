// The link to one peer: however many connections come and go, one is used, and its life is reported once.
//
// Each side keeps a connection and opens two streams of its own over it, one per lane, to send on. Both may dial at
// once; the connection that the lower peer id dialled is kept, of two by the same side the newer one, and whoever
// dialled the other closes it. A link is reported connected when both own streams were greeted with a hello of the
// same cluster, and disconnected when the last connection ends.

import assert from 'node:assert/strict'

import { FrameReader, frameMessage } from './framing.ts'
import { type ByteStream, type ByteStreamEvents, type Lane, lanes, OutgoingLane } from './lanes.ts'
import { Redial } from './redial.ts'
import type { Hello, Peer } from './transport.ts'
import { decodeGreeting, encodeGreeting, type Refusal, RefusalError } from './wire.ts'

/** A connection whose far end has proved to be the peer. */
export type PeerConnection = {
  readonly dialledByUs: boolean
  readonly isOpen: boolean
  /** Opens a stream, for a lane or for a question. Rejects when the connection ends or the signal aborts. */
  openStream(protocol: Lane | 'ask', events: ByteStreamEvents, signal: AbortSignal): Promise<ByteStream>
  /** Closes it: after what was written, or at once. */
  close(how: 'gently' | 'at once'): void
}

export type LinkPorts = {
  readonly hello: () => Hello
  /** Resolves when a connection stands; it has been given to `add` then. */
  readonly dial: (peer: Peer, signal: AbortSignal) => Promise<void>
  readonly connected: () => void
  readonly disconnected: (why: { readonly byUs: boolean }) => void
  /** The peer refused us. */
  readonly refused: (refusal: Refusal) => void
}

/** Times in milliseconds. */
const greetingTimeout = 5_000
const reopenDelay = { least: 100, most: 1_000 }
const signOfLifeInterval = 1_000
const silenceLimit = 5_000
/** After this a connection that should have been closed by its dialler is closed by us. */
const duplicateLimit = 3_000
/** A connection that lived this long makes up for the dials that failed before. */
const soundAfter = 5_000

type Standing = { readonly since: number; closedByUs: boolean }

export class PeerLink {
  readonly #self: string
  readonly #ports: LinkPorts
  readonly #redial: Redial
  readonly #lanes: Readonly<Record<Lane, OutgoingLane>> = {
    control: new OutgoingLane('control'),
    bulk: new OutgoingLane('bulk'),
  }
  #peer: Peer
  #connections = new Map<PeerConnection, Standing>()
  #current: PeerConnection | undefined
  #chosenAt = 0
  /** Raised whenever the streams are to be opened anew: what an older attempt comes to is dropped. */
  #generation = 0
  #reopenTimer: NodeJS.Timeout | undefined
  #failedOpenings = 0
  #reported = false
  #usableSince = 0
  #heardAt = 0
  #boot = 0
  #closed = false

  constructor(self: string, peer: Peer, ports: LinkPorts) {
    assert(self !== peer.peer, 'a node has no link to itself')
    this.#self = self
    this.#peer = peer
    this.#ports = ports
    this.#redial = new Redial({
      dial: (signal) => ports.dial(this.#peer, signal),
      isNeeded: () => !this.#closed && this.#peer.addresses.length > 0 && !this.#hasOpenConnection(),
      patient: self > peer.peer,
    })
    this.#redial.soon()
  }

  get isConnected(): boolean {
    return this.#reported
  }

  /** When the last bytes came from this peer, on the clock of `performance.now()`. */
  get heardAt(): number {
    return this.#heardAt
  }

  /** Nothing waits here. */
  get empty(): boolean {
    return lanes.every((lane) => this.#lanes[lane].empty)
  }

  /** What waits for the peer, by lane, in bytes. */
  get outboxes(): readonly { readonly lane: Lane; readonly bytes: number }[] {
    return lanes.map((lane) => ({ lane, bytes: this.#lanes[lane].waitingBytes }))
  }

  /** Other addresses from the next dial on. */
  update(peer: Peer): void {
    this.#peer = peer
    this.#redial.soon()
  }

  /** Whether a message of this size can be taken now. */
  hasRoom(lane: Lane, messageBytes: number): boolean {
    return this.#reported && this.#lanes[lane].hasRoom(messageBytes)
  }

  /** False when it was dropped: not connected, or the outbox is full. */
  send(lane: Lane, message: Buffer): boolean {
    return this.#reported && this.#lanes[lane].offer(message)
  }

  heard(): void {
    this.#heardAt = performance.now()
  }

  /** Resolves with an open connection. Without one it dials at once, and rejects when that fails. */
  async connection(signal: AbortSignal): Promise<PeerConnection> {
    signal.throwIfAborted()
    if (!this.#hasOpenConnection()) {
      if (this.#peer.addresses.length === 0)
        throw new Error(`${this.#peer.id} is not connected, and not to be dialled.`)
      await this.#redial.now(signal)
    }
    const open = this.#preferred()
    if (open === undefined)
      throw new Error(`The connection to ${this.#peer.id} closed right after it opened.`)
    return open
  }

  add(connection: PeerConnection): void {
    if (this.#closed) {
      connection.close('at once')
      return
    }
    this.#connections.set(connection, { since: performance.now(), closedByUs: false })
    this.#redial.connected()
    this.#choose()
  }

  /** The connection ended. */
  remove(connection: PeerConnection): void {
    const standing = this.#connections.get(connection)
    if (standing === undefined) return
    this.#connections.delete(connection)
    if (connection === this.#current) {
      this.#current = undefined
      this.#detach()
    }
    if (this.#hasOpenConnection()) {
      this.#choose()
      return
    }
    this.#down(standing.closedByUs)
    // Whoever comes next begins anew: its boot is news of nothing that still stands.
    this.#boot = 0
    this.#redial.soon()
  }

  /**
   * The peer opened a stream on `connection` and said who it is. A later boot proves that the process behind every
   * older connection is gone, even where its end never arrived.
   */
  greeted(connection: PeerConnection, hello: Hello): void {
    this.heard()
    const rebooted = this.#boot !== 0 && hello.boot > this.#boot
    this.#boot = Math.max(this.#boot, hello.boot)
    if (rebooted) {
      this.#down(false)
      // The map is in order of arrival.
      for (const older of [...this.#connections.keys()]) {
        if (older === connection) break
        this.#close(older, 'at once')
      }
      this.#choose()
      this.#open()
      return
    }
    this.#choose()
    if (!this.#usable && this.#reopenTimer !== undefined) this.#open()
  }

  /** Opens both streams anew, for a hello that has changed. */
  reopen(): void {
    this.#failedOpenings = 0
    this.#open()
  }

  /** To be called about twice a second. */
  tick(): void {
    const now = performance.now()
    this.#lanes.control.showLife(signOfLifeInterval)
    const chosenAt = this.#chosenAt
    for (const [connection, { since }] of this.#connections) {
      if (now - since > soundAfter) this.#redial.sound()
      const isSpare = connection !== this.#current && now - Math.max(since, chosenAt) > duplicateLimit
      if (isSpare) this.#close(connection, 'at once')
    }
    if (!this.#usable || this.#current === undefined) return
    if (now - Math.max(this.#heardAt, this.#usableSince) > silenceLimit) this.#close(this.#current, 'at once')
  }

  /** Ends the link for good. Disconnection is reported as by us. */
  close(how: 'gently' | 'at once'): void {
    this.#closed = true
    this.#redial.stop()
    this.#detach()
    for (const connection of [...this.#connections.keys()]) this.#close(connection, how)
    this.#connections.clear()
    this.#down(true)
  }

  get #usable(): boolean {
    return lanes.every((lane) => this.#lanes[lane].attached)
  }

  #hasOpenConnection(): boolean {
    for (const connection of this.#connections.keys()) if (connection.isOpen) return true
    return false
  }

  #preferred(): PeerConnection | undefined {
    const weDialFirst = this.#self < this.#peer.peer
    let best: PeerConnection | undefined
    for (const connection of this.#connections.keys()) {
      if (!connection.isOpen) continue
      // The map is in order of arrival, so among equals the newest wins.
      const isFirst = connection.dialledByUs === weDialFirst
      if (best === undefined || isFirst || best.dialledByUs !== weDialFirst) best = connection
    }
    return best
  }

  #choose(): void {
    const preferred = this.#preferred()
    if (preferred === undefined || preferred === this.#current) return
    this.#current = preferred
    this.#chosenAt = performance.now()
    this.#failedOpenings = 0
    this.#open()
  }

  #close(connection: PeerConnection, how: 'gently' | 'at once'): void {
    const standing = this.#connections.get(connection)
    if (standing !== undefined) standing.closedByUs = true
    connection.close(how)
  }

  #down(byUs: boolean): void {
    for (const lane of lanes) this.#lanes[lane].clear()
    if (!this.#reported) return
    this.#reported = false
    this.#ports.disconnected({ byUs })
  }

  #detach(): void {
    this.#generation += 1
    clearTimeout(this.#reopenTimer)
    this.#reopenTimer = undefined
    for (const lane of lanes) this.#lanes[lane].detach()
  }

  /** Opens both streams on the current connection, giving up those there were. */
  #open(): void {
    this.#detach()
    const connection = this.#current
    const hello = this.#ports.hello()
    if (connection === undefined || this.#closed || hello.clusterId === undefined) return
    const generation = this.#generation
    const signal = AbortSignal.timeout(greetingTimeout)
    Promise.all(lanes.map((lane) => this.#openLane(lane, { connection, hello, generation, signal }))).then(
      () => this.#opened(generation),
      (error: unknown) => this.#openingFailed(generation, error),
    )
  }

  #opened(generation: number): void {
    if (generation !== this.#generation || !this.#usable) return
    this.#failedOpenings = 0
    this.#redial.sound()
    this.#usableSince = performance.now()
    for (const connection of this.#connections.keys()) {
      if (connection !== this.#current && connection.dialledByUs) this.#close(connection, 'gently')
    }
    if (this.#reported) return
    this.#reported = true
    this.#ports.connected()
  }

  #openingFailed(generation: number, error: unknown): void {
    if (generation !== this.#generation || this.#closed) return
    this.#detach()
    const connection = this.#current
    if (connection === undefined || !connection.isOpen) return
    if (error instanceof RefusalError) {
      this.#down(true)
      if (error.refusal.cause === 'stranger') this.#redial.discourage()
      this.#ports.refused(error.refusal)
    }
    this.#failedOpenings += 1
    // A connection over which no stream can be opened is of no use, though it may look alive.
    if (!(error instanceof RefusalError) && this.#failedOpenings > 3) {
      this.#close(connection, 'at once')
      return
    }
    const delay = Math.min(reopenDelay.most, reopenDelay.least * 2 ** (this.#failedOpenings - 1))
    this.#reopenTimer = setTimeout(() => this.#open(), delay * (0.75 + Math.random() / 2))
  }

  async #openLane(
    lane: Lane,
    to: {
      readonly connection: PeerConnection
      readonly hello: Hello
      readonly generation: number
      readonly signal: AbortSignal
    },
  ): Promise<void> {
    const answered = Promise.withResolvers<void>()
    // Whoever awaits it may have left by then.
    answered.promise.catch(() => undefined)
    const reader = new FrameReader({ maxMessageBytes: 8_192 })
    let isAccepted = false
    const message = (bytes: Buffer) => {
      if (isAccepted) throw new Error('the peer went on after its greeting')
      const greeting = decodeGreeting(bytes)
      if (greeting.type === 'refusal') throw new RefusalError(greeting.refusal)
      const { clusterId } = greeting.hello
      if (clusterId !== to.hello.clusterId) {
        const reason = `${this.#peer.id} belongs to cluster ${clusterId}, this node to ${to.hello.clusterId}.`
        throw new RefusalError({ cause: 'other-cluster', reason })
      }
      isAccepted = true
      answered.resolve()
    }
    let failed = false
    const events: ByteStreamEvents = {
      bytes: (piece) => {
        this.heard()
        if (failed) return
        try {
          reader.push(piece, { message })
        } catch (error) {
          failed = true
          answered.reject(error)
          stream?.reset(error instanceof Error ? error : new Error(String(error)))
        }
      },
      drained: () => this.#lanes[lane].pump(),
      closed: () => {
        const error = new Error('the peer closed the stream')
        answered.reject(error)
        // Before that, whoever awaits the greeting learns it, together with the reason that may have come.
        if (isAccepted) this.#openingFailed(to.generation, error)
      },
    }
    let stream: ByteStream | undefined
    stream = await to.connection.openStream(lane, events, to.signal)
    try {
      stream.write(frameMessage(encodeGreeting({ type: 'hello', hello: to.hello })))
      await raceSignal(answered.promise, to.signal)
    } catch (error) {
      stream.reset(error instanceof Error ? error : new Error(String(error)))
      throw error
    }
    if (to.generation === this.#generation) this.#lanes[lane].attach(stream)
    else stream.end()
  }
}

/** Settles like `promise`, or rejects with the signal's reason when that comes first. */
export async function raceSignal<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
