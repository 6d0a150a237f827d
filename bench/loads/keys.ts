// The keys and values of every load, drawn the same way for every system.

import { randomBytes } from 'node:crypto'
import type { Exchange, Layout } from '../systems/engine.ts'

/** So many requests are prepared for a load at most; over more keys they are a sample, drawn anew for each load. */
const mostPrepared = 20_000
const mostPreparedBytes = 48 * 2 ** 20

/** Names of equal length, in the order of their numbers. */
export function keyName(number: number): string {
  return `bench/${String(number).padStart(8, '0')}`
}

/** How the load's requests are made. `reads` is their share. */
export type Mix = { readonly reads: number; readonly keys: number; readonly valueBytes: number }

/** Requests to draw from: each on a key drawn from all, each write with random bytes of its own. */
export function prepare(
  layout: Pick<Layout, 'get' | 'put'>,
  { reads, keys, valueBytes }: Mix,
): readonly Exchange[] {
  const count = Math.min(mostPrepared, Math.max(16, Math.floor(mostPreparedBytes / (valueBytes * 2 + 512))))
  // With as many keys as requests or fewer each has its turn; of more they are a sample.
  const number = (at: number) => (keys <= count ? at % keys : Math.floor(Math.random() * keys))
  return Array.from({ length: count }, (_, at) =>
    Math.random() < reads
      ? layout.get(keyName(number(at)))
      : layout.put(keyName(number(at)), randomBytes(valueBytes)),
  )
}
