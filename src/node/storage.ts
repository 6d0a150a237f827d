// A node's data directory: the lock on it, the log and the state in it, and what is done when one of them is damaged.
//
// What may have been promised decides (`safety.md`, rules 7 and 8). A log that is damaged or gone is moved aside and made
// anew, and until the cluster has demoted it by a committed configuration the node that lost it takes no part:
// `rebuilding`, a file, says so from before the first change. A state that is damaged while the log is sound costs no
// promise: `stateless`. It is replayed when the log reaches back to the founding, else it needs a snapshot.

import { join } from 'node:path'
import { assert } from '../raft/assert.ts'
import type { Configuration, HardState, MemberId, Position } from '../raft/types.ts'
import type { Disk } from '../store/disk.ts'
import type { LevelFiles } from '../store/level-files.ts'
import { StateDamagedError } from '../store/record.ts'
import { Reserve } from '../store/reserve.ts'
import { readSmallFile, removeSmallFile, writeSmallFile } from '../store/small-file.ts'
import type { StateFailure } from '../store/state-failure.ts'
import { StateMachine } from '../store/state-machine.ts'
import type { StateTime } from '../store/state-time.ts'
import type { StateLevel } from '../store/state-writer.ts'
import type { Founding } from '../store/types.ts'
import { type LogBase, LogError, Wal } from '../store/wal.ts'
import { salvageLog } from '../store/wal-segment.ts'
import type { Identity } from './founding.ts'
import { LostLog, type Rebuilding } from './lost-log.ts'
import { finishRecovery } from './recovery-plan.ts'
import { type Repair, Repairs } from './repairs.ts'
import { type FoundState, numberOf, StateDirectories } from './state-directories.ts'
import type { Proof } from './state-proof.ts'
import type { Membership } from './transport.ts'

/** What a node is told that joins a cluster, or that has to be told which it is of. */
type Joining = Pick<Membership, 'founding' | 'configuration' | 'boot'>

export type StorageOptions = {
  readonly disk: Disk
  /** The node's data directory. It exists. */
  readonly directory: string
  readonly self: MemberId
  /** Opens the LevelDB of this directory, which locks it against other processes. */
  readonly openLevel: (directory: string) => Promise<StateLevel>
  /** Looks at the files of a LevelDB before it is opened; without it every row is read after each start. */
  readonly checkFiles?: ((directory: string) => Promise<LevelFiles>) | undefined
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** For the log; see `Wal.open`. */
  readonly elapsed?: (() => number) | undefined
  readonly drawSalt?: (() => number) | undefined
  /** For the state machine; the real one unless given. */
  readonly stateTime?: StateTime | undefined
  /** A segment of the log ends before this; see `Wal.open`. */
  readonly segmentBytes?: number | undefined
  /** What is kept back for a full disk; 64 MiB unless given. */
  readonly reserveBytes?: number | undefined
  /** Something went wrong that costs nothing but space. */
  readonly onNotice: (error: Error) => void
  /** The state machine cannot go on. */
  readonly onFailure: (failure: StateFailure) => void
}

/** A log, the state it has led to, and the term and vote that are durable. */
export type Opened = { readonly wal: Wal; readonly machine: StateMachine; readonly hardState: HardState }

/** A sound log without the state it has led to: the node keeps its promises and gives votes, and serves nothing. */
export type Stateless = { readonly wal: Wal; readonly hardState: HardState; readonly why: string }

/** A state that has been loaded whole into a directory of `nextStateDirectory`, and where it stands. */
export type LoadedState = Position & {
  readonly directory: string
  readonly configuration: Configuration
  readonly level: StateLevel
}

type FoundLog =
  | { readonly type: 'absent' }
  | { readonly type: 'sound'; readonly base: LogBase }
  | { readonly type: 'damaged'; readonly why: string }

const firstState = 'state-0'
const defaultReserveBytes = 64 * 1024 * 1024

export class Storage {
  readonly reserve: Reserve
  readonly #options: StorageOptions
  readonly #log: string
  readonly #states: StateDirectories
  /** Read once the directory is locked. */
  #records: { readonly lost: LostLog; readonly repairs: Repairs } | undefined
  #lock: StateLevel | undefined
  #opened: Opened | undefined
  #stateless: Stateless | undefined
  /** What else is known of a node whose log cannot even say which cluster it belongs to. */
  #known: { readonly clusterId: string | undefined; readonly configuration: Configuration | undefined } = {
    clusterId: undefined,
    configuration: undefined,
  }
  /** Each is asked for by this node and by others at the same time, and done once. */
  #founding: Promise<void> | undefined
  #beginning: Promise<void> | undefined

  private constructor(options: StorageOptions) {
    const { disk, directory, openLevel, checkFiles, now, stateTime, onFailure, onNotice } = options
    this.#options = options
    this.#log = join(directory, 'log')
    this.reserve = new Reserve({
      disk,
      path: join(directory, 'reserve'),
      bytes: options.reserveBytes ?? defaultReserveBytes,
    })
    const makeRoom = () => this.reserve.release()
    this.#states = new StateDirectories({
      disk,
      directory,
      openLevel,
      checkFiles,
      now,
      stateTime,
      onFailure,
      onNotice,
      makeRoom,
    })
  }

  /**
   * Opens what is there, and begins the repair of what is damaged. Changes nothing before the directory is locked. Rejects
   * with an operator's sentence when another process holds it, when it belongs to another node or cluster or is of
   * another format, and when it would be repaired a second time within an hour.
   */
  static async open(options: StorageOptions): Promise<Storage> {
    const storage = new Storage(options)
    try {
      await storage.#open()
      return storage
    } catch (error) {
      await storage.close()
      throw error
    }
  }

  get identity(): Identity {
    const open = this.#opened ?? this.#stateless
    if (open !== undefined) {
      const { wal, hardState } = open
      return { type: 'founded', founding: wal.base.founding, begun: hardState.term > 0 }
    }
    const { rebuilding } = this
    return rebuilding === undefined
      ? { type: 'empty' }
      : { type: 'rebuilding', ...rebuilding, ...this.#known }
  }

  /** Log and state, once the node is founded and both are sound. */
  get opened(): Opened | undefined {
    return this.#opened
  }

  /** What was known of the rows of the state before it was opened. */
  get proof(): Proof {
    assert(this.#opened !== undefined, 'what is known of a state is asked once it is open')
    return this.#states.proof(this.#opened.wal.base.directory)
  }

  /** All rows of the state that is open were read now, and came to its digest. */
  async rowsRead(): Promise<void> {
    if (this.#opened === undefined) return
    await this.#states.rowsRead(this.#opened.wal.base.directory)
  }

  /** The log alone, while the state is damaged. */
  get stateless(): Stateless | undefined {
    return this.#stateless
  }

  /** Set from the loss of the log until `rebuilt`. */
  get rebuilding(): Rebuilding | undefined {
    return this.#records?.lost.mark
  }

  /** What this node has repaired of itself, oldest first. */
  get repairs(): readonly Repair[] {
    return this.#records?.repairs.all ?? []
  }

  /** Those that were begun since the directory was opened. */
  get recentRepairs(): readonly Repair[] {
    return this.#records?.repairs.recent ?? []
  }

  // ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────

  async #open(): Promise<void> {
    await this.#checkOwner()
    await this.#takeLock()
    const { openLevel, stateTime, directory } = this.#options
    await finishRecovery({ directory, openLevel, stateTime, log: this.#place() })
    this.#records = {
      lost: await LostLog.open(this.#options),
      repairs: await Repairs.open(this.#options),
    }
    const log = await this.#findLog()
    if (log.type === 'sound') await this.#openSound(log.base)
    else if (log.type === 'damaged') await this.#rebuild(log.why, undefined)
    await this.#sweep()
  }

  /** Reads only, so that a directory that is not this node's, or is of a later version, stays as it is. */
  async #checkOwner(): Promise<void> {
    const { disk, self } = this.#options
    await salvageLog({ disk, directory: this.#log, node: self })
  }

  /** A LevelDB that holds nothing is the lock: it is there whatever becomes of the others. */
  async #takeLock(): Promise<void> {
    const { disk, directory, openLevel } = this.#options
    const path = join(directory, 'lock')
    const open = async (): Promise<StateLevel> => {
      await disk.makeDirectory(path)
      await disk.syncDirectory(directory)
      return openLevel(path)
    }
    try {
      this.#lock = await open()
    } catch (error) {
      if (!(error instanceof StateDamagedError)) throw error
      await disk.removeDirectory(path)
      this.#lock = await open()
    }
  }

  async #findLog(): Promise<FoundLog> {
    const { disk, directory } = this.#options
    const { lost } = this.#written
    // A log that was lost stays lost, even if it can be read now.
    if (lost.mark !== undefined && (await lost.isPending())) return { type: 'damaged', why: lost.mark.why }
    try {
      const peeked = await Wal.peek({ disk, directory: this.#log })
      if (peeked !== undefined) return { type: 'sound', base: peeked.base }
    } catch (error) {
      if (!isDamage(error)) throw error
      return { type: 'damaged', why: error.message }
    }
    // A state is made after the log that leads to it.
    const traces = [...(await lost.names()), ...(await this.#states.list())]
    if (traces.length === 0) return { type: 'absent' }
    const why = `The log in ${this.#log} is missing, though ${traces.join(', ')} in ${directory} came from one.`
    return { type: 'damaged', why }
  }

  async #openSound(base: LogBase): Promise<void> {
    const state = await this.#openState(base)
    try {
      const applied = state.type === 'sound' ? positionOf(state.machine) : undefined
      const wal = await Wal.open({ ...this.#place(), applied })
      const { hardState } = wal.recovered
      if (state.type === 'sound') this.#opened = { wal, machine: state.machine, hardState }
      else this.#stateless = { wal, hardState, why: state.why }
    } catch (error) {
      if (!isDamage(error)) {
        if (state.type === 'sound') await state.machine.close()
        throw error
      }
      try {
        await this.#rebuild(error.message, state)
      } catch (failure) {
        if (state.type === 'sound') await state.machine.close()
        throw failure
      }
      return
    }
    if (this.#stateless !== undefined) await this.#beginStateless(this.#stateless)
  }

  /** The state that a sound log names, as far as it is one. */
  async #openState(base: LogBase): Promise<FoundState> {
    const name = base.directory
    const condemned = await readSmallFile(this.#options.disk, this.#path('stateless'))
    if (condemned === 'damaged')
      return { type: 'damaged', name, why: `${this.#path('stateless')} is damaged.` }
    if (isCondemned(condemned) && condemned.directory === name) {
      return { type: 'damaged', name, why: condemned.why }
    }
    const state = await this.#states.open(name, base.founding)
    if (state.type === 'damaged' || state.machine.lastApplied >= base.index) return state
    const { lastApplied } = state.machine
    await state.machine.close()
    const why =
      `The state in ${this.#path(name)} is damaged: it ends with entry ${lastApplied}, and the log begins after ` +
      `entry ${base.index}.`
    return { type: 'damaged', name, why }
  }

  /** Replays a log that reaches back to the founding; without one, a snapshot is what helps. */
  async #beginStateless({ wal, hardState, why }: Stateless): Promise<void> {
    const { index, term, configuration, founding, directory } = wal.base
    await this.#condemn(directory, why)
    if (index > 0) return
    const fresh = await this.nextStateDirectory()
    await wal.install({ directory: fresh, index, term, configuration })
    const state = await this.#states.open(fresh, founding)
    if (state.type === 'damaged') throw new Error(state.why)
    this.#stateless = undefined
    this.#opened = { wal, machine: state.machine, hardState }
    await removeSmallFile(this.#options.disk, this.#path('stateless'))
  }

  /** Makes durable that the state in this directory is of no use, once. */
  async #condemn(directory: string, why: string): Promise<void> {
    const there = await this.#condemned()
    if (there !== 'damaged' && there?.directory === directory) return
    await this.#repair({ what: 'state', why }, () =>
      writeSmallFile(this.#options.disk, this.#path('stateless'), { directory, why }),
    )
  }

  async #condemned(): Promise<{ readonly directory: string; readonly why: string } | 'damaged' | undefined> {
    const stored = await readSmallFile(this.#options.disk, this.#path('stateless'))
    if (stored === 'absent') return undefined
    return isCondemned(stored) ? stored : 'damaged'
  }

  /** Counts a repair once its mark is durable; refuses it when the last one was not long ago. */
  async #repair(repair: Omit<Repair, 'at'>, mark: () => Promise<void>): Promise<void> {
    const { repairs } = this.#written
    repairs.check(repair.why)
    await mark()
    await repairs.add(repair)
  }

  // ── a log that is lost ───────────────────────────────────────────────────────────────────────────────────────

  /** Moves the log aside and makes a new one, as far as anything here says of which cluster. */
  async #rebuild(why: string, found: FoundState | undefined): Promise<void> {
    const { lost } = this.#written
    const salvaged = await lost.salvage()
    if (!(await lost.isPending())) await this.#repair({ what: 'log', why }, () => lost.begin(why))
    await lost.moveAside()
    if (salvaged === undefined) {
      if (found?.type === 'sound') await found.machine.close()
      const meta = (await this.#states.salvage())?.meta
      this.#known = { clusterId: meta?.clusterId, configuration: meta?.configuration }
      return
    }
    const { base, configuration, hardState } = salvaged.header
    const known = { founding: base.founding, configuration: configuration.configuration, hardState }
    await this.#makeLog(known, found)
  }

  /** A log after the best state that is here; without one it begins with the founding and the latest configuration known. */
  async #makeLog(
    known: {
      readonly founding: Founding
      readonly configuration: Configuration
      readonly hardState: HardState | undefined
      /** The latest boot that another member knows. */
      readonly boot?: number
    },
    found: FoundState | undefined,
  ): Promise<void> {
    const { founding } = known
    const { machine, name } = await this.#bestState(founding, found)
    const position = positionOf(machine)
    const configuration = position.index > 0 ? machine.configuration : known.configuration
    const { term, votedFor } = known.hardState ?? { term: 0, votedFor: undefined }
    // Term 0 is a founding that goes on, and this node has been part of what it cannot remember.
    const newTerm = Math.max(term, position.term, 1)
    const hardState: HardState = { term: newTerm, votedFor: newTerm === term ? votedFor : undefined }
    try {
      const wal = await Wal.create({
        ...this.#place(),
        base: { ...position, directory: name, configuration, founding },
        hardState,
        previousBoot: Math.max((this.rebuilding?.boot ?? 1) - 1, known.boot ?? 0),
      })
      this.#opened = { wal, machine, hardState }
    } catch (error) {
      await machine.close()
      throw error
    }
  }

  async #bestState(
    founding: Founding,
    found: FoundState | undefined,
  ): Promise<Extract<FoundState, { type: 'sound' }>> {
    if (found?.type === 'sound') return found
    const condemned = await this.#condemned()
    const isRefused = (name: string) =>
      name === found?.name || condemned === 'damaged' || condemned?.directory === name
    for (const name of await this.#states.list()) {
      if (isRefused(name)) continue
      const state = await this.#states.open(name, founding)
      if (state.type === 'sound') return state
    }
    const fresh = await this.#states.open(await this.nextStateDirectory(), founding)
    if (fresh.type === 'damaged') throw new Error(fresh.why)
    return fresh
  }

  /** Makes durable that this node counts again: it has been demoted, has caught up, and was promoted by the cluster. */
  async rebuilt(): Promise<void> {
    await this.#written.lost.end()
    await this.#sweep()
  }

  // ── states ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** The name of a directory for a state that is to be loaded. */
  nextStateDirectory(): Promise<string> {
    return this.#states.next((this.#opened ?? this.#stateless)?.wal.base.directory)
  }

  /** LevelDB in a directory of `nextStateDirectory`. */
  openState(directory: string): Promise<StateLevel> {
    return this.#states.openLevel(directory)
  }

  /**
   * Makes durable that the state here is damaged, as its owner has found while it ran, and closes it: from now on the log is open
   * alone, at the next start too. Rejects with the sentence that stops the node when it repaired itself within the last hour.
   */
  async loseState(why: string): Promise<void> {
    const opened = this.#opened
    assert(opened !== undefined, 'a state that is damaged was open')
    const { wal, machine, hardState } = opened
    await this.#condemn(wal.base.directory, why)
    await machine.close()
    this.#opened = undefined
    this.#stateless = { wal, hardState, why }
  }

  /** Closes a state whose disk has refused something, and opens it again from what is durable of it. Rejects when the disk still refuses. */
  async reopenState(): Promise<FoundState> {
    const opened = this.#opened
    assert(opened !== undefined, 'a state that is opened again was open')
    const { wal, machine, hardState } = opened
    await machine.close()
    const state = await this.#states.open(wal.base.directory, wal.base.founding)
    if (state.type === 'sound') this.#opened = { wal, machine: state.machine, hardState }
    return state
  }

  /** Closes and removes a state that was loaded and is of no use. */
  async discard(directory: string, level: StateLevel | undefined): Promise<void> {
    await level?.close()
    await this.#options.disk.removeDirectory(this.#path(directory))
  }

  /**
   * Switches to a state that has been loaded, verified and synced. The log's new header is the commit point; the state
   * before is closed, and its directory goes. Nothing may be applied or appended meanwhile.
   */
  async install({ level, ...loaded }: LoadedState): Promise<Opened> {
    const open = this.#opened ?? this.#stateless
    assert(open !== undefined, 'a state is installed under a log')
    const { wal, hardState } = open
    // LevelDB syncs its files, and not all of their names.
    await this.#options.disk.syncDirectory(this.#path(loaded.directory))
    await wal.install(loaded)
    await this.#opened?.machine.close()
    const { onFailure, stateTime, disk } = this.#options
    const { founding } = wal.base
    const machine = await StateMachine.open({ level, founding, time: stateTime, onFailure })
    this.#stateless = undefined
    this.#opened = { wal, machine, hardState }
    await removeSmallFile(disk, this.#path('stateless'))
    await this.#sweep()
    return this.#opened
  }

  /**
   * Directories that the log does not name go (rule 6). Until a lost log has been made up for, an older one is kept:
   * it may hold more than is known of it.
   */
  async #sweep(): Promise<void> {
    const named = (this.#opened ?? this.#stateless)?.wal.base.directory
    if (named === undefined) return
    const condemned = await this.#condemned()
    // A stop may have come between the new name and this.
    if (condemned !== undefined && condemned !== 'damaged' && condemned.directory !== named) {
      await removeSmallFile(this.#options.disk, this.#path('stateless'))
    }
    const isKept = (name: string) => this.rebuilding !== undefined && numberOf(name) < numberOf(named)
    await this.#states.sweep((name) => name === named || isKept(name))
  }

  // ── beginnings ───────────────────────────────────────────────────────────────────────────────────────────────

  /** Makes the founding the first record of the log, durably. One that comes while another is being made waits for that one. */
  found(founding: Founding): Promise<void> {
    this.#founding ??= this.#found(founding)
    return this.#founding
  }

  async #found(founding: Founding): Promise<void> {
    assert(this.identity.type === 'empty', 'only an empty node takes a founding')
    const { configuration } = founding
    const base = { directory: firstState, index: 0, term: 0, configuration, founding }
    await this.#begin(await Wal.create({ ...this.#place(), base }))
  }

  /**
   * Joins a cluster that has this node as a learner, or that it was a member of before it lost its log: durable, with the
   * configuration that a member told, under a boot after the one that it knew.
   */
  join(membership: Joining): Promise<void> {
    this.#founding ??= this.#join(membership)
    return this.#founding
  }

  async #join({ founding, configuration, boot }: Joining): Promise<void> {
    const { identity } = this
    assert(identity.type !== 'founded', 'a node joins one cluster')
    if (identity.type === 'empty') {
      const base = { directory: firstState, index: 0, term: 0, configuration, founding }
      // Term 0 is that of a founding that goes on; a cluster that is joined has begun.
      await this.#begin(
        await Wal.create({
          ...this.#place(),
          base,
          hardState: { term: 1, votedFor: undefined },
          previousBoot: boot,
        }),
      )
      return
    }
    const { clusterId } = identity
    if (clusterId !== undefined && clusterId !== founding.clusterId) {
      throw new Error(
        `The state in ${this.#options.directory} belongs to cluster ${clusterId}, and the members that answer to ${founding.clusterId}.`,
      )
    }
    await this.#makeLog({ founding, configuration, hardState: undefined, boot }, undefined)
    await this.#sweep()
  }

  async #begin(wal: Wal): Promise<void> {
    const state = await this.#states.open(wal.base.directory, wal.base.founding)
    if (state.type === 'damaged') throw new Error(state.why)
    this.#opened = { wal, machine: state.machine, hardState: wal.recovered.hardState }
  }

  /** Makes durable that this node takes part: from term 1 on it may vote. */
  begin(): Promise<void> {
    this.#beginning ??= this.#takePart()
    return this.#beginning
  }

  async #takePart(): Promise<void> {
    const opened = this.#opened
    assert(opened !== undefined, 'only a founded node begins')
    if (opened.hardState.term > 0) return
    const hardState: HardState = { term: 1, votedFor: undefined }
    await opened.wal.append({ hardState, entries: [] })
    this.#opened = { ...opened, hardState }
  }

  // ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Writes the rest of the state and unlocks the directory. */
  async close(): Promise<void> {
    await this.#opened?.machine.close()
    await (this.#opened ?? this.#stateless)?.wal.close()
    await this.#lock?.close()
  }

  get #written(): { readonly lost: LostLog; readonly repairs: Repairs } {
    const records = this.#records
    assert(records !== undefined, 'records are read before anything is done')
    return records
  }

  /** Where the log is and how it is kept. */
  #place() {
    const { disk, self, now, elapsed, drawSalt, segmentBytes, onNotice } = this.#options
    const place = { disk, directory: this.#log, node: self, now, elapsed, drawSalt, segmentBytes, onNotice }
    return { ...place, makeRoom: () => this.reserve.release() }
  }

  #path(name: string): string {
    return join(this.#options.directory, name)
  }
}

function positionOf({ lastApplied, lastAppliedTerm }: StateMachine): Position {
  return { index: lastApplied, term: lastAppliedTerm }
}

function isDamage(error: unknown): error is LogError {
  return error instanceof LogError && error.code === 'damaged'
}

function isCondemned(
  stored: object | string,
): stored is { readonly directory: string; readonly why: string } {
  return typeof stored === 'object' && 'directory' in stored && 'why' in stored
}
