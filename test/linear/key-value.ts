// The key-value store as one client alone would see it: keys read, set, deleted, counted up and renewed, with growing versions.

import { type Call, illegal, type Model } from './model.ts'

export type Condition =
  | { readonly type: 'absent' }
  | { readonly type: 'exists' }
  | { readonly type: 'version'; readonly version: number }

/** On one key. */
export type KeyOperation =
  | { readonly type: 'get'; readonly key: string }
  | {
      readonly type: 'set'
      readonly key: string
      readonly value: string
      readonly condition?: Condition
      /** In milliseconds. When it is over is no matter of this model: a key goes by an `expire`, and by nothing else. */
      readonly ttl?: number
    }
  | { readonly type: 'delete'; readonly key: string; readonly condition?: Condition }
  /** Of a number; a key that is absent counts from 0. */
  | { readonly type: 'increment'; readonly key: string; readonly by: number }
  | { readonly type: 'touch'; readonly key: string; readonly ttl: number }
  /** The store itself took the key away. Who records a history knows that from its log, and says it as any other call. */
  | { readonly type: 'expire'; readonly key: string }

/** One step of a transaction. No other of its steps is on this key. */
export type Step = Exclude<KeyOperation, { type: 'expire' }> & { readonly condition?: undefined }

/** All of its steps at one moment, if the condition holds; else none. */
export type Transaction = {
  readonly type: 'transaction'
  readonly steps: readonly Step[]
  readonly when?: { readonly key: string; readonly condition: Condition }
}

export type Operation = KeyOperation | Transaction

/** What clients ask for that changes something of one key. */
export type KeyWrite = Exclude<KeyOperation, { type: 'get' | 'expire' }>

export type Write = KeyWrite | Transaction

/** Of one key. Versions are positive and grow with each write of it, deletes included. What a result leaves out is not judged. */
export type KeyResult =
  | { readonly type: 'found'; readonly value: string; readonly version?: number }
  | { readonly type: 'absent' }
  | { readonly type: 'written'; readonly version?: number; readonly created?: boolean }
  | { readonly type: 'deleted'; readonly version?: number; readonly existed?: boolean }
  | { readonly type: 'counted'; readonly value: number; readonly version?: number }
  | { readonly type: 'renewed' }
  /** The condition did not hold. The version is the key's, 0 when it is absent. */
  | { readonly type: 'refused'; readonly version: number }

export type Result =
  | KeyResult
  /** What its steps came to, in their order; undefined for one that says nothing. */
  | { readonly type: 'done'; readonly results: readonly (KeyResult | undefined)[] }
  /** The condition of a transaction did not hold. */
  | { readonly type: 'declined' }

/** What is known of each key; one that is not in it was never written. */
export type State = ReadonlyMap<string, KeyState>

/** What is known of one key. */
type KeyState = {
  /** Undefined when it is absent. */
  readonly value: string | undefined
  /** The last version known: the present value's if `exact`, else that of a write before it. */
  readonly version: number
  /** False for what a write left whose answer nobody saw, until somebody sees its version; false when absent. */
  readonly exact: boolean
}

type Next = KeyState | typeof illegal

const unwritten: KeyState = { value: undefined, version: 0, exact: false }

/** Stands for every value that nobody reads: to the search they are one. */
const unread = '\u0000unread'

export const keyValue: Model<State, Operation, Result> = {
  initial: new Map(),

  step(state, operation, result) {
    if (operation.type === 'transaction') return transact(state, operation, result)
    if (result?.type === 'done' || result?.type === 'declined') return illegal
    return stepOn(state, operation, result)
  },

  name(state) {
    const names = [...state].map(([key, { value, version, exact }]) => {
      return `${key}${exact ? '=' : '>'}${version}${value === undefined ? '' : `:${value}`}`
    })
    return names.length > 1 ? names.toSorted().join(' ') : (names[0] ?? '')
  },

  keys(operation) {
    if (operation.type !== 'transaction') return [operation.key]
    const { steps, when } = operation
    return [...new Set([...steps.map(({ key }) => key), ...(when === undefined ? [] : [when.key])])]
  },

  wants(state, operation, result) {
    const guard = operation.type === 'transaction' ? operation.when : undefined
    const wanted = guard !== undefined && isWanted(state.get(guard.key) ?? unwritten, guard.condition, result)
    const keys = partsOf(operation, result).flatMap(([part, came]) => {
      return wantsOther(state.get(part.key) ?? unwritten, part, came) ? [part.key] : []
    })
    return wanted ? [...keys, guard.key] : keys
  },

  isPure(operation, result) {
    if (operation.type === 'transaction') {
      return (
        result.type === 'declined' || operation.steps.every(({ type }) => type === 'get' || type === 'touch')
      )
    }
    return operation.type === 'get' || operation.type === 'touch' || result.type === 'refused'
  },

  isHopeless(state, operation, result) {
    return partsOf(operation, result).some(
      ([part, came]) => came !== undefined && isHopeless(state.get(part.key) ?? unwritten, part, came),
    )
  },

  simplify(calls) {
    const read = new Set<string>()
    const counted = new Set<string>()
    for (const { operation, result } of calls) {
      for (const [part, came] of partsOf(operation, result)) {
        if (came?.type === 'found') read.add(came.value)
        if (part.type === 'increment') counted.add(part.key)
      }
    }
    const simple: Call<Operation, Result>[] = []
    for (const call of calls) {
      const { operation, result } = call
      if ((operation.type === 'get' || operation.type === 'touch') && result === undefined) continue
      const hide = operation.type === 'set' && !read.has(operation.value) && !counted.has(operation.key)
      simple.push(hide ? { ...call, operation: { ...operation, value: unread } } : call)
    }
    return simple
  },

  forget(operation, result) {
    switch (operation.type) {
      case 'get':
      case 'touch':
        return undefined
      case 'increment':
      case 'expire':
        return operation
      case 'set':
      case 'delete': {
        if (result.type === 'refused') return undefined
        const { condition: _, ...rest } = operation
        return rest
      }
      case 'transaction': {
        const steps = operation.steps.filter(({ type }) => type !== 'get' && type !== 'touch')
        return result.type === 'declined' || steps.length === 0 ? undefined : { type: 'transaction', steps }
      }
      default:
        throw new Error(`unknown operation ${operation satisfies never}`)
    }
  },

  describe(operation, result) {
    return `${describeOperation(operation)} → ${describeResult(result)}`
  },

  isSource(source, of) {
    const came = of.type === 'done' ? of.results : [of]
    return partsOf(source, undefined).some(
      ([part]) =>
        part.type === 'set' && came.some((one) => one?.type === 'found' && one.value === part.value),
    )
  },
}

/** An operation key by key, with what each part came to where that is known; nothing of a transaction that was declined. */
export function partsOf(
  operation: Operation,
  result: Result | undefined,
): readonly (readonly [KeyOperation, KeyResult | undefined])[] {
  if (operation.type !== 'transaction') {
    return [[operation, result?.type === 'done' || result?.type === 'declined' ? undefined : result]]
  }
  if (result?.type === 'declined') return []
  const results = result?.type === 'done' ? result.results : []
  return operation.steps.map((step, at) => [step, results[at]])
}

function transact(
  state: State,
  { steps, when }: Transaction,
  result: Result | undefined,
): State | typeof illegal {
  if (result?.type === 'declined') {
    return when !== undefined && mayFail(state.get(when.key) ?? unwritten, when.condition) ? state : illegal
  }
  if (result !== undefined && result.type !== 'done') return illegal
  let next = state
  if (when !== undefined) {
    const met = meet(state.get(when.key) ?? unwritten, when.condition)
    if (met === illegal) return illegal
    next = changed(state, when.key, met)
  }
  for (const [at, step] of steps.entries()) {
    const after = stepOn(next, step, result?.results[at])
    if (after === illegal) return illegal
    next = after
  }
  return next
}

/** Whether another state of the condition's key would make a difference. */
function isWanted(state: KeyState, condition: Condition, result: Result | undefined): boolean {
  if (result === undefined) return true
  if (result.type === 'declined') return !mayFail(state, condition)
  return meet(state, condition) !== state
}

/** Whether another state of its key would make a difference to a part: it is not legal here, or says something new of the key. */
function wantsOther(state: KeyState, part: KeyOperation, result: KeyResult | undefined): boolean {
  if (result === undefined) return part.type === 'increment' || conditionOf(part) !== undefined
  const after = stepOfKey(state, part, result)
  if (after === illegal) return true
  return (part.type === 'get' || result.type === 'refused') && after !== state
}

/** Whether a condition may not hold here, as far as is known. */
function mayFail({ value, version, exact }: KeyState, condition: Condition): boolean {
  if (condition.type === 'absent') return value !== undefined
  if (condition.type === 'exists' || value === undefined) return value === undefined
  return !exact || version !== condition.version
}

function stepOn(
  state: State,
  operation: KeyOperation,
  result: KeyResult | undefined,
): State | typeof illegal {
  const after = stepOfKey(state.get(operation.key) ?? unwritten, operation, result)
  return after === illegal ? illegal : changed(state, operation.key, after)
}

function changed(state: State, key: string, after: KeyState): State {
  return after === (state.get(key) ?? unwritten) ? state : new Map(state).set(key, after)
}

function stepOfKey(state: KeyState, operation: KeyOperation, result: KeyResult | undefined): Next {
  switch (operation.type) {
    case 'get':
      return get(state, result)
    case 'increment':
      return increment(state, operation.by, result)
    case 'touch':
      return touch(state, result)
    case 'expire':
      return state.value === undefined ? illegal : remove(state, result)
    case 'set':
    case 'delete': {
      if (result?.type === 'refused') return refused(state, operation.condition, result.version)
      const met = meet(state, operation.condition)
      if (met === illegal) return illegal
      return operation.type === 'set' ? set(met, operation.value, result) : remove(met, result)
    }
    default:
      throw new Error(`unknown operation ${operation satisfies never}`)
  }
}

/** Whether what a part came to is illegal in this state of its key, and in all that can follow. */
function isHopeless(
  { value, version, exact }: KeyState,
  operation: KeyOperation,
  result: KeyResult,
): boolean {
  const past = (seen: number) => seen < version || (seen === version && !exact)
  const condition = conditionOf(operation)
  if (condition?.type === 'version' && result.type !== 'refused' && past(condition.version)) return true
  switch (result.type) {
    case 'absent':
    case 'renewed':
      return false
    case 'found':
      if (result.version === undefined) return false
      return past(result.version) || (result.version === version && result.value !== value)
    case 'written':
    case 'deleted':
    case 'counted':
      return result.version !== undefined && result.version <= version
    case 'refused':
      return result.version > 0 && past(result.version)
    default:
      throw new Error(`unknown result ${result satisfies never}`)
  }
}

function get(state: KeyState, result: KeyResult | undefined): Next {
  if (result === undefined) return state
  if (result.type === 'absent') return state.value === undefined ? state : illegal
  if (result.type !== 'found' || state.value !== result.value) return illegal
  return result.version === undefined ? state : pin(state, result.version)
}

function set(state: KeyState, value: string, result: KeyResult | undefined): Next {
  if (result !== undefined) {
    if (result.type !== 'written') return illegal
    if (result.created !== undefined && result.created !== (state.value === undefined)) return illegal
  }
  const version = result?.version
  if (version === undefined) return { value, version: state.version, exact: false }
  return version > state.version ? { value, version, exact: true } : illegal
}

/** What is no number cannot be counted up, and no client here tries. */
function increment(state: KeyState, by: number, result: KeyResult | undefined): Next {
  const value = Number(state.value ?? 0) + by
  if (!Number.isSafeInteger(value)) return illegal
  if (result === undefined) return { value: String(value), version: state.version, exact: false }
  if (result.type !== 'counted' || result.value !== value) return illegal
  const { version } = result
  if (version === undefined) return { value: String(value), version: state.version, exact: false }
  return version > state.version ? { value: String(value), version, exact: true } : illegal
}

/** A key that is renewed is the same to readers, its version included. */
function touch(state: KeyState, result: KeyResult | undefined): Next {
  if (result === undefined) return state
  return result.type === (state.value === undefined ? 'absent' : 'renewed') ? state : illegal
}

function remove(state: KeyState, result: KeyResult | undefined): Next {
  if (result !== undefined) {
    if (result.type !== 'deleted') return illegal
    if (result.existed !== undefined && result.existed !== (state.value !== undefined)) return illegal
  }
  const version = result?.version
  if (version !== undefined && version <= state.version) return illegal
  if (version === undefined && state.value === undefined) return state
  return { value: undefined, version: version ?? state.version, exact: false }
}

function refused(state: KeyState, condition: Condition | undefined, version: number): Next {
  if (condition === undefined) return illegal
  if (state.value === undefined) return condition.type !== 'absent' && version === 0 ? state : illegal
  if (condition.type === 'exists') return illegal
  if (condition.type === 'version' && condition.version === version) return illegal
  return pin(state, version)
}

/** The state as the condition shows it to be. */
function meet(state: KeyState, condition: Condition | undefined): Next {
  if (condition === undefined) return state
  if (condition.type === 'absent') return state.value === undefined ? state : illegal
  if (state.value === undefined) return illegal
  return condition.type === 'exists' ? state : pin(state, condition.version)
}

/** A present value is seen to have this version. */
function pin(state: KeyState, version: number): Next {
  if (state.exact) return version === state.version ? state : illegal
  return version > state.version ? { ...state, version, exact: true } : illegal
}

function conditionOf(operation: KeyOperation): Condition | undefined {
  return operation.type === 'set' || operation.type === 'delete' ? operation.condition : undefined
}

function describeOperation(operation: Operation): string {
  if (operation.type === 'transaction') {
    const { steps, when } = operation
    const suffix = when === undefined ? '' : ` if ${when.key} ${inWords(when.condition)}`
    return `[${steps.map(describeOperation).join('; ')}]${suffix}`
  }
  const condition = conditionOf(operation)
  const suffix = condition === undefined ? '' : ` if ${inWords(condition)}`
  if (operation.type === 'set') {
    const lasting = operation.ttl === undefined ? '' : ` for ${operation.ttl} ms`
    return `set ${operation.key} = ${JSON.stringify(operation.value)}${lasting}${suffix}`
  }
  if (operation.type === 'increment') return `increment ${operation.key} by ${operation.by}`
  if (operation.type === 'touch') return `touch ${operation.key} for ${operation.ttl} ms`
  return `${operation.type} ${operation.key}${suffix}`
}

function inWords(condition: Condition): string {
  return condition.type === 'version' ? `version ${condition.version}` : condition.type
}

function describeResult(result: Result | undefined): string {
  if (result === undefined) return 'nobody knows'
  const version = 'version' in result ? ` at version ${result.version}` : ''
  switch (result.type) {
    case 'found':
      return `${JSON.stringify(result.value)}${version}`
    case 'absent':
      return 'absent'
    case 'written':
      return `${result.created === true ? 'created' : 'written'}${version}`
    case 'deleted':
      return `${result.existed === false ? 'nothing to delete' : 'deleted'}${version}`
    case 'counted':
      return `${result.value}${version}`
    case 'renewed':
    case 'declined':
      return result.type
    case 'done':
      return `[${result.results.map(describeResult).join('; ')}]`
    case 'refused':
      return result.version === 0 ? 'refused, absent' : `refused${version}`
    default:
      throw new Error(`unknown result ${result satisfies never}`)
  }
}
