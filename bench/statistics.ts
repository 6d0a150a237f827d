// The few figures that stand for many.

/** A median with what it lies between. */
export type Spread = { readonly median: number; readonly least: number; readonly most: number }

/** Of at least one value. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const [least = Number.NaN] = sorted
  const most = sorted.at(-1) ?? Number.NaN
  const upper = sorted[sorted.length >> 1] ?? Number.NaN
  const lower = sorted[(sorted.length - 1) >> 1] ?? Number.NaN
  return { median: (lower + upper) / 2, least, most }
}

/** The value that this share of all is not above; `sorted` ascends. */
export function percentile(sorted: ArrayLike<number>, share: number): number {
  const at = Math.ceil(sorted.length * share) - 1
  return sorted[Math.min(sorted.length - 1, Math.max(0, at))] ?? Number.NaN
}
