// A second opinion on short histories: tries every order of the calls on a plain store with plain numbers for versions.
//
// It shares nothing with the checker but the vocabulary. Where no answer tells a write's version, it tries the smallest
// possible one and every one that some answer mentions.

import type { Condition, Operation, Result } from './key-value.ts'
import type { Call } from './model.ts'

type Register = { readonly value: string; readonly version: number } | undefined

/** The register, and the last version given out for its key. */
type Known = { readonly register: Register; readonly last: number }

const sliver = 1 / 1024

export function isLinearizable(calls: readonly Call<Operation, Result>[]): boolean {
  const keys = new Set(calls.map(({ operation }) => operation.key))
  return [...keys].every((key) => {
    const own = calls.filter(({ operation }) => operation.key === key)
    return explains(own, { register: undefined, last: 0 }, versionsIn(own))
  })
}

function explains(
  left: readonly Call<Operation, Result>[],
  from: Known,
  versions: readonly number[],
): boolean {
  if (left.every(({ result }) => result === undefined)) return true
  return left.some((call) => {
    // Nothing that ended before this one began may come after it.
    if (left.some((other) => other.returned < call.invoked)) return false
    const rest = left.filter((other) => other !== call)
    return outcomes(call, from, versions).some((known) => explains(rest, known, versions))
  })
}

/** What the store may be after the call, if the call may come to its result here. */
function outcomes(
  { operation, result }: Call<Operation, Result>,
  from: Known,
  versions: readonly number[],
): Known[] {
  const { register, last } = from
  if (operation.type === 'get') {
    const fits =
      result === undefined ||
      (register === undefined
        ? result.type === 'absent'
        : result.type === 'found' &&
          result.value === register.value &&
          agrees(result.version, register.version))
    return fits ? [from] : []
  }
  if (operation.type === 'touch') {
    const fits = result === undefined || result.type === (register === undefined ? 'absent' : 'renewed')
    return fits ? [from] : []
  }
  if (operation.type === 'expire') {
    if (register === undefined || (result !== undefined && result.type !== 'deleted')) return []
    return versionsAfter(last, result, versions).map((version) => ({ register: undefined, last: version }))
  }
  if (operation.type === 'increment') {
    const value = Number(register?.value ?? 0) + operation.by
    const fits = result === undefined || (result.type === 'counted' && result.value === value)
    if (!Number.isSafeInteger(value) || !fits) return []
    return versionsAfter(last, result, versions).map((version) => ({
      register: { value: String(value), version },
      last: version,
    }))
  }
  if (!holds(operation.condition, register)) {
    const fits =
      result === undefined || (result.type === 'refused' && result.version === (register?.version ?? 0))
    return fits ? [from] : []
  }
  const isSet = operation.type === 'set'
  if (result !== undefined && result.type !== (isSet ? 'written' : 'deleted')) return []
  if (result?.type === 'written' && !agrees(result.created, register === undefined)) return []
  if (result?.type === 'deleted' && !agrees(result.existed, register !== undefined)) return []
  return versionsAfter(last, result, versions).map((version) => ({
    register: operation.type === 'set' ? { value: operation.value, version } : undefined,
    last: version,
  }))
}

/** The versions that a write may have made. */
function versionsAfter(last: number, result: Result | undefined, versions: readonly number[]): number[] {
  const answered = result !== undefined && 'version' in result ? result.version : undefined
  const possible = answered === undefined ? [last + sliver, ...versions] : [answered]
  return possible.filter((version) => version > last)
}

function agrees<T>(answered: T | undefined, actual: T): boolean {
  return answered === undefined || answered === actual
}

function holds(condition: Condition | undefined, register: Register): boolean {
  switch (condition?.type) {
    case undefined:
      return true
    case 'absent':
      return register === undefined
    case 'exists':
      return register !== undefined
    case 'version':
      return register?.version === condition.version
    default:
      throw new Error(`unknown condition ${condition satisfies never}`)
  }
}

function versionsIn(calls: readonly Call<Operation, Result>[]): number[] {
  const versions = new Set<number>()
  for (const { operation, result } of calls) {
    if (result !== undefined && 'version' in result && result.version !== undefined)
      versions.add(result.version)
    const condition =
      operation.type === 'set' || operation.type === 'delete' ? operation.condition : undefined
    if (condition?.type === 'version') versions.add(condition.version)
  }
  return [...versions]
}
