// A node inside another program: a member of its cluster, with stores to use without a network.

import { setTimeout as delay } from 'node:timers/promises'
import { type Logger, pino } from 'pino'
import { TrivetError } from '../errors.ts'
import { type ClusterConfig, loadConfig } from '../node/config.ts'
import type { Node as ClusterNode } from '../node/node.ts'
import { openNode } from '../node/open.ts'
import { settingsOf } from '../node/settings.ts'
import type { ClusterStatus } from '../node/surface.ts'
import { type Duration, toMilliseconds } from '../sdk/duration.ts'
import { closed, StoreHandle } from '../sdk/store.ts'
import { TransactionBuilder } from '../sdk/transaction.ts'
import type { CallOptions, Store } from '../sdk/types.ts'
import { Commands } from './commands.ts'
import { NodeBackend } from './node-backend.ts'

export type NodeOptions = {
  /** The `cluster.yml` that every member has: its path, or what `loadConfig` made of it. */
  readonly config: string | ClusterConfig
  /** Which of its nodes this is. */
  readonly node: string
  /** Instead of the data directory that the file names. */
  readonly data?: string | undefined
  /** What `${NAME}` stands for in the file; the variables of this process unless given. */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined
  /** Members to found the cluster without, where it is not founded yet. */
  readonly foundWithout?: readonly string[] | undefined
  /** How long a call on a store may take. Default 5 s. */
  readonly timeout?: Duration | undefined
  /** Where it tells of itself; nowhere unless given. */
  readonly logger?: Logger | undefined
  /** The node cannot go on, and must not: the process is to end with this error's sentence. It is thrown where nobody catches it unless given. */
  readonly onFatal?: ((error: Error) => void) | undefined
}

export type OpenStoreOptions = CallOptions & {
  /** The name of the token that the program acts as: its grants hold here as over the network. */
  readonly as: string
}

/**
 * A node inside this program.
 *
 * ```ts
 * await using node = await Node.start({ config: 'cluster.yml', node: 'n1' })
 * await node.ready()
 * const store = await node.open('default', { as: 'admin' })
 * ```
 */
export class Node implements AsyncDisposable {
  readonly #node: ClusterNode
  readonly #limits: ClusterConfig['limits']
  readonly #timeoutMs: number
  readonly #stopped = new AbortController()

  private constructor(node: ClusterNode, limits: ClusterConfig['limits'], timeoutMs: number) {
    this.#node = node
    this.#limits = limits
    this.#timeoutMs = timeoutMs
  }

  /**
   * Starts the node and resolves once it listens to its peers. It serves no REST: that is `trivet start`. Rejects with an
   * operator's sentence, or with a `ConfigError` for what is wrong with the file.
   */
  static async start(options: NodeOptions): Promise<Node> {
    const { environment = process.env } = options
    const config =
      typeof options.config === 'string' ? loadConfig(options.config, environment) : options.config
    const { own, settings } = settingsOf(config, {
      id: options.node,
      foundWithout: options.foundWithout ?? [],
    })
    const timeoutMs = toMilliseconds(options.timeout ?? '5s', 'timeout')
    const node = await openNode({
      settings,
      data: options.data ?? own.data,
      listen: own.listen.p2p,
      logger: options.logger ?? pino({ level: 'silent' }),
      onFatal: options.onFatal ?? throwUncaught,
    })
    return new Node(node, config.limits, timeoutMs)
  }

  get id(): string {
    return this.#node.id
  }

  /** Why it cannot serve yet, in words; empty when it can. */
  unreadiness(): readonly string[] {
    return this.#node.unreadiness()
  }

  /** Resolves once it can serve. Rejects with `not-ready` after `timeout` (30 s unless given), or with the signal's reason. */
  async ready({
    timeout = '30s',
    signal,
  }: CallOptions & { readonly timeout?: Duration } = {}): Promise<void> {
    const deadline = performance.now() + toMilliseconds(timeout, 'timeout')
    for (;;) {
      this.#stopped.signal.throwIfAborted()
      signal?.throwIfAborted()
      const reasons = this.#node.unreadiness()
      if (reasons.length === 0) return
      if (performance.now() > deadline) throw new TrivetError('not-ready', reasons.join('; '))
      await delay(10)
    }
  }

  /** The cluster as this node sees it. */
  cluster(): ClusterStatus {
    return this.#node.cluster()
  }

  /** The same `Store` as `open` of a client gives. Rejects with `access-denied`, or `no-such-store`. */
  async open(name: string, { as, signal }: OpenStoreOptions): Promise<Store> {
    const backend = this.#backend(as)
    await backend.admit(name, { signal })
    return new StoreHandle(name, backend, this.#stopped.signal)
  }

  /** The same as that of a client. */
  transaction({ as }: Pick<OpenStoreOptions, 'as'>): TransactionBuilder {
    return new TransactionBuilder(() => this.#backend(as), { conditions: [], onSuccess: [], onFailure: [] })
  }

  /** Hands leadership over, if it has it, and stops: its stores reject with `invalid-store`. Twice is fine. */
  async stop(): Promise<void> {
    if (!this.#stopped.signal.aborted) this.#stopped.abort(closed(`The node ${this.id}`))
    await this.#node.stop()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  #backend(as: string): NodeBackend {
    this.#stopped.signal.throwIfAborted()
    const { keyBytes, valueBytes } = this.#limits
    const commands = new Commands({ keyBytes })
    return new NodeBackend(this.#node, { as, commands, valueBytes, timeoutMs: this.#timeoutMs })
  }
}

function throwUncaught(error: Error): void {
  queueMicrotask(() => {
    throw error
  })
}
