// A run's history as numbers over time, one bucket after the other.

import type { HistoryEvent } from '../linear/history.ts'

/** What happened within one stretch of time. Calls count where they ended; latencies are of answered calls, in milliseconds. */
type Bucket = {
  /** When it begins, milliseconds since the run began. */
  readonly time: number
  readonly answered: number
  readonly refused: number
  readonly unknown: number
  /** Undefined when nothing was answered. */
  readonly p50: number | undefined
  readonly p99: number | undefined
}

export type Series = { readonly bucketMs: number; readonly buckets: readonly Bucket[] }

/** As many buckets as a chart can show, none shorter than half a second. */
const mostBuckets = 400
const shortestMs = 500

export function seriesOf(events: readonly HistoryEvent[], lasted: number): Series {
  const bucketMs = Math.max(shortestMs, Math.ceil(lasted / mostBuckets / 500) * 500)
  // What is left over at the end is too short to show a rate.
  const count = Math.max(1, Math.floor(lasted / bucketMs))
  const open = new Map<number, number>()
  const raw = Array.from({ length: count }, () => ({ refused: 0, unknown: 0, latencies: [] as number[] }))
  for (const event of events) {
    if (event.type === 'invoke') {
      open.set(event.call, event.time)
      continue
    }
    const bucket = raw[Math.floor(event.time / bucketMs)]
    // What clients do to look at the end is no part of the load.
    if (bucket === undefined) continue
    if (event.type === 'ok') bucket.latencies.push(event.time - (open.get(event.call) ?? event.time))
    if (event.type === 'fail') bucket.refused += 1
    if (event.type === 'info') bucket.unknown += 1
  }
  const buckets = raw.map(({ refused, unknown, latencies }, at) => {
    const sorted = latencies.toSorted((a, b) => a - b)
    return {
      time: at * bucketMs,
      answered: sorted.length,
      refused,
      unknown,
      p50: quantile(sorted, 0.5),
      p99: quantile(sorted, 0.99),
    }
  })
  return { bucketMs, buckets }
}

/** Of sorted values. */
export function quantile(sorted: readonly number[], part: number): number | undefined {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]
}
