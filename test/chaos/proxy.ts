// The wires between nodes: every connection from one to another runs through here, where it can be cut, slowed and throttled.
//
// Each node has one address for all its peers, as in a real deployment. Who dials is told by the loopback address the
// connection comes from (`fixtures/node-preload.ts` sees to that), so each direction between two nodes is a way of its own.

import { once } from 'node:events'
import { createServer, connect as dial, type Server, type Socket } from 'node:net'
import type { Chance } from '../raft/chance.ts'

/** One direction between two nodes. */
export type Weather = {
  /** Milliseconds that every byte takes, and up to how many more. Bytes keep their order. */
  readonly latency: number
  readonly jitter: number
  /** Infinity when nothing throttles it. */
  readonly bytesPerSecond: number
}

/** `held` is a line on which packets vanish: nothing arrives, not even the end of a connection, until it is open again. */
type Passage = 'open' | 'held' | 'refused'

export const fairWeather: Weather = { latency: 0, jitter: 0, bytesPerSecond: Number.POSITIVE_INFINITY }

export type Place = {
  readonly id: string
  /** The loopback address that its connections come from. */
  readonly source: string
  /** The port that others are told. */
  readonly entry: number
  /** The port it listens on. */
  readonly target: number
}

/** What waits in a lane is bounded, as a window would; beyond it the sender's socket fills. */
const laneBytes = 256 * 1024
/** A throttled lane sends this often. */
const sliceMs = 20
const host = '127.0.0.1'

/** All ways between the nodes. */
export class Mesh implements AsyncDisposable {
  readonly #places = new Map<string, Place>()
  readonly #servers = new Map<string, Server>()
  readonly #ways = new Map<string, Way>()
  readonly #wires = new Set<Wire>()
  readonly #chance: Chance
  #strangers = 0

  constructor(chance: Chance) {
    this.#chance = chance
  }

  /** Connections that came from no node of the mesh, and were refused. */
  get strangers(): number {
    return this.#strangers
  }

  /** Bytes that have arrived from one node at another. */
  carried(from: string, to: string): number {
    return this.#way(from, to).carried
  }

  async add(place: Place): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(place, socket))
    server.listen({ host, port: place.entry, exclusive: true })
    await once(server, 'listening')
    this.#places.set(place.id, place)
    this.#servers.set(place.id, server)
  }

  /**
   * Nothing arrives any more in this one direction. `held`: as if packets vanished; what was sent arrives when it is
   * opened again. `refused`: connections between the two end, in both directions, and no new one comes about.
   */
  cut(from: string, to: string, how: 'held' | 'refused'): void {
    this.#way(from, to).passage = how
    if (how === 'held') return
    for (const wire of this.#wires) if (wire.joins(from, to)) wire.destroy()
  }

  slow(from: string, to: string, weather: Weather): void {
    this.#way(from, to).weather = weather
    this.#look()
  }

  /** All ways are open and fair again. What was held arrives. */
  heal(): void {
    for (const way of this.#ways.values()) {
      way.passage = 'open'
      way.weather = fairWeather
    }
    this.#look()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const wire of [...this.#wires]) wire.destroy()
    await Promise.all(
      [...this.#servers.values()].map(async (server) => {
        server.close()
        await once(server, 'close')
      }),
    )
  }

  #look(): void {
    for (const wire of [...this.#wires]) wire.look()
  }

  #way(from: string, to: string): Way {
    const name = `${from} ${to}`
    const known = this.#ways.get(name)
    if (known !== undefined) return known
    const way = new Way(this.#chance)
    this.#ways.set(name, way)
    return way
  }

  #accept(to: Place, socket: Socket): void {
    const from = [...this.#places.values()].find(({ source }) => source === socket.remoteAddress)
    if (from === undefined || from.id === to.id) {
      this.#strangers += 1
      socket.destroy()
      return
    }
    const ways = { out: this.#way(from.id, to.id), back: this.#way(to.id, from.id) }
    if (ways.out.passage === 'refused' || ways.back.passage === 'refused') {
      socket.resetAndDestroy()
      return
    }
    const wire = new Wire({ from: from.id, to: to.id, ways, near: socket, port: to.target }, () => {
      this.#wires.delete(wire)
    })
    this.#wires.add(wire)
    wire.look()
  }
}

/** How it stands with one direction. */
class Way {
  passage: Passage = 'open'
  weather: Weather = fairWeather
  carried = 0
  readonly #chance: Chance
  /** Until when this way is busy with what it was given, where it is throttled; on the clock of `performance.now()`. */
  #busyUntil = 0

  constructor(chance: Chance) {
    this.#chance = chance
  }

  arrivalOf(now: number): number {
    return now + this.weather.latency + this.#chance.next() * this.weather.jitter
  }

  /** How many of `bytes` may go now. All connections of this direction share what it carries. */
  admit(bytes: number, now: number): number {
    const { bytesPerSecond } = this.weather
    if (bytesPerSecond === Number.POSITIVE_INFINITY) return bytes
    if (this.#busyUntil > now) return 0
    const count = Math.min(bytes, Math.max(1, Math.ceil((bytesPerSecond * sliceMs) / 1000)))
    this.#busyUntil = now + (count / bytesPerSecond) * 1000
    return count
  }

  /** When to ask again. */
  wait(now: number): number {
    return Math.max(1, this.#busyUntil - now)
  }
}

/** One connection: what `near` has dialled, and the node at the other end. */
class Wire {
  readonly #ends: readonly [string, string]
  readonly #ways: { readonly out: Way; readonly back: Way }
  readonly #near: Socket
  readonly #port: number
  readonly #gone: () => void
  #lanes: readonly Lane[] | undefined
  #far: Socket | undefined

  constructor(
    line: {
      readonly from: string
      readonly to: string
      readonly ways: { readonly out: Way; readonly back: Way }
      readonly near: Socket
      readonly port: number
    },
    gone: () => void,
  ) {
    this.#ends = [line.from, line.to]
    this.#ways = line.ways
    this.#near = line.near
    this.#port = line.port
    this.#gone = gone
    this.#near.setNoDelay(true)
    this.#near.on('error', ignore)
    this.#near.once('close', () => {
      if (this.#far === undefined) this.#gone()
    })
  }

  joins(one: string, other: string): boolean {
    return this.#ends.includes(one) && this.#ends.includes(other)
  }

  /** To be called when the ways have changed. */
  look(): void {
    // A connection comes about only when packets go both ways.
    const isOpen = this.#ways.out.passage === 'open' && this.#ways.back.passage === 'open'
    if (this.#far === undefined && isOpen && !this.#near.destroyed) this.#connect()
    for (const lane of this.#lanes ?? []) lane.pump()
  }

  destroy(): void {
    this.#near.resetAndDestroy()
    this.#far?.resetAndDestroy()
    this.#gone()
  }

  #connect(): void {
    const near = this.#near
    const far = dial({ host, port: this.#port, allowHalfOpen: true, noDelay: true })
    this.#far = far
    far.on('error', ignore)
    far.once('connect', () => {
      this.#lanes = [new Lane(near, far, this.#ways.out), new Lane(far, near, this.#ways.back)]
    })
    far.once('close', () => {
      // Nobody listened.
      if (this.#lanes === undefined) near.resetAndDestroy()
      if (near.destroyed) this.#gone()
    })
    near.once('close', () => {
      if (this.#lanes === undefined) far.destroy()
      if (far.destroyed) this.#gone()
    })
  }
}

type Piece = { readonly bytes: Buffer; readonly arrives: number }

/** What goes from one socket to the other, and how it ends. */
class Lane {
  readonly #from: Socket
  readonly #to: Socket
  readonly #way: Way
  readonly #queue: Piece[] = []
  #queued = 0
  #last = 0
  #end: 'none' | 'ended' | 'reset' = 'none'
  #timer: NodeJS.Timeout | undefined
  #isDone = false

  constructor(from: Socket, to: Socket, way: Way) {
    this.#from = from
    this.#to = to
    this.#way = way
    from.on('data', (bytes: Buffer) => {
      // Bytes keep their order, whatever the jitter says.
      this.#last = Math.max(this.#last, way.arrivalOf(performance.now()))
      this.#queue.push({ bytes, arrives: this.#last })
      this.#queued += bytes.length
      if (this.#queued >= laneBytes) from.pause()
      this.pump()
    })
    from.once('end', () => this.#ending('ended'))
    from.once('close', (failed) => this.#ending(failed || this.#end === 'none' ? 'reset' : 'ended'))
    to.on('drain', () => this.pump())
  }

  /** Sends what may go now, and comes back by itself for the rest. */
  pump(): void {
    clearTimeout(this.#timer)
    if (this.#way.passage === 'held' || this.#isDone) return
    const now = performance.now()
    for (let head = this.#queue[0]; head !== undefined; head = this.#queue[0]) {
      if (head.arrives > now) {
        this.#again(head.arrives - now)
        return
      }
      if (this.#to.writableNeedDrain && !this.#to.destroyed) return
      const count = this.#way.admit(head.bytes.length, now)
      if (count === 0) {
        this.#again(this.#way.wait(now))
        return
      }
      this.#pass(head, count)
    }
    this.#finish()
  }

  #pass(head: Piece, count: number): void {
    // Whoever has closed its end gets no more; its closing travels by the other lane.
    if (this.#to.writable) this.#to.write(head.bytes.subarray(0, count))
    this.#way.carried += count
    this.#queued -= count
    if (count === head.bytes.length) this.#queue.shift()
    else this.#queue[0] = { bytes: head.bytes.subarray(count), arrives: head.arrives }
    if (this.#queued < laneBytes) this.#from.resume()
  }

  #ending(how: 'ended' | 'reset'): void {
    this.#end = this.#end === 'reset' ? 'reset' : how
    this.#last = Math.max(this.#last, this.#way.arrivalOf(performance.now()))
    this.pump()
  }

  #finish(): void {
    if (this.#end === 'none') return
    const left = this.#last - performance.now()
    if (left > 0) {
      this.#again(left)
      return
    }
    if (this.#end === 'reset') {
      this.#isDone = true
      this.#to.resetAndDestroy()
    } else if (this.#to.writable) this.#to.end()
  }

  #again(ms: number): void {
    this.#timer = setTimeout(() => this.pump(), Math.ceil(ms))
  }
}

/** The close that follows every error is what counts. */
function ignore(): void {}
