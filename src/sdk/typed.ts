// A store whose values have one shape: JSON, checked by a schema of any library that speaks Standard Schema.

import type { Deleted, Written } from '../api/protocol.ts'
import { jsonText } from './operations.ts'
import type {
  CallOptions,
  DeleteOptions,
  Entry,
  KeysOptions,
  ReadOptions,
  SetOptions,
  Store,
  TouchOptions,
} from './types.ts'

/** The part of Standard Schema (standardschema.dev, version 1) that is used here. */
export type StandardSchema<Input = unknown, Output = Input> = {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
  }
}

type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] }

export type SchemaIssue = {
  readonly message: string
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

export type TypedOptions = {
  /** Stands before every key, and is not seen again. */
  readonly prefix?: string | undefined
}

export type TypedEntry<T> = Omit<Entry, 'value'> & { readonly value: T }

/** A value that does not fit its schema: one that was to be set, or one that something else has stored. */
export class SchemaError extends TypeError {
  override readonly name = 'SchemaError'
  readonly key: string
  readonly issues: readonly SchemaIssue[]

  constructor(key: string, issues: readonly SchemaIssue[]) {
    super(`The value of ${JSON.stringify(key)} does not fit its schema: ${issues.map(issueText).join('; ')}`)
    this.key = key
    this.issues = issues
  }
}

/**
 * The view of a store through a schema. What is set is checked and stored as it was given; what is read is checked again, because others
 * write too, and comes as the schema's output. Both reject with a `SchemaError` for what does not fit.
 *
 * ```ts
 * const carts = store.typed(z.object({ items: z.array(z.string()) }), { prefix: 'cart/' })
 * await carts.set('c1', { items: ['pear'] })
 * ```
 */
export class TypedStore<Input, Output> {
  readonly #store: Store
  readonly #schema: StandardSchema<Input, Output>
  readonly #prefix: string

  constructor(store: Store, schema: StandardSchema<Input, Output>, { prefix = '' }: TypedOptions = {}) {
    this.#store = store
    this.#schema = schema
    this.#prefix = prefix
  }

  async get(key: string, options: ReadOptions = {}): Promise<Output | undefined> {
    return (await this.getEntry(key, options))?.value
  }

  async getEntry(key: string, options: ReadOptions = {}): Promise<TypedEntry<Output> | undefined> {
    const entry = await this.#store.getEntry(this.#prefix + key, options)
    return entry === undefined ? undefined : this.#read(entry)
  }

  async set(key: string, value: Input, options: Omit<SetOptions, 'contentType'> = {}): Promise<Written> {
    await this.#check(key, value)
    return this.#store.setJson(this.#prefix + key, value, options)
  }

  async delete(key: string, options: DeleteOptions = {}): Promise<Deleted> {
    return this.#store.delete(this.#prefix + key, options)
  }

  async exists(key: string, options: ReadOptions = {}): Promise<boolean> {
    return this.#store.exists(this.#prefix + key, options)
  }

  async touch(key: string, options: TouchOptions): Promise<{ readonly expires?: Date } | undefined> {
    return this.#store.touch(this.#prefix + key, options)
  }

  /** One value for each key, in order, all from one revision. */
  async getMany(keys: Iterable<string>, options: CallOptions = {}): Promise<(Output | undefined)[]> {
    const names = [...keys]
    const values = await this.#store.getMany(
      names.map((key) => this.#prefix + key),
      options,
    )
    return Promise.all(
      values.map((value, index) =>
        value === undefined ? undefined : this.#parse(names[index] ?? '', value),
      ),
    )
  }

  /** All of them or none. */
  async setMany(
    entries: Iterable<readonly [key: string, value: Input]>,
    options: CallOptions = {},
  ): Promise<{ readonly revision: number }> {
    const rows = [...entries]
    await Promise.all(rows.map(([key, value]) => this.#check(key, value)))
    const made = rows.map(([key, value]) => ({
      key: this.#prefix + key,
      value: jsonText(key, value),
      contentType: 'application/json',
    }))
    return this.#store.setMany(made, options)
  }

  /** `prefix`, `start` and `end` are of the keys as one sees them here. */
  async *getKeys(options: KeysOptions = {}): AsyncGenerator<string, void, undefined> {
    for await (const key of this.#store.getKeys(this.#within(options))) yield key.slice(this.#prefix.length)
  }

  async *entries(options: KeysOptions = {}): AsyncGenerator<TypedEntry<Output>, void, undefined> {
    for await (const entry of this.#store.entries(this.#within(options))) yield this.#read(entry)
  }

  #within(options: KeysOptions): KeysOptions {
    const { prefix = '', start, end } = options
    return {
      ...options,
      prefix: this.#prefix + prefix,
      start: start === undefined ? undefined : this.#prefix + start,
      end: end === undefined ? undefined : this.#prefix + end,
    }
  }

  async #check(key: string, value: unknown): Promise<Output> {
    const result = await this.#schema['~standard'].validate(value)
    if (result.issues !== undefined) throw new SchemaError(key, result.issues)
    return result.value
  }

  async #read(entry: Entry): Promise<TypedEntry<Output>> {
    const key = entry.key.slice(this.#prefix.length)
    return { ...entry, key, value: await this.#parse(key, entry.value) }
  }

  async #parse(key: string, value: Uint8Array): Promise<Output> {
    let parsed: unknown
    try {
      parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(value))
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      throw new SchemaError(key, [{ message: `it is not JSON (${reason})` }])
    }
    return this.#check(key, parsed)
  }
}

function issueText({ message, path = [] }: SchemaIssue): string {
  const names = path.map((part) => String(typeof part === 'object' ? part.key : part))
  return names.length === 0 ? message : `${names.join('.')}: ${message}`
}
