// Reads that name a revision (`minRevision`) and wait until this node has applied it.

import { TrivetError } from '../errors.ts'
import type { WaitOptions } from './surface.ts'
import { EarliestDeadline, Waiter } from './waiters.ts'

type Waiting = { readonly revision: number; readonly waiter: Waiter<void> }

export class RevisionWaiters {
  readonly #maxWaiting: number
  /** The revision applied here, as of now. */
  readonly #applied: () => number
  #waiting: Waiting[] = []
  readonly #deadlines = new EarliestDeadline()

  constructor(options: { readonly maxWaiting: number; readonly applied: () => number }) {
    this.#maxWaiting = options.maxWaiting
    this.#applied = options.applied
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Resolves once `revision` is applied. Rejects with `overloaded` or `deadline-exceeded`. */
  add(revision: number, options: WaitOptions): Promise<void> {
    if (this.#applied() >= revision) return Promise.resolve()
    if (this.#waiting.length >= this.#maxWaiting) {
      const limit = this.#maxWaiting
      return Promise.reject(
        new TrivetError('overloaded', `${limit} reads are waiting for a revision already`, {
          field: 'waiting reads',
          limit,
          actual: limit + 1,
        }),
      )
    }
    const waiter = new Waiter<void>(options, () => this.#sweep())
    if (waiter.settled) return waiter.promise
    this.#deadlines.note(waiter.deadline)
    this.#waiting.push({ revision, waiter })
    return waiter.promise
  }

  /** More has been applied. */
  applied(): void {
    if (this.#waiting.length === 0) return
    const applied = this.#applied()
    for (const { revision, waiter } of this.#waiting) if (revision <= applied) waiter.resolve()
    this.#sweep()
  }

  tick(now: number): void {
    if (!this.#deadlines.due(now)) return
    const applied = this.#applied()
    for (const { revision, waiter } of this.#waiting) {
      if (waiter.deadline > now) this.#deadlines.note(waiter.deadline)
      else {
        const detail = `This node has applied revision ${applied}, not yet ${revision}`
        waiter.reject(new TrivetError('deadline-exceeded', detail))
      }
    }
    this.#sweep()
  }

  close(reason: TrivetError): void {
    for (const { waiter } of this.#waiting) waiter.reject(reason)
    this.#waiting = []
  }

  #sweep(): void {
    this.#waiting = this.#waiting.filter(({ waiter }) => !waiter.settled)
  }
}
