// Clients that take no maybe for an answer: in a session, they send a write again through other nodes until it is decided.

import { setTimeout as delay } from 'node:timers/promises'
import { TrivetError } from '../../src/errors.ts'
import type { Executed } from '../../src/node/surface.ts'
import { Chance } from '../raft/chance.ts'
import { changeOf, choose, resultOf, type Served, use } from './clients.ts'
import type { History } from './history.ts'
import type { Operation } from './key-value.ts'

/** A cluster whose nodes open sessions, of the id given. */
type Sessions = Served & {
  readonly openSession: (node: string, session: string, deadlineMs: number) => Promise<Executed>
}
type Place = { readonly town: Sessions; readonly history: History }
type Write = Exclude<Operation, { type: 'get' }>

/** Waiting this long at most for one try, in milliseconds: often not long enough. */
const patience = [5, 15, 30, 100, 400]

export type Stubborn = {
  /** Writes that were answered from memory. */
  readonly replays: () => number
  /** Resolves when every write begun has been answered. */
  readonly stop: () => Promise<void>
}

/** Runs clients until `stop`. Their choices follow from the seed. */
export function runStubborn(
  place: Place,
  options: { readonly seed: number; readonly clients: number; readonly keys: readonly string[] },
): Stubborn {
  const running = { stops: false, replays: 0 }
  const all = Promise.all(
    Array.from({ length: options.clients }, async (_, at) => {
      const chance = new Chance(options.seed * 1000 + at)
      const client = `s${at + 1}`
      const session = `${client}-`.padEnd(22, 'x')
      await untilAnswered(place.town, chance, (node, ms) => open(place.town, { node, session, ms }))
      const seen = new Map<string, number>()
      for (let turn = 1, seq = 0; !running.stops; turn++) {
        const key = chance.pick(options.keys)
        const operation = choose(chance, { key, value: `${client}-${turn}`, seen: seen.get(key) })
        if (operation.type === 'get') {
          await use(place, { client, node: chance.pick(place.town.ids), operation }, 100)
          continue
        }
        seq += 1
        const { outcome } = await write(place, { client, session, seq, operation, chance })
        if (outcome.replayed === true) running.replays += 1
        if ('revision' in outcome && outcome.revision !== undefined) seen.set(key, outcome.revision)
      }
    }),
  )
  // Whoever awaits `stop` learns of it; until then it must not end the process.
  all.catch(() => {})
  return {
    replays: () => running.replays,
    stop: async () => {
      running.stops = true
      await all
    },
  }
}

async function write(
  { town, history }: Place,
  what: {
    readonly client: string
    readonly session: string
    readonly seq: number
    readonly operation: Write
    readonly chance: Chance
  },
): Promise<Executed> {
  const { client, session, seq, operation, chance } = what
  const once = { type: 'session', session, seq, acked: seq - 1 } as const
  const invocation = history.invoke({ client, node: 'any', operation })
  const executed = await untilAnswered(town, chance, (node, ms) =>
    town.change(node, { ...changeOf(operation), once }, ms),
  )
  invocation.ok(resultOf(executed.outcome))
  return executed
}

async function open(
  town: Sessions,
  { node, session, ms }: { readonly node: string; readonly session: string; readonly ms: number },
): Promise<void> {
  const { outcome } = await town.openSession(node, session, ms)
  // Refused when it was opened by a try that nobody heard of again.
  if (outcome.type !== 'sessionOpened' && !(outcome.type === 'refused' && outcome.code === 'invalid-request'))
    throw new Error(`opening a session came to ${JSON.stringify(outcome)}`)
}

/** Tries one node after the other until one answers. What a node cannot tell, or a process that ends, is no answer. */
async function untilAnswered<T>(
  town: Sessions,
  chance: Chance,
  attempt: (node: string, ms: number) => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await attempt(chance.pick(town.ids), chance.pick(patience))
    } catch (error) {
      const reason = error instanceof Error ? error.message : ''
      if (!(error instanceof TrivetError) && !/ (does not run|has ended)$/.test(reason)) throw error
      await delay(1 + chance.below(5))
    }
  }
}
