// How far the log may be compacted: what followers that lag a little will ask for is kept (`safety.md`, rule 26).

const MiB = 1024 * 1024

/** What is kept behind the slowest, and what is kept at most, in bytes of the log. */
export const compactionBytes = { keep: 64 * MiB, most: 1024 * MiB } as const

export type CompactionLimits = {
  /** The log begins after this index. */
  readonly baseIndex: number
  /** Everything up to this index is durable in the state machine. */
  readonly durableIndex: number
  /** How far each member heard of lately has come, and the index of every snapshot being sent. */
  readonly needed: readonly number[]
  /** Bytes of the log after an index. */
  readonly bytesAfter: (index: number) => number
  readonly keepBytes?: number | undefined
  readonly mostBytes?: number | undefined
}

/** The index that the log may begin after; `baseIndex` when it is to stay as it is. */
export function compactUpTo(limits: CompactionLimits): number {
  const { baseIndex, durableIndex, needed, bytesAfter } = limits
  const { keepBytes = compactionBytes.keep, mostBytes = compactionBytes.most } = limits
  const slowest = Math.max(baseIndex, Math.min(durableIndex, ...needed))
  const behind = bytesAfter(slowest) + keepBytes
  const generous = lastIndexWith(baseIndex, slowest, (index) => bytesAfter(index) >= behind)
  // One that has fallen too far behind gets a snapshot: the disk is not filled for it.
  const bounded = lastIndexWith(baseIndex, durableIndex, (index) => bytesAfter(index) > mostBytes)
  return Math.max(generous, bounded)
}

/** The last index in the range for which `holds`, which it does up to some index and not after; `from` if for none. */
function lastIndexWith(from: number, to: number, holds: (index: number) => boolean): number {
  let low = from
  let high = to
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (holds(middle)) low = middle
    else high = middle - 1
  }
  return low
}
