// The key-value store as one client alone would see it: keys read, set, deleted, counted up and renewed, with growing versions.

import { type Call, illegal, type Model } from './model.ts'

export type Condition =
  | { readonly type: 'absent' }
  | { readonly type: 'exists' }
  | { readonly type: 'version'; readonly version: number }

export type Operation =
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

/** What clients ask for that changes something. */
export type Write = Exclude<Operation, { type: 'get' | 'expire' }>

/** Versions are positive and grow with each write of a key, deletes included. What a result leaves out is not judged. */
export type Result =
  | { readonly type: 'found'; readonly value: string; readonly version?: number }
  | { readonly type: 'absent' }
  | { readonly type: 'written'; readonly version?: number; readonly created?: boolean }
  | { readonly type: 'deleted'; readonly version?: number; readonly existed?: boolean }
  | { readonly type: 'counted'; readonly value: number; readonly version?: number }
  | { readonly type: 'renewed' }
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
  },

  name({ value, version, exact }) {
    return `${exact ? '=' : '>'}${version}${value === undefined ? '' : `:${value}`}`
  },

  keys: ({ key }) => [key],

  isPure(operation, result) {
    return operation.type === 'get' || operation.type === 'touch' || result.type === 'refused'
  },

  isHopeless(state, operation, result) {
    const { value, version, exact } = state
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
  },

  simplify(calls) {
    const read = new Set<string>()
    const counted = new Set<string>()
    for (const { operation, result } of calls) {
      if (result?.type === 'found') read.add(result.value)
      if (operation.type === 'increment') counted.add(operation.key)
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
      default:
        throw new Error(`unknown operation ${operation satisfies never}`)
    }
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

/** What is no number cannot be counted up, and no client here tries. */
function increment(state: KeyState, by: number, result: Result | undefined): Next {
  const value = Number(state.value ?? 0) + by
  if (!Number.isSafeInteger(value)) return illegal
  if (result === undefined) return { value: String(value), version: state.version, exact: false }
  if (result.type !== 'counted' || result.value !== value) return illegal
  const { version } = result
  if (version === undefined) return { value: String(value), version: state.version, exact: false }
  return version > state.version ? { value: String(value), version, exact: true } : illegal
}

/** A key that is renewed is the same to readers, its version included. */
function touch(state: KeyState, result: Result | undefined): Next {
  if (result === undefined) return state
  return result.type === (state.value === undefined ? 'absent' : 'renewed') ? state : illegal
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

function conditionOf(operation: Operation): Condition | undefined {
  return operation.type === 'set' || operation.type === 'delete' ? operation.condition : undefined
}

function describeOperation(operation: Operation): string {
  const condition = conditionOf(operation)
  const suffix =
    condition === undefined
      ? ''
      : condition.type === 'version'
        ? ` if version ${condition.version}`
        : ` if ${condition.type}`
  if (operation.type === 'set') {
    const lasting = operation.ttl === undefined ? '' : ` for ${operation.ttl} ms`
    return `set ${operation.key} = ${JSON.stringify(operation.value)}${lasting}${suffix}`
  }
  if (operation.type === 'increment') return `increment ${operation.key} by ${operation.by}`
  if (operation.type === 'touch') return `touch ${operation.key} for ${operation.ttl} ms`
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
    case 'counted':
      return `${result.value}${version}`
    case 'renewed':
      return 'renewed'
    case 'refused':
      return result.version === 0 ? 'refused, absent' : `refused${version}`
    default:
      throw new Error(`unknown result ${result satisfies never}`)
  }
}
