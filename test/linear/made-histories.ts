// Histories made from a store that one thing happens to at a time, so that the truth about them is known.

import type { Condition, Operation, Result } from './key-value.ts'
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

  run(operation: Operation): Result {
    const item = this.#items.get(operation.key)
    if (operation.type === 'get') {
      return item === undefined ? { type: 'absent' } : { type: 'found', ...item }
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
    const operation = operationOf(plan, at, options.keys, store.version)
    const invoked = at - plan.before
    if (plan.lost) {
      if (plan.effect) store.run(operation)
      return { operation, result: undefined, invoked, returned: Number.POSITIVE_INFINITY }
    }
    const result = store.run(operation)
    return { operation, result: options.versions ? result : bare(result), invoked, returned: at + plan.after }
  })
}

function operationOf(plan: Plan, at: number, keys: number, version: number): Operation {
  const key = `key-${plan.key % keys}`
  const conditions: (Condition | undefined)[] = [
    undefined,
    undefined,
    { type: 'absent' },
    { type: 'exists' },
    { type: 'version', version: Math.max(1, version - (plan.condition % 3)) },
  ]
  const condition = conditions[plan.condition % conditions.length]
  const kind = plan.kind % 5
  if (kind < 2) return { type: 'get', key }
  const rest = condition === undefined ? {} : { condition }
  return kind < 4 ? { type: 'set', key, value: `v${at}`, ...rest } : { type: 'delete', key, ...rest }
}

function bare(result: Result): Result {
  switch (result.type) {
    case 'found':
      return { type: 'found', value: result.value }
    case 'written':
    case 'deleted':
      return { type: result.type }
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
