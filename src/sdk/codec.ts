// MessagePack as the server speaks it: plain data, values as bytes, 64-bit integers as they are.

import { Packr } from 'msgpackr'
import type { Bytes } from './types.ts'

const codec = new Packr({ useRecords: false, variableMapSize: true, int64AsType: 'bigint' })

export function pack(data: unknown): Bytes {
  return new Uint8Array(codec.pack(data))
}

/** Throws for bytes that are no MessagePack. Integers of 64 bits come as bigint. */
export function unpack(bytes: Bytes): unknown {
  const data: unknown = codec.unpack(bytes)
  return data
}
