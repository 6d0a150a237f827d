// The key-value store as one client alone would see it: get, set and delete of a key, with conditions and growing versions.

import { type Call, illegal, type Model } from './model.ts'

export type Condition =
  | { readonly type: 'absent' }
  | { readonly type: 'exists' }
  | { readonly type: 'version'; readonly version: number }

export type Operation =
  | { readonly type: 'get'; readonly key: string }
  | { readonly type: 'set'; readonly key: string; readonly value: string; readonly condition?: Condition }
  | { readonly type: 'delete'; readonly key: string; readonly condition?: Condition }

/** Versions are positive and grow with each write of a key, deletes included. What a result leaves out is not judged. */
export type Result =
  | { readonly type: 'found'; readonly value: string; readonly version?: number }
  | { readonly type: 'absent' }
  | { readonly type: 'written'; readonly version?: number; readonly created?: boolean }
  | { readonly type: 'deleted'; readonly version?: number; readonly existed?: boolean }
  /** The condition did not hold. The version is the key's, 0 when it is absent. */
  | { readonly type: 'refused'; readonly version: number }

/** What is known of one key. */
export type KeyState = {
  /** Undefined when it is absent. */
  readonly value: string | undefined
  /** The last version known: the present value's if `exact`, else that of a write before it. */
  readonly version: number
  /** False for what a write left whose answer nobody saw, until somebody sees its version; false when absent. */
  readonly exact: boolean
}

type Next = KeyState | typeof illegal

/** Stands for every value that nobody reads: to the search they are one. */
const unread = '\u0000unread'

export const keyValue: Model<KeyState, Operation, Result> = {
  initial: { value: undefined, version: 0, exact: false },

  step(state, operation, result) {
    if (operation.type === 'get') return get(state, result)
    if (result?.type === 'refused') return refused(state, operation.condition, result.version)
    const met = meet(state, operation.condition)
    if (met === illegal) return illegal
    return operation.type === 'set' ? set(met, operation.value, result) : remove(met, result)
  },

  name({ value, version, exact }) {
    return `${exact ? '=' : '>'}${version}${value === undefined ? '' : `:${value}`}`
  },

  keys: ({ key }) => [key],

  isPure(operation, result) {
    return operation.type === 'get' || result.type === 'refused'
  },

  isHopeless(state, operation, result) {
    const { value, version, exact } = state
    const past = (seen: number) => seen < version || (seen === version && !exact)
    if (operation.type !== 'get' && operation.condition?.type === 'version' && result.type !== 'refused') {
      if (past(operation.condition.version)) return true
    }
    switch (result.type) {
      case 'absent':
        return false
      case 'found':
        if (result.version === undefined) return false
        return past(result.version) || (result.version === version && result.value !== value)
      case 'written':
      case 'deleted':
        return result.version !== undefined && result.version <= version
      case 'refused':
        return result.version > 0 && past(result.version)
      default:
        throw new Error(`unknown result ${result satisfies never}`)
    }
  },

  simplify(calls) {
    const read = new Set<string>()
    for (const { result } of calls) if (result?.type === 'found') read.add(result.value)
    const simple: Call<Operation, Result>[] = []
    for (const call of calls) {
      const { operation, result } = call
      if (operation.type === 'get' && result === undefined) continue
      const hide = operation.type === 'set' && !read.has(operation.value)
      simple.push(hide ? { ...call, operation: { ...operation, value: unread } } : call)
    }
    return simple
  },

  forget(operation, result) {
    if (operation.type === 'get' || result.type === 'refused') return undefined
    const { condition: _, ...rest } = operation
    return rest
  },

  describe(operation, result) {
    return `${describeOperation(operation)} → ${describeResult(result)}`
  },

  isSource: (source, of) => source.type === 'set' && of.type === 'found' && source.value === of.value,
}

function get(state: KeyState, result: Result | undefined): Next {
  if (result === undefined) return state
  if (result.type === 'absent') return state.value === undefined ? state : illegal
  if (result.type !== 'found' || state.value !== result.value) return illegal
  return result.version === undefined ? state : pin(state, result.version)
}

function set(state: KeyState, value: string, result: Result | undefined): Next {
  if (result !== undefined) {
    if (result.type !== 'written') return illegal
    if (result.created !== undefined && result.created !== (state.value === undefined)) return illegal
  }
  const version = result?.version
  if (version === undefined) return { value, version: state.version, exact: false }
  return version > state.version ? { value, version, exact: true } : illegal
}

function remove(state: KeyState, result: Result | undefined): Next {
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

function describeOperation(operation: Operation): string {
  const condition = operation.type === 'get' ? undefined : operation.condition
  const suffix =
    condition === undefined
      ? ''
      : condition.type === 'version'
        ? ` if version ${condition.version}`
        : ` if ${condition.type}`
  if (operation.type === 'set') return `set ${operation.key} = ${JSON.stringify(operation.value)}${suffix}`
  return `${operation.type} ${operation.key}${suffix}`
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
    case 'refused':
      return result.version === 0 ? 'refused, absent' : `refused${version}`
    default:
      throw new Error(`unknown result ${result satisfies never}`)
  }
}
