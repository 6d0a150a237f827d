// A node's data directory: the lock on it, the log and the state in it, and what they say the node is.

import { join } from 'node:path'
import { assert } from '../raft/assert.ts'
import type { Configuration, HardState, MemberId } from '../raft/types.ts'
import type { Disk } from '../store/disk.ts'
import { StateMachine } from '../store/state-machine.ts'
import type { StateTime } from '../store/state-time.ts'
import type { StateLevel } from '../store/state-writer.ts'
import type { Founding } from '../store/types.ts'
import { Wal } from '../store/wal.ts'
import type { Identity } from './founding.ts'

export type StorageOptions = {
  readonly disk: Disk
  /** The node's data directory. It exists. */
  readonly directory: string
  readonly self: MemberId
  /** Opens the LevelDB of this directory, which locks it against other processes. */
  readonly openLevel: (directory: string) => Promise<StateLevel>
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** For the log; see `Wal.open`. */
  readonly elapsed?: (() => number) | undefined
  readonly drawSalt?: (() => number) | undefined
  /** For the state machine; the real one unless given. */
  readonly stateTime?: StateTime | undefined
  /** Something went wrong that costs nothing but space. */
  readonly onNotice: (error: Error) => void
  /** The state machine cannot go on. */
  readonly onFailure: (error: Error) => void
}

/** A log, the state it has led to, and the term and vote that are durable. */
export type Opened = { readonly wal: Wal; readonly machine: StateMachine; readonly hardState: HardState }

/** Where LevelDB lies before a snapshot has ever been installed. */
const firstState = 'state-0'

export class Storage {
  readonly #options: StorageOptions
  /** Before the node is founded: LevelDB, empty, held as the lock. */
  #empty: StateLevel | undefined
  #opened: Opened | undefined
  /** Each is asked for by this node and by others at the same time, and done once. */
  #founding: Promise<void> | undefined
  #beginning: Promise<void> | undefined

  private constructor(options: StorageOptions) {
    this.#options = options
  }

  /**
   * Opens what is there and changes nothing before the directory is locked. Rejects with an operator's sentence when
   * another process holds it, when it belongs to another node, or when it is damaged.
   */
  static async open(options: StorageOptions): Promise<Storage> {
    const { disk, directory, self, now, elapsed, drawSalt } = options
    const storage = new Storage(options)
    const log = join(directory, 'log')
    await disk.makeDirectory(log)
    await disk.syncDirectory(directory)
    const peeked = await Wal.peek({ disk, directory: log })
    const stateDirectory = join(directory, peeked?.base.directory ?? firstState)
    const level = await options.openLevel(stateDirectory)
    try {
      if (peeked === undefined) {
        for await (const _ of level.keys({ limit: 1 })) {
          throw new Error(
            `The log in ${log} is missing, though ${stateDirectory} holds a state that came from one. The node will not start ` +
              `without it: put the log back, or empty ${directory} and bring the node back as a new member.`,
          )
        }
        storage.#empty = level
        return storage
      }
      const { founding } = peeked.base
      const machine = await StateMachine.open({
        level,
        founding,
        time: options.stateTime,
        onFailure: ({ error }) => options.onFailure(error),
      })
      const wal = await Wal.open({
        disk,
        directory: log,
        node: self,
        applied: { index: machine.lastApplied, term: machine.lastAppliedTerm },
        now,
        elapsed,
        drawSalt,
        onNotice: options.onNotice,
      }).catch(async (error: unknown) => {
        await machine.close()
        throw error
      })
      storage.#opened = { wal, machine, hardState: wal.recovered.hardState }
      return storage
    } catch (error) {
      if (level.status === 'open') await level.close()
      throw error
    }
  }

  get identity(): Identity {
    if (this.#opened === undefined) return { type: 'empty' }
    const { wal, hardState } = this.#opened
    return { type: 'founded', founding: wal.recovered.base.founding, begun: hardState.term > 0 }
  }

  /** Log and state, once the node is founded. */
  get opened(): Opened | undefined {
    return this.#opened
  }

  /** Makes the founding the first record of the log, durably. One that comes while another is being made waits for that one. */
  found(founding: Founding): Promise<void> {
    this.#founding ??= this.#found(founding)
    return this.#founding
  }

  async #found(founding: Founding, configuration = founding.configuration): Promise<void> {
    const level = this.#empty
    assert(level !== undefined, 'only an empty node takes a founding')
    const { disk, directory, self, now, elapsed, drawSalt, stateTime, onFailure, onNotice } = this.#options
    const log = join(directory, 'log')
    const base = { directory: firstState, index: 0, term: 0, configuration, founding }
    const wal = await Wal.create({ disk, directory: log, node: self, base, now, elapsed, drawSalt, onNotice })
    this.#empty = undefined
    const machine = await StateMachine.open({
      level,
      founding,
      time: stateTime,
      onFailure: ({ error }) => onFailure(error),
    })
    this.#opened = { wal, machine, hardState: wal.recovered.hardState }
  }

  /**
   * Makes the founding of a cluster that has begun the first record of the log, with the configuration by which this node is a
   * learner, and that it takes part. What the log holds since then comes from the leader.
   */
  async join(founding: Founding, configuration: Configuration): Promise<void> {
    this.#founding ??= this.#found(founding, configuration)
    await this.#founding
    await this.begin()
  }

  /** Makes durable that this node takes part: from term 1 on it may vote. */
  begin(): Promise<void> {
    this.#beginning ??= this.#begin()
    return this.#beginning
  }

  async #begin(): Promise<void> {
    const opened = this.#opened
    assert(opened !== undefined, 'only a founded node begins')
    if (opened.hardState.term > 0) return
    const hardState: HardState = { term: 1, votedFor: undefined }
    await opened.wal.append({ hardState, entries: [] })
    this.#opened = { ...opened, hardState }
  }

  /** Writes the rest of the state and unlocks the directory. */
  async close(): Promise<void> {
    await this.#empty?.close()
    if (this.#opened === undefined) return
    await this.#opened.machine.close()
    await this.#opened.wal.close()
  }
}
