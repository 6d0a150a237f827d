// The way in: a client of a cluster, which opens stores and asks about the cluster itself.

import type { ClusterDescription, Me, NewMember } from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import { read, readCluster, readMe, string } from './answers.ts'
import { type Duration, toMilliseconds } from './duration.ts'
import { parseEndpoints } from './endpoints.ts'
import { queryString, storePath } from './paths.ts'
import { type ApiRequest, type Fetch, Requester, type TokenSource } from './requester.ts'
import { RemoteStore, type Store } from './store.ts'
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

export type CallOptions = { readonly signal?: AbortSignal | undefined }

/** `force`: also when the voters left are not known to make a quorum. */
export type ChangeMemberOptions = CallOptions & { readonly force?: boolean | undefined }

/** A client of one cluster. Methods reject as those of `Store` do. */
export interface Client extends AsyncDisposable {
  /** Checks the grant: rejects with `access-denied`, or `no-such-store`. Each open gives a handle of its own. */
  open(name: string, options?: CallOptions): Promise<Store>
  /** Who the token speaks for. */
  me(options?: CallOptions): Promise<Me>
  /** The cluster as the node that answers sees it. */
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
  #open = true

  constructor(requester: Requester) {
    this.#requester = requester
  }

  async open(name: string, options: CallOptions = {}): Promise<RemoteStore> {
    const path = storePath(name)
    const answer = await this.#send({ method: 'GET', path, effect: 'none', signal: options.signal })
    read(answer, false, (body) => string(body, 'name'))
    return this.store(name)
  }

  /** The store without asking first: what is refused shows at its first use. */
  store(name: string): RemoteStore {
    return new RemoteStore(name, this.#requester, () => this.#open)
  }

  async me(options: CallOptions = {}): Promise<Me> {
    return readMe(await this.#send({ method: 'GET', path: '/v1/me', effect: 'none', signal: options.signal }))
  }

  async cluster(options: CallOptions = {}): Promise<ClusterDescription> {
    return readCluster(
      await this.#send({ method: 'GET', path: '/v1/cluster', effect: 'none', signal: options.signal }),
    )
  }

  async transferLeadership(to: string, options: CallOptions = {}): Promise<void> {
    await this.#send({
      method: 'POST',
      path: '/v1/cluster/leader',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ to }),
      effect: 'unguarded',
      signal: options.signal,
    })
  }

  async addMember(member: NewMember, { force, signal }: ChangeMemberOptions = {}): Promise<void> {
    await this.#send({
      method: 'POST',
      path: `/v1/cluster/members${forced(force)}`,
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(member),
      effect: 'unguarded',
      signal,
    })
  }

  async removeMember(id: string, { force, signal }: ChangeMemberOptions = {}): Promise<void> {
    const path = `/v1/cluster/members/${encodeURIComponent(id)}${forced(force)}`
    await this.#send({ method: 'DELETE', path, effect: 'unguarded', signal })
  }

  async close(): Promise<void> {
    this.#open = false
    this.#requester.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #send(request: ApiRequest): Promise<Answer> {
    if (!this.#open) throw new TrivetError('invalid-store', 'The client is closed')
    return this.#requester.send(request)
  }
}

function forced(force: boolean | undefined): string {
  return queryString({ force: force === true ? 'true' : undefined })
}
