// The network as libp2p gives it: TCP, noise and yamux, who may connect, and streams turned into what the links use.
//
// libp2p judges no liveness here and dials nothing by itself: its monitor is off, and the redial loop is ours.

import type { Connection, PeerId, PrivateKey, Stream } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'

import { answerQuestion, askQuestion } from './asking.ts'
import { Corks } from './corking.ts'
import { frameMessage } from './framing.ts'
import { IncomingLane } from './incoming-lane.ts'
import { type Lane, laneOf, lanes } from './lanes.ts'
import { adaptConnection, adaptStream, protocols, type Traffic } from './libp2p-streams.ts'
import { guardedEncrypter, guardedMuxer, guardNegotiation } from './negotiation.ts'
import { PeerGate, Refusals } from './peer-gate.ts'
import type { PeerKey } from './peer-key.ts'
import { type PeerConnection, PeerLink } from './peer-link.ts'
import type {
  Answer,
  Hello,
  Peer,
  PeerMessage,
  Question,
  Transport,
  TransportCounters,
  TransportHandlers,
} from './transport.ts'
import { encodeGreeting, encodePeerMessage, leastBytes } from './wire.ts'

/** Times in milliseconds. */
const defaultHandshakeTimeout = 5_000
const tickInterval = 500
const closingTime = 500

/** What the two ends of a connection agree on, by libp2p's names. */
const encryption = '/noise'
const muxing = '/yamux/1.0.0'

const mebibyte = 1_024 * 1_024

export type Libp2pOptions = {
  readonly key: PeerKey
  /** The multiaddr to listen on. */
  readonly listen: string
  /** Who this node is until `introduce` says otherwise. */
  readonly hello: Hello
  /** How long a connection may take to prove who it is, in milliseconds; 5,000 unless told. */
  readonly handshakeTimeout?: number
}

export class Libp2pTransport implements Transport {
  readonly self: string
  readonly #privateKey: PrivateKey
  readonly #listen: string
  readonly #handshakeTimeout: number
  readonly #links = new Map<string, PeerLink>()
  readonly #peers = new Map<string, Peer>()
  readonly #connections = new Map<Connection, PeerConnection>()
  readonly #refusals = new Refusals((peer, reason) => this.#handlers?.refused(peer, reason))
  readonly #gate = new PeerGate((peer) => this.#peers.has(peer), this.#refusals)
  #refusedStreams = 0
  readonly #corks = new Corks()
  #droppedMessages = 0
  readonly #traffic: Traffic = { sentBytes: 0, receivedBytes: 0 }
  #hello: Hello
  #node: Libp2p | undefined
  #handlers: TransportHandlers | undefined
  #ticker: NodeJS.Timeout | undefined
  #tickedAt = 0
  #closing: Promise<void> | undefined

  constructor(options: Libp2pOptions) {
    this.self = options.key.peer
    this.#privateKey = options.key.privateKey
    this.#listen = options.listen
    this.#handshakeTimeout = options.handshakeTimeout ?? defaultHandshakeTimeout
    this.#hello = options.hello
  }

  async start(handlers: TransportHandlers): Promise<void> {
    this.#handlers = handlers
    const node = await this.#createNode()
    this.#node = node
    node.addEventListener('connection:open', ({ detail }) => this.#opened(detail))
    node.addEventListener('connection:close', ({ detail }) => this.#closed(detail))
    for (const lane of lanes) {
      await node.handle(protocols[lane], (stream, connection) => this.#receive(lane, stream, connection), {
        maxInboundStreams: 16,
        maxOutboundStreams: 16,
      })
    }
    await node.handle(protocols.ask, (stream, connection) => this.#beAsked(stream, connection), {
      maxInboundStreams: 16,
      maxOutboundStreams: 16,
    })
    // A peer may come in while this node still starts.
    for (const peer of this.#peers.values()) this.#addLink(peer)
    try {
      await node.start()
    } catch (error) {
      await this.close()
      throw listenError(this.#listen, error)
    }
    this.#tickedAt = performance.now()
    this.#ticker = setInterval(() => this.#tick(), tickInterval)
  }

  introduce(hello: Hello): void {
    this.#hello = hello
    for (const link of this.#links.values()) link.reopen()
  }

  setPeers(peers: readonly Peer[]): void {
    const wanted = new Map(peers.filter(({ peer }) => peer !== this.self).map((peer) => [peer.peer, peer]))
    for (const [id, link] of [...this.#links]) {
      if (wanted.has(id)) continue
      this.#links.delete(id)
      link.close('gently')
    }
    this.#peers.clear()
    for (const [id, peer] of wanted) {
      this.#peers.set(id, peer)
      const link = this.#links.get(id)
      if (link !== undefined) link.update(peer)
      else if (this.#node !== undefined) this.#addLink(peer)
    }
  }

  send(to: string, message: PeerMessage): boolean {
    const link = this.#links.get(to)
    const lane = laneOf(message)
    // What has no place is not encoded first.
    const isTaken =
      link?.hasRoom(lane, leastBytes(message)) === true &&
      link.send(lane, encodePeerMessage(message, { from: this.self, to }))
    if (isTaken) this.#corks.flushSoon()
    else this.#droppedMessages += 1
    return isTaken
  }

  async ask(peer: string, question: Question, options: { readonly signal: AbortSignal }): Promise<Answer> {
    const link = this.#links.get(peer)
    if (link === undefined) throw new Error(`${peer} is no peer of this node, or this node is not running.`)
    const connection = await link.connection(options.signal)
    const askedAt = performance.now()
    try {
      return await askQuestion(connection, question, { signal: options.signal, heard: () => link.heard() })
    } catch (error) {
      // It may be dead without a sign; the next question should not meet it again.
      if (options.signal.aborted && link.heardAt < askedAt) connection.close('at once')
      throw error
    }
  }

  isConnected(peer: string): boolean {
    return this.#links.get(peer)?.isConnected === true
  }

  counters(): TransportCounters {
    return {
      refusedConnections: this.#gate.refused,
      refusedStreams: this.#refusedStreams,
      droppedMessages: this.#droppedMessages,
      ...this.#traffic,
      outboxes: [...this.#links].flatMap(([peer, link]) => link.outboxes.map((box) => ({ peer, ...box }))),
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    clearInterval(this.#ticker)
    this.#gate.shut()
    this.#ticker = undefined
    await this.#flush()
    for (const link of this.#links.values()) link.close('gently')
    this.#links.clear()
    this.#peers.clear()
    await this.#until(() => this.#connections.size === 0)
    await this.#node?.stop()
  }

  /** Gives what waits in the outboxes a short while to leave: a leader's last words are worth it. */
  async #flush(): Promise<void> {
    await this.#until(() => [...this.#links.values()].every((link) => link.empty || !link.isConnected))
  }

  async #until(holds: () => boolean): Promise<void> {
    const deadline = performance.now() + closingTime
    while (!holds() && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  #createNode(): Promise<Libp2p> {
    return createLibp2p({
      start: false,
      privateKey: this.#privateKey,
      addresses: { listen: [this.#listen] },
      transports: [tcp()],
      connectionEncrypters: [guardedEncrypter(noise(), muxing)],
      streamMuxers: [
        guardedMuxer(
          yamux({
            maxInboundStreams: 64,
            maxOutboundStreams: 64,
            // The window bounds how many bulk bytes can stand before a heartbeat on the way. At this, the least that
            // yamux allows, bulk is as fast within a data centre and a heartbeat in its midst several times faster.
            streamOptions: { maxStreamWindowSize: 256 * 1_024, maxWriteBufferLength: mebibyte },
          }),
          Object.values(protocols),
        ),
      ],
      connectionMonitor: { enabled: false },
      connectionManager: {
        maxConnections: 1_000,
        maxIncomingPendingConnections: 256,
        // All nodes of a cluster on one machine share an address.
        inboundConnectionThreshold: 1_000,
        inboundUpgradeTimeout: this.#handshakeTimeout,
        inboundStreamProtocolNegotiationTimeout: this.#handshakeTimeout,
        outboundStreamProtocolNegotiationTimeout: this.#handshakeTimeout,
        connectionCloseTimeout: closingTime,
        reconnectRetries: 0,
      },
      connectionGater: {
        denyInboundConnection: (raw) => {
          this.#corks.add(raw)
          guardNegotiation(raw, [encryption])
          return this.#gate.watch(raw)
        },
        denyOutboundConnection: (_, raw) => {
          guardNegotiation(raw, [encryption])
          return false
        },
        denyInboundEncryptedConnection: (peer, raw) => this.#gate.denies(peer.toString(), raw),
        denyOutboundEncryptedConnection: (peer, raw) => {
          this.#corks.add(raw)
          return !this.#peers.has(peer.toString())
        },
      },
    })
  }

  #addLink(peer: Peer): void {
    const id = peer.peer
    const link = new PeerLink(this.self, peer, {
      hello: () => this.#hello,
      dial: (target, signal) => this.#dial(target, signal),
      connected: () => this.#handlers?.connected(id),
      disconnected: (why) => this.#handlers?.disconnected(id, why),
      refused: (refusal) => {
        if (refusal.cause === 'stranger') this.#handlers?.turnedAway(id)
        // An empty peer is no fault: it is being founded, or waits for that.
        if (refusal.cause !== 'empty')
          this.#refusals.say(id, refusal.cause, `refused by ${peer.id}: ${refusal.reason}`)
      },
    })
    this.#links.set(id, link)
    for (const [connection, adapted] of this.#connections) {
      if (connection.remotePeer.toString() === id && adapted.isOpen) link.add(adapted)
    }
  }

  async #dial(peer: Peer, signal: AbortSignal): Promise<void> {
    const addresses = peer.addresses.map((address) => multiaddr(address).encapsulate(`/p2p/${peer.peer}`))
    try {
      await this.#node?.dial(addresses, { signal })
    } catch (error) {
      const causes: readonly unknown[] = error instanceof AggregateError ? error.errors : [error]
      if (causes.some((cause) => cause instanceof Error && cause.message.includes('identity key'))) {
        const where = peer.addresses.join(', ')
        this.#refusals.say(
          peer.peer,
          'other-key',
          `${where} answers with another key than that of ${peer.id}, ${peer.peer}.`,
        )
      }
      throw error
    }
  }

  #opened(connection: Connection): void {
    const peer = connection.remotePeer.toString()
    const adapted = adaptConnection(connection, this.#traffic)
    this.#connections.set(connection, adapted)
    const link = this.#links.get(peer)
    if (link !== undefined) link.add(adapted)
    else if (!this.#gate.isBeingTold(peer) && !this.#peers.has(peer)) adapted.close('at once')
  }

  #closed(connection: Connection): void {
    const adapted = this.#connections.get(connection)
    const peer = connection.remotePeer.toString()
    this.#connections.delete(connection)
    if (adapted !== undefined) this.#links.get(peer)?.remove(adapted)
    // libp2p remembers everyone it met: strangers could fill the memory.
    if (!this.#peers.has(peer)) this.#forget(connection.remotePeer)
  }

  #forget(peer: PeerId): void {
    this.#node?.peerStore.delete(peer).catch(() => undefined)
  }

  #receive(lane: Lane, stream: Stream, connection: Connection): void {
    const from = connection.remotePeer.toString()
    const link = this.#links.get(from)
    const adapted = this.#connections.get(connection)
    if (link === undefined || adapted === undefined) {
      this.#turnAway(stream, from)
      return
    }
    const incoming = new IncomingLane(
      lane,
      { from, to: this.self },
      {
        hello: () => this.#hello,
        heard: () => link.heard(),
        greeted: (hello) => link.greeted(adapted, hello),
        message: (message, boot) => {
          if (this.#links.get(from) === link) this.#handlers?.message(from, message, boot)
        },
        progress: () => this.#handlers?.progress(from),
        refused: (refusal) => {
          if (refusal.cause === 'empty') return
          this.#refusedStreams += 1
          this.#refusals.say(from, refusal.cause, `refused a peer: ${refusal.reason}`)
        },
        broken: (error) => {
          this.#refusedStreams += 1
          this.#refusals.say(from, 'broken', `ended a stream of ${from}: ${error.message}.`)
        },
      },
    )
    incoming.start(adaptStream(stream, incoming, this.#traffic))
  }

  #beAsked(stream: Stream, connection: Connection): void {
    const from = connection.remotePeer.toString()
    const link = this.#links.get(from)
    if (link === undefined) {
      this.#turnAway(stream, from)
      return
    }
    answerQuestion((events) => adaptStream(stream, events, this.#traffic), {
      heard: () => link.heard(),
      question: async (question) => {
        if (this.#handlers === undefined) throw new Error('this node is not running')
        return this.#handlers.question(from, question)
      },
      broken: (error) => {
        this.#refusedStreams += 1
        this.#refusals.say(from, 'broken', `ended a stream of ${from}: ${error.message}.`)
      },
    })
  }

  /** Tells a stranger why, and reads nothing of what it says. */
  #turnAway(stream: Stream, from: string): void {
    this.#refusedStreams += 1
    const reason = `${from} is no member of the cluster of ${this.#hello.id}.`
    const events = { bytes: () => undefined, drained: () => undefined, closed: () => undefined }
    const adapted = adaptStream(stream, events, this.#traffic)
    adapted.write(frameMessage(encodeGreeting({ type: 'refusal', refusal: { cause: 'stranger', reason } })))
    adapted.end()
  }

  #tick(): void {
    const now = performance.now()
    const isLate = now - this.#tickedAt > 3 * tickInterval
    this.#tickedAt = now
    this.#refusals.forget(now)
    // After a stall timers run before sockets are read: nobody is judged silent for our own absence.
    if (isLate) return
    for (const link of [...this.#links.values()]) link.tick()
  }
}

/** One sentence for the operator from what libp2p wraps in several. */
function listenError(address: string, error: unknown): Error {
  const text = error instanceof Error ? error.message : String(error)
  const [code] = /EADDRINUSE|EADDRNOTAVAIL|EACCES/.exec(text) ?? []
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: 'another process listens there',
    EADDRNOTAVAIL: 'this machine has no such address',
    EACCES: 'this user may not listen on that port',
  }
  const reason = (code === undefined ? undefined : reasons[code]) ?? text.split('\n')[0]
  return new Error(`Cannot listen for peers on ${address}: ${reason}.`, { cause: error })
}
