// The virtual world: one queue of events, one clock, one seed. Between two events everything that awaits runs out.
//
// A run is one synchronous call, so nothing of the real machine can come in between: whatever would wait for a real
// timer or a real disk waits for ever, and the run ends for want of events.

import { Chance } from '../raft/chance.ts'
import { Transcript } from './transcript.ts'

type Event = { readonly at: number; readonly number: number; readonly run: () => void }

/** Runs everything that awaits, and what comes of it, until nothing is left that could run. */
const drain: () => void = (() => {
  // Node has no documented call for it. This one is what it calls itself after each callback of its event loop.
  const tick: unknown = Reflect.get(process, '_tickCallback')
  if (typeof tick !== 'function') throw new Error('This Node does not offer process._tickCallback.')
  return () => {
    Reflect.apply(tick, process, [])
  }
})()

/** Midnight before the first line of this simulator, as the wall clocks of the world know it. */
const epoch = Date.UTC(2026, 10, 22)

/** What would let the real machine into a run, by where it is found. */
const real = [
  [globalThis, 'setTimeout'],
  [globalThis, 'setInterval'],
  [globalThis, 'setImmediate'],
  [performance, 'now'],
  [Date, 'now'],
  [Math, 'random'],
  [AbortSignal, 'timeout'],
  [crypto, 'getRandomValues'],
  [crypto, 'randomUUID'],
] as const

/** Tells of whoever asks the machine itself for time or chance, until the returned function is called. */
export function forbidRealTime(tell: (what: string) => void): () => void {
  const undo = real.map(([place, name]) => {
    const before: unknown = Reflect.get(place, name)
    if (typeof before !== 'function') throw new Error(`there is no ${name}`)
    Reflect.set(place, name, (...given: unknown[]) => {
      tell(`somebody calls ${name}`)
      return Reflect.apply(before, place, given)
    })
    return () => Reflect.set(place, name, before)
  })
  return () => {
    for (const restore of undo) restore()
  }
}

export class World {
  readonly seed: number
  readonly transcript: Transcript
  readonly #queue = new EventQueue()
  #events = 0
  #now = 0
  #streams = 0

  constructor(seed: number, options: { readonly trace?: ((line: string) => void) | undefined } = {}) {
    this.seed = seed
    this.transcript = new Transcript(() => this.#now, options.trace)
  }

  /** Milliseconds since the world began: no clock in it goes back. */
  get now(): number {
    return this.#now
  }

  /** What an exact wall clock shows, in milliseconds since 1970. */
  get wallClock(): number {
    return epoch + Math.floor(this.#now)
  }

  /** How many events have happened. */
  get events(): number {
    return this.#events
  }

  /** A stream of chance of its own, so that a draw more in one place changes none in another. */
  chance(): Chance {
    this.#streams += 1
    return new Chance(Math.imul(this.seed, 0x9e3779b1) ^ Math.imul(this.#streams, 0x85ebca6b))
  }

  /** Calls `run` in so many milliseconds, never within this call, those of one moment in the order of these calls. */
  after(milliseconds: number, run: () => void): void {
    this.#queue.push({ at: this.#now + Math.max(0, milliseconds), number: this.#queue.pushed, run })
  }

  sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => this.after(milliseconds, resolve))
  }

  /**
   * Lets events happen until `done`, calling `look` after each. Returns whether it was done by `until`, a time of this
   * world's clock. Must not be called from within a promise's continuation: they would not run then.
   */
  run(options: { readonly until: number; readonly done: () => boolean; readonly look: () => void }): boolean {
    for (;;) {
      drain()
      options.look()
      if (options.done()) return true
      const event = this.#queue.pop(options.until)
      if (event === undefined) {
        this.#now = Math.max(this.#now, options.until)
        return false
      }
      this.#now = event.at
      this.#events += 1
      this.transcript.mix(event.at)
      event.run()
    }
  }
}

/** A binary heap by time and then by number. */
class EventQueue {
  readonly #heap: Event[] = []
  #pushed = 0

  get pushed(): number {
    return this.#pushed
  }

  push(event: Event): void {
    this.#pushed += 1
    const heap = this.#heap
    let at = heap.length
    heap.push(event)
    while (at > 0) {
      const above = (at - 1) >> 1
      const parent = heap[above]
      if (parent === undefined || isEarlier(parent, event)) break
      heap[at] = parent
      at = above
    }
    heap[at] = event
  }

  /** Takes the next event, if it happens by `until`. */
  pop(until: number): Event | undefined {
    const heap = this.#heap
    const first = heap[0]
    if (first === undefined || first.at > until) return undefined
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return first
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      const left = heap[below]
      if (left === undefined) break
      const right = heap[below + 1]
      const child = right !== undefined && isEarlier(right, left) ? right : left
      if (child === right) below += 1
      if (isEarlier(last, child)) break
      heap[at] = child
      at = below
    }
    heap[at] = last
    return first
  }
}

function isEarlier(one: Event, other: Event): boolean {
  return one.at < other.at || (one.at === other.at && one.number < other.number)
}
