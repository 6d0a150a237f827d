// While this node leads: has expired what is due by the log's own time, and collects what dropped stores have left (rules 22, 23).

import type { Logger } from 'pino'
import { TrivetError } from '../errors.ts'
import type { Command, OwnCommand, StateReader } from '../store/types.ts'
import type { WaitOptions } from './surface.ts'

/** What is used of a replica. */
type ExpiringReplica = {
  readonly raft: { readonly role: string }
  readonly machine:
    | (Pick<StateReader, 'due' | 'dropped'> & { readonly restoreOverAt: number | undefined })
    | undefined
  /** What an entry would be stamped with that is proposed now. */
  stamp(): number
  execute(command: Command, options: WaitOptions): Promise<unknown>
}

export type ExpiryKeeperOptions = {
  readonly replica: ExpiringReplica
  /** The clock of `performance.now()`. */
  readonly now: () => number
  readonly logger: Logger
}

/** Records and tokens in one command. */
const mostDue = 1000

/** How long one command may take, in milliseconds. */
const patienceMs = 10_000

export class ExpiryKeeper {
  readonly #options: ExpiryKeeperOptions
  #round: Promise<void> | undefined
  #stopped = false

  constructor(options: ExpiryKeeperOptions) {
    this.#options = options
  }

  /** To be called about every second. Resolves once everything that was due is gone, or cannot be had gone; never rejects. */
  async tick(): Promise<void> {
    if (this.#round !== undefined || !this.#leads) return
    this.#round = this.#goRound()
    await this.#round
    this.#round = undefined
  }

  /** Resolves once nothing is read or proposed any more. The replica has been stopped. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#round
  }

  get #leads(): boolean {
    return !this.#stopped && this.#options.replica.raft.role === 'leader'
  }

  /** One command after the other, until there is nothing to do. What fails is tried again with the next round. */
  async #goRound(): Promise<void> {
    const { replica, now, logger } = this.#options
    try {
      for (let command = await this.#next(); command !== undefined; command = await this.#next()) {
        await replica.execute(command, { deadline: now() + patienceMs })
        // With less than a full command everything that was due is gone; what is due since can wait for the next round.
        if (command.type === 'expire' && command.records.length + command.tokens.length < mostDue) break
      }
    } catch (error) {
      if (error instanceof TrivetError) logger.debug({ err: error }, 'what is due could not be expired yet')
      else logger.warn({ err: error }, 'what is due cannot be told')
    }
  }

  async #next(): Promise<OwnCommand | undefined> {
    const { replica } = this.#options
    const { machine } = replica
    if (machine === undefined || !this.#leads) return undefined
    const stamp = replica.stamp()
    const { records, tokens } = await machine.due(stamp, mostDue)
    // The stamp of its entry alone ends a restore that nothing was heard of for long.
    const over = machine.restoreOverAt !== undefined && machine.restoreOverAt <= stamp
    if (over || records.length + tokens.length > 0) return { type: 'expire', records, tokens }
    const [store] = machine.dropped()
    return store === undefined ? undefined : { type: 'collect', store }
  }
}
