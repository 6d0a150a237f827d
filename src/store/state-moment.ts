// When, within the log, something was last used: what orders everything that ends after a while.

/** Equal on all members, and never twice the same. */
export type Moment = {
  /** The stamp of the entry, in milliseconds since the epoch. Never goes back from one moment to the next. */
  readonly time: number
  /** The entry's index. */
  readonly index: number
  /** Counted within the entry. */
  readonly position: number
}

/** Bytes that `writeMoment` takes. */
export const momentSize = 16

export function writeMoment(row: Buffer, { time, index, position }: Moment, start: number): number {
  let at = row.writeUIntBE(time, start, 6)
  at = row.writeUIntBE(index, at, 6)
  return row.writeUInt32BE(position, at)
}

export function readMoment(row: Buffer, at: number): Moment {
  return {
    time: row.readUIntBE(at, 6),
    index: row.readUIntBE(at + 6, 6),
    position: row.readUInt32BE(at + 12),
  }
}

/** Below 0 when `left` came first. */
export function compareMoments(left: Moment, right: Moment): number {
  return left.index === right.index ? left.position - right.position : left.index - right.index
}
