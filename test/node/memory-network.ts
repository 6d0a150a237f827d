// The network's twin within one process: transports among nodes, over links that a test can cut, slow down and break.
//
// Everything is encoded and decoded as on the real wire, so nothing is shared by reference. What happens depends on
// the seed and the scheduler alone.

import { type Lane, laneBounds, laneOf } from '../../src/node/lanes.ts'
import type {
  Answer,
  Hello,
  Peer,
  PeerMessage,
  Question,
  Transport,
  TransportCounters,
  TransportHandlers,
} from '../../src/node/transport.ts'
import {
  decodeAnswer,
  decodePeerMessage,
  decodeQuestion,
  encodeAnswer,
  encodePeerMessage,
  encodeQuestion,
  RefusalError,
} from '../../src/node/wire.ts'

/** Time as the network sees it. A simulator brings its own. */
export type Scheduler = {
  readonly now: () => number
  /** Runs `action` after so many milliseconds, never within the call. */
  readonly after: (milliseconds: number, action: () => void) => void
}

export type MemoryNetworkOptions = {
  readonly seed?: number
  readonly scheduler?: Scheduler
  /** How long a message is on its way, in milliseconds: drawn evenly from this range. */
  readonly delay?: { readonly least: number; readonly most: number }
  /** The share of messages that vanish, 0 to 1. */
  readonly loss?: number
  /** The share of messages that arrive twice. */
  readonly duplication?: number
  /** How long until two nodes that lost their connection have a new one. */
  readonly reconnectDelay?: number
  /** Is shown every message as its sender lets go of it. */
  readonly tap?: (from: string, to: string, message: PeerMessage) => void
}

const realScheduler: Scheduler = {
  now: () => performance.now(),
  after: (milliseconds, action) => {
    if (milliseconds === 0) queueMicrotask(action)
    else setTimeout(action, milliseconds)
  },
}

/** Messages above this are said to come in parts. */
const partBytes = 65_528

/** A connection between two nodes, in both directions. A new one gets a new object, so that late messages of the old are told. */
type MemoryConnection = { readonly a: MemoryTransport; readonly b: MemoryTransport; isOpen: boolean }

/** One direction of a connection. */
type Direction = { readonly dueAt: Record<Lane, number>; readonly pending: Record<Lane, number> }

export class MemoryNetwork {
  readonly #scheduler: Scheduler
  readonly #random: () => number
  readonly #nodes = new Map<string, MemoryTransport>()
  readonly #connections = new Map<string, MemoryConnection>()
  readonly #directions = new WeakMap<MemoryConnection, Map<MemoryTransport, Direction>>()
  /** Ordered pairs whose messages vanish. */
  readonly #cut = new Set<string>()
  /** Ordered pairs whose messages take so many milliseconds more, all or those of one lane. */
  readonly #slow = new Map<string, { readonly milliseconds: number; readonly lane: Lane | undefined }>()
  #options: MemoryNetworkOptions

  constructor(options: MemoryNetworkOptions = {}) {
    this.#options = options
    this.#scheduler = options.scheduler ?? realScheduler
    this.#random = seededRandom(options.seed ?? 1)
  }

  /** The transport of a node. It takes part once started. */
  transport(peer: string, hello: Hello): MemoryTransport {
    return new MemoryTransport(this, peer, hello)
  }

  get weather(): Omit<MemoryNetworkOptions, 'seed' | 'scheduler'> {
    return this.#options
  }

  /** Other weather from now on. */
  change(options: Omit<MemoryNetworkOptions, 'seed' | 'scheduler'>): void {
    this.#options = { ...this.#options, ...options }
  }

  /** Everything between the two groups vanishes, both ways. Connections stand, as they do when a cable is pulled. */
  partition(left: readonly string[], right: readonly string[]): void {
    for (const a of left) {
      for (const b of right) {
        this.cutOneWay(a, b)
        this.cutOneWay(b, a)
      }
    }
  }

  /** Everything from `from` to `to` vanishes. */
  cutOneWay(from: string, to: string): void {
    this.#cut.add(`${from} ${to}`)
  }

  /** Everything from `from` to `to`, or what is on that lane, takes so many milliseconds more until `heal()`. */
  slowDown(from: string, to: string, milliseconds: number, lane?: Lane): void {
    this.#slow.set(`${from} ${to}`, { milliseconds, lane })
  }

  /** Undoes every cut, and lets messages take the time that they take. What is on its way comes when it comes. */
  heal(): void {
    this.#cut.clear()
    this.#slow.clear()
    for (const node of this.#nodes.values()) this.settle(node)
  }

  /** The connection between two nodes breaks, by nobody's hand. They get a new one where they can. */
  breakConnection(a: string, b: string): void {
    const connection = this.#connections.get(pairKey(a, b))
    if (connection !== undefined) this.#end(connection, undefined)
  }

  /** The node's process dies: it hears nothing more, the others see their connections end. */
  kill(peer: string): void {
    const node = this.#nodes.get(peer)
    if (node === undefined) return
    this.#nodes.delete(peer)
    node.silence()
    for (const connection of [...this.#connections.values()]) {
      if (connection.a === node || connection.b === node) this.#end(connection, undefined)
    }
  }

  /** @internal */
  join(node: MemoryTransport): void {
    if (this.#nodes.has(node.self))
      throw new Error(`Cannot listen for peers as ${node.self}: another node does.`)
    this.#nodes.set(node.self, node)
    this.settle(node)
  }

  /** @internal */
  leave(node: MemoryTransport): void {
    if (this.#nodes.get(node.self) !== node) return
    this.#nodes.delete(node.self)
    for (const connection of [...this.#connections.values()]) {
      if (connection.a === node || connection.b === node) this.#end(connection, node)
    }
  }

  /** Makes the connections of a node what its and the others' peers and hellos ask for. @internal */
  settle(node: MemoryTransport): void {
    for (const connection of [...this.#connections.values()]) {
      if (connection.a !== node && connection.b !== node) continue
      const other = connection.a === node ? connection.b : connection.a
      if (!node.wants(other.self)) this.#end(connection, node)
    }
    for (const peer of node.wanted) this.#scheduler.after(this.#delay(), () => this.#connect(node, peer))
  }

  /** @internal */
  post(from: MemoryTransport, to: string, message: PeerMessage): boolean {
    const connection = this.#connections.get(pairKey(from.self, to))
    if (connection === undefined) return false
    const target = connection.a === from ? connection.b : connection.a
    const link = { from: from.self, to }
    this.#options.tap?.(from.self, to, message)
    const bytes = encodePeerMessage(message, link)
    const lane = laneOf(message)
    const direction = this.#direction(connection, from)
    const isFull = direction.pending[lane] + bytes.length > laneBounds[lane].outboxBytes
    if (direction.pending[lane] > 0 && isFull) return false
    const copies = this.#random() < (this.#options.duplication ?? 0) ? 2 : 1
    for (let copy = 0; copy < copies; copy++) {
      const isLost = this.#random() < (this.#options.loss ?? 0)
      const now = this.#scheduler.now()
      // A stream keeps its order, however long each message takes.
      const due = Math.max(direction.dueAt[lane], now + this.#delay() + this.#slowness(from.self, to, lane))
      direction.dueAt[lane] = due
      direction.pending[lane] += bytes.length
      this.#scheduler.after(due - now, () => {
        direction.pending[lane] -= bytes.length
        if (isLost || !connection.isOpen || this.#isCut(from.self, to)) return
        for (let part = partBytes; part < bytes.length; part += partBytes)
          target.handlers?.progress(from.self)
        target.handlers?.message(from.self, decodePeerMessage(Buffer.from(bytes), link), from.hello.boot)
      })
    }
    return true
  }

  /** @internal */
  async put(from: MemoryTransport, to: string, question: Question, signal: AbortSignal): Promise<Answer> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    const bytes = encodeQuestion(question)
    const answer = (given: Answer) => {
      const encoded = encodeAnswer(given)
      this.#scheduler.after(this.#delay(), () => {
        if (!this.#isCut(to, from.self)) resolve(decodeAnswer(encoded))
      })
    }
    this.#scheduler.after(this.#delay(), () => {
      if (this.#isCut(from.self, to)) return
      const target = this.#nodes.get(to)
      if (target?.handlers === undefined) reject(new Error(`${to} cannot be reached.`))
      else if (!target.wants(from.self))
        reject(
          new RefusalError({
            cause: 'stranger',
            reason: `${from.self} is no member of the cluster of ${to}.`,
          }),
        )
      else target.handlers.question(from.self, decodeQuestion(bytes)).then(answer, reject)
    })
    return promise
  }

  #connect(node: MemoryTransport, peer: string): void {
    const other = this.#nodes.get(peer)
    const key = pairKey(node.self, peer)
    if (other === undefined || this.#nodes.get(node.self) !== node || this.#connections.has(key)) return
    if (this.#isCut(node.self, peer) || this.#isCut(peer, node.self) || !node.wants(peer)) return
    if (!other.wants(node.self)) {
      other.refuse('connection', node.self, `refused ${node.self}: it is no member of this cluster.`)
      node.hearRefusal(peer, `refused by ${peer}: ${node.self} is no member.`)
      node.handlers?.turnedAway(peer)
      return
    }
    const [mine, theirs] = [node.hello.clusterId, other.hello.clusterId]
    if (mine === undefined || theirs === undefined) return
    if (mine !== theirs) {
      const reason = `belongs to cluster ${mine}, ${other.hello.id} to ${theirs}.`
      other.refuse('stream', node.self, `refused a peer: ${node.hello.id} ${reason}`)
      node.hearRefusal(peer, `refused by ${other.hello.id}: ${node.hello.id} ${reason}`)
      return
    }
    this.#connections.set(key, { a: node, b: other, isOpen: true })
    node.handlers?.connected(peer)
    other.handlers?.connected(node.self)
  }

  #end(connection: MemoryConnection, by: MemoryTransport | undefined): void {
    const { a, b } = connection
    connection.isOpen = false
    this.#connections.delete(pairKey(a.self, b.self))
    a.handlers?.disconnected(b.self, { byUs: a === by })
    b.handlers?.disconnected(a.self, { byUs: b === by })
    this.#scheduler.after(this.#options.reconnectDelay ?? 20, () => {
      this.settle(a)
      this.settle(b)
    })
  }

  isConnected(a: string, b: string): boolean {
    return this.#connections.has(pairKey(a, b))
  }

  #isCut(from: string, to: string): boolean {
    return this.#cut.has(`${from} ${to}`)
  }

  #slowness(from: string, to: string, lane: Lane): number {
    const slow = this.#slow.get(`${from} ${to}`)
    return slow === undefined || (slow.lane !== undefined && slow.lane !== lane) ? 0 : slow.milliseconds
  }

  #delay(): number {
    const { least, most } = this.#options.delay ?? { least: 0, most: 0 }
    return least + this.#random() * (most - least)
  }

  #direction(connection: MemoryConnection, from: MemoryTransport): Direction {
    const known = this.#directions.get(connection) ?? new Map<MemoryTransport, Direction>()
    this.#directions.set(connection, known)
    const direction = known.get(from) ?? { dueAt: { control: 0, bulk: 0 }, pending: { control: 0, bulk: 0 } }
    known.set(from, direction)
    return direction
  }
}

/** One node's end of a `MemoryNetwork`. */
export class MemoryTransport implements Transport {
  readonly self: string
  readonly #network: MemoryNetwork
  readonly #peers = new Set<string>()
  readonly #said = new Set<string>()
  readonly #counters = { refusedConnections: 0, refusedStreams: 0, droppedMessages: 0 }
  #hello: Hello
  #handlers: TransportHandlers | undefined

  constructor(network: MemoryNetwork, self: string, hello: Hello) {
    this.#network = network
    this.self = self
    this.#hello = hello
  }

  get hello(): Hello {
    return this.#hello
  }

  /** Undefined before the start and after the end. */
  get handlers(): TransportHandlers | undefined {
    return this.#handlers
  }

  get wanted(): readonly string[] {
    return [...this.#peers]
  }

  wants(peer: string): boolean {
    return this.#peers.has(peer)
  }

  async start(handlers: TransportHandlers): Promise<void> {
    this.#handlers = handlers
    this.#network.join(this)
  }

  introduce(hello: Hello): void {
    this.#hello = hello
    this.#network.settle(this)
  }

  setPeers(peers: readonly Peer[]): void {
    this.#peers.clear()
    for (const { peer } of peers) if (peer !== this.self) this.#peers.add(peer)
    this.#network.settle(this)
  }

  send(to: string, message: PeerMessage): boolean {
    const isTaken = this.#handlers !== undefined && this.#network.post(this, to, message)
    if (!isTaken) this.#counters.droppedMessages += 1
    return isTaken
  }

  async ask(peer: string, question: Question, options: { readonly signal: AbortSignal }): Promise<Answer> {
    if (this.#handlers === undefined || !this.#peers.has(peer))
      throw new Error(`${peer} is no peer of this node.`)
    return this.#network.put(this, peer, question, options.signal)
  }

  isConnected(peer: string): boolean {
    return this.#handlers !== undefined && this.#network.isConnected(this.self, peer)
  }

  counters(): TransportCounters {
    // Messages travel as they are: no bytes leave, and none wait.
    return { ...this.#counters, sentBytes: 0, receivedBytes: 0, outboxes: [] }
  }

  async close(): Promise<void> {
    this.#network.leave(this)
    this.#handlers = undefined
  }

  /** @internal */
  silence(): void {
    this.#handlers = undefined
  }

  /** @internal */
  refuse(what: 'connection' | 'stream', peer: string, reason: string): void {
    if (what === 'connection') this.#counters.refusedConnections += 1
    else this.#counters.refusedStreams += 1
    this.hearRefusal(peer, reason)
  }

  /** @internal */
  hearRefusal(peer: string, reason: string): void {
    if (this.#said.has(reason)) return
    this.#said.add(reason)
    this.#handlers?.refused(peer, reason)
  }
}

function pairKey(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`
}

/** Mulberry32: small, and the same everywhere. */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
