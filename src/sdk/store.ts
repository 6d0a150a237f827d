// The handle on a store: what is given is checked and copied here, what stands behind carries it out.

import { type Deleted, type KeyPage, operationLimits, type Written } from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import type { Backend } from './backend.ts'
import { type Cas, KeyCas } from './cas.ts'
import { checkRevision, conditionsOf, jsonText, type Operation, op, wellFormed } from './operations.ts'
import type { RestBackend } from './rest.ts'
import { mostFilters } from './subscription.ts'
import { tooMany } from './transaction.ts'
import { type StandardSchema, type TypedOptions, TypedStore } from './typed.ts'
import type {
  Bytes,
  CallOptions,
  DeleteOptions,
  Entry,
  IncrementOptions,
  KeysOptions,
  NewEntry,
  Range,
  ReadOptions,
  SetOptions,
  Store,
  TouchOptions,
  Value,
  WatchEvent,
  WatchOptions,
} from './types.ts'

/** A handle on a store of some backend. `owner` aborts when the client or node behind it is closed. */
export class StoreHandle implements Store {
  readonly name: string
  readonly #backend: Backend
  readonly #closed = new AbortController()
  readonly #over: AbortSignal

  constructor(name: string, backend: Backend, owner: AbortSignal) {
    this.name = name
    this.#backend = backend
    this.#over = AbortSignal.any([this.#closed.signal, owner])
  }

  async get(key: string, options: ReadOptions = {}): Promise<Bytes | undefined> {
    return (await this.backend.get(op.get(this.name, key), checkRead(options)))?.value
  }

  async getText(key: string, options: ReadOptions = {}): Promise<string | undefined> {
    const value = await this.get(key, options)
    if (value === undefined) return undefined
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value)
    } catch (cause) {
      throw new TypeError(`The value of ${JSON.stringify(key)} is not UTF-8; read it with get`, { cause })
    }
  }

  async getJson<T = unknown>(key: string, options: ReadOptions = {}): Promise<T | undefined> {
    const text = await this.getText(key, options)
    if (text === undefined) return undefined
    try {
      return JSON.parse(text)
    } catch (cause) {
      throw new SyntaxError(`The value of ${JSON.stringify(key)} is not JSON`, { cause })
    }
  }

  async getEntry(key: string, options: ReadOptions = {}): Promise<Entry | undefined> {
    return this.backend.get(op.get(this.name, key), checkRead(options))
  }

  async exists(key: string, options: ReadOptions = {}): Promise<boolean> {
    return this.backend.exists(op.exists(this.name, key), checkRead(options))
  }

  async set(key: string, value: Value, options: SetOptions = {}): Promise<Written> {
    const operation = { ...op.set(this.name, key, value, options), ...conditionsOf(options) }
    return this.backend.set(operation, options)
  }

  async setJson(
    key: string,
    value: unknown,
    options: Omit<SetOptions, 'contentType'> = {},
  ): Promise<Written> {
    return this.set(key, jsonText(key, value), { ...options, contentType: 'application/json' })
  }

  async delete(key: string, options: DeleteOptions = {}): Promise<Deleted> {
    return this.backend.delete({ ...op.delete(this.name, key), ...conditionsOf(options) }, options)
  }

  async increment(key: string, delta: number | bigint = 1, options: IncrementOptions = {}): Promise<bigint> {
    const operation = { ...op.increment(this.name, key, delta, options), ...conditionsOf(options) }
    return (await this.backend.increment(operation, options)).value
  }

  async touch(key: string, options: TouchOptions): Promise<{ readonly expires?: Date } | undefined> {
    return this.backend.touch({ ...op.touch(this.name, key, options), ...conditionsOf(options) }, options)
  }

  async *getKeys(options: KeysOptions = {}): AsyncGenerator<string, void, undefined> {
    const query = { ...checkKeys(options), values: false }
    for await (const { key } of this.backend.list(this.name, query)) yield key
  }

  async *entries(options: KeysOptions = {}): AsyncGenerator<Entry, void, undefined> {
    for await (const { value, ...row } of this.backend.list(this.name, {
      ...checkKeys(options),
      values: true,
    })) {
      if (value === undefined) throw new Error('a listing with values came without them')
      yield { ...row, value }
    }
  }

  async getMany(keys: Iterable<string>, options: CallOptions = {}): Promise<(Bytes | undefined)[]> {
    const done = await this.#all(
      Array.from(keys, (key) => op.get(this.name, key)),
      options,
    )
    return done.results.map((result) => (result.op === 'get' ? result.entry?.value : undefined))
  }

  async setMany(
    entries: Iterable<NewEntry | readonly [key: string, value: Value]>,
    options: CallOptions = {},
  ): Promise<{ readonly revision: number }> {
    const operations = Array.from(entries, (entry) => {
      const { key, value, ...more } = isPair(entry) ? { key: entry[0], value: entry[1] } : entry
      return op.set(this.name, key, value, more)
    })
    const { revision } = await this.#all(operations, options)
    return { revision }
  }

  async deleteMany(
    keys: Iterable<string>,
    options: CallOptions = {},
  ): Promise<{ readonly revision: number; readonly deleted: number }> {
    const done = await this.#all(
      Array.from(keys, (key) => op.delete(this.name, key)),
      options,
    )
    const deleted = done.results.filter((result) => result.op === 'delete' && result.deleted).length
    return { revision: done.revision, deleted }
  }

  async deleteRange(
    range: Range,
    options: CallOptions = {},
  ): Promise<{ readonly revision: number; readonly deleted: number }> {
    const prefix = 'prefix' in range ? wellFormed(range.prefix, 'prefix') : ''
    if (prefix === '' && !('all' in range)) {
      throw new TrivetError('invalid-request', 'An empty prefix is every key: say { all: true } for that', {
        field: 'prefix',
      })
    }
    return this.backend.deleteRange(this.name, prefix, options)
  }

  cas(key: string): Cas {
    return new KeyCas(this, key)
  }

  async *watch(options: WatchOptions = {}): AsyncGenerator<WatchEvent, void, undefined> {
    const { backend } = this
    const signal = options.signal === undefined ? this.#over : AbortSignal.any([options.signal, this.#over])
    yield* backend.watch(this.name, { ...checkWatch(options), signal })
  }

  typed<Input, Output>(
    schema: StandardSchema<Input, Output>,
    options: TypedOptions = {},
  ): TypedStore<Input, Output> {
    return new TypedStore(this, schema, options)
  }

  async close(): Promise<void> {
    if (!this.#closed.signal.aborted) this.#closed.abort(closed(`The handle on the store ${this.name}`))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** Throws `invalid-store` once the handle or what it belongs to is closed. */
  protected get backend(): Backend {
    this.#over.throwIfAborted()
    return this.#backend
  }

  #all(
    operations: readonly Operation[],
    options: CallOptions,
  ): Promise<Awaited<ReturnType<Backend['transact']>>> {
    const { backend } = this
    if (operations.length > operationLimits.operations) throw tooMany(operations.length)
    return backend.transact({ conditions: [], onSuccess: operations, onFailure: [] }, options)
  }
}

/** A store over the network, with more of the protocol to see: for the command line. */
export class RemoteStore extends StoreHandle {
  readonly #rest: RestBackend

  constructor(name: string, rest: RestBackend, owner: AbortSignal) {
    super(name, rest, owner)
    this.#rest = rest
  }

  /** The listing in pages, each from a revision of its own. */
  async *pages(options: KeysOptions = {}): AsyncGenerator<KeyPage, void, undefined> {
    void this.backend
    yield* this.#rest.pages(this.name, checkKeys(options))
  }
}

/** What calls reject with after a close. */
export function closed(what: string): TrivetError {
  return new TrivetError('invalid-store', `${what} is closed`)
}

function isPair(
  entry: NewEntry | readonly [key: string, value: Value],
): entry is readonly [key: string, value: Value] {
  return Array.isArray(entry)
}

function checkRead<Options extends ReadOptions>(options: Options): Options {
  if (options.minRevision !== undefined) checkRevision(options.minRevision, 'minRevision')
  return options
}

function checkKeys(options: KeysOptions): KeysOptions {
  for (const field of ['prefix', 'start', 'end'] as const) wellFormed(options[field] ?? '', field)
  return checkRead(options)
}

function checkWatch(options: WatchOptions): WatchOptions {
  const { from, snapshot, prefix = [], key = [] } = options
  const filters = [prefix, key].flat()
  for (const filter of filters) wellFormed(filter, 'prefix')
  if (filters.length > mostFilters) {
    throw new TrivetError('invalid-request', `A watch has at most ${mostFilters} prefixes and keys`, {
      field: 'prefix',
      limit: mostFilters,
      actual: filters.length,
    })
  }
  if (from !== undefined && snapshot === true) {
    throw new TrivetError('invalid-request', 'from and snapshot exclude each other', { field: 'snapshot' })
  }
  if (from !== undefined && !/^\d{1,16}(\.\d{1,10})?$/.test(String(from))) {
    throw new TrivetError('invalid-request', `from must be a revision or the id of an event; it is ${from}`, {
      field: 'from',
    })
  }
  return options
}
