// What a store handle stands on: a cluster behind REST, or the node in this very process. Both answer alike.

import type { Deleted, Written } from '../api/protocol.ts'
import type {
  Conditions,
  DeleteOperation,
  ExistsOperation,
  GetOperation,
  IncrementOperation,
  Operation,
  SetOperation,
  TouchOperation,
  TransactionCondition,
} from './operations.ts'
import type { CallOptions, Entry, KeysOptions, ReadOptions, WatchEvent, WatchOptions } from './types.ts'

export type Incremented = { readonly revision: number; readonly value: bigint }

/** What a touch came to; undefined when the key is missing. */
export type Touched = { readonly expires?: Date } | undefined

export type RangeDeleted = { readonly revision: number; readonly deleted: number }

/** A key of a listing; the value is there when it was asked for. */
export type Listed = Omit<Entry, 'value'> & { readonly value?: Entry['value'] }

export type Transaction = {
  readonly conditions: readonly TransactionCondition[]
  readonly onSuccess: readonly Operation[]
  readonly onFailure: readonly Operation[]
}

/** What one operation of a transaction came to. */
export type OperationResult =
  | { readonly op: 'get'; readonly entry: Entry | undefined }
  | { readonly op: 'exists'; readonly exists: boolean }
  | { readonly op: 'set'; readonly created: boolean; readonly changed: boolean }
  | { readonly op: 'delete'; readonly deleted: boolean }
  | { readonly op: 'increment'; readonly value: bigint }
  | { readonly op: 'touch'; readonly expires?: Date }
  | { readonly op: 'deletePrefix'; readonly deleted: number }

/** `results` in the order of the operations that were carried out. */
export type Transacted = {
  readonly succeeded: boolean
  readonly revision: number
  readonly results: readonly OperationResult[]
}

/** Every call rejects with a `TrivetError` or with the signal's reason. What is given is well-formed already. */
export interface Backend {
  get(operation: GetOperation, options: ReadOptions): Promise<Entry | undefined>
  exists(operation: ExistsOperation, options: ReadOptions): Promise<boolean>
  set(operation: SetOperation & Conditions, options: CallOptions): Promise<Written>
  delete(operation: DeleteOperation & Conditions, options: CallOptions): Promise<Deleted>
  increment(operation: IncrementOperation & Conditions, options: CallOptions): Promise<Incremented>
  touch(operation: TouchOperation & Conditions, options: CallOptions): Promise<Touched>
  deleteRange(store: string, prefix: string, options: CallOptions): Promise<RangeDeleted>
  transact(transaction: Transaction, options: CallOptions): Promise<Transacted>
  /** All of it from one revision. */
  list(store: string, query: KeysOptions & { readonly values: boolean }): AsyncIterable<Listed>
  watch(store: string, options: WatchOptions): AsyncIterable<WatchEvent>
}
