// The mark of a node that has lost its log, and where what is left of such logs lies.
//
// `rebuilding` is durable before anything else changes and stays until the cluster has promoted the node again. It names
// where the lost log goes, so that after a stop at any point the log of the new life is never taken for the lost one.

import { join } from 'node:path'
import type { MemberId } from '../raft/types.ts'
import type { Disk } from '../store/disk.ts'
import { readSmallFile, removeSmallFile, writeSmallFile } from '../store/small-file.ts'
import { listSegments, type Salvaged, salvageLog } from '../store/wal-segment.ts'

/**
 * This node has lost its log. `boot` is above every boot of the life that is lost: a configuration that demotes this member
 * with `since` at or above it was made after the loss.
 */
export type Rebuilding = { readonly boot: number; readonly why: string }

/** As the file has it. `aside` is undefined when there was nothing to move. */
type Mark = Rebuilding & { readonly aside?: string }

type LostLogOptions = {
  readonly disk: Disk
  /** The node's data directory. */
  readonly directory: string
  readonly self: MemberId
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

const prefix = 'log.damaged-'

/** A day of boots, for a log that cannot say its last one: the clock may have gone back, and starts count up from it. */
const margin = 86_400

export class LostLog {
  readonly #options: LostLogOptions
  readonly #log: string
  readonly #path: string
  #mark: Mark | undefined

  private constructor(options: LostLogOptions) {
    this.#options = options
    this.#log = join(options.directory, 'log')
    this.#path = join(options.directory, 'rebuilding')
  }

  static async open(options: LostLogOptions): Promise<LostLog> {
    const lost = new LostLog(options)
    const stored = await readSmallFile(options.disk, lost.#path)
    if (isMark(stored)) lost.#mark = stored
    // From which boot on is not known any more: from the next one, which is above all others.
    else if (stored === 'damaged') await lost.#write(`${lost.#path} is damaged.`, undefined)
    return lost
  }

  get mark(): Rebuilding | undefined {
    if (this.#mark === undefined) return undefined
    const { boot, why } = this.#mark
    return { boot, why }
  }

  /** Whether the log that is there, if any, is the lost one. */
  async isPending(): Promise<boolean> {
    if (this.#mark === undefined) return false
    if (!(await this.#hasLog())) return true
    const { aside } = this.#mark
    return aside !== undefined && !(await this.names()).includes(aside)
  }

  /** The directories of lost logs, newest first. */
  async names(): Promise<readonly string[]> {
    const names = await this.#options.disk.list(this.#options.directory)
    const numbers = names.flatMap((name) => (/^log\.damaged-\d+$/.test(name) ? [numberOf(name)] : []))
    return numbers.sort((a, b) => b - a).map((number) => prefix + number)
  }

  /** What the headers of the lost log say, wherever it is by now. */
  async salvage(): Promise<Salvaged | undefined> {
    const { disk, directory, self: node } = this.#options
    const aside = (await this.isPending()) ? (await this.names()).slice(0, 1) : []
    const here = await salvageLog({ disk, directory: this.#log, node })
    if (here !== undefined || aside[0] === undefined) return here
    return salvageLog({ disk, directory: join(directory, aside[0]), node })
  }

  /** Marks the loss, durably. */
  async begin(why: string): Promise<void> {
    const [newest] = await this.names()
    const number = newest === undefined ? 1 : numberOf(newest) + 1
    await this.#write(why, (await this.#hasLog()) ? prefix + number : undefined)
  }

  /** Moves what is left of the lost log to where the mark says, and removes all but the newest two of such. */
  async moveAside(): Promise<void> {
    const { disk, directory } = this.#options
    const aside = this.#mark?.aside
    if (aside === undefined || !(await this.#hasLog())) return
    await disk.rename(this.#log, join(directory, aside))
    await disk.syncDirectory(directory)
    for (const name of (await this.names()).slice(2)) await disk.removeDirectory(join(directory, name))
    await disk.syncDirectory(directory)
  }

  /** The loss has been made up for, durably. */
  async end(): Promise<void> {
    await removeSmallFile(this.#options.disk, this.#path)
    this.#mark = undefined
  }

  async #write(why: string, aside: string | undefined): Promise<void> {
    const { disk, self: node, now } = this.#options
    const salvaged = await salvageLog({ disk, directory: this.#log, node })
    const known = Math.max(salvaged?.boot ?? 0, this.#mark?.boot ?? 0)
    const clock = Math.floor(now() / 1000) + (salvaged === undefined ? margin : 0)
    const boot = Math.max(known + 1, clock)
    const mark = aside === undefined ? { boot, why } : { boot, why, aside }
    await writeSmallFile(disk, this.#path, mark)
    this.#mark = mark
  }

  async #hasLog(): Promise<boolean> {
    return (await listSegments(this.#options.disk, this.#log)).segments.length > 0
  }
}

function numberOf(name: string): number {
  return Number(name.slice(prefix.length))
}

function isMark(stored: object | string): stored is Mark {
  return typeof stored === 'object' && 'boot' in stored && 'why' in stored
}
