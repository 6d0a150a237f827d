// A hub over a state machine on the twin of LevelDB in memory, with a clock of its own, and readers of its streams.

import type { WatchEvent, WatchQuery, WatchStream } from '../../src/node/surface.ts'
import { WatchHub, type WatchHubOptions } from '../../src/node/watch-hub.ts'
import type { StateMachineOptions } from '../../src/store/state-machine.ts'
import type { MemoryState } from '../store/memory-state.ts'
import { type Machine, memory, tokens, type Workshop } from '../store/state-fixtures.ts'

export class WatchBed {
  readonly hub: WatchHub
  level: MemoryState
  machine: Machine
  now = 0
  readonly #workshop: Workshop
  readonly #options: Partial<StateMachineOptions>

  private constructor(
    workshop: Workshop,
    { level, machine }: { level: MemoryState; machine: Machine },
    options: Partial<StateMachineOptions> & Partial<WatchHubOptions>,
  ) {
    this.#workshop = workshop
    this.#options = options
    this.level = level
    this.machine = machine
    this.hub = new WatchHub({ now: () => this.now, ...options })
    this.hub.show(machine.state)
  }

  static async make(
    workshop: Workshop,
    options: Partial<StateMachineOptions> & Partial<WatchHubOptions> = {},
  ): Promise<WatchBed> {
    const level = await memory()
    const machine = await workshop.open(level, options)
    return new WatchBed(workshop, { level, machine }, options)
  }

  /** Ends the process and begins another, with what LevelDB then has. */
  async restart(): Promise<void> {
    this.hub.show(undefined)
    await this.machine.state.close()
    this.level = await this.level.restart()
    await this.level.open()
    const { state } = await this.#workshop.open(this.level, this.#options)
    this.machine = this.machine.on(state)
    this.hub.show(state)
  }

  /** Time passes: everybody is told how far the state has come. */
  tell(): void {
    this.now += 5000
    this.hub.tick({ hasLeader: true })
  }

  watch(query: Partial<WatchQuery> = {}, signal?: AbortSignal): Reader {
    const whole: WatchQuery = {
      token: tokens.admin.hash,
      store: 'default',
      prefixes: [],
      keys: [],
      start: { type: 'now' },
      values: true,
      ...query,
    }
    return new Reader(this.hub.watch(whole, { signal }))
  }
}

/** Reads a stream group by group, when it is told to. */
export class Reader {
  readonly stream: WatchStream
  readonly events: WatchEvent[] = []
  ended = false
  readonly #iterator: AsyncIterator<readonly WatchEvent[]>

  constructor(stream: WatchStream) {
    this.stream = stream
    this.#iterator = stream[Symbol.asyncIterator]()
  }

  /** One group of events. */
  async read(): Promise<void> {
    const step = await this.#iterator.next()
    if (step.done === true) this.ended = true
    else this.events.push(...step.value)
  }

  /** Reads until the condition holds or the stream is over. */
  async until(condition: (reader: this) => boolean): Promise<this> {
    while (!this.ended && !condition(this)) await this.read()
    return this
  }

  /** Reads all that can be had up to a revision. */
  upTo(revision: number): Promise<this> {
    return this.until(({ events }) =>
      events.some((event) => event.type === 'progress' && event.revision >= revision),
    )
  }

  async close(): Promise<void> {
    await this.#iterator.return?.()
  }

  get types(): readonly string[] {
    return this.events.map(({ type }) => type)
  }
}

/** An event as one line. */
export function textOf(event: WatchEvent): string {
  if (!('key' in event)) return event.type
  const value =
    event.type === 'set' && event.record.value !== undefined ? Buffer.from(event.record.value) : ''
  return `${event.type} ${Buffer.from(event.key)} ${value}`.trim()
}

/** What a reader was told, a line an event. */
export const told = (reader: Reader) => reader.events.map(textOf)
