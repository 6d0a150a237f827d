// Callers that wait, each with a deadline and perhaps a signal. One look at the clock per tick serves all of them.

import type { WaitOptions } from './surface.ts'

/** One caller. Settled once; what happens to it afterwards changes nothing. */
export class Waiter<T> {
  readonly deadline: number
  readonly promise: Promise<T>
  readonly #resolve: (value: T) => void
  readonly #reject: (reason: unknown) => void
  readonly #signal: AbortSignal | undefined
  readonly #onAbort: (() => void) | undefined
  #settled = false

  /**
   * `onAbort` is told when the signal settles the waiter later on, which then rejects with the signal's reason. With a
   * signal that is aborted already, the waiter is settled from the start.
   */
  constructor(options: WaitOptions, onAbort: () => void) {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    this.deadline = options.deadline
    this.promise = promise
    this.#resolve = resolve
    this.#reject = reject
    this.#signal = options.signal
    if (options.signal === undefined) {
      this.#onAbort = undefined
      return
    }
    const { signal } = options
    this.#onAbort = () => {
      if (this.#settled) return
      this.reject(signal.reason)
      onAbort()
    }
    if (signal.aborted) this.reject(signal.reason)
    else signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  get settled(): boolean {
    return this.#settled
  }

  resolve(value: T): void {
    if (this.#settle()) this.#resolve(value)
  }

  reject(reason: unknown): void {
    if (this.#settle()) this.#reject(reason)
  }

  #settle(): boolean {
    if (this.#settled) return false
    this.#settled = true
    if (this.#onAbort !== undefined) this.#signal?.removeEventListener('abort', this.#onAbort)
    return true
  }
}

/**
 * Knows when the next deadline is due without looking at every waiter: a lower bound, made exact whenever it is
 * reached. Most waiters are settled long before.
 */
export class EarliestDeadline {
  #at = Number.POSITIVE_INFINITY

  note(deadline: number): void {
    if (deadline < this.#at) this.#at = deadline
  }

  /** True when some deadline may have passed; then go through the waiters and `note` those that stay. */
  due(now: number): boolean {
    if (now < this.#at) return false
    this.#at = Number.POSITIVE_INFINITY
    return true
  }
}
