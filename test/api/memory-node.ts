// A node that keeps its state in memory: it decides commands as the state machine does, and fails on demand as a cluster does.

import { hash } from 'node:crypto'
import { type ErrorCode, TrivetError } from '../../src/errors.ts'
import { compose, type Wish } from '../../src/node/membership.ts'
import type {
  ChangeOptions,
  ClusterStatus,
  Executed,
  MemberStatus,
  Newcomer,
  NodeMetrics,
  NodeSurface,
  Restored,
  WaitOptions,
  WatchQuery,
  WatchStream,
} from '../../src/node/surface.ts'
import { WatchHub } from '../../src/node/watch-hub.ts'
import { permits, type Target } from '../../src/store/grants.ts'
import { nameOf, type Place } from '../../src/store/places.ts'
import type { Follower } from '../../src/store/state-changes.ts'
import type { HistoryReader } from '../../src/store/state-history-read.ts'
import type {
  AppStatus,
  Command,
  ConsistentRead,
  Due,
  Item,
  ListPage,
  ListQuery,
  Outcome,
  StateReader,
  StoreDefinition,
  StoreStatus,
  Token,
} from '../../src/store/types.ts'
import { administer, isAdminCommand } from './memory-admin.ts'
import { backupOf, restoreInto } from './memory-backup.ts'
import { MemoryChanges } from './memory-changes.ts'
import { type KeysCommand, type Keyspace, KeyWrite, textOf } from './memory-keys.ts'
import { memoryMetrics } from './memory-metrics.ts'
import { MemoryRepeats } from './memory-repeats.ts'

/** The hash a token is kept by. */
export function hashOf(secret: string): string {
  return hash('sha256', secret, 'base64url')
}

const timing = { forward: 0.1, queue: 0.25, fsync: 0.5, quorum: 1, apply: 0.05 }

export class MemoryState implements StateReader {
  readonly clusterId = '0123456789abcdef0123456789abcdef'
  /** Consistent reads that are open, and the pages that all of them have taken. */
  readonly reads = { open: 0, pages: 0 }
  revision = 0
  lastApplied = 0
  /** Tokens by hash. */
  readonly held = new Map<string, Token>()
  readonly keyspaces = new Map<string, Keyspace>()
  readonly repeats = new MemoryRepeats()
  readonly changes = new MemoryChanges()
  #number = 0

  addStore(definition: StoreDefinition): void {
    this.#number += 1
    this.keyspaces.set(definition.name, { definition, number: this.#number, items: new Map() })
  }

  addToken(token: Token): void {
    this.held.set(token.hash, token)
  }

  token(tokenHash: string): Token | undefined {
    return this.held.get(tokenHash)
  }

  tokens(): readonly Token[] {
    return [...this.held.values()].sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)))
  }

  store(place: Place): StoreStatus | undefined {
    const keyspace = this.#at(place)
    return keyspace === undefined ? undefined : statusOf(keyspace)
  }

  /** No app has tokens here. */
  #at(place: Place): Keyspace | undefined {
    return typeof place === 'string' ? this.keyspaces.get(place) : undefined
  }

  stores(): readonly StoreStatus[] {
    return [...this.keyspaces.values()].map(statusOf)
  }

  /** Those that have tokens; none keeps keys. */
  apps(): readonly AppStatus[] {
    const ids = this.tokens().flatMap(({ principal }) => (principal.type === 'app' ? [principal.app] : []))
    return [...new Set(ids)].sort().map((id) => ({ id, keys: 0, bytes: 0 }))
  }

  async get(store: Place, key: Uint8Array): Promise<Item | undefined> {
    return this.#at(store)?.items.get(textOf(key))
  }

  async getMany(store: Place, keys: readonly Uint8Array[]): Promise<readonly (Item | undefined)[]> {
    return keys.map((key) => this.#at(store)?.items.get(textOf(key)))
  }

  async list(query: ListQuery): Promise<ListPage> {
    const keyspace = this.#at(query.store)
    if (keyspace === undefined) {
      throw new TrivetError('no-such-store', `There is no store ${nameOf(query.store)}`)
    }
    const ordered = [...keyspace.items.values()].sort((a, b) => Buffer.compare(a.key, b.key))
    if (query.reverse === true) ordered.reverse()
    const matching = ordered.filter(({ key }) => isWithin(query, key))
    const items: Item[] = []
    let bytes = 0
    for (const item of matching) {
      if (items.length >= query.limit || bytes > query.maxBytes) break
      items.push(item)
      bytes += item.key.length + item.value.length
    }
    return { items, revision: this.revision, more: items.length < matching.length }
  }

  async openRead(): Promise<ConsistentRead> {
    const frozen = new MemoryState()
    frozen.revision = this.revision
    for (const [name, { items, ...rest }] of this.keyspaces) {
      frozen.keyspaces.set(name, { ...rest, items: new Map(items) })
    }
    this.reads.open += 1
    return {
      revision: this.revision,
      list: (query) => {
        this.reads.pages += 1
        return frozen.list(query)
      },
      close: async () => {
        this.reads.open -= 1
      },
    }
  }

  follow(follower: Follower): () => void {
    return this.changes.follow(follower)
  }

  async openHistory(): Promise<HistoryReader> {
    return this.changes.open(this.revision)
  }

  /** Nothing expires here. */
  async due(): Promise<Due> {
    return { records: [], tokens: [] }
  }

  dropped(): readonly number[] {
    return []
  }

  /** Decides one command, as apply does. */
  apply(command: Command): Outcome {
    this.lastApplied += 1
    if (isAdminCommand(command)) {
      const admin = this.held.get(command.token)
      if (admin === undefined) return { type: 'refused', code: 'unauthenticated' }
      return this.repeats.once(admin.name, command, () => administer(this, admin, command))
    }
    if (!isOfKeys(command) && command.type !== 'openSession') {
      throw new Error(`the node in memory does not know the command ${command.type}`)
    }
    const token = this.held.get(command.token)
    if (token === undefined) return { type: 'refused', code: 'unauthenticated' }
    if (command.type !== 'openSession') {
      return this.repeats.once(token.name, command, () => this.#change(command))
    }
    if (token.principal.type === 'monitor') return { type: 'refused', code: 'access-denied' }
    return this.repeats.open(token.name, command.session)
  }

  #change(command: KeysCommand): Outcome {
    const refused = this.#refusal(command)
    if (refused !== undefined) return { type: 'refused', code: refused }
    const write = new KeyWrite(this.keyspaces, { revision: this.revision + 1, time: Date.now() })
    const outcome = write.decide(command)
    if (outcome.type === 'refused' || outcome.type === 'touched') return outcome
    this.revision += 1
    const { revision } = this
    const changes = write.changes
      // A touch leaves the revision alone, and watchers too.
      .filter(({ item }) => item === undefined || item.revision === revision)
      .map(({ store, key, item }) =>
        item === undefined
          ? ({ type: 'delete', revision, store, key } as const)
          : ({ type: 'set', revision, store, key, record: item } as const),
      )
    if (changes.length > 0) this.changes.add(changes)
    return outcome
  }

  #refusal(command: KeysCommand): ErrorCode | undefined {
    const principal = this.held.get(command.token)?.principal
    if (principal === undefined) return 'unauthenticated'
    return targetsOf(command).every((target) => permits(principal, target)) ? undefined : 'access-denied'
  }
}

function isOfKeys(command: Command): command is KeysCommand {
  return ['set', 'delete', 'increment', 'touch', 'deleteRange', 'transaction'].includes(command.type)
}

function targetsOf(command: KeysCommand): readonly Target[] {
  switch (command.type) {
    case 'transaction':
      return [...command.if, ...command.then, ...command.else].map((part) => ({
        store: part.store,
        access: ['set', 'delete', 'increment', 'touch', 'deletePrefix'].includes(part.type)
          ? 'read-write'
          : 'read',
        within: part.type === 'deletePrefix' ? part.prefix : part.key,
      }))
    case 'deleteRange':
      return [{ store: command.store, access: 'read-write', within: command.prefix }]
    default:
      return [{ store: command.store, access: 'read-write', within: command.key }]
  }
}

function statusOf({ definition, number, items }: Keyspace): StoreStatus {
  const bytes = [...items.values()].reduce((sum, { key, value }) => sum + key.length + value.length, 0)
  return { ...definition, number, keys: items.size, bytes }
}

function isWithin(query: ListQuery, key: Uint8Array): boolean {
  const { prefix, start, end, after, reverse } = query
  if (prefix !== undefined && Buffer.compare(key.subarray(0, prefix.length), prefix) !== 0) return false
  if (start !== undefined && Buffer.compare(key, start) < 0) return false
  if (end !== undefined && Buffer.compare(key, end) >= 0) return false
  if (after === undefined) return true
  return reverse === true ? Buffer.compare(key, after) < 0 : Buffer.compare(key, after) > 0
}

/**
 * One node. `cluster` is what is committed, `state` what this node has applied: they are the same object until `lag()`
 * parts them, and a barrier brings them together again.
 */
export class MemoryNode implements NodeSurface {
  readonly id = 'n1'
  readonly version = '0.1.0'
  readonly state: MemoryState
  /** What the node does wrong; set by tests. */
  faults: {
    /** No leader is known: barriers and writes wait for their deadline. */
    noLeader?: boolean
    /** Barriers wait for this. */
    barrier?: Promise<void>
    /** Writes are applied, or not, and the node cannot tell. */
    outcomeUnknown?: boolean
    /** Writes and barriers are refused with this. */
    refuse?: TrivetError
    /** The node throws what nobody foresaw. */
    bug?: Error
    reasons?: readonly string[]
    /** No other member is known to be well. */
    ailing?: boolean
  } = {}
  /** Run once by the next barrier, as the entries that a lagging node has still to apply. */
  behind: (() => void) | undefined
  barriers = 0
  leader = 'n1'
  members: readonly (Newcomer & { readonly role: 'voter' | 'learner' })[] = [1, 2].map((number) => ({
    id: `n${number}`,
    peer: `12D3KooWn${number}`,
    http: `http://127.0.0.1:700${number}`,
    p2p: `/ip4/127.0.0.1/tcp/710${number}`,
    role: 'voter',
  }))
  readonly executed: Command[] = []
  readonly #waiters = new Set<() => void>()
  readonly hub = new WatchHub({ now: () => performance.now() })

  constructor(founding: { readonly stores: readonly StoreDefinition[]; readonly tokens: readonly Token[] }) {
    this.state = new MemoryState()
    for (const store of founding.stores) this.state.addStore(store)
    for (const token of founding.tokens) this.state.addToken(token)
    this.hub.show(this.state)
  }

  /** How many reads wait for a revision. */
  get waiting(): number {
    return this.#waiters.size
  }

  async execute(command: Command, options: WaitOptions): Promise<Executed> {
    const { bug, refuse, outcomeUnknown, noLeader } = this.faults
    if (bug !== undefined) throw bug
    if (refuse !== undefined) throw refuse
    if (noLeader === true) await untilDeadline(options, 'no-leader')
    this.executed.push(command)
    const outcome = this.state.apply(command)
    for (const wake of this.#waiters) wake()
    if (outcomeUnknown === true) {
      throw new TrivetError('outcome-unknown', 'The leader was lost while it had the command')
    }
    return { outcome, revision: this.state.revision, timing }
  }

  async barrier(options: WaitOptions): Promise<void> {
    this.barriers += 1
    const { refuse, noLeader, barrier } = this.faults
    if (refuse !== undefined) throw refuse
    if (noLeader === true) await untilDeadline(options, 'no-leader')
    if (barrier !== undefined) await orAborted(barrier, options)
    this.behind?.()
    this.behind = undefined
  }

  async waitForRevision(revision: number, options: WaitOptions): Promise<void> {
    while (this.state.revision < revision) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#waiters.add(resolve)
      try {
        await Promise.race([promise, untilDeadline(options, 'deadline-exceeded')])
      } finally {
        this.#waiters.delete(resolve)
      }
    }
  }

  watch(query: WatchQuery, options: { readonly signal?: AbortSignal | undefined } = {}): WatchStream {
    return this.hub.watch(query, options)
  }

  cluster(): ClusterStatus {
    return {
      cluster: 'dev',
      id: this.state.clusterId,
      leader: this.faults.noLeader === true ? undefined : this.leader,
      term: 3,
      revision: this.state.revision,
      members: this.members.map(({ role, ...member }) => this.#describe(member, role)),
    }
  }

  #describe(member: Newcomer, role: 'voter' | 'learner'): MemberStatus {
    const known = { ...member, voter: role === 'voter', self: member.id === this.id }
    if (!known.self) {
      return {
        ...known,
        role: role === 'learner' ? 'learner' : 'unknown',
        version: undefined,
        term: undefined,
        commitIndex: undefined,
        lastApplied: undefined,
        lag: undefined,
        digest: undefined,
        healthy: false,
        alarms: ['disk-low'],
      }
    }
    const { lastApplied } = this.state
    return {
      ...known,
      role: 'leader',
      version: this.version,
      term: 3,
      commitIndex: lastApplied,
      lastApplied,
      lag: 0,
      digest: { index: 1024, digest: '0'.repeat(32) },
      healthy: true,
      alarms: [],
    }
  }

  async transferLeadership(to: string, options: WaitOptions): Promise<void> {
    if (this.faults.noLeader === true) await untilDeadline(options, 'no-leader')
    if (!this.members.some(({ id }) => id === to)) {
      throw new TrivetError('invalid-request', `${to} is no voter`, { field: 'to' })
    }
    this.leader = to
  }

  async addMember(
    newcomer: Newcomer,
    { replaces, ...options }: ChangeOptions & { readonly replaces?: string | undefined },
  ): Promise<void> {
    if (this.faults.noLeader === true) await untilDeadline(options, 'no-leader')
    const force = options.force === true
    this.#change(
      replaces === undefined ? { type: 'add', newcomer } : { type: 'replace', replaces, newcomer, force },
    )
  }

  async removeMember(id: string, options: ChangeOptions): Promise<void> {
    if (this.faults.noLeader === true) await untilDeadline(options, 'no-leader')
    this.#change({ type: 'remove', id, force: options.force === true })
  }

  #change(wish: Wish): void {
    const members = this.members.map(({ role, ...member }) => ({
      ...member,
      voter: role === 'voter',
      since: 0,
      commandVersion: 1,
    }))
    const composed = compose({ members }, wish, () => this.faults.ailing !== true)
    if (composed.type === 'refused')
      throw new TrivetError(composed.code, composed.detail, { field: composed.field })
    if (composed.type === 'unchanged') return
    this.members = composed.configuration.members.map(({ id, peer, http, p2p, voter }) => ({
      id,
      peer,
      http,
      p2p,
      role: voter ? 'voter' : 'learner',
    }))
  }

  metrics(): NodeMetrics {
    return memoryMetrics
  }

  backup(): AsyncGenerator<Uint8Array, void> {
    return backupOf(this.state)
  }

  async restore(chunks: AsyncIterable<Uint8Array>): Promise<Restored> {
    const { refuse } = this.faults
    if (refuse !== undefined) throw refuse
    return restoreInto(this.state, chunks)
  }

  unreadiness(): readonly string[] {
    return this.faults.reasons ?? []
  }

  illness(): readonly string[] {
    return this.faults.reasons ?? []
  }
}

function untilDeadline({ deadline, signal }: WaitOptions, code: ErrorCode): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => reject(new TrivetError(code, 'It did not happen before the deadline')),
    deadline - performance.now(),
  )
  signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
  return promise.finally(() => clearTimeout(timer))
}

function orAborted(wait: Promise<void>, { signal }: WaitOptions): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>()
  signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
  return Promise.race([wait, promise])
}
