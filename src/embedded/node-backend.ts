// A store of the node in this very process: what REST does for a request, without the request.

import { refuseLargeValue } from '../api/batch.ts'
import { type Asker, successOf } from '../api/decided.ts'
import { denied, noSuchStore } from '../api/gate.ts'
import type { Deleted, Written } from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import type { NodeSurface, WaitOptions } from '../node/surface.ts'
import type {
  Backend,
  Incremented,
  Listed,
  RangeDeleted,
  Touched,
  Transacted,
  Transaction,
} from '../sdk/backend.ts'
import type {
  Conditions,
  DeleteOperation,
  ExistsOperation,
  GetOperation,
  IncrementOperation,
  SetOperation,
  TouchOperation,
} from '../sdk/operations.ts'
import type { CallOptions, Entry, KeysOptions, ReadOptions, WatchEvent, WatchOptions } from '../sdk/types.ts'
import { permits, type Target } from '../store/grants.ts'
import { type Place, placeOf } from '../store/places.ts'
import type { Command, Outcome, Token } from '../store/types.ts'
import { type Commands, entryOf, resultOf } from './commands.ts'
import { watchNode } from './node-watch.ts'

export type BackendOptions = {
  /** The name of the token that the program acts as. */
  readonly as: string
  readonly commands: Commands
  /** The largest value of a store that sets no limit of its own, in bytes. */
  readonly valueBytes: number
  /** How long a call may take, in milliseconds. */
  readonly timeoutMs: number
}

/** What is read of a listing at once. */
const page = { limit: 1000, maxBytes: 1024 * 1024 } as const

export class NodeBackend implements Backend {
  readonly #node: NodeSurface
  readonly #options: BackendOptions
  #known: Token | undefined

  constructor(node: NodeSurface, options: BackendOptions) {
    this.#node = node
    this.#options = options
  }

  /** Rejects with `access-denied`, or with `no-such-store`. */
  async admit(store: string, options: CallOptions): Promise<void> {
    await this.#read({ store, access: 'read' }, options)
  }

  async get({ store, key }: GetOperation, options: ReadOptions): Promise<Entry | undefined> {
    const within = this.#options.commands.key(key)
    const place = await this.#read({ store, access: 'read', within }, options)
    const item = await this.#node.state.get(place, within)
    return item === undefined ? undefined : entryOf(key, item)
  }

  async exists({ store, key }: ExistsOperation, options: ReadOptions): Promise<boolean> {
    return (await this.get({ op: 'get', store, key }, options)) !== undefined
  }

  async set(operation: SetOperation & Conditions, options: CallOptions): Promise<Written> {
    const { revision, created, changed } = await this.#write(operation, 'set', options)
    return { revision, created, changed }
  }

  async delete(operation: DeleteOperation & Conditions, options: CallOptions): Promise<Deleted> {
    const { revision, deleted } = await this.#write(operation, 'deleted', options)
    return { revision, deleted }
  }

  async increment(operation: IncrementOperation & Conditions, options: CallOptions): Promise<Incremented> {
    const { revision, value } = await this.#write(operation, 'incremented', options)
    return { revision, value }
  }

  async touch(operation: TouchOperation & Conditions, options: CallOptions): Promise<Touched> {
    try {
      const { expires } = await this.#write(operation, 'touched', options)
      return expires === undefined ? {} : { expires: new Date(expires) }
    } catch (error) {
      if (error instanceof TrivetError && error.code === 'no-such-key') return undefined
      throw error
    }
  }

  async deleteRange(store: string, prefix: string, options: CallOptions): Promise<RangeDeleted> {
    const { commands } = this.#options
    const token = await this.#judged({ store, access: 'read-write', within: commands.bound(prefix) }, options)
    const command = { type: 'deleteRange', token: token.hash, store, prefix: commands.bound(prefix) } as const
    const { revision, deleted } = await this.#execute(command, 'rangeDeleted', { token, store }, options)
    return { revision, deleted }
  }

  async transact(transaction: Transaction, options: CallOptions): Promise<Transacted> {
    const { commands } = this.#options
    const { conditions, onSuccess, onFailure } = transaction
    const command = {
      type: 'transaction',
      if: conditions.map((condition) => commands.condition(condition)),
      // biome-ignore lint/suspicious/noThenProperty: the contract's name for it; a command is never awaited.
      then: onSuccess.map((operation) => commands.operation(operation)),
      else: onFailure.map((operation) => commands.operation(operation)),
    } as const
    const token = await this.#token(options)
    const outcome = await this.#execute(
      { ...command, token: token.hash },
      'transaction',
      { token, store: '' },
      options,
    )
    const { succeeded, revision, results } = outcome
    const asked = succeeded ? onSuccess : onFailure
    return { succeeded, revision, results: results.map((result, index) => resultOf(asked[index], result)) }
  }

  async *list(
    store: string,
    query: KeysOptions & { readonly values: boolean },
  ): AsyncGenerator<Listed, void, undefined> {
    const { commands } = this.#options
    const { signal } = query
    const [prefix, start, end] = [query.prefix, query.start, query.end].map((bound) =>
      bound === undefined || bound === '' ? undefined : commands.bound(bound),
    )
    const place = await this.#read({ store, access: 'read', within: prefix ?? new Uint8Array(0) }, query)
    const read = await this.#node.state.openRead()
    try {
      const bounds = { store: place, prefix, start, end, reverse: query.reverse, ...page }
      let after: Uint8Array | undefined
      for (;;) {
        const { items, more } = await read.list({ ...bounds, after }, { signal })
        for (const item of items) {
          const { value, ...row } = entryOf(new TextDecoder().decode(item.key), item)
          yield query.values ? { ...row, value } : row
        }
        after = items.at(-1)?.key
        if (!more || after === undefined) return
      }
    } finally {
      await read.close()
    }
  }

  async *watch(store: string, options: WatchOptions): AsyncGenerator<WatchEvent, void, undefined> {
    const token = await this.#token(options)
    yield* watchNode(this.#node, {
      token: token.hash,
      store,
      options,
      ready: () => this.#node.barrier(this.#wait(options)),
    })
  }

  async #write<Type extends 'set' | 'deleted' | 'incremented' | 'touched'>(
    operation: (SetOperation | DeleteOperation | IncrementOperation | TouchOperation) & Conditions,
    type: Type,
    options: CallOptions,
  ): Promise<Extract<Outcome, { type: Type }>> {
    const { commands, valueBytes } = this.#options
    const { store } = operation
    const command = commands.write(operation)
    const token = await this.#judged({ store, access: 'read-write', within: command.key }, options)
    const limit = this.#node.state.store(placeOf(token.principal, store))?.maxValueBytes ?? valueBytes
    if (command.type === 'set') refuseLargeValue(command, limit)
    return this.#execute({ ...command, token: token.hash }, type, { token, store }, options)
  }

  async #execute<Type extends Outcome['type']>(
    command: Command,
    type: Type,
    asker: Asker,
    options: CallOptions,
  ): Promise<Extract<Outcome, { type: Type }>> {
    const { outcome } = await this.#node.execute(command, this.#wait(options))
    return successOf(outcome, asker, type)
  }

  /** Waits for the state that a read is to see, judges the token in it, and says where the keys lie. */
  async #read(target: Target, options: ReadOptions): Promise<Place> {
    const wait = this.#wait(options)
    const stale = options.consistency === 'stale'
    if (!stale) await this.#node.barrier(wait)
    if (options.minRevision !== undefined) await this.#node.waitForRevision(options.minRevision, wait)
    const token = stale ? await this.#judged(target, options) : this.#judge(target)
    return placeOf(token.principal, target.store)
  }

  /** Judges in the state as it is here; whom that would refuse is judged again after a barrier. */
  async #judged(target: Target, options: CallOptions): Promise<Token> {
    try {
      return this.#judge(target)
    } catch (refusal) {
      if (!(refusal instanceof TrivetError)) throw refusal
      await this.#node.barrier(this.#wait(options))
      return this.#judge(target)
    }
  }

  #judge(target: Target): Token {
    const token = this.#find()
    if (token === undefined) throw unknownToken(this.#options.as)
    if (!permits(token.principal, target)) throw denied(token, target)
    const place = placeOf(token.principal, target.store)
    if (this.#node.state.store(place) === undefined) throw noSuchStore(target.store)
    return token
  }

  async #token(options: CallOptions): Promise<Token> {
    const found = this.#find()
    if (found !== undefined) return found
    await this.#node.barrier(this.#wait(options))
    const sure = this.#find()
    if (sure === undefined) throw unknownToken(this.#options.as)
    return sure
  }

  /** A token is known by its name here: its secret may be replaced meanwhile. */
  #find(): Token | undefined {
    const { state } = this.#node
    const known = this.#known === undefined ? undefined : state.token(this.#known.hash)
    this.#known = known ?? state.tokens().find(({ name }) => name === this.#options.as)
    return this.#known
  }

  #wait({ signal }: CallOptions): WaitOptions {
    return { deadline: performance.now() + this.#options.timeoutMs, signal }
  }
}

function unknownToken(name: string): TrivetError {
  return new TrivetError('unauthenticated', `There is no token ${name}, or not any more`)
}
