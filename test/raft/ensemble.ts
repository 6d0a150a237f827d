// Cores in one room: a network that delivers only what it is told to, disks that keep only what was saved, no clock.

import { assert } from '../../src/raft/assert.ts'
import { Raft, type RaftOptions } from '../../src/raft/raft.ts'
import type { Configuration, Duty, Entry, HardState, MemberId, Message, Role } from '../../src/raft/types.ts'
import { Network } from './network.ts'
import { Observer } from './observer.ts'
import { configurationOf, type InstallDuty, type SaveDuty, type Seat, SeatDisk } from './seat.ts'

/** What happens, for whoever records it. */
export type Happening =
  | { readonly type: 'role'; readonly member: MemberId; readonly role: Role; readonly term: number }
  | { readonly type: 'sent' | 'delivered' | 'lost'; readonly message: Message }
  | { readonly type: 'saving' | 'saved'; readonly member: MemberId; readonly duty: SaveDuty }
  | { readonly type: 'installing' | 'installed'; readonly member: MemberId; readonly duty: InstallDuty }
  | { readonly type: 'snapshot'; readonly member: MemberId; readonly index: number }
  | { readonly type: 'applied' | 'fetched'; readonly member: MemberId; readonly entries: readonly Entry[] }
  | { readonly type: 'committed'; readonly member: MemberId; readonly index: number }
  | {
      readonly type: 'read'
      readonly member: MemberId
      readonly id: number
      readonly index: number | undefined
    }

export type Tuning = Omit<RaftOptions, 'self' | 'hardState' | 'log' | 'random' | 'stateless' | 'rebuilding'>

const tuning: Tuning = {
  electionTicks: 10,
  heartbeatTicks: 2,
  failoverTicks: 4,
  holdTicks: 5,
  saveStallTicks: 10,
  appendBytes: 1000,
  windowBytes: 4000,
  applyBytes: 4000,
  cacheBytes: 1_000_000,
  maxUnappliedBytes: 1_000_000,
  maxReads: 100,
}

export type EnsembleOptions = {
  readonly members: readonly MemberId[]
  /** Of the members, those that have no vote. */
  readonly learners?: readonly MemberId[]
  /** Those who stand by and belong to no configuration yet. */
  readonly spares?: readonly MemberId[]
  readonly tuning?: Partial<Tuning>
  /** The draws of one member, from 0 up to and without 1. */
  readonly random: (member: MemberId) => number
  /** What a disk holds before the first start. */
  readonly disks?: ReadonlyMap<
    MemberId,
    { readonly hardState: HardState; readonly entries: readonly Entry[] }
  >
  readonly watch?: (happening: Happening) => void
}

/** The rest a harness may wait for, in steps: more means that messages beget messages without end. */
const restlessSteps = 100_000

export class Ensemble {
  readonly tuning: Tuning
  readonly observer: Observer
  readonly network: Network
  readonly #options: EnsembleOptions
  readonly #seats = new Map<MemberId, Seat>()
  readonly #roles = new Map<MemberId, string>()
  readonly #commits = new Map<MemberId, number>()
  readonly #founding: Configuration
  /** The boot under which each message was sent. */
  readonly #boots = new WeakMap<Message, number>()
  #readId = 0

  constructor(options: EnsembleOptions) {
    this.#options = options
    this.network = new Network(this.members)
    this.tuning = { ...tuning, ...options.tuning }
    this.#founding = configurationOf(options.members, options.learners)
    const blank = { hardState: { term: 1, votedFor: undefined }, entries: [] }
    for (const id of this.members) {
      const { hardState, entries } = options.disks?.get(id) ?? blank
      this.#seats.set(id, {
        id,
        disk: new SeatDisk(this.#founding, entries, hardState),
        raft: undefined,
        saving: undefined,
        applying: undefined,
        installing: undefined,
        fetching: [],
        wanted: undefined,
        offered: undefined,
        boots: new Map(),
        savesHeld: false,
        appliesHeld: false,
        snapshotsHeld: false,
      })
    }
    this.observer = new Observer(this.#seats)
    for (const id of this.members) this.restart(id)
  }

  get seats(): ReadonlyMap<MemberId, Seat> {
    return this.#seats
  }

  get members(): readonly MemberId[] {
    return [...this.#options.members, ...(this.#options.spares ?? [])]
  }

  get founding(): Configuration {
    return this.#founding
  }

  /** The configuration that a member goes by, or will once it is up. */
  configurationOf(id: MemberId): Configuration {
    const { raft, disk } = this.seat(id)
    return raft?.log.configuration.configuration ?? disk.stateAt(disk.lastIndex).base.configuration
  }

  /** Who belonged to the first configuration. */
  get founders(): readonly MemberId[] {
    return this.#options.members
  }

  seat(id: MemberId): Seat {
    const seat = this.#seats.get(id)
    assert(seat !== undefined, `there is a member ${id}`)
    return seat
  }

  /** The core of a member that is up. */
  raft(id: MemberId): Raft {
    const { raft } = this.seat(id)
    assert(raft !== undefined, `${id} is up`)
    return raft
  }

  isUp(id: MemberId): boolean {
    return this.seat(id).raft !== undefined
  }

  /** The leader of the highest term among those who are up. */
  leader(): MemberId | undefined {
    let best: Raft | undefined
    let leader: MemberId | undefined
    for (const { id, raft } of this.#seats.values()) {
      if (raft?.role !== 'leader' || (best !== undefined && best.term > raft.term)) continue
      best = raft
      leader = id
    }
    return leader
  }

  // ── what a core is told ──────────────────────────────────────────────────────────────────────────────────────

  tick(id: MemberId): void {
    this.#input(id, (raft) => raft.tick())
  }

  propose(id: MemberId, data: Uint8Array, awaiting?: readonly MemberId[]): ReturnType<Raft['propose']> {
    return this.#input(id, (raft) => raft.propose(data, awaiting))
  }

  /** Asks for a read and returns its id. Ids are never used twice, not by another boot either. */
  read(id: MemberId): number {
    this.#readId++
    const readId = this.#readId
    this.observer.readAsked(readId)
    this.#input(id, (raft) => raft.readIndex(readId))
    return readId
  }

  transfer(id: MemberId, to: MemberId): boolean {
    return this.#input(id, (raft) => raft.transferLeadership(to))
  }

  change(id: MemberId, configuration: Configuration): ReturnType<Raft['changeConfiguration']> {
    return this.#input(id, (raft) => raft.changeConfiguration(configuration))
  }

  /** What is applied at a member is dropped from its log. */
  compact(id: MemberId, index: number): void {
    const seat = this.seat(id)
    // The log on disk moves its base with a save or an install, never beside one.
    if (seat.installing !== undefined) return
    seat.disk.appliedIndex = Math.max(seat.disk.appliedIndex, index)
    seat.disk.compact(index)
    this.#input(id, (raft) => raft.compact(index))
  }

  /** The state machine of a member is damaged. */
  loseState(id: MemberId): void {
    const seat = this.seat(id)
    seat.disk.stateless = true
    if (seat.raft === undefined) return
    seat.applying = undefined
    this.#input(id, (raft) => raft.loseState())
  }

  /** The state machine of a member was opened anew and turned out whole. */
  regainState(id: MemberId): void {
    const seat = this.seat(id)
    seat.disk.stateless = false
    this.#input(id, (raft) => raft.regainState(seat.disk.appliedIndex))
  }

  /** Offers a member the state of another, as it is there now. False when that is of no use to it. */
  offerSnapshot(id: MemberId, from: MemberId): boolean {
    const seat = this.seat(id)
    const source = this.seat(from)
    if (source.raft === undefined || source.disk.stateless) return false
    const state = source.disk.stateAt(source.raft.log.appliedIndex)
    const accepted = this.#input(id, (raft) => {
      const useful = raft.install(state.base)
      if (useful) seat.offered = state
      return useful
    })
    if (accepted) seat.wanted = undefined
    return accepted
  }

  heard(id: MemberId, peer: MemberId): void {
    this.#input(id, (raft) => raft.heard(peer))
  }

  /** The last connection between two members ends: what is under way is lost, `id` is told; its peer notices by itself. */
  disconnect(id: MemberId, peer: MemberId, why: { readonly byUs: boolean } = { byUs: false }): void {
    this.lose(id, peer)
    this.lose(peer, id)
    if (this.isUp(id)) this.#input(id, (raft) => raft.disconnected(peer, why))
  }

  /** Steps a message that no core sent. */
  inject(message: Message): void {
    this.#input(message.to, (raft) => raft.step(message))
  }

  // ── crashes ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** The process ends. A save under way may have reached the disk (`kept`) or not; the state machine is at `appliedIndex`. */
  crash(id: MemberId, options: { readonly kept?: boolean; readonly appliedIndex?: number } = {}): void {
    const seat = this.seat(id)
    if (seat.raft === undefined) return
    if (options.kept === true && seat.saving !== undefined) this.#write(seat, seat.saving)
    const { appliedIndex } = seat.raft.log
    seat.disk.appliedIndex = Math.max(seat.disk.appliedIndex, options.appliedIndex ?? appliedIndex)
    seat.raft = undefined
    seat.saving = undefined
    seat.applying = undefined
    seat.installing = undefined
    seat.fetching = []
    seat.wanted = undefined
    seat.offered = undefined
    seat.boots.clear()
    this.#roles.delete(id)
    this.#commits.delete(id)
    this.observer.crashed(id)
  }

  /** The log of a member that is down is lost, and perhaps its state too. */
  loseLog(id: MemberId, options: { readonly keepsState: boolean }): void {
    const seat = this.seat(id)
    assert(seat.raft === undefined, 'only what is down loses its log')
    seat.disk.loseLog(this.#founding, options)
    this.observer.lostLog(id)
  }

  restart(id: MemberId): void {
    const seat = this.seat(id)
    assert(seat.raft === undefined, 'only what is down is started')
    seat.disk.boot++
    const { hardState, stateless, rebuilding } = seat.disk
    const random = () => this.#options.random(id)
    seat.raft = new Raft({
      ...this.tuning,
      self: id,
      hardState,
      log: seat.disk.recover(),
      random,
      stateless,
      rebuilding,
    })
    this.#roles.set(id, 'follower')
    this.#commits.set(id, seat.raft.log.commitIndex)
    this.#drain(seat, seat.raft)
  }

  // ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** Delivers the message at `at`, by default the oldest. To a member that is down it is lost. */
  deliver(from: MemberId, to: MemberId, at = 0): void {
    const message = this.network.take(from, to, at)
    // The shell drops what a boot sent of which the member's word does not count (see `Member.since`), or that is over.
    const seat = this.seat(to)
    const latest = seat.boots.get(from)
    const boot = this.#boots.get(message) ?? latest ?? 0
    const since = seat.raft?.log.member(from)?.since ?? 0
    if (seat.raft !== undefined && boot > (latest ?? 0)) {
      seat.boots.set(from, boot)
      if (latest !== undefined) this.#input(to, (raft) => raft.restarted(from))
    }
    if (seat.raft === undefined || boot < Math.max(latest ?? 0, since)) {
      this.#happened({ type: 'lost', message })
      return
    }
    this.#happened({ type: 'delivered', message })
    this.#input(to, (raft) => raft.step(message))
  }

  /** Loses the message at `at`, or everything under way. */
  lose(from: MemberId, to: MemberId, at?: number): void {
    const count = at === undefined ? this.network.underWay(from, to).length : 1
    for (let lost = 0; lost < count; lost++) {
      this.#happened({ type: 'lost', message: this.network.take(from, to, at ?? 0) })
    }
  }

  // ── disks and state machines ─────────────────────────────────────────────────────────────────────────────────

  finishSave(id: MemberId): void {
    const seat = this.seat(id)
    const duty = seat.saving
    assert(duty !== undefined, `a save is under way at ${id}`)
    seat.saving = undefined
    this.#write(seat, duty)
    this.#happened({ type: 'saved', member: id, duty })
    this.#input(id, (raft) => raft.advance(duty))
  }

  finishApply(id: MemberId): void {
    const seat = this.seat(id)
    const duty = seat.applying
    assert(duty !== undefined, `an apply is under way at ${id}`)
    seat.applying = undefined
    this.observer.applied(seat, duty.entries)
    this.#happened({ type: 'applied', member: id, entries: duty.entries })
    this.#input(id, (raft) => raft.advance(duty))
  }

  finishFetch(id: MemberId): void {
    const seat = this.seat(id)
    const duty = seat.fetching.shift()
    assert(duty !== undefined, `a fetch is under way at ${id}`)
    const entries: Entry[] = []
    for (let index = duty.from, bytes = 0; index <= duty.to && bytes < duty.maxBytes; index++) {
      const entry = seat.disk.entry(index)
      // The log was compacted meanwhile: what is read from below its base is read for nobody.
      if (entry === undefined) break
      entries.push(entry)
      bytes += entry.type === 'commands' ? 32 + entry.data.byteLength : 32
    }
    this.#happened({ type: 'fetched', member: id, entries })
    this.#input(id, (raft) => raft.fetched(duty, entries))
  }

  finishInstall(id: MemberId): void {
    const seat = this.seat(id)
    const { installing, offered } = seat
    assert(installing !== undefined && offered !== undefined, `an install is under way at ${id}`)
    seat.installing = undefined
    seat.offered = undefined
    this.observer.installs(seat, installing)
    seat.disk.install(installing, offered)
    this.#happened({ type: 'installed', member: id, duty: installing })
    this.#input(id, (raft) => raft.advance(installing))
  }

  /** Gives a member that waits for a state the one that has come furthest among those who are up. */
  serveSnapshot(id: MemberId): boolean {
    const seat = this.seat(id)
    const waits = seat.wanted !== undefined || seat.raft?.status.stateless === true
    if (seat.raft === undefined || !waits || seat.raft.status.installing) return false
    const sources = this.members.filter((peer) => peer !== id && this.isUp(peer))
    sources.sort((one, other) => this.raft(other).log.appliedIndex - this.raft(one).log.appliedIndex)
    seat.wanted = undefined
    return sources.some((from) => this.offerSnapshot(id, from))
  }

  /** Everything that may move does, until nothing does: messages on whole links in order, saves, applies, fetches. */
  settle(): void {
    for (let steps = 0; this.#settleOnce(); steps++) {
      assert(steps < restlessSteps, 'the ensemble comes to rest')
    }
  }

  #settleOnce(): boolean {
    let moved = false
    for (const message of this.network.arriving()) {
      this.deliver(message.from, message.to)
      moved = true
    }
    for (const seat of this.#seats.values()) {
      if (seat.saving !== undefined && !seat.savesHeld) this.finishSave(seat.id)
      else if (seat.applying !== undefined && !seat.appliesHeld) this.finishApply(seat.id)
      else if (seat.installing !== undefined && !seat.savesHeld) this.finishInstall(seat.id)
      else if (seat.fetching.length > 0) this.finishFetch(seat.id)
      else if (seat.snapshotsHeld || !this.serveSnapshot(seat.id)) continue
      moved = true
    }
    return moved
  }

  /** `count` times: everybody who is up ticks, then everything that may move does. */
  run(count: number, members: readonly MemberId[] = this.members): void {
    for (let tick = 0; tick < count; tick++) {
      for (const id of members) if (this.isUp(id)) this.tick(id)
      this.settle()
    }
  }

  // ── driving ──────────────────────────────────────────────────────────────────────────────────────────────────

  #input<T>(id: MemberId, run: (raft: Raft) => T): T {
    const raft = this.raft(id)
    const result = run(raft)
    this.#drain(this.seat(id), raft)
    return result
  }

  #drain(seat: Seat, raft: Raft): void {
    for (let duties = raft.ready(); duties.length > 0; duties = raft.ready()) {
      this.observer.looked(seat, raft)
      this.#announce(seat, raft)
      for (const duty of duties) this.#take(seat, duty)
    }
    this.observer.looked(seat, raft)
    this.#announce(seat, raft)
    const { rebuilding } = raft.status
    if (seat.disk.rebuilding !== rebuilding) this.observer.rebuilt++
    seat.disk.rebuilding = rebuilding
  }

  #take(seat: Seat, duty: Duty): void {
    switch (duty.type) {
      case 'send':
        for (const message of duty.messages) this.#sent(seat, message)
        return
      case 'save':
        assert(seat.saving === undefined, 'one save at a time')
        seat.saving = duty
        this.#happened({ type: 'saving', member: seat.id, duty })
        return
      case 'apply':
        assert(seat.applying === undefined, 'one apply at a time')
        seat.applying = duty
        return
      case 'install':
        assert(seat.saving === undefined && seat.applying === undefined, 'an install is under way alone')
        seat.installing = duty
        this.#happened({ type: 'installing', member: seat.id, duty })
        return
      case 'snapshot':
        seat.wanted = duty.index
        this.#happened({ type: 'snapshot', member: seat.id, index: duty.index })
        return
      case 'fetch':
        assert(seat.fetching.length < 2, 'one fetch for followers and one for the own state')
        seat.fetching.push(duty)
        return
      case 'reads':
        for (const { id, index } of duty.reads) {
          this.observer.readAnswered(id, index)
          this.#happened({ type: 'read', member: seat.id, id, index })
        }
        return
      default:
        duty satisfies never
    }
  }

  #sent(seat: Seat, message: Message): void {
    this.observer.sent(seat, message)
    this.#boots.set(message, seat.disk.boot)
    const sent = this.network.send(message)
    this.#happened({ type: sent ? 'sent' : 'lost', message })
  }

  #write(seat: Seat, duty: SaveDuty): void {
    this.observer.saves(seat, duty)
    seat.disk.write(duty)
  }

  #announce(seat: Seat, raft: Raft): void {
    if (this.#options.watch === undefined) return
    const { role, term } = raft
    const before = this.#roles.get(seat.id)
    const after = role === 'follower' ? role : `${role} ${term}`
    this.#roles.set(seat.id, after)
    if (after !== before) this.#happened({ type: 'role', member: seat.id, role, term })
    const index = raft.log.commitIndex
    if (index !== this.#commits.get(seat.id)) {
      this.#commits.set(seat.id, index)
      this.#happened({ type: 'committed', member: seat.id, index })
    }
  }

  #happened(happening: Happening): void {
    this.#options.watch?.(happening)
  }
}
