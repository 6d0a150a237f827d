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

/** Long work that lets others in between its steps. */
export class Stretch {
  readonly #time: StateTime
  #since: number

  constructor(time: StateTime) {
    this.#time = time
    this.#since = time.now()
  }

  /** Whether the stretch has lasted long enough: `pause` is due. */
  get over(): boolean {
    return this.#time.now() - this.#since > stretchMs
  }

  /** Lets others in; a new stretch begins. */
  async pause(): Promise<void> {
    await this.#time.turn()
    this.#since = this.#time.now()
  }
}
