// Drives one consensus core: one save and one apply at a time beside it, while messages and ticks never wait for a disk.

import { TrivetError } from '../errors.ts'
import { assert } from '../raft/assert.ts'
import { type Changed, Raft, type RaftStatus } from '../raft/raft.ts'
import type { Configuration, Duty, Entry, HardState, MemberId, Message, Snapshot } from '../raft/types.ts'
import { encodeCommand, encodeEntryData } from '../store/commands.ts'
import type { StateMachine } from '../store/state-machine.ts'
import type { Command } from '../store/types.ts'
import type { Wal } from '../store/wal.ts'
import { batchBytes, ForwardedCommands } from './forwarded-commands.ts'
import { commonCommandVersion } from './membership.ts'
import { type Attempt, OwnCommands, type Refusal } from './own-commands.ts'
import { ReadBarrier } from './read-barrier.ts'
import { RevisionWaiters } from './revision-waiters.ts'
import { Stopwatch } from './stopwatch.ts'
import type { Executed, QueueLevel, WaitOptions } from './surface.ts'
import type { PeerMessage } from './transport.ts'
import type { Settled } from './waiters.ts'

/** The clocks and chances of a replica, so that a simulation can hold them. */
export type Surroundings = {
  /** Milliseconds, monotonic: the clock of `performance.now()`. */
  readonly now: () => number
  /** Runs once the messages that have arrived are stepped. */
  readonly soon: (run: () => void) => void
  /** From 0 up to and without 1. */
  readonly random: () => number
  /** How long the event loop has been at work since its start, in milliseconds: with what `now` counts beyond that it was idle. */
  readonly worked: () => number
}

export type ReplicaOptions = {
  readonly self: MemberId
  readonly wal: Wal
  /** Undefined when the state was lost: one comes with a snapshot. */
  readonly machine: StateMachine | undefined
  /** The term and vote that are durable. */
  readonly hardState: HardState
  readonly surroundings: Surroundings
  /** One tick, in milliseconds; the owner calls `tick()` that often. */
  readonly tickMs: number
  readonly heartbeatMs: number
  readonly electionMs: number
  /** False when the message was dropped. */
  readonly send: (to: MemberId, message: PeerMessage) => boolean
  /** The cluster was founded just now. */
  readonly fresh: boolean
  /** The median of the voters' clocks, milliseconds since the epoch (`safety.md`, rule 23); undefined while too few are known. */
  readonly clusterTime: () => number | undefined
  /** Role, term or leader is another. */
  readonly onStatus: (status: RaftStatus) => void
  /** The configuration that holds is another. */
  readonly onConfiguration: () => void
  /**
   * The boot at which the log was found damaged and begun anew; undefined for one that is sound. See `RaftOptions`.
   */
  readonly rebuilding: number | undefined
  /** No quorum of voters has room, as the leader sees it: what others forward and would grow is refused (rule 27). */
  readonly isFull: () => boolean
  /** The log of the leader begins after what is here: a snapshot that reaches at least to `index` is needed. */
  readonly onSnapshotNeeded: (index: number) => void
  /** Makes an accepted snapshot the one that log and state begin with, durably, and opens its state. */
  readonly install: (base: Snapshot) => Promise<StateMachine>
  /** What was lost with the log counts no more: from now on this replica is a learner like any other. */
  readonly onRebuilt: () => void
  /** Nothing may go on: the process is to end. Called once. */
  readonly onFatal: (error: Error) => void
}

const MiB = 1024 * 1024

/** How long commands gather at most while others are on their way to being committed. */
const gatherMs = 2

/** `safety.md`, rule 25. */
const bounds = {
  entryBytes: MiB,
  appendBytes: MiB,
  windowBytes: 8 * MiB,
  waitingBytes: 32 * MiB,
  unappliedBytes: 32 * MiB,
  applyBytes: 4 * MiB,
  cacheBytes: 16 * MiB,
  waitingReads: 100_000,
} as const

export class Replica {
  readonly #options: ReplicaOptions
  readonly #raft: Raft
  readonly #own: OwnCommands
  readonly #reads: ReadBarrier
  readonly #stopwatch: Stopwatch
  readonly #forwarded: ForwardedCommands
  readonly #revisions: RevisionWaiters
  #machine: StateMachine | undefined
  /** The latest boot that was heard of each member. */
  readonly #boots = new Map<MemberId, number>()
  #saving = false
  /** When commands were last proposed. */
  #proposedAt = 0
  #scheduled = false
  #stopped = false
  /** The stamp of the last entry proposed here; later ones are never below it. */
  #lastStamp = 0
  #lastStatus: RaftStatus
  #lastConfigurationIndex: number

  constructor(options: ReplicaOptions) {
    const { wal, machine, self, surroundings } = options
    const { recovered } = wal
    const ticks = (ms: number): number => Math.max(1, Math.round(ms / options.tickMs))
    this.#options = options
    this.#raft = new Raft({
      self,
      hardState: options.hardState,
      log: {
        base: { index: recovered.base.index, term: recovered.base.term },
        lastIndex: recovered.lastIndex,
        terms: recovered.terms,
        configurations: recovered.configurations,
        appliedIndex: machine?.lastApplied ?? recovered.base.index,
      },
      electionTicks: ticks(options.electionMs),
      heartbeatTicks: ticks(options.heartbeatMs),
      failoverTicks: ticks(40),
      holdTicks: ticks(50),
      saveStallTicks: ticks(1000),
      random: surroundings.random,
      appendBytes: bounds.appendBytes,
      windowBytes: bounds.windowBytes,
      applyBytes: bounds.applyBytes,
      cacheBytes: bounds.cacheBytes,
      maxUnappliedBytes: bounds.unappliedBytes,
      maxReads: bounds.waitingReads,
      fresh: options.fresh,
      stateless: machine === undefined,
      rebuilding: options.rebuilding,
    })
    this.#machine = machine
    this.#own = new OwnCommands({
      self,
      boot: recovered.boot,
      maxWaitingBytes: bounds.waitingBytes,
      resendAfter: options.electionMs,
      now: surroundings.now,
    })
    this.#reads = new ReadBarrier({
      boot: recovered.boot,
      maxWaiting: bounds.waitingReads,
      askAgainAfter: options.heartbeatMs,
      now: surroundings.now,
    })
    this.#forwarded = new ForwardedCommands((to, attempt, numbers, code) =>
      options.send(to, { type: 'forwardRefused', attempt, numbers, code }),
    )
    this.#revisions = new RevisionWaiters({
      maxWaiting: bounds.waitingReads,
      applied: () => this.#machine?.revision ?? 0,
    })
    this.#stopwatch = new Stopwatch(surroundings.now)
    this.#lastStatus = this.#raft.status
    this.#lastConfigurationIndex = this.#raft.log.configuration.index
  }

  get status(): RaftStatus {
    return this.#raft.status
  }

  get raft(): Pick<Raft, 'progress' | 'diskStalled' | 'log' | 'role' | 'leader' | 'term'> {
    return this.#raft
  }

  /** What the log is applied to; undefined while the state is lost. */
  get machine(): StateMachine | undefined {
    return this.#machine
  }

  /** What waits here, for whoever watches. */
  get waiting(): { readonly commands: number; readonly commandBytes: number; readonly reads: number } {
    return {
      commands: this.#own.size,
      commandBytes: this.#own.waitingBytes + this.#forwarded.bytes,
      reads: this.#reads.waiting,
    }
  }

  /** Everything that queues here, with its bound (`safety.md`, rule 25). */
  get queues(): readonly QueueLevel[] {
    const bytes = (queue: string, size: number, bound: number): QueueLevel => ({
      queue,
      unit: 'bytes',
      size,
      bound,
    })
    const reads = (queue: string, size: number): QueueLevel => ({
      queue,
      unit: 'requests',
      size,
      bound: bounds.waitingReads,
    })
    const windows = [...(this.#raft.progress?.values() ?? [])].map(({ inFlightBytes }) => inFlightBytes)
    return [
      bytes('proposals', this.#own.waitingBytes + this.#forwarded.bytes, bounds.waitingBytes),
      bytes('unapplied', this.#raft.status.unappliedBytes, bounds.unappliedBytes),
      bytes('window', Math.max(0, ...windows), bounds.windowBytes),
      bytes('overlay', this.#machine?.overlay.bytes ?? 0, this.#machine?.overlay.bound ?? 0),
      reads('reads', this.#reads.waiting),
      reads('revisions', this.#revisions.waiting),
    ]
  }

  // ── what users ask ───────────────────────────────────────────────────────────────────────────────────────────

  /** See `NodeSurface.execute`. */
  execute(command: Command, options: WaitOptions): Promise<Executed> {
    if (this.#stopped) return Promise.reject(stopping())
    const promise = this.#own.add(encodeCommand(command), options)
    this.#schedule()
    return promise
  }

  /** See `NodeSurface.executeMany`. */
  executeMany(commands: readonly Command[], options: WaitOptions): Promise<readonly Settled<Executed>[]> {
    if (this.#stopped) return Promise.resolve(commands.map(() => ({ error: stopping() })))
    const promise = this.#own.addMany(commands.map(encodeCommand), options)
    this.#schedule()
    return promise
  }

  /** See `NodeSurface.barrier`. */
  barrier(options: WaitOptions): Promise<void> {
    if (this.#stopped) return Promise.reject(stopping())
    const promise = this.#reads.add(options)
    this.#schedule()
    return promise
  }

  /** See `NodeSurface.waitForRevision`. */
  waitForRevision(revision: number, options: WaitOptions): Promise<void> {
    if (this.#stopped) return Promise.reject(stopping())
    return this.#revisions.add(revision, options)
  }

  /** The voter that could take over soonest; undefined when this replica does not lead or nobody could. */
  heir(): MemberId | undefined {
    return this.#raft.heir()
  }

  /** Hands leadership over. False when this replica does not lead or `to` cannot. */
  transferLeadership(to: MemberId): boolean {
    const accepted = this.#raft.transferLeadership(to)
    this.#schedule()
    return accepted
  }

  /** See `Raft.changeConfiguration`. */
  changeConfiguration(configuration: Configuration): Changed {
    const changed = this.#raft.changeConfiguration(configuration)
    this.#schedule()
    return changed
  }

  // ── what the disk does ───────────────────────────────────────────────────────────────────────────────────────

  /** Offers a snapshot whose content is durable. False when it is of no use any more. */
  offerSnapshot(snapshot: Snapshot): boolean {
    const accepted = this.#raft.install(snapshot)
    this.#schedule()
    return accepted
  }

  /** The state machine is damaged or cannot be written: nothing more is applied until a snapshot is installed. */
  loseState(): void {
    this.#machine = undefined
    this.#guard(() => this.#raft.loseState())
    this.#schedule()
  }

  /** The state machine was opened anew, from what is durable of it: the log is applied from there on. */
  regainState(machine: StateMachine): void {
    this.#machine = machine
    this.#guard(() => this.#raft.regainState(machine.lastApplied))
    this.#schedule()
  }

  // ── what the world does ──────────────────────────────────────────────────────────────────────────────────────

  /**
   * A member's message, and the boot it was sent under. What an earlier boot said counts no more once a later one was heard, or
   * once the configuration says that the log was lost in between (rule 7).
   */
  step(message: Message, boot: number): void {
    const { from } = message
    const latest = this.#boots.get(from)
    if (this.#stopped || boot < Math.max(latest ?? 0, this.#raft.log.member(from)?.since ?? 0)) return
    if (boot !== latest) {
      this.#boots.set(from, boot)
      if (latest !== undefined) this.#raft.restarted(from)
    }
    this.#guard(() => this.#raft.step(message))
    this.#schedule()
  }

  /** Commands of another node, for the leader. They are proposed here or refused, never passed on. */
  forwarded(from: MemberId, forward: Attempt): void {
    if (this.#stopped) return
    const room = bounds.waitingBytes - this.#forwarded.bytes - this.#own.waitingBytes
    const leading =
      this.#raft.role === 'leader'
        ? { room, maxVersion: this.#maxVersion, isFull: this.#options.isFull() }
        : undefined
    this.#forwarded.receive(from, forward, leading)
    this.#schedule()
  }

  /** A node that was sent commands did not take these. */
  forwardRefused(refusal: Refusal): void {
    this.#own.refused(refusal)
  }

  heard(peer: MemberId): void {
    this.#raft.heard(peer)
  }

  /** Messages to this peer can leave. What was sent before may be lost. */
  connected(peer: MemberId): void {
    if (this.#stopped || peer !== this.#raft.leader) return
    this.#own.resend()
    this.#reads.askAgain()
    this.#schedule()
  }

  disconnected(peer: MemberId, why: { readonly byUs: boolean }): void {
    if (this.#stopped) return
    this.#own.disconnected(peer)
    this.#raft.disconnected(peer, why)
    this.#schedule()
  }

  tick(): void {
    if (this.#stopped) return
    this.#guard(() => this.#raft.tick())
    this.#own.tick()
    this.#reads.tick(this.#raft.leader !== undefined)
    this.#revisions.tick(this.#options.surroundings.now())
    this.#schedule()
  }

  /** To be called a few times a second: what was appended last is known to have been durable soon after. See `Wal.prove`. */
  async prove(): Promise<void> {
    if (this.#stopped || this.#saving) return
    try {
      await this.#options.wal.prove()
    } catch (error) {
      this.#fatal(error)
    }
  }

  /** Ends at once: nothing leaves any more, everybody who waits is told. Saves and applies under way may still finish. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#forwarded.refuseAll()
    this.#own.close()
    this.#reads.close()
    this.#revisions.close(stopping())
  }

  // ── driving ──────────────────────────────────────────────────────────────────────────────────────────────────

  #schedule(): void {
    if (this.#scheduled || this.#stopped) return
    this.#scheduled = true
    this.#options.surroundings.soon(() => {
      this.#scheduled = false
      this.#guard(() => this.#drive())
    })
  }

  #drive(): void {
    if (this.#stopped) return
    this.#followLog()
    this.#followStatus()
    this.#passCommands()
    if (this.#reads.due) this.#raft.readIndex(this.#reads.ask())
    for (let duties = this.#raft.ready(); duties.length > 0; duties = this.#raft.ready()) {
      for (const duty of duties) this.#perform(duty)
      this.#followStatus()
    }
  }

  /** A new segment may have left the beginning of the log behind, while its append is still under way: that is fetched no more. */
  #followLog(): void {
    const { index } = this.#options.wal.base
    // The base of a snapshot that is being installed lies ahead: the core learns of it once the state is switched too.
    if (index <= this.#raft.log.appliedIndex) this.#raft.compact(index)
  }

  #perform(duty: Duty): void {
    switch (duty.type) {
      case 'send':
        for (const message of duty.messages) this.#options.send(message.to, { type: 'raft', message })
        return
      case 'save':
        void this.#save(duty)
        return
      case 'apply':
        void this.#apply(duty)
        return
      case 'fetch':
        void this.#fetch(duty)
        return
      case 'reads':
        for (const { id, index } of duty.reads) {
          this.#reads.answered(id, index, this.#machine?.lastApplied ?? 0)
        }
        return
      case 'snapshot':
        this.#options.onSnapshotNeeded(duty.index)
        return
      case 'install':
        void this.#install(duty)
        return
      default:
        duty satisfies never
    }
  }

  async #save(duty: Extract<Duty, { type: 'save' }>): Promise<void> {
    assert(!this.#saving, 'one save at a time')
    this.#saving = true
    this.#stopwatch.appended(duty.entries)
    try {
      const { hardState, entries } = duty
      await this.#options.wal.append(hardState === undefined ? { entries } : { hardState, entries })
    } catch (error) {
      // What the disk holds now is not known: no promise may leave any more (rule 1).
      this.#fatal(error)
      return
    }
    this.#saving = false
    if (this.#stopped) return
    this.#stopwatch.saved(duty.entries)
    this.#guard(() => {
      this.#raft.advance(duty)
      this.#drive()
    })
  }

  async #apply(duty: Extract<Duty, { type: 'apply' }>): Promise<void> {
    this.#stopwatch.committed(duty.entries)
    const machine = this.#machine
    assert(machine !== undefined, 'only a state that is there is applied to')
    let applied: Awaited<ReturnType<StateMachine['apply']>>
    try {
      applied = await machine.apply(duty.entries)
    } catch (error) {
      // Whoever opened the state machine was told of its failure, and decides what becomes of it.
      if (machine.failure === undefined && this.#machine === machine) this.#fatal(error)
      return
    }
    if (this.#stopped || this.#machine !== machine) return
    this.#guard(() => {
      this.#stopwatch.applied()
      const { self, wal } = this.#options
      for (const { id, index, outcome } of applied) {
        if (id.peer !== self || id.boot !== wal.recovered.boot) continue
        const sent = this.#own.sent(id.number)
        if (sent === undefined) continue
        const timing = this.#stopwatch.timing(index, sent)
        this.#own.decided(id.number, { outcome, revision: machine.revision, timing })
      }
      this.#raft.advance(duty)
      this.#reads.applied(machine.lastApplied)
      this.#revisions.applied()
      this.#drive()
    })
  }

  async #install(duty: Extract<Duty, { type: 'install' }>): Promise<void> {
    let machine: StateMachine
    try {
      machine = await this.#options.install(duty.base)
    } catch (error) {
      // Whether the log has switched is not known; the next start reads it.
      this.#fatal(error)
      return
    }
    if (this.#stopped) return
    this.#machine = machine
    this.#guard(() => {
      this.#raft.advance(duty)
      this.#reads.applied(machine.lastApplied)
      this.#revisions.applied()
      this.#drive()
    })
  }

  async #fetch(duty: Extract<Duty, { type: 'fetch' }>): Promise<void> {
    let entries: readonly Entry[]
    try {
      entries = await this.#options.wal.read(duty)
    } catch (error) {
      this.#fatal(error)
      return
    }
    if (this.#stopped) return
    this.#guard(() => {
      this.#raft.fetched(duty, entries)
      this.#drive()
    })
  }

  // ── commands on their way ────────────────────────────────────────────────────────────────────────────────────

  /** Gives what waits to the leader: to the core when that is this replica, else over the network. */
  #passCommands(): void {
    const { leader, role } = this.#raft
    if (role === 'leader') this.#propose()
    else if (leader !== undefined) this.#forward(leader)
  }

  /**
   * Starts at once when idle; while a save or a commit is under way commands gather, and then share entries, one sync and
   * one message per follower. Over a long line, where a commit takes long, they do not wait for it.
   */
  #propose(): void {
    const { lastIndex, commitIndex } = this.#raft.status
    if (lastIndex > commitIndex && this.#options.surroundings.now() - this.#proposedAt < gatherMs) return
    while (!this.#saving && (this.#own.hasQueued || !this.#forwarded.isEmpty)) {
      const { transferring, unappliedBytes } = this.#raft.status
      if (transferring || unappliedBytes > bounds.unappliedBytes) return
      const own = this.#own.take(bounds.entryBytes, this.#maxVersion)?.batch
      const room = bounds.entryBytes - (own === undefined ? 0 : batchBytes(own))
      const forwarded = this.#forwarded.take(room)
      const batches = own === undefined ? forwarded : [own, ...forwarded]
      if (batches.length === 0) continue
      const data = encodeEntryData({ time: this.stamp(), batches })
      const awaiting = forwarded.map(({ peer }) => peer)
      const proposed = this.#raft.propose(data, awaiting)
      assert(proposed.type === 'appended', 'a leader that is not handing over takes proposals')
      this.#proposedAt = this.#options.surroundings.now()
    }
  }

  #forward(leader: MemberId): void {
    const take = () => this.#own.take(bounds.entryBytes)
    for (let taken = take(); taken !== undefined; taken = take()) {
      if (this.#options.send(leader, { type: 'forward', ...taken })) continue
      // Not connected, or too much is under way: they wait for the next tick, or for the connection.
      this.#own.putBack(taken)
      return
    }
  }

  /** No command above it may enter the log: some member would not know what to make of it (rule 21). */
  get #maxVersion(): number {
    return commonCommandVersion(this.#raft.log.configuration.configuration)
  }

  /** What an entry is stamped with that this replica, leading, proposes now: never less than before (rule 23). */
  stamp(): number {
    this.#lastStamp = Math.max(this.#lastStamp, this.#machine?.time ?? 0, this.#options.clusterTime() ?? 0)
    return this.#lastStamp
  }

  // ── what follows from a change ───────────────────────────────────────────────────────────────────────────────

  #followStatus(): void {
    const status = this.#raft.status
    const last = this.#lastStatus
    this.#lastStatus = status
    if (status.rebuilding !== last.rebuilding) this.#options.onRebuilt()
    const { index } = this.#raft.log.configuration
    if (index !== this.#lastConfigurationIndex) {
      this.#lastConfigurationIndex = index
      this.#options.onConfiguration()
    }
    if (status.role === last.role && status.term === last.term && status.leader === last.leader) return
    if (status.role !== 'leader') this.#forwarded.refuseAll()
    if (status.leader !== undefined) {
      this.#own.resend()
      this.#reads.askAgain()
    }
    this.#options.onStatus(status)
    this.#schedule()
  }

  // ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whatever throws in here is a broken invariant. */
  #guard(run: () => void): void {
    try {
      run()
    } catch (error) {
      this.#fatal(error)
    }
  }

  #fatal(error: unknown): void {
    if (this.#stopped) return
    this.stop()
    this.#options.onFatal(error instanceof Error ? error : new Error(String(error)))
  }
}

function stopping(): TrivetError {
  return new TrivetError('shutting-down', 'This node is stopping')
}
