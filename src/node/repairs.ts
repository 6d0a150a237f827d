// What a node has repaired of itself and when, kept on its disk, so that a second repair soon after stops it (rule 9).

import { join } from 'node:path'
import type { Disk } from '../store/disk.ts'
import { readSmallFile, writeSmallFile } from '../store/small-file.ts'

/** One repair: `at` as people and programs read it, in ISO 8601. */
export type Repair = { readonly at: string; readonly what: 'log' | 'state'; readonly why: string }

const hour = 3_600_000

/** As many as are kept. */
const kept = 20

export class Repairs {
  readonly #disk: Disk
  readonly #path: string
  readonly #directory: string
  readonly #now: () => number
  #repairs: readonly Repair[]
  #recent: readonly Repair[] = []

  private constructor(options: RepairsOptions, repairs: readonly Repair[]) {
    this.#disk = options.disk
    this.#directory = options.directory
    this.#path = join(options.directory, 'repairs.json')
    this.#now = options.now
    this.#repairs = repairs
  }

  static async open(options: RepairsOptions): Promise<Repairs> {
    const stored = await readSmallFile(options.disk, join(options.directory, 'repairs.json'))
    if (stored === 'damaged') {
      options.onNotice(
        new Error(`The record of repairs in ${options.directory} was damaged and begins anew.`),
      )
    }
    return new Repairs(options, isRecord(stored) ? stored.repairs : [])
  }

  get all(): readonly Repair[] {
    return this.#repairs
  }

  /** Those of this process. */
  get recent(): readonly Repair[] {
    return this.#recent
  }

  /** Throws the sentence that stops the node when the last repair is less than an hour ago, on this clock. */
  check(why: string): void {
    const last = this.#repairs.at(-1)
    if (last === undefined || Math.abs(this.#now() - Date.parse(last.at)) >= hour) return
    throw new Error(
      `ALARM: ${why} The last repair of this node was at ${last.at} (${last.why}), less than an hour ago, so its disk is ` +
        `not to be trusted and the node stops. Check the disk; then remove ${this.#path} and start the node, or replace it as ` +
        `a member. It tries again by itself when it is started an hour after that repair. Data directory: ${this.#directory}.`,
    )
  }

  /** Makes a repair part of the record, durably. */
  async add(repair: Omit<Repair, 'at'>): Promise<void> {
    const added = { at: new Date(this.#now()).toISOString(), ...repair }
    this.#repairs = [...this.#repairs, added].slice(-kept)
    this.#recent = [...this.#recent, added]
    await writeSmallFile(this.#disk, this.#path, { repairs: this.#repairs })
  }
}

type RepairsOptions = {
  readonly disk: Disk
  readonly directory: string
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly onNotice: (error: Error) => void
}

function isRecord(stored: object | string): stored is { readonly repairs: readonly Repair[] } {
  return typeof stored === 'object' && 'repairs' in stored && Array.isArray(stored.repairs)
}
