// A node: its data directory, its network and its replica, put together; what REST and embedders see of them.

import type { Logger } from 'pino'
import { TrivetError } from '../errors.ts'
import { assert } from '../raft/assert.ts'
import type { RaftStatus } from '../raft/raft.ts'
import type { MemberId } from '../raft/types.ts'
import { isGrowing } from '../store/commands.ts'
import type { Disk } from '../store/disk.ts'
import type { LevelFiles } from '../store/level-files.ts'
import type { StateFailure } from '../store/state-failure.ts'
import type { StateMachine } from '../store/state-machine.ts'
import type { StateTime } from '../store/state-time.ts'
import type { StateLevel } from '../store/state-writer.ts'
import type { Command, StateReader } from '../store/types.ts'
import type { Wal } from '../store/wal.ts'
import { version } from '../version.ts'
import { ClusterView } from './cluster-view.ts'
import { Conversation, type Participant } from './conversation.ts'
import { Entry } from './entry.ts'
import { ExpiryKeeper } from './expiry-keeper.ts'
import { Handover } from './handover.ts'
import { Members } from './members.ts'
import { gatherMetrics, RoleMeter } from './metrics.ts'
import { NodeState } from './node-state.ts'
import { Replica, type Surroundings } from './replica.ts'
import { restoreBackup } from './restoring.ts'
import { differences, type NodeAddress, type NodeSettings } from './settings.ts'
import { SpaceKeeper } from './space-keeper.ts'
import { StateKeeper } from './state-keeper.ts'
import { Storage } from './storage.ts'
import type {
  ChangeOptions,
  ClusterStatus,
  Executed,
  Newcomer,
  NodeMetrics,
  NodeSurface,
  Restored,
  RestoreOptions,
  WaitOptions,
  WatchQuery,
  WatchStream,
} from './surface.ts'
import type { Transport } from './transport.ts'
import type { Settled } from './waiters.ts'
import { WatchHub } from './watch-hub.ts'

/** What a node stands on; a simulation brings its own. */
export type NodeParts = {
  /** The data directory; it exists. */
  readonly data: string
  readonly disk: Disk
  readonly openLevel: (directory: string) => Promise<StateLevel>
  /** See `StorageOptions`. */
  readonly checkFiles?: (directory: string) => Promise<LevelFiles>
  readonly transport: Transport
  readonly surroundings: Surroundings
  /** Milliseconds since the epoch. */
  readonly clock: () => number
  /** Calls `run` about every `ms` milliseconds, after the messages that have arrived; returns how to stop it. */
  readonly every: (ms: number, run: () => void) => () => void
  readonly sleep: (ms: number) => Promise<void>
  /** Bytes free where the data directory lies. */
  readonly freeBytes: () => Promise<number>
  /** Draws the salts of the log's segments; the machine's own randomness unless given. See `Wal.open`. */
  readonly drawSalt?: () => number
  /** Draws the id of a cluster founded here; the machine's own randomness unless given. */
  readonly drawClusterId?: () => string
  /** The state machine's time; the real one unless given. */
  readonly stateTime?: StateTime
  /** A signal that aborts after so many milliseconds; that of `AbortSignal.timeout` unless given. */
  readonly timeout?: (ms: number) => AbortSignal
  /** How large a segment of the log is, what is kept of it for those who lag, and what of the disk is kept back; the defaults unless given. */
  readonly segmentBytes?: number
  readonly keepBytes?: number
  readonly reserveBytes?: number
  readonly logger: Logger
  /** The node cannot go on: the process is to end with this error's sentence. Called once. */
  readonly onFatal: (error: Error) => void
}

/** `machine` is undefined while the state is lost. */
type Inside = {
  readonly wal: Wal
  readonly machine: StateMachine | undefined
  readonly replica: Replica
}

const tickMs = 5
const statusMs = 500
const keepMs = 1000
const watchMs = 1000
const spaceMs = 1000
const expiryMs = 1000
/** The log is proven once it was idle for one to two of these. */
const proveMs = 200
/** How long a part of a snapshot may take on a line that may have gone dead without a word; then it is asked for again. */
const snapshotMs = 10_000

export class Node implements NodeSurface {
  readonly id: string
  readonly version = version
  readonly state: StateReader
  readonly #state = new NodeState()
  readonly #settings: NodeSettings
  readonly #parts: NodeParts
  readonly #storage: Storage
  readonly #view: ClusterView
  readonly #members: Members
  readonly #space: SpaceKeeper
  readonly #roles = new RoleMeter()
  readonly #hub: WatchHub
  readonly #entry: Entry
  readonly #handover: Handover
  readonly #conversation: Conversation
  #participant: Participant | undefined
  #expiry: ExpiryKeeper | undefined
  /** By name; asked for with every answer. */
  #leader: string | undefined
  /** Of the state before it was lost. */
  #revision = 0
  /** Has answered one linearizable read since the start, so everything committed before is applied. */
  #caughtUp = false
  #stopping: Promise<void> | undefined
  #failed = false
  readonly #stops: (() => void)[] = []

  private constructor(settings: NodeSettings, own: NodeAddress, parts: NodeParts, storage: Storage) {
    this.id = settings.id
    this.state = this.#state
    this.#settings = settings
    this.#parts = parts
    this.#storage = storage
    this.#view = new ClusterView({
      self: parts.transport.self,
      now: parts.surroundings.now,
      clock: parts.clock,
    })
    this.#handover = new Handover({
      transport: parts.transport,
      now: parts.surroundings.now,
      sleep: parts.sleep,
      electionMs: settings.electionMs,
    })
    this.#members = new Members({
      nodes: settings.nodes,
      identity: () => storage.identity,
      transport: parts.transport,
      now: parts.surroundings.now,
      timeout: parts.timeout ?? ((ms) => AbortSignal.timeout(ms)),
      electionMs: settings.electionMs,
      status: (peer) => (peer === parts.transport.self ? this.#conversation.status : this.#view.status(peer)),
      statusChange: (ms) => this.#handover.change(ms),
      logger: parts.logger,
    })
    this.#hub = new WatchHub({ now: parts.surroundings.now })
    this.#space = new SpaceKeeper({
      self: parts.transport.self,
      freeBytes: parts.freeBytes,
      reserve: storage.reserve,
      status: (peer) => (parts.transport.isConnected(peer) ? this.#view.status(peer) : undefined),
      name: (peer) => this.#name(peer),
      now: parts.surroundings.now,
      logger: parts.logger,
    })
    this.#entry = this.#makeEntry(own)
    this.#conversation = this.#makeConversation(own)
  }

  #makeConversation(own: NodeAddress): Conversation {
    const { transport, clock, logger } = this.#parts
    return new Conversation({
      own,
      transport,
      storage: this.#storage,
      members: this.#members,
      view: this.#view,
      space: this.#space,
      participant: () => this.#participant,
      entry: (from, question) => this.#entry.answer(from, question),
      illness: () => this.illness(),
      clock,
      logger,
    })
  }

  #makeEntry(own: NodeAddress): Entry {
    const { transport, surroundings, clock, sleep, timeout, drawClusterId, logger } = this.#parts
    return new Entry({
      own,
      settings: this.#settings,
      storage: this.#storage,
      members: this.#members,
      transport,
      introduce: () => this.#conversation.introduce(),
      now: surroundings.now,
      clock,
      sleep,
      timeout: timeout ?? ((ms) => AbortSignal.timeout(ms)),
      drawClusterId,
      onFatal: (error) => this.#fatal(error),
      logger,
    })
  }

  /**
   * Starts a node and resolves once it listens to its peers; it may then still wait for others (`unreadiness`). Rejects
   * with an operator's sentence when it cannot start; nothing is left behind then.
   */
  static async start(settings: NodeSettings, parts: NodeParts): Promise<Node> {
    const own = settings.nodes.find((node) => node.id === settings.id)
    if (own === undefined) throw new Error(`The configuration has no node ${settings.id}`)
    if (own.peer !== parts.transport.self) {
      throw new Error(
        `The key in ${parts.data} is that of peer ${parts.transport.self}, but the configuration says that ${settings.id} is ` +
          `${own.peer}. Is this the data directory of another node?`,
      )
    }
    let node: Node | undefined
    const storage = await Storage.open({
      disk: parts.disk,
      directory: parts.data,
      self: parts.transport.self,
      openLevel: parts.openLevel,
      checkFiles: parts.checkFiles,
      now: parts.clock,
      elapsed: parts.surroundings.now,
      drawSalt: parts.drawSalt,
      onNotice: (error) => parts.logger.warn({ err: error }, error.message),
      stateTime: parts.stateTime,
      segmentBytes: parts.segmentBytes,
      reserveBytes: parts.reserveBytes,
      onFailure: (failure) => {
        if (node !== undefined) node.#stateFailed(failure)
      },
    })
    node = new Node(settings, own, parts, storage)
    try {
      await node.#conversation.begin()
    } catch (error) {
      await storage.close()
      throw error
    }
    void node.#join()
    return node
  }

  // ── what surfaces see ────────────────────────────────────────────────────────────────────────────────────────

  get leader(): string | undefined {
    return this.#leader
  }

  execute(command: Command, options: WaitOptions): Promise<Executed> {
    try {
      const replica = this.#serving()
      const full = isGrowing(command) ? this.#space.refusal(replica.raft.role === 'leader') : undefined
      if (full !== undefined) throw full
      return replica.execute(command, options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  executeMany(commands: readonly Command[], options: WaitOptions): Promise<readonly Settled<Executed>[]> {
    let replica: Replica
    try {
      replica = this.#serving()
    } catch (error) {
      return Promise.resolve(commands.map(() => ({ error })))
    }
    const full = commands.some(isGrowing) && this.#space.refusal(replica.raft.role === 'leader') !== undefined
    if (!full) return replica.executeMany(commands, options)
    // Some are refused and others not: each by itself, since a full disk is no time to be fast.
    const settled = (command: Command): Promise<Settled<Executed>> =>
      this.execute(command, options).then(
        (value) => ({ value }),
        (error: unknown) => ({ error }),
      )
    return Promise.all(commands.map(settled))
  }

  barrier(options: WaitOptions): Promise<void> {
    try {
      return this.#serving().barrier(options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  waitForRevision(revision: number, options: WaitOptions): Promise<void> {
    try {
      return this.#serving().waitForRevision(revision, options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  watch(query: WatchQuery, options: { readonly signal?: AbortSignal | undefined } = {}): WatchStream {
    this.#serving()
    return this.#hub.watch(query, options)
  }

  cluster(): ClusterStatus {
    const replica = this.#ready()
    const { leader, term } = replica.status
    const members = this.#members.newest
    const { identity, opened } = this.#storage
    const { status } = this.#conversation
    assert(identity.type === 'founded' && status !== undefined, 'only a founded node takes part')
    this.#revision = opened?.machine.revision ?? this.#revision
    return {
      cluster: identity.founding.name,
      id: identity.founding.clusterId,
      leader: members.find((member) => member.peer === leader)?.id,
      term,
      revision: this.#revision,
      members: this.#view.members({
        members,
        own: status,
        connected: (peer) => this.#parts.transport.isConnected(peer),
      }),
    }
  }

  async transferLeadership(to: string, options: WaitOptions): Promise<void> {
    const replica = this.#ready()
    const target = this.#members.present.find((member) => member.id === to)
    if (target?.voter !== true) {
      throw new TrivetError('invalid-request', `${to} is not a voting member of this cluster`, {
        field: 'to',
      })
    }
    await this.#handover.to(target, replica, options)
  }

  async addMember(
    newcomer: Newcomer,
    { replaces, force = false, ...options }: ChangeOptions & { readonly replaces?: string | undefined },
  ): Promise<void> {
    this.#ready()
    await this.#members.change(
      replaces === undefined ? { type: 'add', newcomer } : { type: 'replace', replaces, newcomer, force },
      options,
    )
  }

  async removeMember(id: string, { force = false, ...options }: ChangeOptions): Promise<void> {
    this.#ready()
    await this.#members.change({ type: 'remove', id, force }, options)
  }

  metrics(): NodeMetrics {
    return gatherMetrics({
      transport: this.#parts.transport,
      storage: this.#storage,
      replica: this.#replica,
      keeper: this.#keeper,
      members: this.#members.present,
      roles: this.#roles,
      watched: this.#hub,
      freeBytes: this.#space.freeBytes,
      name: (peer) => this.#name(peer),
    })
  }

  async *backup(): AsyncGenerator<Uint8Array, void> {
    const { machine } = this.#serving()
    if (machine === undefined) throw new TrivetError('not-ready', `${this.id} has no state of its own now`)
    yield* machine.backup()
  }

  async restore(chunks: AsyncIterable<Uint8Array>, options: RestoreOptions): Promise<Restored> {
    this.#serving()
    const { surroundings, sleep } = this.#parts
    return restoreBackup(chunks, options, {
      execute: (command, wait) => this.execute(command, wait),
      now: surroundings.now,
      sleep,
    })
  }

  unreadiness(): readonly string[] {
    const reasons: string[] = []
    if (this.#stopping !== undefined) reasons.push('stopping')
    const { closedBecause } = this.#members
    if (closedBecause !== undefined) reasons.push(closedBecause)
    else if (this.#entry.waitingFor !== undefined) reasons.push(this.#entry.waitingFor)
    else if (this.#closedBecause !== undefined) reasons.push(this.#closedBecause)
    else if (this.#replica?.raft.leader === undefined) reasons.push('no leader is known')
    else if (!this.#caughtUp)
      reasons.push(this.#keeper?.receiving ?? 'not everything committed at the start is applied yet')
    if (this.#replica?.raft.diskStalled === true) reasons.push('the disk has not answered for a second')
    return reasons
  }

  illness(): readonly string[] {
    if (this.#failed) return ['the node has failed and is ending']
    return this.#replica?.raft.diskStalled === true ? ['the disk has not answered for a second'] : []
  }

  /** The replica's own figures, for logs and metrics; undefined while the node waits to take part. */
  get status(): RaftStatus | undefined {
    return this.#replica?.status
  }

  /** What this node is made of, for whoever checks its promises; undefined while it waits to take part. */
  get inside(): Inside | undefined {
    const { opened, stateless } = this.#storage
    const wal = (opened ?? stateless)?.wal
    if (this.#replica === undefined || wal === undefined) return undefined
    return { wal, machine: this.#replica.machine, replica: this.#replica }
  }

  /**
   * Hands leadership over, if this node has it, so that no election timeout is felt; then stops. What waits here is
   * answered. Calling it twice is fine.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  // ── coming up ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Founds the cluster or waits for it, then takes part. Runs beside everything else. */
  async #join(): Promise<void> {
    try {
      this.#space.tick(undefined)
      this.#stops.push(this.#parts.every(spaceMs, () => this.#space.tick(this.#replica)))
      const passed = await this.#entry.pass(() => this.#stopping !== undefined || this.#failed)
      if (passed === undefined) return
      this.#takePart(passed.fresh)
      await this.#catchUp()
    } catch (error) {
      this.#fatal(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #takePart(fresh: boolean): void {
    const parts = this.#parts
    const { logger, transport } = parts
    const storage = this.#storage
    const open = storage.opened ?? storage.stateless
    assert(open !== undefined, 'a founded node has a log')
    const { wal, hardState } = open
    const { repaired, boot } = wal.recovered
    if (repaired.cutBytes > 0 || repaired.rewrittenEntries > 0) {
      logger.info(repaired, 'the last stop left unfinished appends; what was readable is durable now')
    }
    if (storage.rebuilding !== undefined) {
      logger.warn(
        storage.rebuilding,
        'the log was lost: this node neither votes nor acknowledges before it has been demoted',
      )
    }
    for (const { what, why } of storage.recentRepairs) {
      if (what === 'state') {
        logger.error(
          { why },
          'the state is damaged and being replaced: this node votes and acknowledges meanwhile, and does not serve',
        )
      }
    }
    const machine = storage.opened?.machine
    const replica = new Replica({
      self: transport.self,
      wal,
      machine,
      hardState,
      surroundings: parts.surroundings,
      tickMs,
      heartbeatMs: this.#settings.heartbeatMs,
      electionMs: this.#settings.electionMs,
      fresh,
      send: (to, message) => transport.send(to, message),
      clusterTime: () => this.#view.time(this.#members.present),
      onStatus: (status) => this.#onStatus(status),
      onConfiguration: () => {
        this.#view.retain(this.#members.present)
        this.#members.configurationChanged()
        // A leader whose entries name it for the first time.
        this.#nameLeader(this.#replica?.raft.leader)
      },
      rebuilding: storage.rebuilding?.boot,
      isFull: () => this.#space.refusal(true) !== undefined,
      onSnapshotNeeded: (index) => keeper.need(index),
      install: (base) => keeper.install(base),
      onRebuilt: () => void this.#rebuilt(),
      onFatal: (error) => this.#fatal(error),
    })
    const keeper = this.#keepState(replica)
    this.#participant = { replica, keeper }
    this.#members.follow(replica)
    keeper.start()
    this.#stops.push(
      parts.every(tickMs, () => {
        replica.tick()
        this.#members.tick()
      }),
    )
    this.#stops.push(parts.every(statusMs, () => this.#conversation.tellStatus()))
    this.#stops.push(parts.every(keepMs, () => keeper.tick()))
    const expiry = new ExpiryKeeper({ replica, now: parts.surroundings.now, logger })
    this.#expiry = expiry
    this.#stops.push(parts.every(expiryMs, () => void expiry.tick()))
    this.#stops.push(
      parts.every(watchMs, () => this.#hub.tick({ hasLeader: replica.raft.leader !== undefined })),
    )
    this.#stops.push(parts.every(proveMs, () => void replica.prove()))
    logger.info({ boot, term: hardState.term, lastApplied: machine?.lastApplied }, 'taking part')
    if (machine !== undefined) this.#warnOfDifferences(machine)
  }

  #keepState(replica: Replica): StateKeeper {
    const { transport, surroundings, sleep, stateTime, keepBytes, logger } = this.#parts
    const timeout = this.#parts.timeout ?? ((ms) => AbortSignal.timeout(ms))
    const { self } = transport
    return new StateKeeper({
      self,
      storage: this.#storage,
      replica,
      voters: () => replica.raft.log.voters,
      others: () =>
        this.#members.newest.flatMap(({ peer }) => {
          const status = peer === self ? undefined : this.#view.status(peer)
          return status === undefined || !transport.isConnected(peer) ? [] : [{ peer, status }]
        }),
      appliedLately: () => this.#view.lastApplied,
      ask: (peer, question) => transport.ask(peer, question, { signal: timeout(snapshotMs) }),
      name: (peer) => this.#name(peer),
      onState: (machine) => {
        this.#state.show(machine)
        this.#hub.show(machine)
        // Whether this node can be counted on is asked as soon as it says that it is ready.
        this.#conversation.tellStatus()
      },
      onFatal: (error) => this.#fatal(error),
      sleep,
      surroundings,
      stateTime,
      keepBytes,
      logger,
    })
  }

  #warnOfDifferences(machine: StateMachine): void {
    const differs = differences(this.#settings, this.#members.present, machine)
    if (differs.length === 0) return
    this.#parts.logger.warn(
      `${differs.join(', ')} in the configuration file differ from the cluster's own state, which holds: the file seeds a cluster ` +
        'once, when it is founded',
    )
  }

  #stateFailed(failure: StateFailure): void {
    if (this.#keeper === undefined) this.#fatal(failure.error)
    else this.#keeper.failed(failure)
  }

  async #rebuilt(): Promise<void> {
    try {
      await this.#storage.rebuilt()
      this.#parts.logger.info(
        'the loss of the log is made up for: the cluster has demoted this node, which votes again once promoted',
      )
    } catch (error) {
      this.#fatal(error instanceof Error ? error : new Error(String(error)))
    }
  }

  async #catchUp(): Promise<void> {
    while (!this.#caughtUp && this.#stopping === undefined && this.#replica !== undefined && !this.#failed) {
      try {
        if (this.#closedBecause !== undefined) {
          await this.#parts.sleep(20)
          continue
        }
        await this.#replica.barrier({ deadline: this.#parts.surroundings.now() + 2000 })
        this.#caughtUp = true
        this.#parts.logger.info('ready')
      } catch (error) {
        // No leader yet, or none that answers: `unreadiness` says so meanwhile.
        if (!(error instanceof TrivetError)) throw error
      }
    }
  }

  #onStatus(status: RaftStatus): void {
    const { role, term, leader } = status
    this.#roles.follow(status)
    this.#nameLeader(leader)
    this.#parts.logger.info({ role, term, leader: this.#leader }, 'role')
    this.#handover.changed()
    this.#conversation.tellStatus()
  }

  get #replica(): Replica | undefined {
    return this.#participant?.replica
  }

  get #keeper(): StateKeeper | undefined {
    return this.#participant?.keeper
  }

  #nameLeader(leader: MemberId | undefined): void {
    this.#leader = leader === undefined ? undefined : this.#name(leader)
  }

  #name(peer: MemberId): string {
    return this.#members.name(peer)
  }

  /** Why this node, though it takes part, does not serve from its own disk; undefined when it does. */
  get #closedBecause(): string | undefined {
    if (this.#replica?.status.rebuilding !== undefined) {
      return 'its log was lost, and the cluster has not made a learner of it yet (it cannot where no quorum is left: see `trivet recover`)'
    }
    return this.#keeper?.closedBecause
  }

  /** Throws for a node that takes no requests. */
  #serving(): Replica {
    const replica = this.#ready()
    const closedBecause = this.#members.closedBecause ?? this.#closedBecause
    if (closedBecause !== undefined) throw new TrivetError('not-ready', `${this.id}: ${closedBecause}`)
    return replica
  }

  #ready(): Replica {
    if (this.#replica === undefined) {
      throw new TrivetError(
        'not-ready',
        `${this.id} does not take part yet: ${this.#entry.waitingFor ?? 'it is stopping'}`,
      )
    }
    return this.#replica
  }

  // ── going down ───────────────────────────────────────────────────────────────────────────────────────────────

  async #stop(): Promise<void> {
    const replica = this.#replica
    this.#hub.close()
    if (replica !== undefined && !this.#failed) await this.#handover.away(replica)
    for (const stop of this.#stops) stop()
    this.#members.close()
    replica?.stop()
    await this.#expiry?.stop()
    await this.#keeper?.stop()
    await this.#space.stop()
    await this.#parts.transport.close()
    await this.#storage.close()
  }

  #fatal(error: Error): void {
    if (this.#failed) return
    this.#failed = true
    this.#replica?.stop()
    this.#parts.onFatal(error)
  }
}
