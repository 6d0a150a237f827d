// Clients that take no maybe for an answer: they name each write, in a session or by a key, and send it again through other nodes
// until it is decided.

import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { TrivetError } from '../../src/errors.ts'
import type { Executed } from '../../src/node/surface.ts'
import type { Once } from '../../src/store/types.ts'
import { Chance } from '../raft/chance.ts'
import { changeOf, choose, type Habits, resultOf, type Served, use } from './clients.ts'
import type { History } from './history.ts'
import type { Write } from './key-value.ts'

/** A cluster whose nodes open sessions, of the id given. */
type Sessions = Served & {
  readonly openSession: (node: string, session: string, deadlineMs: number) => Promise<Executed>
}
type Place = { readonly town: Sessions; readonly history: History }

export type StubbornOptions = Habits & {
  readonly seed: number
  readonly clients: number
  /** How they name their writes: in a session, unless given. */
  readonly by?: Once['type']
  /** How long they wait for one try at most, in milliseconds: one of these each time, by default often not long enough. */
  readonly patience?: readonly number[]
  /** How long they think before the next call at most, in milliseconds. */
  readonly thinkingMs?: number
  readonly sleep?: (ms: number) => Promise<void>
  /** After so many tries, or the first that fails once they are stopped, the outcome stays unknown; they never give up unless given. */
  readonly tries?: number
}

export type Stubborn = {
  /** Writes that were answered from memory. */
  readonly replays: () => number
  /** Sessions that ended before their clients did. */
  readonly ended: () => number
  /** Resolves when every write begun has been answered or given up. */
  readonly stop: () => Promise<void>
}

/** What clients of one run have in common. */
type Running = { stops: boolean; replays: number; ended: number }

/** Runs clients until `stop`. Their choices follow from the seed. */
export function runStubborn(place: Place, options: StubbornOptions): Stubborn {
  const running: Running = { stops: false, replays: 0, ended: 0 }
  const all = Promise.all(
    Array.from({ length: options.clients }, (_, at) => new Client(place, options, running, at).run()),
  )
  // Whoever awaits `stop` learns of it; until then it must not end the process.
  all.catch(() => {})
  return {
    replays: () => running.replays,
    ended: () => running.ended,
    stop: async () => {
      running.stops = true
      await all
    },
  }
}

class Client {
  readonly #place: Place
  readonly #options: Required<StubbornOptions>
  readonly #running: Running
  readonly #chance: Chance
  readonly #name: string
  /** The version of each key that it saw last, to build on. */
  readonly #seen = new Map<string, number>()
  #session: string | undefined
  #sessions = 0
  /** The number of its last write, in its session or of all. */
  #seq = 0

  constructor(place: Place, options: StubbornOptions, running: Running, at: number) {
    this.#place = place
    this.#options = {
      by: 'session',
      patience: [5, 15, 30, 100, 400],
      thinkingMs: 0,
      sleep: delay,
      tries: Number.POSITIVE_INFINITY,
      counters: [],
      ttls: [],
      transactions: false,
      ...options,
    }
    this.#running = running
    this.#chance = new Chance(options.seed * 1000 + at)
    this.#name = `${this.#options.by.charAt(0)}${at + 1}`
  }

  async run(): Promise<void> {
    const { thinkingMs, sleep, by } = this.#options
    for (let turn = 1; !this.#running.stops; turn++) {
      if (thinkingMs > 0) await sleep(this.#chance.next() * thinkingMs)
      if (by === 'session' && this.#session === undefined) {
        await this.#open()
        continue
      }
      const value = `${this.#name}-${turn}`
      const operation = choose(this.#chance, this.#options, { value, seen: this.#seen })
      if (operation.type !== 'get' && operation.type !== 'expire') await this.#write(operation)
      else {
        const node = this.#chance.pick(this.#place.town.ids)
        await use(this.#place, { client: this.#name, node, operation }, 100)
      }
    }
  }

  async #write(operation: Write): Promise<void> {
    const { town, history } = this.#place
    this.#seq += 1
    const change = { ...changeOf(operation), once: this.#once(operation) }
    const invocation = history.invoke({ client: this.#name, node: 'any', operation })
    const executed = await this.#untilAnswered((node, ms) => town.change(node, change, ms))
    if (executed === undefined) {
      invocation.info('given up')
      return
    }
    const { outcome } = executed
    if (outcome.type === 'refused' && outcome.code === 'session-expired') {
      // A try that was not answered may have come before the end.
      invocation.info(outcome.code)
      this.#running.ended += 1
      this.#session = undefined
      return
    }
    invocation.ok(resultOf(outcome))
    if (outcome.replayed === true) this.#running.replays += 1
    if ('key' in operation && 'revision' in outcome && outcome.revision !== undefined) {
      this.#seen.set(operation.key, outcome.revision)
    }
  }

  #once(operation: Write): Once {
    const seq = this.#seq
    // What was given up is acknowledged too: from then on it can take no effect any more.
    if (this.#session !== undefined) return { type: 'session', session: this.#session, seq, acked: seq - 1 }
    const digest = createHash('sha256').update(JSON.stringify(operation)).digest()
    return { type: 'key', key: `${this.#name}-${seq}`, digest }
  }

  async #open(): Promise<void> {
    this.#sessions += 1
    const session = `${this.#name}-${this.#sessions}-`.padEnd(22, 'x')
    const { town } = this.#place
    const executed = await this.#untilAnswered((node, ms) => town.openSession(node, session, ms))
    if (executed === undefined) return
    const { outcome } = executed
    // Refused when it was opened by a try that nobody heard of again.
    if (
      outcome.type !== 'sessionOpened' &&
      !(outcome.type === 'refused' && outcome.code === 'invalid-request')
    )
      throw new Error(`opening a session came to ${JSON.stringify(outcome)}`)
    this.#session = session
    this.#seq = 0
  }

  /**
   * Tries one node after the other until one answers; undefined when it gives up. What a node cannot tell, or a process that
   * ends, is no answer.
   */
  async #untilAnswered<T>(attempt: (node: string, ms: number) => Promise<T>): Promise<T | undefined> {
    const { patience, sleep, tries } = this.#options
    for (let count = 1; ; count++) {
      try {
        return await attempt(this.#chance.pick(this.#place.town.ids), this.#chance.pick(patience))
      } catch (error) {
        const reason = error instanceof Error ? error.message : ''
        if (!(error instanceof TrivetError) && !/ (does not run|has ended)$/.test(reason)) throw error
      }
      if (count >= tries || (this.#running.stops && Number.isFinite(tries))) return undefined
      await sleep(1 + this.#chance.below(5))
    }
  }
}
