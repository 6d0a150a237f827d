// What a log is given to work with and what it tells of itself, and the few choices that follow: its boots, its salts, and
// another try where there was no room.

import { randomInt } from 'node:crypto'
import type { Configuration, Entry, HardState, Position } from '../raft/types.ts'
import type { Disk } from './disk.ts'
import type { DurationCounts } from './durations.ts'
import { type LogBase, LogError } from './wal-segment.ts'

/** What the log held when it was opened, all of it durable by then. */
export type Recovered = {
  readonly base: LogBase
  readonly hardState: HardState
  /** The number of this start: greater than that of any start before, and durable. */
  readonly boot: number
  readonly lastIndex: number
  /** The first index of each term after the base, ascending. */
  readonly terms: readonly Position[]
  /** The base's configuration and those of the entries, in order. */
  readonly configurations: readonly { readonly index: number; readonly configuration: Configuration }[]
  readonly repaired: {
    /** Bytes at the end that were no whole batch: an append that a crash cut short, never acknowledged. */
    readonly cutBytes: number
    /** Entries that could be read but were not proven durable, and are now. */
    readonly rewrittenEntries: number
  }
}

export type WalCounters = {
  /** Appends made durable since the start. */
  readonly syncs: number
  /** What they wrote. */
  readonly bytes: number
  /** How long they took, written and synced. */
  readonly durations: DurationCounts
  /** Segment files. */
  readonly segments: number
}

export type Place = {
  readonly disk: Disk
  /** Holds nothing but the log's segments; its parent exists. */
  readonly directory: string
  /** A segment ends before it grows beyond this, unless a single append is larger. 64 MiB unless given. */
  readonly segmentBytes?: number | undefined
}

export type Start = Place & {
  /** The peer id whose log it is. */
  readonly node: string
  /** Milliseconds since the epoch: new boots are never below its seconds, even if the last boot number is lost. */
  readonly now: () => number
  /** Milliseconds of a clock that never goes back, for measuring. The process's own unless given. */
  readonly elapsed?: (() => number) | undefined
  /** Draws a segment's salt, from 1 to 2^32 - 1. The machine's own randomness unless given. */
  readonly drawSalt?: (() => number) | undefined
  /** Something went wrong that costs nothing but space. */
  readonly onNotice: (error: Error) => void
  /**
   * The disk is full, and nothing of what should be written has been: frees some of it and resolves to true, or to
   * false when there is nothing more to free.
   */
  readonly makeRoom?: (() => Promise<boolean>) | undefined
}

/** What a log begins with that is not founded but made for a node that joins, or has lost its log. */
export type Birth = Start & {
  readonly base: LogBase
  /** Term 0 and no vote unless given. */
  readonly hardState?: HardState | undefined
  /** The highest boot number this node is known to have had; 0 unless given. */
  readonly previousBoot?: number | undefined
}

/** What one append makes durable. */
export type Batch = { readonly hardState?: HardState | undefined; readonly entries: readonly Entry[] }

/** A new base of the log, in the LevelDB directory of this name. */
export type Install = Position & { readonly directory: string; readonly configuration: Configuration }

export function nextBoot(previous: number, now: number): number {
  return Math.max(previous + 1, Math.floor(now / 1000))
}

/** Checksums begin with it, so that a batch of another segment is none here. */
export function newSalt({ drawSalt }: Start): number {
  return drawSalt === undefined ? randomInt(1, 2 ** 32) : drawSalt()
}

/** Whether the disk was too full for something, and nothing of it was written. */
export function isRefusal(error: unknown): boolean {
  return error instanceof LogError && error.code === 'full'
}

/** Runs again, after room was made for it, what found none and changed nothing. */
export async function withRoom<T>({ makeRoom }: Start, run: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await run()
    } catch (error) {
      if (!isRefusal(error) || makeRoom === undefined || !(await makeRoom())) throw error
    }
  }
}
