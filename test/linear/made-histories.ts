// Histories made from a store that one thing happens to at a time, so that the truth about them is known.

import assert from 'node:assert/strict'
import type { Condition, KeyOperation, KeyResult, Operation, Result, Step } from './key-value.ts'
import type { Call } from './model.ts'

type Made = Call<Operation, Result>

/** What one call does, by numbers that fast-check or a generator draws. All are taken modulo what there is to choose from. */
export type Plan = {
  readonly kind: number
  readonly key: number
  readonly condition: number
  /** How long before and after its effect it begins and ends. */
  readonly before: number
  readonly after: number
  /** Its answer is lost; and if so, whether it had its effect. */
  readonly lost: boolean
  readonly effect: boolean
}

/** A store used by one at a time. */
class Store {
  readonly #items = new Map<string, { value: string; version: number }>()
  #version = 0

  get version(): number {
    return this.#version
  }

  has(key: string): boolean {
    return this.#items.has(key)
  }

  run(operation: Operation): Result {
    if (operation.type !== 'transaction') return this.#runOne(operation)
    const { steps, when } = operation
    if (when !== undefined && !this.#allows(when.condition, this.#items.get(when.key)?.version)) {
      return { type: 'declined' }
    }
    return { type: 'done', results: steps.map((step) => this.#runOne(step)) }
  }

  #runOne(operation: KeyOperation): KeyResult {
    const item = this.#items.get(operation.key)
    if (operation.type === 'get') {
      return item === undefined ? { type: 'absent' } : { type: 'found', ...item }
    }
    if (operation.type === 'touch') return { type: item === undefined ? 'absent' : 'renewed' }
    if (operation.type === 'increment') {
      const value = Number(item?.value ?? 0) + operation.by
      const version = ++this.#version
      this.#items.set(operation.key, { value: String(value), version })
      return { type: 'counted', value, version }
    }
    if (operation.type === 'expire') {
      assert(item !== undefined, 'only what is there expires')
      this.#items.delete(operation.key)
      return { type: 'deleted', version: ++this.#version }
    }
    if (!this.#allows(operation.condition, item?.version)) {
      return { type: 'refused', version: item?.version ?? 0 }
    }
    const version = ++this.#version
    if (operation.type === 'set') {
      this.#items.set(operation.key, { value: operation.value, version })
      return { type: 'written', version, created: item === undefined }
    }
    this.#items.delete(operation.key)
    return { type: 'deleted', version, existed: item !== undefined }
  }

  #allows(condition: Condition | undefined, version: number | undefined): boolean {
    if (condition === undefined) return true
    if (condition.type === 'version') return version === condition.version
    return (condition.type === 'exists') === (version !== undefined)
  }
}

/**
 * The calls in the order of their effects, one at each whole number of time. `versions` false leaves out of the answers what
 * they may leave out.
 */
export function make(plans: readonly Plan[], options: { keys: number; versions: boolean }): Made[] {
  const store = new Store()
  return plans.map((plan, at) => {
    const operation = operationOf(plan, at, { keys: options.keys, store })
    const invoked = at - plan.before
    if (plan.lost) {
      if (plan.effect) store.run(operation)
      return { operation, result: undefined, invoked, returned: Number.POSITIVE_INFINITY }
    }
    const result = store.run(operation)
    return { operation, result: options.versions ? result : bare(result), invoked, returned: at + plan.after }
  })
}

function operationOf(
  plan: Plan,
  at: number,
  { keys, store }: { readonly keys: number; readonly store: Store },
): Operation {
  const { version } = store
  // Counters are keys of their own: what is no number cannot be counted up.
  const counter = `counter-${plan.key % keys}`
  const key = `key-${plan.key % keys}`
  const conditions: (Condition | undefined)[] = [
    undefined,
    undefined,
    { type: 'absent' },
    { type: 'exists' },
    { type: 'version', version: Math.max(1, version - (plan.condition % 3)) },
  ]
  const condition = conditions[plan.condition % conditions.length]
  const kind = plan.kind % 10
  if (kind < 2) return { type: 'get', key }
  if (kind === 5) return { type: 'increment', key: counter, by: 1 + (plan.condition % 2) }
  if (kind === 6) return { type: 'get', key: counter }
  if (kind === 7) return { type: 'touch', key, ttl: 1000 }
  if (kind === 8) return store.has(key) && !plan.lost ? { type: 'expire', key } : { type: 'get', key }
  const rest = condition === undefined ? {} : { condition }
  if (kind === 9) {
    const set: Step = { type: 'set', key, value: `v${at}` }
    const step: Step = plan.condition % 2 === 0 ? set : { type: 'delete', key }
    const steps: Step[] = [step, { type: 'increment', key: counter, by: 1 }]
    return { type: 'transaction', steps, ...(condition === undefined ? {} : { when: { key, condition } }) }
  }
  return kind < 4 ? { type: 'set', key, value: `v${at}`, ...rest } : { type: 'delete', key, ...rest }
}

function bare(result: Result): Result {
  if (result.type === 'done') {
    return { type: 'done', results: result.results.map((one) => one && bareOf(one)) }
  }
  return result.type === 'declined' ? result : bareOf(result)
}

function bareOf(result: KeyResult): KeyResult {
  switch (result.type) {
    case 'found':
      return { type: 'found', value: result.value }
    case 'written':
    case 'deleted':
      return { type: result.type }
    case 'counted':
      return { type: 'counted', value: result.value }
    default:
      return result
  }
}

/** One answer that is another. */
export function mutate(calls: readonly Made[], choice: { at: number; how: number }): Made[] {
  const certain = calls.flatMap((call, at) => (call.result === undefined ? [] : [at]))
  const at = certain[choice.at % Math.max(1, certain.length)]
  return calls.map((call, index) => {
    const { operation, result } = call
    return index === at && result !== undefined
      ? { ...call, result: another(operation, result, choice.how) }
      : call
  })
}

function another(operation: Operation, result: Result, how: number): Result {
  if (operation.type === 'transaction') {
    if (result.type !== 'done' || (how % 3 === 0 && operation.when !== undefined)) {
      return result.type === 'done'
        ? { type: 'declined' }
        : { type: 'done', results: operation.steps.map(() => undefined) }
    }
    const at = how % operation.steps.length
    return {
      type: 'done',
      results: operation.steps.map((step, index) => {
        const came = result.results[index]
        const other = index === at && came !== undefined ? another(step, came, how) : came
        return other?.type === 'done' || other?.type === 'declined' ? undefined : other
      }),
    }
  }
  if (operation.type === 'touch') return { type: how % 2 === 0 ? 'absent' : 'renewed' }
  if (operation.type === 'expire') return { type: 'deleted', version: 1 + (how % 8) }
  if (operation.type === 'increment') {
    const version = how % 2 === 0 ? {} : { version: 1 + (how % 8) }
    return { type: 'counted', value: 1 + (how % 5), ...version }
  }
  if (operation.type === 'get') {
    const value = `v${how % 8}`
    return how % 3 === 0
      ? { type: 'absent' }
      : { type: 'found', value, ...(how % 2 === 0 ? {} : { version: how % 8 }) }
  }
  if (result.type === 'refused' || how % 4 === 0) {
    return operation.condition === undefined || how % 2 === 0
      ? { type: operation.type === 'set' ? 'written' : 'deleted', version: 1 + (how % 8) }
      : { type: 'refused', version: how % 8 }
  }
  if (result.type === 'written') return { ...result, created: how % 2 === 0 }
  return { type: 'deleted', existed: how % 2 === 0 }
}
