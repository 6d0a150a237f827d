// Cursors of listings: the last key of a page, sealed to the query and the store it came from.

import { hash } from 'node:crypto'
import { TrivetError } from '../errors.ts'

/** What a cursor is bound to. `storeNumber` tells a store from a later one of the same name. */
export type CursorQuery = {
  readonly clusterId: string
  readonly storeNumber: number
  readonly prefix: string
  readonly start: string
  readonly end: string
  readonly reverse: boolean
}

/** The format number, the first byte. */
const format = 1
const sealLength = 16

/**
 * A cursor that asks for the keys after `key`. It is no secret and no capability, for the token is judged on every
 * page: the seal only tells mistakes. Every node of the cluster makes and takes the same.
 */
export function sealCursor(query: CursorQuery, key: Uint8Array): string {
  return Buffer.concat([Buffer.of(format), seal(query, key), key]).toString('base64url')
}

/** The last key of the page before. Throws `invalid-cursor` for one we did not make, or made for another query. */
export function openCursor(query: CursorQuery, cursor: string): Uint8Array {
  const bytes = Buffer.from(cursor, 'base64url')
  const key = bytes.subarray(1 + sealLength)
  const genuine =
    bytes[0] === format &&
    key.length > 0 &&
    bytes.toString('base64url') === cursor &&
    bytes.subarray(1, 1 + sealLength).equals(seal(query, key))
  if (!genuine) {
    throw new TrivetError(
      'invalid-cursor',
      'This cursor was not issued for this listing: pass it back unchanged, with the same store, prefix, start, end and reverse',
      { field: 'cursor' },
    )
  }
  return key
}

function seal(query: CursorQuery, key: Uint8Array): Buffer {
  // JSON keeps the fields apart, whatever is in them.
  const text = JSON.stringify([
    'trivet cursor',
    format,
    query.clusterId,
    query.storeNumber,
    query.prefix,
    query.start,
    query.end,
    query.reverse,
    Buffer.from(key).toString('base64url'),
  ])
  return hash('sha256', text, 'buffer').subarray(0, sealLength)
}
