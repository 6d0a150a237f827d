// A second opinion on short histories: tries every order of the calls on a plain store with plain numbers for versions.
//
// It shares nothing with the checker but the vocabulary. Where no answer tells a write's version, it tries the smallest
// possible one and every one that some answer mentions.

import type { Condition, KeyOperation, KeyResult, Operation, Result, Transaction } from './key-value.ts'
import type { Call } from './model.ts'

type Register = { readonly value: string; readonly version: number } | undefined

/** The register, and the last version given out for its key. */
type Known = { readonly register: Register; readonly last: number }

const unknown: Known = { register: undefined, last: 0 }

const sliver = 1 / 1024

/** All keys, by name. */
type World = Readonly<Record<string, Known>>

export function isLinearizable(calls: readonly Call<Operation, Result>[]): boolean {
  const whole = calls.some(({ operation }) => operation.type === 'transaction')
  if (whole) return explains(calls, {}, versionsIn(calls))
  const byKey = Map.groupBy(calls, ({ operation }) => ('key' in operation ? operation.key : ''))
  return [...byKey.values()].every((own) => explains(own, {}, versionsIn(own)))
}

function explains(
  left: readonly Call<Operation, Result>[],
  from: World,
  versions: readonly number[],
): boolean {
  if (left.every(({ result }) => result === undefined)) return true
  return left.some((call) => {
    // Nothing that ended before this one began may come after it.
    if (left.some((other) => other.returned < call.invoked)) return false
    const rest = left.filter((other) => other !== call)
    return worldsAfter(call, from, versions).some((world) => explains(rest, world, versions))
  })
}

/** What the store may be after the call, if the call may come to its result here. */
function worldsAfter(
  { operation, result }: Call<Operation, Result>,
  from: World,
  versions: readonly number[],
): World[] {
  if (operation.type === 'transaction') return worldsAfterAll(operation, { result, from, versions })
  if (result?.type === 'done' || result?.type === 'declined') return []
  return outcomes({ operation, result }, from[operation.key] ?? unknown, versions).map((known) => ({
    ...from,
    [operation.key]: known,
  }))
}

function worldsAfterAll(
  { steps, when }: Transaction,
  given: { readonly result: Result | undefined; readonly from: World; readonly versions: readonly number[] },
): World[] {
  const { result, from, versions } = given
  const isMet = when === undefined || holds(when.condition, from[when.key]?.register)
  if (result?.type === 'declined') return isMet ? [] : [from]
  if (!isMet || (result !== undefined && result.type !== 'done')) return []
  return steps.reduce<World[]>(
    (worlds, operation, at) =>
      worlds.flatMap((world) => {
        const came = result?.results[at]
        return outcomes({ operation, result: came }, world[operation.key] ?? unknown, versions).map(
          (known) => ({
            ...world,
            [operation.key]: known,
          }),
        )
      }),
    [from],
  )
}

/** What a key may be after one part. */
function outcomes(
  { operation, result }: { readonly operation: KeyOperation; readonly result: KeyResult | undefined },
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
function versionsAfter(last: number, result: KeyResult | undefined, versions: readonly number[]): number[] {
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
    for (const came of result?.type === 'done' ? result.results : [result])
      if (came !== undefined && 'version' in came && came.version !== undefined) versions.add(came.version)
    const condition = operation.type === 'transaction' ? operation.when?.condition : conditionOf(operation)
    if (condition?.type === 'version') versions.add(condition.version)
  }
  return [...versions]
}

function conditionOf(operation: KeyOperation): Condition | undefined {
  return operation.type === 'set' || operation.type === 'delete' ? operation.condition : undefined
}
