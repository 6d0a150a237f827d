// A node without a log and without others: a real state machine over LevelDB in memory, which fails on demand as a cluster does.

import { hash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { type ErrorCode, TrivetError } from '../../src/errors.ts'
import { compose, type Wish } from '../../src/node/membership.ts'
import { NodeState } from '../../src/node/node-state.ts'
import { restoreBackup } from '../../src/node/restoring.ts'
import type {
  ChangeOptions,
  ClusterStatus,
  Executed,
  MemberStatus,
  Newcomer,
  NodeMetrics,
  NodeSurface,
  Restored,
  RestoreOptions,
  WaitOptions,
  WatchQuery,
  WatchStream,
} from '../../src/node/surface.ts'
import type { Settled } from '../../src/node/waiters.ts'
import { WatchHub } from '../../src/node/watch-hub.ts'
import { commandVersion, encodeCommand, encodeEntryData } from '../../src/store/commands.ts'
import { StateMachine } from '../../src/store/state-machine.ts'
import type { Command, ConsistentRead, Outcome, StoreDefinition, Token } from '../../src/store/types.ts'
import { MemoryState } from '../store/memory-state.ts'
import { memoryMetrics } from './memory-metrics.ts'

/** The hash a token is kept by. */
export function hashOf(secret: string): string {
  return hash('sha256', secret, 'base64url')
}

const timing = { forward: 0.1, queue: 0.25, fsync: 0.5, quorum: 1, apply: 0.05 }

type Founded = {
  readonly stores: readonly StoreDefinition[]
  readonly tokens: readonly Token[]
  readonly valueBytes: number
}

/** What the node shows, and how much of it is being read. */
class WatchedState extends NodeState {
  /** Consistent reads that are open, and the pages that all of them have taken. */
  readonly reads = { open: 0, pages: 0 }
  /** Looking for a token throws this. */
  bug: Error | undefined

  override token(tokenHash: string): Token | undefined {
    if (this.bug !== undefined) throw this.bug
    return super.token(tokenHash)
  }

  override async openRead(): Promise<ConsistentRead> {
    const read = await super.openRead()
    this.reads.open += 1
    return {
      revision: read.revision,
      list: (query, options) => {
        this.reads.pages += 1
        return read.list(query, options)
      },
      close: async () => {
        this.reads.open -= 1
        await read.close()
      },
    }
  }
}

export class MemoryNode implements NodeSurface {
  readonly id = 'n1'
  readonly version = '0.1.0'
  readonly state = new WatchedState()
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
    /** Whatever commands come to, this is said of them. */
    outcome?: Outcome
    reasons?: readonly string[]
    /** No other member is known to be well. */
    ailing?: boolean
  } = {}
  /** Run once by the next barrier, as the entries that a lagging node has still to apply. */
  behind: (() => Promise<unknown>) | undefined
  /** Run once before the next command is applied, as an entry that comes before it. */
  before: (() => Promise<unknown>) | undefined
  barriers = 0
  leader: string | undefined = 'n1'
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

  readonly #machine: StateMachine
  /** Entries are applied one after the other. */
  #applying: Promise<unknown> = Promise.resolve()
  #number = 0

  private constructor(machine: StateMachine) {
    this.#machine = machine
    this.state.show(machine)
    this.hub.show(machine)
  }

  static async start({ stores, tokens, valueBytes }: Founded): Promise<MemoryNode> {
    const machine = await StateMachine.open({
      level: new MemoryState(),
      founding: {
        clusterId: '0123456789abcdef0123456789abcdef',
        name: 'dev',
        configuration: { members: [] },
        stores,
        tokens,
        valueBytes,
        foundedAt: Date.now(),
        commandVersion,
      },
      onFailure: ({ error }) => {
        throw error
      },
    })
    return new MemoryNode(machine)
  }

  async close(): Promise<void> {
    this.hub.close()
    await this.#applying
    await this.#machine.close()
  }

  /** What an entry of this one command comes to. */
  apply(command: Command): Promise<Outcome> {
    const applied = this.#applying.then(async () => {
      const { lastApplied } = this.#machine
      this.#number += 1
      const batch = {
        peer: 'n1',
        boot: 1,
        acked: this.#number - 1,
        commands: [{ number: this.#number, bytes: encodeCommand(command) }],
      }
      const data = encodeEntryData({ time: Date.now(), batches: [batch] })
      const [one] = await this.#machine.apply([{ type: 'commands', index: lastApplied + 1, term: 3, data }])
      for (const wake of this.#waiters) wake()
      if (one === undefined) throw new Error('a command that comes once has an outcome')
      return one.outcome
    })
    this.#applying = applied.catch(() => undefined)
    return applied
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
    const { before } = this
    this.before = undefined
    await before?.()
    const outcome = this.faults.outcome ?? (await this.apply(command))
    if (outcomeUnknown === true) {
      throw new TrivetError('outcome-unknown', 'The leader was lost while it had the command')
    }
    return { outcome, revision: this.state.revision, timing }
  }

  executeMany(commands: readonly Command[], options: WaitOptions): Promise<readonly Settled<Executed>[]> {
    const settled = (command: Command): Promise<Settled<Executed>> =>
      this.execute(command, options).then(
        (value) => ({ value }),
        (error: unknown) => ({ error }),
      )
    return Promise.all(commands.map(settled))
  }

  async barrier(options: WaitOptions): Promise<void> {
    this.barriers += 1
    const { refuse, noLeader, barrier } = this.faults
    if (refuse !== undefined) throw refuse
    if (noLeader === true) await untilDeadline(options, 'no-leader')
    if (barrier !== undefined) await orAborted(barrier, options)
    const { behind } = this
    this.behind = undefined
    await behind?.()
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
    return this.#machine.backup()
  }

  async restore(chunks: AsyncIterable<Uint8Array>, options: RestoreOptions): Promise<Restored> {
    const { refuse } = this.faults
    if (refuse !== undefined) throw refuse
    return restoreBackup(chunks, options, {
      execute: (command, wait) => this.execute(command, wait),
      now: () => performance.now(),
      sleep: (ms) => delay(ms),
    })
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
