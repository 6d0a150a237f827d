// Clients that use the cluster through all of its nodes, by REST and by the SDK, and write down what they did and saw.

import { setTimeout as delay } from 'node:timers/promises'
import type { History, Invocation } from '../linear/history.ts'
import type { Condition, Result, Step, Transaction } from '../linear/key-value.ts'
import { Chance } from '../raft/chance.ts'
import { type Ending, SdkDoor, type Use, useRest, useRestAgain } from './doors.ts'
import { shuffled } from './fault.ts'
import type { Ground } from './ground.ts'

/** An answer that the contract does not know, or a value that nobody wrote. */
export type Surprise = { readonly time: number; readonly client: string; readonly text: string }

/** Keys live for this many calls, so that those of unknown outcome do not gather on one for the whole run. */
const callsOfKeys = 1200
const keysAtOnce = 8

/** Keys that are only counted up and read. They stay: what an increment of unknown outcome may have done is as good as another. */
const counters = ['hits', 'visits']

type WorkloadOptions = {
  readonly seed: number
  readonly clients: number
  /** Calls a second, all clients together. */
  readonly rate: number
  /** Milliseconds since the run began. */
  readonly now: () => number
}

export class Workload {
  readonly surprises: Surprise[] = []
  readonly #ground: Ground
  readonly #history: History
  readonly #options: WorkloadOptions
  readonly #running: Promise<void>[] = []
  #calls = 0
  #isStopping = false

  constructor(ground: Ground, history: History, options: WorkloadOptions) {
    this.#ground = ground
    this.#history = history
    this.#options = options
  }

  /** All keys that calls were made on so far. */
  get keys(): readonly string[] {
    const generations = Math.ceil(this.#calls / callsOfKeys)
    const named = Array.from({ length: generations * keysAtOnce }, (_, at) =>
      keyName(Math.floor(at / keysAtOnce), at % keysAtOnce),
    )
    return [...named, ...counters]
  }

  start(): void {
    for (let at = 0; at < this.#options.clients; at++) this.#running.push(this.#client(at))
    // Whoever awaits `stop` learns of it; until then it must not end the process.
    for (const running of this.#running) running.catch(() => {})
  }

  /** Resolves when the last call has ended. */
  async stop(): Promise<void> {
    this.#isStopping = true
    await Promise.all(this.#running)
  }

  /** Reads every key through every node, as a client that comes last. */
  async readAll(): Promise<void> {
    const readers = this.#ground.ids.flatMap((node) => {
      const keys = this.keys.values()
      return Array.from({ length: 4 }, async (_, at) => {
        for (const key of keys) {
          const client = `last-${at + 1}`
          const result = await this.#rest(client, node, { type: 'get', key })
          if (result === undefined)
            this.#surprise(client, `${key} could not be read through ${node} at the end`)
        }
      })
    })
    await Promise.all(readers)
  }

  async #client(at: number): Promise<void> {
    const { seed, clients, rate } = this.#options
    const chance = new Chance(seed * 1009 + at)
    const door = at % 2 === 1 ? new SdkDoor(this.#ground) : undefined
    const repeats = at % 4 === 2
    const client = `${door !== undefined ? 'sdk' : repeats ? 'again' : 'rest'}-${at + 1}`
    const pause = (1000 * clients) / rate
    /** The version of each key that this client saw last, to build on. */
    const seen = new Map<string, number>()
    let due = performance.now() + chance.next() * pause
    for (let turn = 1; !this.#isStopping; turn++) {
      await delay(Math.max(0, due - performance.now()))
      // Whoever waited for a slow answer does not catch up in a rush.
      due = Math.max(due, performance.now() - pause) + pause * (0.5 + chance.next())
      const generation = Math.floor(this.#calls++ / callsOfKeys)
      const key = keyName(generation, chance.below(keysAtOnce))
      const value = `${client}.${turn}`
      if (door !== undefined && chance.happens(0.15)) {
        const several = chooseSeveral(chance, { generation, value, seen })
        const result = await this.#record({ client, node: 'any', operation: several }, () =>
          door.use(several),
        )
        if (result === undefined) await delay(20)
        continue
      }
      const operation = chance.happens(0.2)
        ? count(chance)
        : choose(chance, { key, value, seen: seen.get(key) })
      const nodes = shuffled(this.#ground.ids, chance)
      const [node = 'none'] = nodes
      const result =
        door !== undefined
          ? await this.#record({ client, node: 'any', operation }, () => door.use(operation))
          : repeats && operation.type !== 'get'
            ? await this.#record({ client, node, operation }, () =>
                useRestAgain(this.#ground, nodes.slice(0, 3), operation, `${client}.${turn}`),
              )
            : await this.#rest(client, node, operation)
      if (result === undefined) await delay(20)
      else if ('version' in result && result.version !== undefined) seen.set(operation.key, result.version)
      else seen.delete(operation.key)
    }
    await door?.close()
  }

  #rest(client: string, node: string, operation: Use): Promise<Result | undefined> {
    return this.#record({ client, node, operation }, () => useRest(this.#ground, node, operation))
  }

  async #record(
    what: { readonly client: string; readonly node: string; readonly operation: Use | Transaction },
    use: () => Promise<Ending>,
  ): Promise<Result | undefined> {
    const invocation = this.#history.invoke(what)
    let ending: Ending
    try {
      ending = await use()
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      const { operation } = what
      const on = 'key' in operation ? operation.key : operation.steps.map(({ key }) => key).join(', ')
      this.#surprise(what.client, `${operation.type} ${on} at ${what.node}: ${reason}`)
      // Whatever it is, a write may have been made.
      ending = { type: what.operation.type === 'get' ? 'fail' : 'info', reason }
    }
    return end(invocation, ending)
  }

  #surprise(client: string, text: string): void {
    this.surprises.push({ time: this.#options.now(), client, text })
  }
}

function end(invocation: Invocation, ending: Ending): Result | undefined {
  switch (ending.type) {
    case 'ok':
      invocation.ok(ending.result)
      return ending.result
    case 'fail':
      invocation.fail(ending.reason)
      return undefined
    case 'info':
      invocation.info(ending.reason)
      return undefined
    default:
      return ending satisfies never
  }
}

function keyName(generation: number, at: number): string {
  return `g${generation}-${at}`
}

/** Two or three keys of one generation at one moment. */
function chooseSeveral(
  chance: Chance,
  {
    generation,
    value,
    seen,
  }: { readonly generation: number; readonly value: string; readonly seen: ReadonlyMap<string, number> },
): Transaction {
  const all = Array.from({ length: keysAtOnce }, (_, at) => keyName(generation, at))
  const keys = shuffled(all, chance).slice(0, chance.happens(0.5) ? 2 : 3)
  const steps = keys.map((key, at): Step => {
    const draw = chance.next()
    if (draw < 0.3) return { type: 'get', key }
    return draw < 0.85 ? { type: 'set', key, value: `${value}.${at}` } : { type: 'delete', key }
  })
  const [key = ''] = keys
  const version = seen.get(key)
  if (version === undefined || version === 0 || chance.happens(0.4)) return { type: 'transaction', steps }
  return { type: 'transaction', steps, when: { key, condition: { type: 'version', version } } }
}

function count(chance: Chance): Use {
  const key = chance.pick(counters)
  return chance.happens(0.8) ? { type: 'increment', key, by: 1 } : { type: 'get', key }
}

function choose(
  chance: Chance,
  { key, value, seen }: { readonly key: string; readonly value: string; readonly seen: number | undefined },
): Use {
  const draw = chance.next()
  if (draw < 0.4) return { type: 'get', key }
  if (draw < 0.65) return { type: 'set', key, value }
  if (draw < 0.72) return { type: 'delete', key }
  if (seen === undefined || seen === 0 || draw >= 0.94)
    return { type: 'set', key, value, condition: { type: 'absent' } }
  const condition: Condition = { type: 'version', version: seen }
  return draw < 0.9 ? { type: 'set', key, value, condition } : { type: 'delete', key, condition }
}
