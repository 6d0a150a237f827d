// How a node in memory decides what is done to keys: a model of apply that is short enough to be seen right.

import type {
  Condition,
  Item,
  ItemHead,
  KeyCommand,
  Operation,
  OperationResult,
  Outcome,
  RepeatableCommand,
  StoreDefinition,
  TransactionCondition,
  Ttl,
  Until,
} from '../../src/store/types.ts'

type Transaction = Extract<RepeatableCommand, { type: 'transaction' }>
type RangeCommand = Extract<RepeatableCommand, { type: 'deleteRange' }>
export type KeysCommand = KeyCommand | Transaction | RangeCommand

export type Keyspace = {
  readonly definition: StoreDefinition
  readonly number: number
  readonly items: Map<string, Item>
}

/** What a record became, or that it is gone. */
export type KeyChange = { readonly store: number; readonly key: Uint8Array; readonly item: Item | undefined }

type Refused = Extract<Outcome, { type: 'refused' }>

class Refusal extends Error {
  readonly outcome: Refused

  constructor(outcome: Omit<Refused, 'type'>) {
    super(outcome.code)
    this.outcome = { type: 'refused', ...outcome }
  }
}

const least = -(2n ** 63n)
const most = 2n ** 63n - 1n

/** Carries one command out at its revision. Changes the keyspaces only where it succeeds. */
export class KeyWrite {
  readonly #spaces: ReadonlyMap<string, Keyspace>
  readonly #revision: number
  readonly #time: number
  /** In the order in which they were made. */
  readonly changes: KeyChange[] = []
  /** What the command has changed so far, by store and key. */
  readonly #changed = new Map<string, Item | undefined>()

  constructor(
    spaces: ReadonlyMap<string, Keyspace>,
    at: { readonly revision: number; readonly time: number },
  ) {
    this.#spaces = spaces
    this.#revision = at.revision
    this.#time = at.time
  }

  decide(command: KeysCommand): Outcome {
    try {
      const outcome = this.#decide(command)
      for (const { store, key, item } of this.changes) {
        const space = [...this.#spaces.values()].find(({ number }) => number === store)
        if (item === undefined) space?.items.delete(textOf(key))
        else space?.items.set(textOf(key), item)
      }
      return outcome
    } catch (error) {
      if (error instanceof Refusal) return error.outcome
      throw error
    }
  }

  #decide(command: KeysCommand): Outcome {
    const revision = this.#revision
    if (command.type === 'transaction') return this.#transact(command)
    if (command.type === 'deleteRange') {
      return { type: 'rangeDeleted', revision, deleted: this.#deletePrefix(command.store, command.prefix) }
    }
    const present = this.#present(command.store, command.key)
    if (!command.conditions.every((condition) => holds(condition, present))) {
      throw new Refusal({ code: 'condition-failed', revision: present?.revision ?? 0 })
    }
    const result = this.#operate(command)
    switch (result.type) {
      case 'set':
      case 'touched':
        return result
      case 'deleted':
      case 'incremented':
        return { ...result, revision }
      default:
        throw new Error(`a command of one key came to ${result.type}`)
    }
  }

  #transact(command: Transaction): Outcome {
    const succeeded = command.if.every((condition) => this.#meets(condition))
    const results = command[succeeded ? 'then' : 'else'].map((operation, index) => {
      try {
        return this.#operate(operation)
      } catch (error) {
        throw error instanceof Refusal ? new Refusal({ ...error.outcome, index }) : error
      }
    })
    return { type: 'transaction', revision: this.#revision, succeeded, results }
  }

  #meets(condition: TransactionCondition): boolean {
    const present = this.#present(condition.store, condition.key)
    if (condition.type === 'exists') return condition.exists === (present !== undefined)
    if (condition.type === 'revision') return condition.revision === (present?.revision ?? 0)
    return present !== undefined && Buffer.compare(present.value, condition.value) === 0
  }

  #operate(operation: Operation | KeyCommand): OperationResult {
    if (operation.type === 'deletePrefix') {
      return { type: 'rangeDeleted', deleted: this.#deletePrefix(operation.store, operation.prefix) }
    }
    const { store, key } = operation
    const present = this.#present(store, key)
    switch (operation.type) {
      case 'get':
        return { type: 'get', item: present }
      case 'head':
        return { type: 'head', item: headOf(present) }
      case 'exists':
        return { type: 'exists', exists: present !== undefined }
      case 'delete':
        if (present !== undefined) this.#change(store, key, undefined)
        return { type: 'deleted', deleted: present !== undefined }
      case 'set': {
        const { value, contentType, ttl } = operation
        this.#set(store, key, { value, contentType, expires: this.#expires(store, ttl) })
        const changed = present?.contentType !== contentType || Buffer.compare(present.value, value) !== 0
        return { type: 'set', revision: this.#revision, created: present === undefined, changed }
      }
      case 'increment': {
        const sum = numberOf(present) + operation.delta
        if (sum < least || sum > most) throw new Refusal({ code: 'overflow' })
        const { contentType = 'text/plain', expires = this.#expires(store, operation.ttl) } = present ?? {}
        const kept = present === undefined ? expires : present.expires
        this.#set(store, key, { value: Buffer.from(String(sum)), contentType, expires: kept })
        return { type: 'incremented', value: sum }
      }
      case 'touch': {
        if (present === undefined) throw new Refusal({ code: 'no-such-key' })
        const expires = this.#expires(store, operation.ttl)
        this.#change(store, key, { ...present, expires })
        return { type: 'touched', ...(expires === undefined ? {} : { expires }) }
      }
      default:
        return operation satisfies never
    }
  }

  #set(store: string, key: Uint8Array, record: Pick<Item, 'value' | 'contentType' | 'expires'>): void {
    const limit = this.#space(store).definition.maxValueBytes
    if (limit !== undefined && record.value.length > limit)
      throw new Refusal({ code: 'value-too-large', limit })
    const revision = this.#revision
    const createdRevision = this.#present(store, key)?.createdRevision ?? revision
    this.#change(store, key, { key, ...record, revision, createdRevision })
  }

  #deletePrefix(store: string, prefix: Uint8Array): number {
    const keys = [...this.#space(store).items.values(), ...this.changes.map(({ key }) => ({ key }))]
      .map(({ key }) => textOf(key))
      .filter((key) => key.startsWith(textOf(prefix)))
    const gone = [...new Set(keys)].map((key) => Buffer.from(key, 'latin1'))
    const present = gone.filter((key) => this.#present(store, key) !== undefined)
    for (const key of present) this.#change(store, key, undefined)
    return present.length
  }

  #expires(store: string, ttl: Ttl | Until | undefined): number | undefined {
    if (typeof ttl === 'object') return ttl.until
    const milliseconds = ttl ?? this.#space(store).definition.ttl ?? 'none'
    return milliseconds === 'none' ? undefined : this.#time + milliseconds
  }

  #space(store: string): Keyspace {
    const space = this.#spaces.get(store)
    if (space === undefined) throw new Refusal({ code: 'no-such-store' })
    return space
  }

  #present(store: string, key: Uint8Array): Item | undefined {
    const name = `${store}/${textOf(key)}`
    return this.#changed.has(name) ? this.#changed.get(name) : this.#space(store).items.get(textOf(key))
  }

  #change(store: string, key: Uint8Array, item: Item | undefined): void {
    this.#changed.set(`${store}/${textOf(key)}`, item)
    this.changes.push({ store: this.#space(store).number, key, item })
  }
}

function headOf(item: Item | undefined): ItemHead | undefined {
  if (item === undefined) return undefined
  const { value, ...head } = item
  return { ...head, size: value.length }
}

function numberOf(present: Item | undefined): bigint {
  const text = present === undefined ? '0' : textOf(present.value)
  const number = /^(0|-?[1-9]\d{0,18})$/.test(text) ? BigInt(text) : undefined
  if (number === undefined || number < least || number > most) throw new Refusal({ code: 'not-a-number' })
  return number
}

function holds(condition: Condition, present: Item | undefined): boolean {
  switch (condition.type) {
    case 'revision':
      return present !== undefined && condition.revisions.includes(present.revision)
    case 'exists':
      return present !== undefined
    case 'absent':
      return present === undefined
    default:
      return condition satisfies never
  }
}

/** What is remembered of an outcome: not what was read. */
export function remembered(outcome: Outcome): Outcome {
  if (outcome.type !== 'transaction') return outcome
  const results = outcome.results.map((result): OperationResult => {
    if (result.type !== 'get' && result.type !== 'head') return result
    return { type: 'recalled', found: result.item !== undefined, revision: result.item?.revision ?? 0 }
  })
  return { ...outcome, results }
}

/** The key of a keyspace's map. */
export function textOf(key: Uint8Array): string {
  return Buffer.from(key).toString('latin1')
}
