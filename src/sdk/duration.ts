// What the SDK takes for a duration: the contract's text, or milliseconds.

import { parseDuration } from '../duration.ts'
import { TrivetError } from '../errors.ts'

/** `'500ms'`, `'5s'`, `'15m'`, `'24h'`, `'7d'`, or a number of milliseconds. */
export type Duration = string | number

/** The duration in milliseconds, at least 1. Throws `invalid-request` naming `field` for anything else. */
export function toMilliseconds(duration: Duration, field: string): number {
  const milliseconds = typeof duration === 'number' ? duration : (parseDuration(duration) ?? Number.NaN)
  if (!Number.isFinite(milliseconds) || milliseconds < 1) {
    throw new TrivetError(
      'invalid-request',
      `${field} must be a whole number and a unit, such as 500ms or 5s, or milliseconds; it is ${String(duration)}`,
      { field },
    )
  }
  return milliseconds
}
