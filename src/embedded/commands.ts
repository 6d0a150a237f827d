// The operations of the SDK as commands of the node, and what became of them on the way back.

import { readTtl } from '../api/ttl.ts'
import { TrivetError } from '../errors.ts'
import type { OperationResult } from '../sdk/backend.ts'
import type {
  Conditions,
  DeleteOperation,
  IncrementOperation,
  Operation,
  SetOperation,
  TouchOperation,
  TransactionCondition,
} from '../sdk/operations.ts'
import type { Entry } from '../sdk/types.ts'
import type {
  Condition,
  Item,
  KeyCommand,
  TransactionCondition as StateCondition,
  Operation as StateOperation,
  OperationResult as StateResult,
  Ttl,
} from '../store/types.ts'

type WriteOperation = SetOperation | DeleteOperation | IncrementOperation | TouchOperation

type Unsigned<C> = C extends unknown ? Omit<C, 'token' | 'once'> : never

/** Makes them, within the limits of the node. What it is given is well-formed; what is too long is refused here. */
export class Commands {
  readonly #keyBytes: number

  constructor({ keyBytes }: { readonly keyBytes: number }) {
    this.#keyBytes = keyBytes
  }

  /** Throws `invalid-key` for one that is too long. */
  key(text: string): Uint8Array {
    const key = new TextEncoder().encode(text)
    if (key.length <= this.#keyBytes) return key
    const limit = this.#keyBytes
    throw new TrivetError('invalid-key', `A key has at most ${limit} bytes; this one has ${key.length}`, {
      field: 'key',
      limit,
      actual: key.length,
    })
  }

  /** The end or the prefix of a range. Throws `invalid-request` for one that is longer than any key. */
  bound(text: string): Uint8Array {
    const bound = new TextEncoder().encode(text)
    if (bound.length <= this.#keyBytes) return bound
    const limit = this.#keyBytes
    throw new TrivetError('invalid-request', `A prefix or bound has at most ${limit} bytes`, {
      limit,
      actual: bound.length,
    })
  }

  /** One write, without who sends it. */
  write(operation: WriteOperation & Conditions): Unsigned<KeyCommand> {
    const { store } = operation
    const common = { store, key: this.key(operation.key), conditions: conditionsOf(operation) }
    switch (operation.op) {
      case 'set': {
        const { value, contentType } = operation
        return { type: 'set', ...common, value, contentType, ...ttlOf(operation) }
      }
      case 'delete':
        return { type: 'delete', ...common }
      case 'increment':
        return { type: 'increment', ...common, delta: operation.delta, ...ttlOf(operation) }
      case 'touch':
        return { type: 'touch', ...common, ttl: readTtl(operation.ttl) }
      default:
        return operation satisfies never
    }
  }

  /** One of a transaction. */
  operation(operation: Operation): StateOperation {
    const { store } = operation
    switch (operation.op) {
      case 'get':
      case 'exists':
      case 'delete':
        return { type: operation.op, store, key: this.key(operation.key) }
      case 'deletePrefix':
        return { type: 'deletePrefix', store, prefix: this.bound(operation.prefix) }
      case 'set':
      case 'increment':
      case 'touch': {
        const { conditions: _, ...command } = this.write(operation)
        return command
      }
      default:
        return operation satisfies never
    }
  }

  condition(condition: TransactionCondition): StateCondition {
    const target = { store: condition.store, key: this.key(condition.key) }
    if ('revision' in condition) return { type: 'revision', ...target, revision: condition.revision }
    if ('exists' in condition) return { type: 'exists', ...target, exists: condition.exists }
    return { type: 'value', ...target, value: condition.value }
  }
}

function conditionsOf({ ifRevision, ifAbsent }: Conditions): readonly Condition[] {
  return [
    ...(ifRevision === undefined ? [] : [{ type: 'revision', revisions: [ifRevision] } as const]),
    ...(ifAbsent === undefined ? [] : [{ type: 'absent' } as const]),
  ]
}

function ttlOf({ ttl }: { readonly ttl?: string }): { readonly ttl?: Ttl } {
  return ttl === undefined ? {} : { ttl: readTtl(ttl) }
}

/** A copy, because what is read may look into rows that others read too. */
export function entryOf(key: string, { value, revision, contentType, expires }: Item): Entry {
  return { key, value: new Uint8Array(value), revision, contentType, ...expiryOf(expires) }
}

function expiryOf(expires: number | undefined): { readonly expires?: Date } {
  return expires === undefined ? {} : { expires: new Date(expires) }
}

/** What the operation of a transaction came to. */
export function resultOf(operation: Operation | undefined, result: StateResult): OperationResult {
  switch (result.type) {
    case 'get': {
      const key = operation?.op === 'get' ? operation.key : ''
      return { op: 'get', entry: result.item === undefined ? undefined : entryOf(key, result.item) }
    }
    case 'exists':
      return { op: 'exists', exists: result.exists }
    case 'set':
      return { op: 'set', created: result.created, changed: result.changed }
    case 'deleted':
      return { op: 'delete', deleted: result.deleted }
    case 'incremented':
      return { op: 'increment', value: result.value }
    case 'touched':
      return { op: 'touch', ...expiryOf(result.expires) }
    case 'rangeDeleted':
      return { op: 'deletePrefix', deleted: result.deleted }
    case 'head':
    case 'recalled':
      throw new Error(`a transaction of this process was answered with ${result.type}`)
    default:
      return result satisfies never
  }
}
