// Clients that use a cluster through all of its nodes, and write down what they did and saw.

import { setTimeout as delay } from 'node:timers/promises'
import { TrivetError } from '../../src/errors.ts'
import type { Executed } from '../../src/node/surface.ts'
import type { Item, OperationResult, Outcome, Condition as StoreCondition } from '../../src/store/types.ts'
import type { Change } from '../node/errands.ts'
import { Chance } from '../raft/chance.ts'
import type { History, Invocation } from './history.ts'
import type {
  Condition,
  KeyOperation,
  KeyResult,
  Operation,
  Result,
  Step,
  Transaction,
  Write,
} from './key-value.ts'

/** A cluster whose nodes serve one store. A call rejects with "… has ended" when its node's process does. */
export type Served = {
  readonly ids: readonly string[]
  readonly read: (node: string, key: string, deadlineMs: number) => Promise<Item | undefined>
  readonly change: (node: string, change: Change, deadlineMs: number) => Promise<Executed>
}

/** Does one operation through a node and records it. Resolves with what it came to, undefined when it failed or nobody knows. */
export async function use(
  { town, history }: { readonly town: Served; readonly history: History },
  what: { readonly client: string; readonly node: string; readonly operation: Operation },
  deadlineMs: number,
): Promise<Result | undefined> {
  const invocation = history.invoke(what)
  try {
    const result = await perform(town, what, deadlineMs)
    invocation.ok(result)
    return result
  } catch (error) {
    note(invocation, what.operation, error)
    return undefined
  }
}

async function perform(
  town: Served,
  { node, operation }: { readonly node: string; readonly operation: Operation },
  deadlineMs: number,
): Promise<Result> {
  if (operation.type === 'get') {
    const item = await town.read(node, operation.key, deadlineMs)
    if (item === undefined) return { type: 'absent' }
    return { type: 'found', value: Buffer.from(item.value).toString(), version: item.revision }
  }
  if (operation.type === 'expire') throw new Error('no client asks for an expiry')
  const { outcome } = await town.change(node, changeOf(operation), deadlineMs)
  return resultOf(outcome)
}

/** An operation that writes, as a town takes it. */
export function changeOf(operation: Write): Change {
  if (operation.type === 'transaction') {
    const { steps, when } = operation
    const guard = when === undefined ? {} : { when: { key: when.key, condition: asStored(when.condition) } }
    return { type: 'transaction', steps, ...guard }
  }
  if (operation.type !== 'set' && operation.type !== 'delete') return operation
  const { condition, ...change } = operation
  return { ...change, conditions: condition === undefined ? [] : [asStored(condition)] }
}

/** What a write came to. Throws for what no client here should meet. */
export function resultOf(outcome: Outcome): Result {
  switch (outcome.type) {
    case 'set':
      return { type: 'written', version: outcome.revision, created: outcome.created }
    case 'deleted':
      return { type: 'deleted', version: outcome.revision, existed: outcome.deleted }
    case 'incremented':
      return { type: 'counted', value: Number(outcome.value), version: outcome.revision }
    case 'touched':
      return { type: 'renewed' }
    case 'transaction': {
      const { succeeded, revision, results } = outcome
      return succeeded
        ? { type: 'done', results: results.map((one) => partOf(one, revision)) }
        : { type: 'declined' }
    }
    case 'refused': {
      const { code, revision } = outcome
      if (code === 'no-such-key') return { type: 'absent' }
      if (code !== 'condition-failed' || revision === undefined) throw new Error(`refused: ${code}`)
      return { type: 'refused', version: revision }
    }
    default:
      throw new Error(`a client's write does not come to ${outcome.type}`)
  }
}

/** What a step came to, in a transaction whose writes have this revision; undefined for what says nothing of the key. */
function partOf(result: OperationResult, version: number): KeyResult | undefined {
  switch (result.type) {
    case 'get':
      if (result.item === undefined) return { type: 'absent' }
      return {
        type: 'found',
        value: Buffer.from(result.item.value).toString(),
        version: result.item.revision,
      }
    case 'set':
      return { type: 'written', version, created: result.created }
    case 'deleted':
      return { type: 'deleted', version, existed: result.deleted }
    case 'incremented':
      return { type: 'counted', value: Number(result.value), version }
    case 'touched':
      return { type: 'renewed' }
    case 'recalled':
      return undefined
    default:
      throw new Error(`no step here comes to ${result.type}`)
  }
}

function asStored(condition: Condition): StoreCondition {
  return condition.type === 'version'
    ? { type: 'revision', revisions: [condition.version] }
    : { type: condition.type }
}

/** What a node says when a command entered no log, or nothing was read: it is held to that. */
const without: ReadonlySet<string> = new Set([
  'no-leader',
  'not-ready',
  'overloaded',
  'shutting-down',
  'deadline-exceeded',
])

function note(invocation: Invocation, operation: Operation, error: unknown): void {
  const reason = error instanceof Error ? error.message : String(error)
  if (error instanceof TrivetError && without.has(error.code)) invocation.fail(error.code)
  else if (error instanceof TrivetError && error.code === 'outcome-unknown') invocation.info(error.code)
  else if (/ does not run$/.test(reason)) invocation.fail(reason)
  else if (/ has ended$/.test(reason)) {
    if (operation.type === 'get') invocation.fail(reason)
    else invocation.info(reason)
  } else throw error
}

/** What clients turn to. */
export type Habits = {
  readonly keys: readonly string[]
  /** Keys that are only counted up and read: none, unless given. */
  readonly counters?: readonly string[]
  /** How long a key may last that is set or renewed, in milliseconds: for ever, unless given. */
  readonly ttls?: readonly number[]
  /** Whether they change two or three keys at one moment now and then. */
  readonly transactions?: boolean
}

/** Runs clients until `stop`, which resolves when the last answer has come. Their choices follow from the seed. */
export function runClients(
  place: { readonly town: Served; readonly history: History },
  options: Habits & {
    readonly seed: number
    readonly clients: number
    /** How long they are ready to wait for an answer, in milliseconds: one of these each time. */
    readonly patience?: readonly number[]
    /** How long they think before the next call at most, in milliseconds. */
    readonly thinkingMs?: number
    readonly sleep?: (ms: number) => Promise<void>
  },
): { readonly stop: () => Promise<void> } {
  const stopping = { now: false }
  const { patience = [30, 100, 400, 400], thinkingMs = 0, sleep = delay } = options
  const running = Array.from({ length: options.clients }, async (_, at) => {
    const chance = new Chance(options.seed * 1000 + at)
    const client = `c${at + 1}`
    /** The version of each key that this client saw last, to build on. */
    const seen = new Map<string, number>()
    let again: Operation | undefined
    for (let turn = 1; !stopping.now; turn++) {
      if (thinkingMs > 0) await sleep(chance.next() * thinkingMs)
      const node = chance.pick(place.town.ids)
      const operation = again ?? choose(chance, options, { value: `${client}-${turn}`, seen })
      const result = await use(place, { client, node, operation }, chance.pick(patience))
      // Some try again what was not answered, with another node: as another write, since nothing says it is the same.
      again = result === undefined && chance.happens(0.5) ? operation : undefined
      if (result === undefined) await sleep(1 + chance.below(5))
      else if ('key' in operation && 'version' in result && result.version !== undefined)
        seen.set(operation.key, result.version)
    }
  })
  const all = Promise.all(running)
  // Whoever awaits `stop` learns of it; until then it must not end the process.
  all.catch(() => {})
  return {
    stop: async () => {
      stopping.now = true
      await all
    },
  }
}

/** One of the operations that clients do, mostly ones that can go wrong. */
export function choose(
  chance: Chance,
  habits: Habits,
  { value, seen }: { readonly value: string; readonly seen: ReadonlyMap<string, number> },
): Operation {
  const { keys, counters = [], ttls = [], transactions = false } = habits
  if (transactions && keys.length + counters.length > 1 && chance.happens(0.2)) {
    return chooseSeveral(chance, habits, { value, seen })
  }
  if (counters.length > 0 && chance.happens(0.25)) {
    const key = chance.pick(counters)
    return chance.happens(0.7) ? { type: 'increment', key, by: 1 } : { type: 'get', key }
  }
  const key = chance.pick(keys)
  if (ttls.length > 0 && chance.happens(0.3)) return { type: 'touch', key, ttl: chance.pick(ttls) }
  const operation = chooseLasting(chance, { key, value, seen: seen.get(key) })
  return operation.type === 'set' && ttls.length > 0 && chance.happens(0.7)
    ? { ...operation, ttl: chance.pick(ttls) }
    : operation
}

/** Two or three keys at one moment. */
function chooseSeveral(
  chance: Chance,
  { keys, counters = [] }: Habits,
  { value, seen }: { readonly value: string; readonly seen: ReadonlyMap<string, number> },
): Transaction {
  // Always among the same three: the more keys are joined, the harder a history is to judge.
  const joined = [...keys.slice(0, 2), ...counters.slice(0, 1)]
  const drawn = chance.shuffled(joined).slice(0, chance.pick([2, 2, 3]))
  const steps = drawn.map((key): Step => {
    if (counters.includes(key)) return { type: 'increment', key, by: 1 }
    const draw = chance.next()
    if (draw < 0.25) return { type: 'get', key }
    return draw < 0.8 ? { type: 'set', key, value: `${value}-${key}` } : { type: 'delete', key }
  })
  if (chance.happens(0.5)) return { type: 'transaction', steps }
  const key = chance.pick(keys.slice(0, 2))
  const version = seen.get(key)
  const condition: Condition =
    version === undefined || version === 0 || chance.happens(0.3)
      ? { type: chance.pick(['exists', 'absent']) }
      : { type: 'version', version }
  return { type: 'transaction', steps, when: { key, condition } }
}

function chooseLasting(
  chance: Chance,
  { key, value, seen }: { readonly key: string; readonly value: string; readonly seen: number | undefined },
): KeyOperation {
  const draw = chance.next()
  if (draw < 0.4) return { type: 'get', key }
  if (draw < 0.6) return { type: 'set', key, value }
  if (draw < 0.68) return { type: 'delete', key }
  const onSeen: Condition = seen === undefined ? { type: 'exists' } : { type: 'version', version: seen }
  if (draw < 0.85) return { type: 'set', key, value, condition: onSeen }
  if (draw < 0.89) return { type: 'delete', key, condition: onSeen }
  return { type: 'set', key, value, condition: { type: chance.happens(0.8) ? 'absent' : 'exists' } }
}
