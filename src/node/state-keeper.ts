// Keeps this node's state whole and its log short: checks the state, compares it with others', repairs it, compacts the log.
//
// Whatever is found wrong with the state, log and vote are sound: the node goes on voting and acknowledging while its state is
// opened anew, replayed or fetched from another member (`safety.md`, rules 8 and 9).

import type { Logger } from 'pino'
import { assert } from '../raft/assert.ts'
import type { MemberId, Snapshot } from '../raft/types.ts'
import { StateDamagedError } from '../store/record.ts'
import type { StateFailure } from '../store/state-failure.ts'
import type { StateMachine } from '../store/state-machine.ts'
import type { StateTime } from '../store/state-time.ts'
import { compactUpTo } from './compaction.ts'
import { DigestBook } from './digest-book.ts'
import type { Replica, Surroundings } from './replica.ts'
import { type Loaded, megabytes, SnapshotReceiver } from './snapshot-receiver.ts'
import { type SnapshotQuestion, SnapshotSender } from './snapshot-sender.ts'
import type { Storage } from './storage.ts'
import type { Answer, PeerMessage, Question } from './transport.ts'

type Status = Extract<PeerMessage, { type: 'status' }>

export type StateKeeperOptions = {
  readonly self: MemberId
  readonly storage: Storage
  readonly replica: Replica
  /** The voters of the configuration that holds. */
  readonly voters: () => readonly MemberId[]
  /** Other members that are connected, and what they said of themselves lately. */
  readonly others: () => readonly { readonly peer: MemberId; readonly status: Status }[]
  /** How far the members heard of within the last minute had come, also those that are away. */
  readonly appliedLately: () => readonly number[]
  readonly ask: (peer: MemberId, question: Question) => Promise<Answer>
  readonly name: (peer: MemberId) => string
  /** The state that may be shown is this one; none while it is lost or being checked. */
  readonly onState: (machine: StateMachine | undefined) => void
  readonly onFatal: (error: Error) => void
  readonly sleep: (ms: number) => Promise<void>
  readonly surroundings: Pick<Surroundings, 'now' | 'random' | 'worked'>
  readonly stateTime: StateTime | undefined
  /** What of the log is kept for those who lag; see `compactUpTo`. */
  readonly keepBytes: number | undefined
  readonly logger: Logger
}

/** About a day, in milliseconds. */
const scrubEveryMs = 86_400_000

/** One that is overdue at a start waits about this long: the node has other things to do then, in milliseconds. */
const scrubSoonMs = 300_000

/** A scrub leaves the disk to others. */
const scrubBytesPerSecond = 8 * 1024 * 1024

/**
 * In how many milliseconds all rows are to be read again that were read so long ago. `random` from 0 to 1, so that not all nodes read
 * at once.
 */
export function scrubDelay(readAgoMs: number, random: number): number {
  return Math.max(scrubEveryMs - readAgoMs, scrubSoonMs) * (0.9 + random / 5)
}

/** Between two tries to open a state that the disk refuses, in milliseconds. */
const reopenMs = { least: 100, most: 5000 } as const

export class StateKeeper {
  readonly #options: StateKeeperOptions
  readonly #sender: SnapshotSender
  readonly #receiver: SnapshotReceiver
  readonly #book: DigestBook
  /** A state from this index on is needed, because the leader's log begins there. */
  #neededFrom: number | undefined
  /** What waits for the core to install it. */
  #offered: Loaded | undefined
  /** Why the state is not served from; undefined when it is. */
  #closed: string | undefined
  /** That is so only until the rows were read after the start, which is nothing to worry about. */
  #checking = false
  #disagreement: string | undefined
  #scrubAt: number
  #scrubbing = false
  #stopped = false
  #installed = 0

  constructor(options: StateKeeperOptions) {
    const { self, storage, surroundings, ask, sleep, stateTime, name, logger } = options
    this.#options = options
    this.#book = new DigestBook(self)
    this.#scrubAt = this.#nextScrub(0)
    this.#sender = new SnapshotSender({
      machine: () => (this.#closed === undefined ? storage.opened?.machine : undefined),
      now: surroundings.now,
      worked: surroundings.worked,
      sleep,
    })
    this.#receiver = new SnapshotReceiver({
      sources: () => this.#sources(),
      ask,
      nextDirectory: () => storage.nextStateDirectory(),
      openLevel: (directory) => storage.openState(directory),
      discard: (directory, level) => storage.discard(directory, level),
      offer: (loaded) => this.#offer(loaded),
      needed: () => this.#needed(),
      sleep,
      now: surroundings.now,
      time: stateTime,
      name,
      logger,
    })
  }

  /** Why this node does not serve, though it takes part; undefined when it does. */
  get closedBecause(): string | undefined {
    return this.#closed
  }

  /** What is being got from another member, while something is. */
  get receiving(): string | undefined {
    const { bytes } = this.#receiver
    return this.#receiver.isRunning
      ? `a snapshot of the state is being received, ${megabytes(bytes)} so far`
      : undefined
  }

  /** Snapshots of the state on their way, since the start. */
  get snapshots(): {
    readonly sentBytes: number
    readonly receivedBytes: number
    readonly installed: number
  } {
    return {
      sentBytes: this.#sender.sentBytes,
      receivedBytes: this.#receiver.receivedBytes,
      installed: this.#installed,
    }
  }

  /** What an operator should know. */
  get alarms(): readonly string[] {
    return [this.#checking ? undefined : this.#closed, this.#disagreement].filter(
      (alarm) => alarm !== undefined,
    )
  }

  /** Begins with what the start has found: a state to be checked, or to be got. */
  start(): void {
    const { storage } = this.#options
    const machine = storage.opened?.machine
    if (machine === undefined) {
      this.#close(`its state is being repaired: ${storage.stateless?.why ?? 'it is not there'}`)
      this.#receiver.start()
    } else {
      // After a clean stop too the files or the rows were to be read: a disk rots also while nobody reads it, and LevelDB takes a row
      // whose key has rotted for absent. After an unclean one sound files are not enough (`safety.md`, rule 9).
      const { proof } = storage
      if (proof.type === 'proven' && machine.verified) {
        this.#options.logger.info('the files of the state are what LevelDB wrote')
        this.#scrubAt = this.#nextScrub(proof.readAgoMs)
        this.#open(machine)
        return
      }
      const why = proof.type === 'proven' ? 'it was not closed at the last stop' : proof.why
      this.#options.logger.info({ why }, 'every row of the state is being checked')
      this.#close('every row of its state is being checked after the start')
      this.#checking = true
      void this.#check(machine)
    }
  }

  /** Nothing more is begun; resolves once nothing is written any more. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#receiver.stop()
    await this.#sender.close()
  }

  // ── what the core and others want ────────────────────────────────────────────────────────────────────────────

  /** The leader's log begins after what is here. */
  need(index: number): void {
    this.#neededFrom = index
    this.#receiver.start()
  }

  /** Installs what was offered, for the core. */
  async install(base: Snapshot): Promise<StateMachine> {
    const loaded = this.#offered
    assert(loaded?.index === base.index, 'what is installed is what was offered')
    this.#offered = undefined
    await this.#sender.close()
    const { machine } = await this.#options.storage.install(loaded)
    // The receiver has read back all of its rows.
    await this.#options.storage.rowsRead()
    this.#neededFrom = undefined
    this.#installed += 1
    this.#book.forgetOwn()
    this.#options.logger.info(
      { index: base.index, term: base.term },
      'a snapshot took the place of the state',
    )
    this.#open(machine)
    return machine
  }

  answer(from: MemberId, question: SnapshotQuestion): Promise<Answer> {
    if (question.type === 'holdSnapshot') {
      const { name, logger } = this.#options
      logger.info({ peer: name(from) }, 'a member asks for a snapshot of the state')
    }
    return this.#sender.answer(question)
  }

  /** A member told of the digest of its state. */
  heard(peer: MemberId, { digest }: Status): void {
    if (digest !== undefined) this.#book.heard(peer, digest)
  }

  // ── now and then ─────────────────────────────────────────────────────────────────────────────────────────────

  /** To be called about every second. */
  tick(): void {
    if (this.#stopped) return
    this.#sender.tick()
    const opened = this.#options.storage.opened
    if (opened === undefined || this.#options.replica.status.stateless) return
    const { machine } = opened
    this.#compact()
    this.#compare(machine)
    if (this.#options.surroundings.now() >= this.#scrubAt) void this.#scrub(machine)
  }

  #compact(): void {
    const { storage, appliedLately, keepBytes } = this.#options
    const opened = storage.opened
    assert(opened !== undefined, 'only what is in a state is compacted')
    const { wal, machine } = opened
    const sending = this.#sender.lowestIndex
    const index = compactUpTo({
      baseIndex: wal.base.index,
      // An entry is durable in LevelDB a moment before the core hears that it is applied.
      durableIndex: Math.min(machine.durableIndex, this.#options.replica.raft.log.appliedIndex),
      needed: [...appliedLately(), ...(sending === undefined ? [] : [sending])],
      bytesAfter: (after) => wal.bytesAfter(after),
      keepBytes,
    })
    const term = this.#options.replica.raft.log.term(index)
    if (index > wal.base.index && term !== undefined) wal.compact({ index, term })
  }

  #compare(machine: StateMachine): void {
    const { voters, logger } = this.#options
    if (machine.digestAt !== undefined) this.#book.own(machine.digestAt)
    const finding = this.#book.compare(voters())
    if (finding.type === 'outvoted') {
      const sentence = `The state on this disk is damaged: its digest at entry ${finding.index} is not that of a majority.`
      this.failed({ type: 'damaged', error: new StateDamagedError(sentence) })
    } else if (finding.type === 'torn') {
      const sentence = `the members' states differ at entry ${finding.index}, and no majority of them agrees`
      if (this.#disagreement === undefined) logger.error(sentence)
      this.#disagreement = sentence
    } else if (finding.type === 'agreed') {
      this.#disagreement = undefined
    }
  }

  async #scrub(machine: StateMachine): Promise<void> {
    if (this.#scrubbing) return
    this.#scrubbing = true
    const { logger, storage } = this.#options
    try {
      const { index, rows, bytes } = await machine.recompute({ bytesPerSecond: scrubBytesPerSecond })
      if (storage.opened?.machine === machine) await storage.rowsRead()
      logger.info({ index, rows, bytes }, 'scrub: every row of the state is what was written')
    } catch (error) {
      // Damage has ended the state machine, whose owner was told; a state that was closed meanwhile is nobody's concern.
      if (machine.failure === undefined && storage.opened?.machine === machine && !this.#stopped) {
        logger.warn({ err: error }, 'the scrub of the state was not finished')
      }
    } finally {
      this.#scrubbing = false
      this.#scrubAt = this.#nextScrub(0)
    }
  }

  #nextScrub(readAgoMs: number): number {
    const { now, random } = this.#options.surroundings
    return now() + scrubDelay(readAgoMs, random())
  }

  // ── repair ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** The state machine cannot go on. */
  failed(failure: StateFailure): void {
    if (this.#stopped) return
    const { replica, logger, onFatal } = this.#options
    switch (failure.type) {
      case 'broken':
        onFatal(failure.error)
        return
      case 'damaged':
        logger.error({ err: failure.error }, failure.error.message)
        replica.loseState()
        void this.#orEnd(this.#repair(failure.error.message))
        return
      case 'disk':
        logger.error({ err: failure.error }, failure.error.message)
        replica.loseState()
        void this.#orEnd(this.#reopen(failure.error.message))
        return
      default:
        failure satisfies never
    }
  }

  async #orEnd(repair: Promise<void>): Promise<void> {
    try {
      await repair
    } catch (error) {
      if (!this.#stopped) this.#options.onFatal(error instanceof Error ? error : new Error(String(error)))
    }
  }

  /** Replays a log that reaches back to the founding; otherwise another member's state is what helps. */
  async #repair(why: string): Promise<void> {
    const { storage } = this.#options
    this.#close(`its state is being repaired: ${why}`)
    await this.#sender.close()
    await storage.loseState(why)
    const base = storage.stateless?.wal.base
    assert(base !== undefined, 'a state is lost from under a log')
    if (base.index > 0) {
      this.#receiver.start()
      return
    }
    const directory = await storage.nextStateDirectory()
    const level = await storage.openState(directory)
    const { index, term, configuration } = base
    if (!(await this.#offer({ index, term, configuration, directory, level }))) {
      await storage.discard(directory, level)
    }
  }

  /** Opens the state again, from what is durable of it, as often as it takes: a full disk is cleared, a cable put back. */
  async #reopen(why: string): Promise<void> {
    const { storage, replica, sleep, logger } = this.#options
    this.#close(`the disk refused to keep its state: ${why}`)
    await this.#sender.close()
    for (let wait: number = reopenMs.least; !this.#stopped; wait = Math.min(2 * wait, reopenMs.most)) {
      try {
        const state = await storage.reopenState()
        if (state.type === 'damaged') {
          await this.#repair(state.why)
          return
        }
        replica.regainState(state.machine)
        logger.info({ lastApplied: state.machine.lastApplied }, 'the state was opened again')
        await this.#check(state.machine)
        return
      } catch (error) {
        logger.warn({ err: error }, 'the state could not be opened again yet')
        await sleep(wait)
      }
    }
  }

  /** Serves from a state once every row of it was held against the digest. */
  async #check(machine: StateMachine): Promise<void> {
    const { storage, logger } = this.#options
    try {
      const { index, rows } = await machine.recompute()
      if (this.#stopped || storage.opened?.machine !== machine) return
      logger.info({ index, rows }, 'every row of the state is what was written')
      this.#open(machine)
      await storage.rowsRead()
    } catch (error) {
      // A failure of the state machine has been told by itself.
      if (machine.failure === undefined && !this.#stopped) await this.#orEnd(Promise.reject(error))
    }
  }

  #close(why: string): void {
    this.#checking = false
    this.#closed = why
    this.#options.onState(undefined)
  }

  #open(machine: StateMachine): void {
    this.#checking = false
    this.#closed = undefined
    this.#options.onState(machine)
  }

  // ── snapshots of others ──────────────────────────────────────────────────────────────────────────────────────

  /** From which index on a snapshot helps; undefined when none is needed. */
  #needed(): number | undefined {
    const { stateless, commitIndex } = this.#options.replica.status
    const { storage } = this.#options
    if (stateless) return storage.stateless?.wal.base.index
    const from = this.#neededFrom
    return from !== undefined && commitIndex < from ? from : undefined
  }

  /** The leader last: it has the most to do, and whom the rest of the log is had from keeps it for a member that lags. */
  #sources(): readonly MemberId[] {
    const { others, replica } = this.#options
    const least = this.#needed() ?? 0
    const { leader } = replica.raft
    const rank = ({ peer, status }: { peer: MemberId; status: Status }) =>
      peer === leader ? -1 : status.lastApplied
    return others()
      .filter(({ status }) => !status.repairing && status.lastApplied >= least)
      .sort((one, other) => rank(other) - rank(one))
      .map(({ peer }) => peer)
  }

  /** False when the core has no use for it. Resolves once it is installed. */
  async #offer(loaded: Loaded): Promise<boolean> {
    const { replica, sleep } = this.#options
    const { index, term, configuration } = loaded
    this.#offered = loaded
    const accepted = replica.offerSnapshot({ index, term, configuration })
    while (accepted && this.#offered === loaded && replica.status.installing && !this.#stopped)
      await sleep(10)
    if (this.#offered !== loaded) return true
    this.#offered = undefined
    return false
  }
}
