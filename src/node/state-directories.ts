// The LevelDB directories of a node, `state-<n>`: which there are, what comes next, and how one is opened or let go.

import { join } from 'node:path'
import { StateDamagedError } from '../store/record.ts'
import type { StateFailure } from '../store/state-failure.ts'
import { StateMachine } from '../store/state-machine.ts'
import { decodeMeta, type Meta, metaKey } from '../store/state-rows.ts'
import type { StateTime } from '../store/state-time.ts'
import type { StateLevel } from '../store/state-writer.ts'
import type { Founding } from '../store/types.ts'
import { forgetProof, type Proof, proveState, recordReading, type StateProofOptions } from './state-proof.ts'

export type StateDirectoriesOptions = StateProofOptions & {
  readonly openLevel: (directory: string) => Promise<StateLevel>
  /** For the state machines; the real one unless given. */
  readonly stateTime?: StateTime | undefined
  readonly onFailure: (failure: StateFailure) => void
  readonly onNotice: (error: Error) => void
  /** Frees some of a full disk; false when there is nothing to free. */
  readonly makeRoom: () => Promise<boolean>
}

/** What became of opening a state. */
export type FoundState =
  | { readonly type: 'sound'; readonly name: string; readonly machine: StateMachine }
  | { readonly type: 'damaged'; readonly name: string; readonly why: string }

export class StateDirectories {
  readonly #options: StateDirectoriesOptions
  /** No number is used twice in a life, even of a directory that is gone. */
  #highest = -1
  /** Of the state that was opened last. */
  #proof: { readonly name: string; readonly proof: Proof } | undefined

  constructor(options: StateDirectoriesOptions) {
    this.#options = options
  }

  /** The names of those that are there, newest first. */
  async list(): Promise<readonly string[]> {
    const names = await this.#options.disk.list(this.#options.directory)
    const numbers = names.flatMap((name) => (/^state-\d+$/.test(name) ? [numberOf(name)] : []))
    this.#highest = Math.max(this.#highest, ...numbers)
    return numbers.sort((a, b) => b - a).map((number) => `state-${number}`)
  }

  /** A name that no directory has or had. `named` is what the log names. */
  async next(named?: string): Promise<string> {
    await this.list()
    if (named !== undefined) this.#highest = Math.max(this.#highest, numberOf(named))
    this.#highest += 1
    return `state-${this.#highest}`
  }

  /** LevelDB in the directory of this name, made if it is not there: nothing is known of its rows. Rejects like `openLevel`. */
  async openLevel(name: string): Promise<StateLevel> {
    const { disk, directory } = this.#options
    await forgetProof(disk, directory, name)
    await this.#makeDirectory(name)
    return this.#openLevel(name)
  }

  async #makeDirectory(name: string): Promise<void> {
    const { disk, directory } = this.#options
    await disk.makeDirectory(join(directory, name))
    await disk.syncDirectory(directory)
  }

  async #openLevel(name: string): Promise<StateLevel> {
    const { directory, openLevel, makeRoom } = this.#options
    const path = join(directory, name)
    try {
      return await openLevel(path)
    } catch (error) {
      if (isMissingFile(error)) {
        throw new StateDamagedError(`The state in ${path} is damaged: a file of it is missing.`, {
          cause: error,
        })
      }
      if (!isFullDisk(error) || !(await makeRoom())) throw error
      return openLevel(path)
    }
  }

  /** The state in the directory of this name; the founding's where there is none. Rejects for anything but damage. */
  async open(name: string, founding: Founding): Promise<FoundState> {
    const { stateTime, onFailure } = this.#options
    try {
      await this.#makeDirectory(name)
      this.#proof = { name, proof: await proveState(this.#options, name) }
      const level = await this.#openLevel(name)
      return {
        type: 'sound',
        name,
        machine: await StateMachine.open({ level, founding, time: stateTime, onFailure }),
      }
    } catch (error) {
      if (!(error instanceof StateDamagedError)) throw error
      return { type: 'damaged', name, why: error.message }
    }
  }

  /** What is known of the rows of the state in this directory, as it was when it was opened. */
  proof(name: string): Proof {
    if (this.#proof?.name === name) return this.#proof.proof
    return { type: 'unproven', why: 'it was not opened from its files' }
  }

  /** Makes durable that all rows of this state were read now and are whole. What cannot be kept costs time at the next start. */
  async rowsRead(name: string): Promise<void> {
    const { disk, directory, checkFiles, now, onNotice } = this.#options
    if (checkFiles === undefined) return
    try {
      await recordReading(disk, directory, { directory: name, readAt: now() })
    } catch (cause) {
      onNotice(new Error('That all rows of the state are whole could not be written down.', { cause }))
    }
  }

  /** What the newest state that can be read says of itself, for a node that knows nothing else. */
  async salvage(): Promise<{ readonly name: string; readonly meta: Meta } | undefined> {
    for (const name of await this.list()) {
      try {
        const level = await this.openLevel(name)
        try {
          const row = await level.get(metaKey)
          if (row !== undefined) return { name, meta: decodeMeta(row) }
        } finally {
          await level.close()
        }
      } catch (error) {
        if (!(error instanceof StateDamagedError)) throw error
      }
    }
    return undefined
  }

  /** Removes those that `isNeeded` does not hold back, and says so when it cannot. */
  async sweep(isNeeded: (name: string) => boolean): Promise<void> {
    const { disk, directory, onNotice } = this.#options
    for (const name of await this.list()) {
      if (isNeeded(name)) continue
      try {
        await disk.removeDirectory(join(directory, name))
        await disk.syncDirectory(directory)
      } catch (cause) {
        onNotice(new Error(`The old state in ${join(directory, name)} could not be removed.`, { cause }))
      }
    }
  }
}

export function numberOf(name: string): number {
  return Number(name.slice('state-'.length))
}

function isMissingFile(error: unknown): boolean {
  return says(error, /No such file or directory/)
}

function isFullDisk(error: unknown): boolean {
  return says(error, /No space left on device|Disk quota exceeded/)
}

/** LevelDB tells its errors apart in words only. */
function says(error: unknown, words: RegExp): boolean {
  return error instanceof Error && (words.test(error.message) || says(error.cause, words))
}
