// The way in: a client of a cluster, which opens stores and asks about the cluster itself.

import type {
  ClusterDescription,
  Me,
  NewMember,
  StoreDescription,
  TokenDescription,
} from '../api/protocol.ts'
import {
  Administration,
  type AppDescription,
  type ChangeMemberOptions,
  type MintedToken,
  type NewStore,
  type NewToken,
  type RotatedToken,
} from './administration.ts'
import { read, readCluster, readMe, string } from './answers.ts'
import { type Duration, toMilliseconds } from './duration.ts'
import { parseEndpoints } from './endpoints.ts'
import { storePath } from './paths.ts'
import { type ApiRequest, type Fetch, Requester, type TokenSource } from './requester.ts'
import { RestBackend } from './rest.ts'
import { closed, RemoteStore } from './store.ts'
import { TransactionBuilder } from './transaction.ts'
import type { CallOptions, Store } from './types.ts'
import type { Answer } from './verdict.ts'

export type ConnectOptions = {
  /** Any of the cluster's nodes; each takes every request. More than one, so that one may fail. */
  readonly endpoints: readonly string[]
  readonly token?: TokenSource | undefined
  /**
   * Follow the members of the cluster, so that the client goes on when the endpoints are gone one after another. For where
   * members' own addresses can be reached; the endpoints given stay in use too.
   */
  readonly discover?: boolean | undefined
  /** How long a call may take, all its tries together. Default 5 s. */
  readonly timeout?: Duration | undefined
  /** Used instead of the global `fetch`. */
  readonly fetch?: Fetch | undefined
}

/** A client of one cluster. Methods reject as those of `Store` do. */
export interface Client extends AsyncDisposable {
  /** Checks the grant: rejects with `access-denied`, or `no-such-store`. Each open gives a handle of its own. */
  open(name: string, options?: CallOptions): Promise<Store>
  /**
   * Begins a transaction over any of the token's stores; `commit` sends it.
   *
   * ```ts
   * const { succeeded } = await client
   *   .transaction()
   *   .if(check.absent('carts', 'c1'))
   *   .onSuccess(op.setJson('carts', 'c1', []), op.increment('carts', 'count'))
   *   .commit()
   * ```
   */
  transaction(): TransactionBuilder
  /** Who the token speaks for. */
  me(options?: CallOptions): Promise<Me>
  /** The stores this token may open. */
  stores(options?: CallOptions): Promise<readonly StoreDescription[]>
  /** For admins, as all that follows. Rejects with `store-exists`. */
  createStore(store: NewStore, options?: CallOptions): Promise<void>
  /** Drops a store with all its keys. Rejects with `no-such-store`, and with `store-protected` for `default`. */
  dropStore(name: string, options?: CallOptions): Promise<void>
  /** All tokens, by name, without their secrets. */
  tokens(options?: CallOptions): Promise<readonly TokenDescription[]>
  /** Also for components that may mint, within their own grants. Rejects with `token-exists`. */
  mintToken(token: NewToken, options?: CallOptions): Promise<MintedToken>
  /** It is refused by every node once this resolves. */
  revokeToken(name: string, options?: CallOptions): Promise<void>
  /**
   * Gives a token a new secret; the old one holds on for `overlap`. Not repeated when an answer is lost (`outcome-unknown`), because the new
   * secret is lost with it: rotate again.
   */
  rotateToken(
    name: string,
    options?: CallOptions & { readonly overlap?: Duration | undefined },
  ): Promise<RotatedToken>
  /** The Mattermost apps that have keys here. */
  apps(options?: CallOptions): Promise<readonly AppDescription[]>
  /** Removes an app with the keys and tokens of all its users. */
  removeApp(id: string, options?: CallOptions): Promise<void>
  /** The cluster as the node that answers sees it; for any token. */
  cluster(options?: CallOptions): Promise<ClusterDescription>
  /** Hands leadership to the member of this id; for admins. Rejects with `invalid-request` for one that cannot lead. */
  transferLeadership(to: string, options?: CallOptions): Promise<void>
  /**
   * Makes a node a learner of the cluster, in the place of the member `replaces` if that is given; for admins. Resolves when
   * that is committed; the node is promoted to a voter once it has caught up.
   */
  addMember(member: NewMember, options?: ChangeMemberOptions): Promise<void>
  /** Removes the member of this id; for admins. Resolves when that is committed. */
  removeMember(id: string, options?: ChangeMemberOptions): Promise<void>
  /** Closes the client and its stores: afterwards calls reject with `invalid-store`. Twice is fine. */
  close(): Promise<void>
}

/**
 * A client for these endpoints. Nothing is sent before the first call. Throws `invalid-request` for options that
 * cannot work.
 *
 * ```ts
 * await using client = connect({ endpoints: ['http://127.0.0.1:7001'], token })
 * const store = await client.open('default')
 * await store.set('greeting', 'hello')
 * ```
 */
export function connect(options: ConnectOptions): Client {
  return connectRemote(options, { fewWrites: false })
}

/** The same, as the class that shows more of the protocol: for the command line, which lives for a write or two. */
export function connectRemote(
  options: ConnectOptions,
  { fewWrites }: { readonly fewWrites: boolean },
): RemoteClient {
  // Called as a bare name: browsers refuse a fetch that is called as a method of something else.
  const { fetch: own } = options
  const fetch: Fetch = own ?? ((url, init) => globalThis.fetch(url, init))
  const requester = new Requester({
    endpoints: parseEndpoints(options.endpoints),
    token: options.token,
    timeoutMs: toMilliseconds(options.timeout ?? '5s', 'timeout'),
    fetch: (url, init) => fetch(url, init),
    random: Math.random,
    discover: options.discover ?? false,
    fewWrites,
  })
  return new RemoteClient(requester)
}

export class RemoteClient implements Client {
  readonly #requester: Requester
  readonly #rest: RestBackend
  readonly #administration = new Administration((request) => this.#send(request))
  readonly #closed = new AbortController()

  constructor(requester: Requester) {
    this.#requester = requester
    this.#rest = new RestBackend(requester)
  }

  async open(name: string, options: CallOptions = {}): Promise<RemoteStore> {
    const path = storePath(name)
    const answer = await this.#send({ method: 'GET', path, effect: 'none', signal: options.signal })
    read(answer, false, (body) => string(body, 'name'))
    return this.store(name)
  }

  /** The store without asking first: what is refused shows at its first use. */
  store(name: string): RemoteStore {
    return new RemoteStore(name, this.#rest, this.#closed.signal)
  }

  transaction(): TransactionBuilder {
    const backend = (): RestBackend => {
      this.#closed.signal.throwIfAborted()
      return this.#rest
    }
    return new TransactionBuilder(backend, { conditions: [], onSuccess: [], onFailure: [] })
  }

  async me(options: CallOptions = {}): Promise<Me> {
    return readMe(await this.#send({ method: 'GET', path: '/v1/me', effect: 'none', signal: options.signal }))
  }

  async cluster(options: CallOptions = {}): Promise<ClusterDescription> {
    return readCluster(
      await this.#send({ method: 'GET', path: '/v1/cluster', effect: 'none', signal: options.signal }),
    )
  }

  stores(options: CallOptions = {}): Promise<readonly StoreDescription[]> {
    return this.#administration.stores(options)
  }

  createStore(store: NewStore, options: CallOptions = {}): Promise<void> {
    return this.#administration.createStore(store, options)
  }

  dropStore(name: string, options: CallOptions = {}): Promise<void> {
    return this.#administration.dropStore(name, options)
  }

  tokens(options: CallOptions = {}): Promise<readonly TokenDescription[]> {
    return this.#administration.tokens(options)
  }

  mintToken(token: NewToken, options: CallOptions = {}): Promise<MintedToken> {
    return this.#administration.mintToken(token, options)
  }

  revokeToken(name: string, options: CallOptions = {}): Promise<void> {
    return this.#administration.revokeToken(name, options)
  }

  rotateToken(
    name: string,
    options: CallOptions & { readonly overlap?: Duration | undefined } = {},
  ): Promise<RotatedToken> {
    return this.#administration.rotateToken(name, options)
  }

  apps(options: CallOptions = {}): Promise<readonly AppDescription[]> {
    return this.#administration.apps(options)
  }

  removeApp(id: string, options: CallOptions = {}): Promise<void> {
    return this.#administration.removeApp(id, options)
  }

  transferLeadership(to: string, options: CallOptions = {}): Promise<void> {
    return this.#administration.transferLeadership(to, options)
  }

  addMember(member: NewMember, options: ChangeMemberOptions = {}): Promise<void> {
    return this.#administration.addMember(member, options)
  }

  removeMember(id: string, options: ChangeMemberOptions = {}): Promise<void> {
    return this.#administration.removeMember(id, options)
  }

  async close(): Promise<void> {
    if (!this.#closed.signal.aborted) this.#closed.abort(closed('The client'))
    this.#requester.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #send(request: ApiRequest): Promise<Answer> {
    this.#closed.signal.throwIfAborted()
    return this.#requester.send(request)
  }
}
