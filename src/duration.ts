// Durations as the contract writes them: a whole number and one unit.

/** From the largest unit to the smallest, in milliseconds. */
const units = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
] as const

/** The milliseconds of `500ms`, `30s`, `15m`, `24h` or `7d`; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  const parts = /^(\d{1,12})(ms|s|m|h|d)$/.exec(text)
  const unit = units.find(([name]) => name === parts?.[2])
  return unit === undefined ? undefined : Number(parts?.[1]) * unit[1]
}

/** The shortest duration that says it exactly. `milliseconds` is a whole number. */
export function formatDuration(milliseconds: number): string {
  const [name, size] = units.find(([, size]) => milliseconds >= size && milliseconds % size === 0) ?? units[4]
  return `${milliseconds / size}${name}`
}
