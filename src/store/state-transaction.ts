// A transaction: its operations carried out on what was found, each seeing those before it, and nothing kept if one fails.

import assert from 'node:assert/strict'
import { permits, permitsOperation } from './grants.ts'
import type { StoredRecord } from './record.ts'
import type { Alteration, RowPlace, Standing } from './state-changes.ts'
import {
  decide,
  type KeyWrite,
  type Present,
  type Refusal,
  refuseContent,
  sameBytes,
} from './state-decide.ts'
import { type Found, rangeBounds } from './state-fetch.ts'
import { type Known, locate } from './state-steps.ts'
import type { OpenStore } from './state-stores.ts'
import type {
  Command,
  Operation,
  OperationResult,
  Outcome,
  Principal,
  TransactionCondition,
} from './types.ts'

export type Transaction = Extract<Command, { type: 'transaction' }>

export type TransactionCircumstances = {
  readonly principal: Principal
  readonly known: Known
  readonly found: Found
  /** The last one there is. */
  readonly revision: number
  /** The stamp of its entry, in milliseconds since the epoch. */
  readonly time: number
}

/** What a transaction comes to, and what it makes of records: nothing where it is refused. */
export type TransactionDecision = {
  readonly outcome: Outcome
  readonly alterations: readonly Alteration[]
  /** Whether it takes a revision: not if it only reads and renews. */
  readonly writes: boolean
}

const isRead = new Set<Operation['type']>(['get', 'head', 'exists'])

/** In the contract's order: all grants of both branches, the conditions, then the operations of one, until one fails. */
export function decideTransaction(
  transaction: Transaction,
  circumstances: TransactionCircumstances,
): TransactionDecision {
  const { principal } = circumstances
  const { if: conditions, then, else: otherwise } = transaction
  if (
    !grants(principal, conditions) ||
    ![...then, ...otherwise].every((one) => permitsOperation(principal, one))
  ) {
    return refused({ type: 'refused', code: 'access-denied' })
  }
  if ([conditions, then, otherwise].some(({ length }) => length > rangeBounds.operations)) {
    return refused({ type: 'refused', code: 'invalid-request', limit: rangeBounds.operations })
  }
  const view = new View(transaction.token, circumstances)
  if (conditions.some((condition) => view.locate(condition) === undefined)) {
    return refused({ type: 'refused', code: 'no-such-store' })
  }
  const succeeded = conditions.every((condition) => holds(condition, view))
  const branch = succeeded ? then : otherwise
  const writes = branch.some(({ type }) => !isRead.has(type) && type !== 'touch')
  const revision = circumstances.revision + (writes ? 1 : 0)
  const results: OperationResult[] = []
  for (const [index, operation] of branch.entries()) {
    const result = view.take(operation, revision)
    if (result.type === 'refused') return refused({ ...result, index })
    results.push(result)
  }
  return {
    outcome: { type: 'transaction', revision, succeeded, results },
    alterations: view.alterations(),
    writes,
  }
}

function refused(outcome: Outcome): TransactionDecision {
  return { outcome, alterations: [], writes: false }
}

function grants(principal: Principal, conditions: readonly TransactionCondition[]): boolean {
  return conditions.every(({ store, key }) => permits(principal, { store, access: 'read', within: key }))
}

function holds(condition: TransactionCondition, view: View): boolean {
  const present = view.present(condition)
  switch (condition.type) {
    case 'revision':
      return (present?.revision ?? 0) === condition.revision
    case 'exists':
      return (present !== undefined) === condition.exists
    case 'value':
      return present !== undefined && sameBytes(present.value, condition.value)
    default:
      throw new assert.AssertionError({ message: `Unknown condition ${condition satisfies never}` })
  }
}

type Located = RowPlace & { readonly store: OpenStore }

/** A record that operations have written, and what it was before them. */
type Staged = {
  readonly located: Located
  readonly before: Standing | undefined
  after: StoredRecord | undefined
}

/** What the operations see: what was found, with what those before them have written. */
class View {
  readonly #token: string
  readonly #circumstances: TransactionCircumstances
  /** By row name, in the order in which they were first written. */
  readonly #staged = new Map<string, Staged>()
  #answered = 0

  constructor(token: string, circumstances: TransactionCircumstances) {
    this.#token = token
    this.#circumstances = circumstances
  }

  locate(target: { readonly store: string; readonly key: Uint8Array }): Located | undefined {
    return locate(target, this.#token, this.#circumstances.known)
  }

  present(target: {
    readonly store: string
    readonly key: Uint8Array
  }): (Present & { readonly size: number }) | undefined {
    const located = this.locate(target)
    return located && this.#at(located.name)
  }

  take(operation: Operation, revision: number): OperationResult | Refusal {
    if (operation.type === 'deletePrefix') return this.#deletePrefix(operation)
    const located = this.locate(operation)
    if (located === undefined) return { type: 'refused', code: 'no-such-store' }
    const { valueBytes } = this.#circumstances.known
    const invalid = refuseContent(operation, { store: located.store.definition, valueBytes })
    if (invalid !== undefined) return invalid
    switch (operation.type) {
      case 'get':
        return this.#get(operation.key, located)
      case 'head': {
        const present = this.#at(located.name)
        if (present === undefined) return { type: 'head', item: undefined }
        const { contentType, revision: last, createdRevision, expires, size } = present
        return {
          type: 'head',
          item: {
            key: Buffer.from(operation.key),
            contentType,
            revision: last,
            createdRevision,
            expires,
            size,
          },
        }
      }
      case 'exists':
        return { type: 'exists', exists: this.#at(located.name) !== undefined }
      default:
        return this.#write(operation, located, revision)
    }
  }

  /** One for each record that is another one now. */
  alterations(): readonly Alteration[] {
    const all: Alteration[] = []
    for (const { located, before, after } of this.#staged.values()) {
      if (before === undefined && after === undefined) continue
      const { store, key, name } = located
      all.push({ store, place: { key, name }, before, after })
    }
    return all
  }

  #at(name: string): (Present & { readonly size: number }) | undefined {
    const staged = this.#staged.get(name)
    if (staged === undefined) return this.#circumstances.found.standing.get(name)
    return staged.after === undefined ? undefined : { ...staged.after, size: staged.after.value.length }
  }

  #get(key: Uint8Array, { name }: Located): OperationResult | Refusal {
    const present = this.#at(name)
    if (present === undefined) return { type: 'get', item: undefined }
    const limit = rangeBounds.readBytes
    this.#answered += present.size
    const { value, contentType, revision, createdRevision, expires } = present
    if (value === undefined || this.#answered > limit)
      return { type: 'refused', code: 'result-too-large', limit }
    // What was written here is in the entry's buffer, and the answer outlives that.
    const own = this.#staged.has(name) ? Buffer.from(value) : value
    return {
      type: 'get',
      item: { key: Buffer.from(key), value: own, contentType, revision, createdRevision, expires },
    }
  }

  #write(write: KeyWrite, located: Located, revision: number): OperationResult | Refusal {
    const { known, time } = this.#circumstances
    const decision = decide(write, {
      store: located.store.definition,
      valueBytes: known.valueBytes,
      present: this.#at(located.name),
      revision,
      time,
    })
    switch (decision.type) {
      case 'refused':
        return decision
      case 'put':
        this.#stage(located, decision.record)
        return decision.result
      case 'remove':
        this.#stage(located, undefined)
        return decision.result
      case 'nothing':
        return decision.result
      default:
        throw new assert.AssertionError({ message: `Unknown decision ${decision satisfies never}` })
    }
  }

  #stage(located: Located, after: StoredRecord | undefined): void {
    const staged = this.#staged.get(located.name)
    if (staged !== undefined) staged.after = after
    else {
      const before = this.#circumstances.found.standing.get(located.name)
      this.#staged.set(located.name, { located, before, after })
    }
  }

  #deletePrefix(operation: Extract<Operation, { type: 'deletePrefix' }>): OperationResult | Refusal {
    const within = this.locate({ store: operation.store, key: operation.prefix })
    if (within === undefined) return { type: 'refused', code: 'no-such-store' }
    const range = this.#circumstances.found.ranges.get(operation)
    assert(range !== undefined, 'The range of every operation was read')
    if (!range.whole) return { type: 'refused', code: 'range-too-large', limit: rangeBounds.keys }
    const { store } = within
    let deleted = 0
    for (const place of range.places) {
      if (this.#at(place.name) === undefined) continue
      this.#stage({ ...place, store }, undefined)
      deleted += 1
    }
    for (const staged of this.#staged.values()) {
      if (staged.after === undefined || !staged.located.name.startsWith(within.name)) continue
      staged.after = undefined
      deleted += 1
    }
    return { type: 'rangeDeleted', deleted }
  }
}
