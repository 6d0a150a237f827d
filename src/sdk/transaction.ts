// Several operations on keys of one or more stores, all or none, put together step by step and sent by `commit`.

import { operationLimits } from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import type { Backend, OperationResult, Transacted } from './backend.ts'
import type { Operation, TransactionCondition } from './operations.ts'
import type { CallOptions } from './types.ts'

/** What each of the operations comes to, in their order. */
export type Results<Operations extends readonly Operation[]> = {
  readonly [Index in keyof Operations]: Extract<OperationResult, { op: Operations[Index]['op'] }>
}

/** `succeeded`: the conditions held, so that the operations of `onSuccess` were carried out; else those of `onFailure`. */
export type TransactionResult<Then extends readonly Operation[], Else extends readonly Operation[]> =
  | { readonly succeeded: true; readonly revision: number; readonly results: Results<Then> }
  | { readonly succeeded: false; readonly revision: number; readonly results: Results<Else> }

/**
 * Collects a transaction. Each step returns a new builder and leaves the one before as it is; nothing is sent before
 * `commit`. It is no promise: awaiting the builder itself does nothing.
 */
export class TransactionBuilder<
  Then extends readonly Operation[] = [],
  Else extends readonly Operation[] = [],
> {
  readonly #backend: () => Backend
  readonly #conditions: readonly TransactionCondition[]
  readonly #onSuccess: Then
  readonly #onFailure: Else

  /** `backend` throws when its client is closed. */
  constructor(
    backend: () => Backend,
    parts: {
      readonly conditions: readonly TransactionCondition[]
      readonly onSuccess: Then
      readonly onFailure: Else
    },
  ) {
    this.#backend = backend
    this.#conditions = parts.conditions
    this.#onSuccess = parts.onSuccess
    this.#onFailure = parts.onFailure
  }

  /** All conditions must hold, those given before too. */
  if(...conditions: TransactionCondition[]): TransactionBuilder<Then, Else> {
    return new TransactionBuilder(this.#backend, {
      conditions: [...this.#conditions, ...conditions],
      onSuccess: this.#onSuccess,
      onFailure: this.#onFailure,
    })
  }

  /** What is done when all conditions hold. Each operation sees those before it; the first that fails undoes all. */
  onSuccess<const More extends readonly Operation[]>(
    ...operations: More
  ): TransactionBuilder<[...Then, ...More], Else> {
    return new TransactionBuilder<[...Then, ...More], Else>(this.#backend, {
      conditions: this.#conditions,
      onSuccess: [...this.#onSuccess, ...operations],
      onFailure: this.#onFailure,
    })
  }

  /** What is done when one of them does not. */
  onFailure<const More extends readonly Operation[]>(
    ...operations: More
  ): TransactionBuilder<Then, [...Else, ...More]> {
    return new TransactionBuilder<Then, [...Else, ...More]>(this.#backend, {
      conditions: this.#conditions,
      onSuccess: this.#onSuccess,
      onFailure: [...this.#onFailure, ...operations],
    })
  }

  /** Sends it. Rejects with the error of the operation that failed, which `index` names; nothing has changed then. */
  async commit(options: CallOptions = {}): Promise<TransactionResult<Then, Else>> {
    const size = this.#conditions.length + this.#onSuccess.length + this.#onFailure.length
    if (size > operationLimits.operations) throw tooMany(size)
    const transaction = {
      conditions: this.#conditions,
      onSuccess: this.#onSuccess,
      onFailure: this.#onFailure,
    }
    const done = await this.#backend().transact(transaction, options)
    assertFits(done, this.#onSuccess, this.#onFailure)
    return done
  }
}

export function tooMany(actual: number): TrivetError {
  return new TrivetError(
    'invalid-request',
    `A transaction has at most ${operationLimits.operations} conditions and operations`,
    { field: 'operations', limit: operationLimits.operations, actual },
  )
}

/** Held at run time, for the compiler cannot: the backend answers each operation with a result of its kind. */
function assertFits<Then extends readonly Operation[], Else extends readonly Operation[]>(
  done: Transacted,
  onSuccess: Then,
  otherwise: Else,
): asserts done is TransactionResult<Then, Else> {
  const asked = done.succeeded ? onSuccess : otherwise
  const fits =
    asked.length === done.results.length && asked.every(({ op }, index) => done.results[index]?.op === op)
  if (!fits) throw new Error('a transaction was answered with results of other operations')
}
