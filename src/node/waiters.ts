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

/** What came of one of several. */
export type Settled<T> = { readonly value: T } | { readonly error: unknown }

/** What may be settled: a caller, or a caller's share of what it waits for. */
export type Settling<T> = Pick<Waiter<T>, 'deadline' | 'settled' | 'resolve' | 'reject'>

/**
 * One caller that waits for several things. Resolves once each is settled, with what came of them in order. Where the signal
 * comes first it rejects with its reason, and what is not settled by then counts as settled.
 */
export class SharedWaiter<T> {
  readonly #whole: Waiter<readonly Settled<T>[]>
  readonly #settled: Settled<T>[]
  #open: number

  constructor(count: number, options: WaitOptions, onAbort: () => void) {
    this.#whole = new Waiter(options, onAbort)
    this.#settled = new Array<Settled<T>>(count)
    this.#open = count
    if (count === 0) this.#whole.resolve([])
  }

  get promise(): Promise<readonly Settled<T>[]> {
    return this.#whole.promise
  }

  get settled(): boolean {
    return this.#whole.settled
  }

  /** The caller's part that waits for the thing of this number. */
  share(at: number): Settling<T> {
    return new Share(this.#whole, (came) => {
      this.#settled[at] = came
      this.#open -= 1
      if (this.#open === 0) this.#whole.resolve(this.#settled)
    })
  }
}

class Share<T> implements Settling<T> {
  readonly #whole: Pick<Waiter<unknown>, 'deadline' | 'settled'>
  readonly #note: (came: Settled<T>) => void
  #own = false

  constructor(whole: Pick<Waiter<unknown>, 'deadline' | 'settled'>, note: (came: Settled<T>) => void) {
    this.#whole = whole
    this.#note = note
  }

  get deadline(): number {
    return this.#whole.deadline
  }

  get settled(): boolean {
    return this.#own || this.#whole.settled
  }

  resolve(value: T): void {
    this.#settle({ value })
  }

  reject(error: unknown): void {
    this.#settle({ error })
  }

  #settle(came: Settled<T>): void {
    if (this.settled) return
    this.#own = true
    this.#note(came)
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
