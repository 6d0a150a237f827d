// The watches of a store that one client has: each begins on a stream of its own, and joins the others once it has caught up.
//
// A watch knows the position up to which it has been told everything. So any stream that begins at or before that position, and
// covers its keys, can serve it on; whatever comes twice is dropped. That makes resuming after a break, sharing a stream, and leaving it
// for lagging behind one and the same thing: to be put on a stream that begins at one's position.

import { headers as fieldNames } from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import { eventsOf, type ServerSentEvent } from './byte-lines.ts'
import { queryString, storePath } from './paths.ts'
import { sleep } from './sleep.ts'
import { type Filter, Subscription, union } from './subscription.ts'
import type { WatchEvent, WatchOptions } from './types.ts'
import type { Answer } from './verdict.ts'
import { readWatchEvent } from './watch-events.ts'
import { earliest, formatPosition, isAfter, type Position, parsePosition } from './watch-position.ts'

/** The server says something every 5 s. */
const longestSilenceMs = 15_000
const firstPauseMs = 50
const longestPauseMs = 2000

/** The part of a requester that streams need. */
export type StreamOpener = {
  send(request: {
    readonly method: 'GET'
    readonly path: string
    readonly headers: Readonly<Record<string, string>>
    readonly effect: 'none'
    readonly streams: true
    readonly signal: AbortSignal
  }): Promise<Answer>
  suspect(endpoint: string): void
}

export class Watcher {
  readonly #store: string
  readonly #opener: StreamOpener
  /** Streams under way. */
  readonly #tails = new Set<Tail>()

  constructor(store: string, opener: StreamOpener) {
    this.#store = store
    this.#opener = opener
  }

  async *watch(options: WatchOptions): AsyncGenerator<WatchEvent, void, undefined> {
    const { signal } = options
    signal?.throwIfAborted()
    const subscription = new Subscription(options)
    this.#start(subscription)
    try {
      for (;;) {
        // One that lagged behind comes back once it has taken what it had.
        if (subscription.isParked && subscription.isDrained) this.#start(subscription)
        yield await subscription.next(signal)
      }
    } finally {
      subscription.leave()
    }
  }

  #start(subscription: Subscription): void {
    const tail = new Tail(this.#store, this.#opener, {
      caughtUp: (one) => this.#merge(one),
      alone: (one) => this.#start(one),
    })
    this.#tails.add(tail)
    tail.adopt(subscription)
    void tail.run().finally(() => this.#tails.delete(tail))
  }

  /** Puts those on a stream that has caught up onto another that has, when one stream can serve them all. */
  #merge(tail: Tail): void {
    for (const other of this.#tails) {
      if (other === tail || !other.isCaughtUp || union([...tail.filters, ...other.filters]) === undefined)
        continue
      for (const subscription of tail.release()) other.adopt(subscription)
      return
    }
  }
}

/** Why a request was ended by ourselves: to be asked anew, or because nobody listens any more. */
const reopened = Symbol('reopened')

type TailPorts = {
  readonly caughtUp: (tail: Tail) => void
  readonly alone: (subscription: Subscription) => void
}

/** One stream, with those it serves, opened again as often as it breaks. */
class Tail {
  readonly #store: string
  readonly #opener: StreamOpener
  readonly #ports: TailPorts
  readonly #subscriptions = new Set<Subscription>()
  #request = new AbortController()
  /** What the stream under way was asked for; undefined before the first. */
  #covers: Filter | undefined
  /** Everything up to here has come from the stream under way. */
  #position: Position | undefined
  /** Everything that had happened when it began has come. */
  #caughtUp = false
  #pause = firstPauseMs

  constructor(store: string, opener: StreamOpener, ports: TailPorts) {
    this.#store = store
    this.#opener = opener
    this.#ports = ports
  }

  get filters(): readonly Filter[] {
    return [...this.#subscriptions].map(({ filter }) => filter)
  }

  /** Whether others may join it. */
  get isCaughtUp(): boolean {
    return this.#caughtUp && this.#subscriptions.size > 0
  }

  adopt(subscription: Subscription): void {
    this.#subscriptions.add(subscription)
    subscription.served(() => this.#drop(subscription))
    if (this.#covers === undefined) return
    const { position } = subscription
    const misses = position === undefined || this.#position === undefined || isAfter(this.#position, position)
    if (misses || !this.#covers.includes(subscription.filter)) this.#reopen()
  }

  /** Lets go of all it serves, and ends. */
  release(): readonly Subscription[] {
    const released = [...this.#subscriptions]
    this.#subscriptions.clear()
    this.#request.abort(reopened)
    return released
  }

  /** Serves until nobody is left; never rejects. */
  async run(): Promise<void> {
    while (this.#subscriptions.size > 0) {
      try {
        const answer = await this.#open()
        const end = await this.#read(answer)
        if (end === 'anew') continue
        this.#opener.suspect(answer.endpoint)
      } catch (error) {
        if (this.#request.signal.aborted) continue
        if (!this.#goesOn(error)) {
          for (const subscription of this.#subscriptions) subscription.fail(error)
          this.#subscriptions.clear()
          return
        }
      }
      if (!this.#request.signal.aborted) await this.#backOff()
    }
  }

  async #open(): Promise<Answer> {
    this.#request = new AbortController()
    const filter = union(this.filters)
    if (filter === undefined) throw new Error('no stream covers what it is to serve')
    for (const subscription of this.#subscriptions) subscription.begin()
    const sole = this.#sole
    const positions = [...this.#subscriptions].map(({ position }) => position)
    const position = earliest(positions)
    this.#covers = filter
    this.#position = undefined
    this.#caughtUp = false
    const query = queryString({
      snapshot: sole?.wantsSnapshot === true ? 'true' : undefined,
      from: position === undefined ? undefined : formatPosition(position),
      values: 'true',
    })
    const filters = filter.parameters.map(([name, value]) => queryString({ [name]: value }).slice(1))
    const path = `${storePath(this.#store)}/watch${[query, ...filters].join('&')}`
    const answer = await this.#opener.send({
      method: 'GET',
      path,
      headers: { Accept: 'text/event-stream' },
      effect: 'none',
      streams: true,
      signal: this.#request.signal,
    })
    for (const subscription of this.#subscriptions) subscription.established()
    const revision = Number(answer.headers.get(fieldNames.revision))
    // It begins with what happens after this revision: what is missed from there on can be asked for again.
    if (sole?.startsNow === true && Number.isSafeInteger(revision)) sole.reached({ revision })
    return answer
  }

  /** `anew`: the server has said why, and asking again is the answer. */
  async #read({ stream, endpoint }: Answer): Promise<'anew' | 'broken'> {
    if (stream === undefined) throw new TrivetError('internal', `${endpoint} answered a watch without a body`)
    const { signal } = this.#request
    for await (const event of eventsOf(stream, { silence: longestSilenceMs, signal })) {
      this.#pause = firstPauseMs
      const end = this.#endOf(event)
      if (end !== undefined) return end
      this.#take(event)
      await this.#sole?.room(signal)
      this.#parkLaggards()
    }
    return 'broken'
  }

  /** What the server ends a stream with. Throws where it is the end of the watch. */
  #endOf({ event }: ServerSentEvent): 'anew' | 'broken' | undefined {
    switch (event) {
      case 'revoked':
        throw new TrivetError('unauthenticated', 'The token of this watch is not valid any more')
      case 'store-dropped':
        throw new TrivetError('no-such-store', `The store ${this.#store} was dropped`)
      case 'compacted':
        this.#compacted()
        return 'anew'
      case 'lagged':
        return 'anew'
      case 'closing':
        return 'broken'
      default:
        return undefined
    }
  }

  #take(event: ServerSentEvent): void {
    const { told, position } = read(event)
    if (told === undefined) return
    for (const subscription of this.#subscriptions) subscription.take(told, position)
    if (position !== undefined) this.#position = position
    if (told.type !== 'progress') return
    this.#caughtUp = true
    this.#ports.caughtUp(this)
  }

  /** History does not reach back to where this stream was to begin. */
  #compacted(): void {
    const sole = this.#sole
    if (sole !== undefined) {
      sole.reset()
      return
    }
    // Some of them may be further on: each asks for itself.
    for (const subscription of this.release()) this.#ports.alone(subscription)
  }

  /** One that does not take its events must not hold up the others. */
  #parkLaggards(): void {
    if (this.#subscriptions.size < 2) return
    for (const subscription of this.#subscriptions) {
      if (!subscription.isFull) continue
      this.#subscriptions.delete(subscription)
      subscription.park()
    }
  }

  #drop(subscription: Subscription): void {
    this.#subscriptions.delete(subscription)
    if (this.#subscriptions.size === 0) this.#request.abort(reopened)
  }

  #reopen(): void {
    this.#request.abort(reopened)
  }

  get #sole(): Subscription | undefined {
    const [only, another] = this.#subscriptions
    return another === undefined ? only : undefined
  }

  #goesOn(error: unknown): boolean {
    // What has never been open says why; from then on a watch goes on by itself.
    if (![...this.#subscriptions].every(({ isEstablished }) => isEstablished)) return false
    // A stream breaks with whatever the platform calls it; what a node said is a `TrivetError`.
    return !(error instanceof TrivetError) || error.retryable
  }

  async #backOff(): Promise<void> {
    const pause = this.#pause * (0.5 + Math.random() / 2)
    this.#pause = Math.min(longestPauseMs, this.#pause * 2)
    await sleep(pause, this.#request.signal).catch(() => {
      // Ended early, to be opened anew or not at all.
    })
  }
}

function read(event: ServerSentEvent): {
  readonly told: WatchEvent | undefined
  readonly position: Position | undefined
} {
  try {
    return {
      told: readWatchEvent(event),
      position: event.id === undefined ? undefined : parsePosition(event.id),
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new TrivetError('internal', `The watch brought an event that no Trivet node writes: ${why}`, {
      cause,
    })
  }
}
