// What an increment adds, as clients write it: a whole number, or decimal text where a number would not be exact.

import { TrivetError } from '../errors.ts'

const decimal = /^(?:0|-?[1-9]\d{0,18})$/

/** Reads a `delta`; 1 where none was said. Throws `invalid-request` for anything but a signed number of 64 bits. */
export function readDelta(said: unknown): bigint {
  const delta = said === undefined ? 1n : exact(said)
  if (delta !== undefined && BigInt.asIntN(64, delta) === delta) return delta
  throw new TrivetError(
    'invalid-request',
    'delta must be a whole number of signed 64 bits, beyond 2^53 as decimal text',
    { field: 'delta' },
  )
}

function exact(said: unknown): bigint | undefined {
  if (typeof said === 'bigint') return said
  if (typeof said === 'string') return decimal.test(said) ? BigInt(said) : undefined
  return Number.isSafeInteger(said) ? BigInt(said as number) : undefined
}
