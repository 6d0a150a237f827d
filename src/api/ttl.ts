// How long a key is to last, as clients write it: a duration within bounds, or that it has none.

import { parseDuration } from '../duration.ts'
import { TrivetError } from '../errors.ts'
import { maxTtl } from '../node/names.ts'
import type { Ttl } from '../store/types.ts'

/** Reads a `ttl`. Throws `invalid-request` with this field for anything but a duration from 1 ms to 3,650 days, and `none`. */
export function readTtl(text: string, field = 'ttl'): Ttl {
  if (text === 'none') return 'none'
  const milliseconds = parseDuration(text)
  if (milliseconds !== undefined && milliseconds >= 1 && milliseconds <= maxTtl) return milliseconds
  throw new TrivetError(
    'invalid-request',
    `${field} must be a duration from 1ms to 3650d, such as 30s or 24h, or none`,
    { field },
  )
}
