// Linearizable reads on any node: one ReadIndex for all reads that wait, then until that index is applied here.

import { TrivetError } from '../errors.ts'
import type { WaitOptions } from './surface.ts'
import { EarliestDeadline, Waiter } from './waiters.ts'

export type ReadBarrierOptions = {
  /** The number of this start of the node. */
  readonly boot: number
  readonly maxWaiting: number
  /** A ReadIndex without an answer for this long is asked again, in milliseconds. */
  readonly askAgainAfter: number
  /** The clock of `performance.now()`. */
  readonly now: () => number
}

/**
 * Ids are never used twice, also across boots: a late answer to a question of the boot before would let a read see the past.
 * Boots are numbered by at least the seconds they lie apart, and nobody asks a million times a second.
 */
const idsPerSecond = 2 ** 20

/** Where an answer takes longer than this many times the patience of its asker, no leader could be followed either. */
const maxLateRounds = 32

type Round = { readonly id: number; readonly waiters: readonly Waiter<void>[]; readonly askedAt: number }

type Confirmed = { readonly index: number; readonly waiters: readonly Waiter<void>[] }

/**
 * A read may use only a ReadIndex that was asked after the read came (`safety.md`, rule 19). So reads gather while one is under way,
 * and the next one serves all that gathered.
 */
export class ReadBarrier {
  readonly #options: ReadBarrierOptions
  #gathering: Waiter<void>[] = []
  /** Asked last and not given up. */
  #round: Round | undefined
  /** Given up, oldest first: whoever was in one has been asked for again, but an answer may be slower than that. */
  #late: Round[] = []
  /** Waiting to be applied up to an index. */
  #confirmed: Confirmed[] = []
  #waiting = 0
  #lastId: number
  /** The last answer was "ask again": not before something changed. */
  #refused = false
  readonly #deadlines = new EarliestDeadline()

  constructor(options: ReadBarrierOptions) {
    this.#options = options
    this.#lastId = options.boot * idsPerSecond
  }

  get waiting(): number {
    return this.#waiting
  }

  /** Whether `ask` would have something to ask. */
  get due(): boolean {
    return this.#round === undefined && this.#gathering.length > 0 && !this.#refused
  }

  add(options: WaitOptions): Promise<void> {
    const { maxWaiting } = this.#options
    if (this.#waiting >= maxWaiting) {
      return Promise.reject(
        new TrivetError('overloaded', `${maxWaiting} reads are waiting already`, {
          field: 'waiting reads',
          limit: maxWaiting,
          actual: this.#waiting + 1,
        }),
      )
    }
    const waiter = new Waiter<void>(options, () => this.#waiting--)
    if (waiter.settled) return waiter.promise
    this.#waiting++
    this.#deadlines.note(waiter.deadline)
    this.#gathering.push(waiter)
    return waiter.promise
  }

  /** Begins a round for everything that gathered and returns its id. */
  ask(): number {
    this.#lastId++
    this.#round = { id: this.#lastId, waiters: this.#gathering, askedAt: this.#options.now() }
    this.#gathering = []
    return this.#lastId
  }

  /** An answer: the index to wait for, or undefined to ask again. */
  answered(id: number, index: number | undefined, appliedIndex: number): void {
    const current = this.#round
    if (current?.id === id && index === undefined) {
      this.#refused = true
      this.#giveUpRound()
      return
    }
    const round = current?.id === id ? current : this.#late.find((late) => late.id === id)
    if (round === undefined || index === undefined) return
    // Its waiters include those of the rounds before it, and are in every round after it, beside younger ones.
    this.#late = this.#late.filter((late) => late.id > id)
    const served = new Set(round.waiters)
    const others = (waiters: readonly Waiter<void>[]) => waiters.filter((waiter) => !served.has(waiter))
    this.#gathering = others(this.#gathering)
    this.#round =
      round === current || current === undefined
        ? undefined
        : { ...current, waiters: others(current.waiters) }
    this.#confirmed.push({ index, waiters: round.waiters })
    this.applied(appliedIndex)
  }

  /** The state machine has come up to here. */
  applied(index: number): void {
    if (this.#confirmed.length === 0) return
    const later: Confirmed[] = []
    for (const confirmed of this.#confirmed) {
      if (confirmed.index > index) {
        later.push(confirmed)
        continue
      }
      for (const waiter of confirmed.waiters) {
        if (waiter.settled) continue
        this.#waiting--
        waiter.resolve()
      }
    }
    this.#confirmed = later
  }

  /** Another leads, or the way to it is another: what was asked may be lost. */
  askAgain(): void {
    this.#refused = false
    this.#giveUpRound()
  }

  /** `leaderKnown` tells which error those get whose deadline has passed. */
  tick(leaderKnown: boolean): void {
    const now = this.#options.now()
    this.#refused = false
    if (this.#round !== undefined && now - this.#round.askedAt >= this.#options.askAgainAfter)
      this.#giveUpRound()
    if (this.#deadlines.due(now)) this.#expire(now, leaderKnown)
  }

  /** The node stops. */
  close(): void {
    for (const waiter of this.#all()) {
      waiter.reject(new TrivetError('shutting-down', 'This node is stopping'))
    }
    this.#gathering = []
    this.#confirmed = []
    this.#round = undefined
    this.#late = []
    this.#waiting = 0
  }

  #giveUpRound(): void {
    if (this.#round === undefined) return
    this.#late = [...this.#late, this.#round].slice(-maxLateRounds)
    this.#gathering = [...this.#round.waiters.filter((waiter) => !waiter.settled), ...this.#gathering]
    this.#round = undefined
  }

  #expire(now: number, leaderKnown: boolean): void {
    for (const waiter of this.#all()) {
      if (waiter.settled) continue
      if (waiter.deadline > now) {
        this.#deadlines.note(waiter.deadline)
        continue
      }
      this.#waiting--
      waiter.reject(
        leaderKnown
          ? new TrivetError('deadline-exceeded', 'The read could not be confirmed before its deadline')
          : new TrivetError('no-leader', 'No leader was known before the deadline; nothing was read'),
      )
    }
    this.#gathering = this.#gathering.filter((waiter) => !waiter.settled)
  }

  *#all(): Iterable<Waiter<void>> {
    yield* this.#gathering
    if (this.#round !== undefined) yield* this.#round.waiters
    for (const confirmed of this.#confirmed) yield* confirmed.waiters
  }
}
