// Time as the state machine knows it, and the real one.

import { setImmediate as turn } from 'node:timers/promises'

/** Clocks, timers and turns of the event loop, so that a simulation can hold them. */
export type StateTime = {
  /** Milliseconds, monotonic. */
  readonly now: () => number
  /** Calls `run` once, in `ms` milliseconds, unless the returned function is called before. */
  readonly after: (ms: number, run: () => void) => () => void
  /** Resolves when everything else that is ready has had its turn. */
  readonly turn: () => Promise<void>
}

export const realTime: StateTime = {
  now: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
  turn: () => turn(),
}

/** Longest stretch of work on the event loop without letting others in, in milliseconds (`safety.md`, rule 22). */
const stretchMs = 5

/** Bytes of work between two looks at the clock: a look costs as much as a small step. */
const unwatchedBytes = 16 * 1024
/** What a step counts for besides its bytes. */
const stepBytes = 1024

/** Long work that lets others in between its steps. */
export class Stretch {
  readonly #time: StateTime
  #since: number
  #unwatched = 0

  constructor(time: StateTime) {
    this.#time = time
    this.#since = time.now()
  }

  /** Whether the stretch has lasted long enough: `pause` is due. */
  get over(): boolean {
    return this.#time.now() - this.#since > stretchMs
  }

  /** The same after a step on so many bytes, which looks at the clock only once there was some work. */
  isOverAfter(bytes: number): boolean {
    this.#unwatched += stepBytes + bytes
    if (this.#unwatched < unwatchedBytes) return false
    this.#unwatched = 0
    return this.over
  }

  /** Lets others in; a new stretch begins. */
  async pause(): Promise<void> {
    await this.#time.turn()
    this.#since = this.#time.now()
  }
}
