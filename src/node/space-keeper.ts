// Watches the room on this node's disk and, by their word, on the other voters': what is kept back, said, and refused (rule 27).

import type { Logger } from 'pino'
import { TrivetError } from '../errors.ts'
import { majority } from '../raft/quorum.ts'
import type { MemberId } from '../raft/types.ts'
import type { Reserve } from '../store/reserve.ts'
import type { Replica } from './replica.ts'
import { SpaceWatch, spaceThresholds } from './space.ts'
import type { PeerMessage } from './transport.ts'

type Status = Extract<PeerMessage, { type: 'status' }>

export type SpaceKeeperOptions = {
  readonly self: MemberId
  /** Bytes free where the data directory lies. */
  readonly freeBytes: () => Promise<number>
  readonly reserve: Reserve
  /** What another member said of itself lately, while it is connected. */
  readonly status: (peer: MemberId) => Status | undefined
  readonly name: (peer: MemberId) => string
  /** The clock of `performance.now()`. */
  readonly now: () => number
  readonly logger: Logger
}

/** How often the disk is looked at, in milliseconds: what is short changes fast, and clears as fast. */
const lookEveryMs = { usual: 10_000, low: 1000 } as const

/** The room of the voters, as far as it is known here. */
type Room = {
  /** Have been heard from, and have room. */
  readonly ample: readonly MemberId[]
  /** Have said that they have none. */
  readonly short: readonly MemberId[]
  readonly voters: number
}

export class SpaceKeeper {
  readonly #options: SpaceKeeperOptions
  readonly #own = new SpaceWatch()
  readonly #others = new Map<MemberId, SpaceWatch>()
  #freeBytes = Number.MAX_SAFE_INTEGER
  #lookAt = Number.NEGATIVE_INFINITY
  #looking: Promise<void> | undefined
  #room: Room = { ample: [], short: [], voters: 1 }

  constructor(options: SpaceKeeperOptions) {
    this.#options = options
  }

  /** As last looked at. */
  get freeBytes(): number {
    return this.#freeBytes
  }

  /** What an operator should know. */
  get alarms(): readonly string[] {
    if (!this.#own.isLow) return []
    const { low, clear } = spaceThresholds
    return [
      `its disk has ${mebibytes(this.#freeBytes)} free, less than ${mebibytes(low)}; the alarm clears above ${mebibytes(clear)}`,
    ]
  }

  /** To be called about every second; with the replica once the node takes part. */
  tick(replica: Replica | undefined): void {
    if (this.#looking === undefined && this.#options.now() >= this.#lookAt) {
      this.#looking = this.#look().finally(() => {
        this.#looking = undefined
      })
    }
    if (replica === undefined) return
    this.#room = this.#survey(replica.raft.log.voters)
    if (this.#own.isLow && replica.raft.role === 'leader') this.#handOver(replica)
  }

  /** Resolves once nothing is written any more. */
  async stop(): Promise<void> {
    await this.#looking
  }

  /**
   * Why nothing that grows is taken; undefined while a quorum of voters has room. The leader, without whom nothing is taken,
   * counts those that it hears from: a silent voter keeps nothing. Any other node may not hear whom the leader hears, and
   * refuses only what no quorum could take.
   */
  refusal(isLeader: boolean): TrivetError | undefined {
    const { ample, short, voters } = this.#room
    if (short.length === 0) return undefined
    const able = isLeader ? ample.length : voters - short.length
    if (able >= majority(voters)) return undefined
    const { name } = this.#options
    const free = short.map((peer) => this.#freeOf(peer))
    const said = short.map((peer, at) => `${name(peer)} has ${mebibytes(free[at] ?? 0)} free`)
    const { low } = spaceThresholds
    return new TrivetError(
      'storage-full',
      `No quorum of voters has room: ${said.join(', ')}, less than ${mebibytes(low)}. Deletes are still taken.`,
      { field: 'free space', limit: low, actual: Math.min(...free) },
    )
  }

  // ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────

  async #look(): Promise<void> {
    const { freeBytes, reserve, now, logger } = this.#options
    try {
      this.#freeBytes = await freeBytes()
      this.#note()
      if (this.#freeBytes > spaceThresholds.clear && !reserve.isHeld) await reserve.hold()
    } catch (error) {
      logger.warn({ err: error }, 'the free space of the data directory cannot be told or kept back')
    }
    this.#lookAt = now() + (this.#own.isLow ? lookEveryMs.low : lookEveryMs.usual)
  }

  #note(): void {
    const { logger } = this.#options
    const about = { freeBytes: this.#freeBytes }
    const free = mebibytes(this.#freeBytes)
    const change = this.#own.observe(this.#freeBytes)
    if (change === 'low') {
      logger.warn(about, `the disk has ${free} free, less than ${mebibytes(spaceThresholds.low)}`)
    } else if (change === 'clear') {
      logger.info(about, `the disk has room again: ${free} are free`)
    }
  }

  #survey(voters: readonly MemberId[]): Room {
    for (const peer of this.#others.keys()) if (!voters.includes(peer)) this.#others.delete(peer)
    const ample: MemberId[] = []
    const short: MemberId[] = []
    for (const peer of voters) {
      const watch = this.#watchOf(peer)
      if (watch?.isLow === true) short.push(peer)
      else if (watch !== undefined) ample.push(peer)
    }
    return { ample, short, voters: voters.length }
  }

  /** Undefined for one that was not heard from lately. */
  #watchOf(peer: MemberId): SpaceWatch | undefined {
    const { self, status } = this.#options
    if (peer === self) return this.#own
    const said = status(peer)
    if (said === undefined) return undefined
    const watch = this.#others.get(peer) ?? new SpaceWatch()
    this.#others.set(peer, watch)
    watch.observe(said.freeBytes)
    return watch
  }

  #freeOf(peer: MemberId): number {
    const { self, status } = this.#options
    return (peer === self ? this.#freeBytes : status(peer)?.freeBytes) ?? 0
  }

  // ── handing over ─────────────────────────────────────────────────────────────────────────────────────────────

  /** To the voter with room that has most of the log, if one keeps up with it. */
  #handOver(replica: Replica): void {
    if (replica.status.transferring) return
    const { name, logger } = this.#options
    const heir = this.#room.ample
      .filter((peer) => this.#isFit(replica, peer))
      .sort((one, other) => matchOf(replica, other) - matchOf(replica, one))[0]
    if (heir === undefined || !replica.transferLeadership(heir)) return
    logger.warn(
      { to: name(heir) },
      'handing leadership over: this disk is short of room, and that one is not',
    )
  }

  #isFit(replica: Replica, peer: MemberId): boolean {
    const progress = replica.raft.progress?.get(peer)
    const said = this.#options.status(peer)
    if (progress === undefined || said === undefined) return false
    return (
      progress.state === 'replicate' && !progress.gone && !said.repairing && said.rebuilding === undefined
    )
  }
}

function matchOf(replica: Replica, peer: MemberId): number {
  return replica.raft.progress?.get(peer)?.matchIndex ?? 0
}

function mebibytes(bytes: number): string {
  return `${Math.floor(bytes / (1024 * 1024))} MiB`
}
