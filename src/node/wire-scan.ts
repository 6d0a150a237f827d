// A walk over MessagePack bytes before anything is made of them: only plain data, no deeper and no larger than its bytes can hold.

import { WireError } from './wire-bytes.ts'

/** The deepest message is a founding: question, founding, token, principal, grants, grant. */
const maxDepth = 10

/**
 * Throws `WireError` unless `source` holds exactly one value of maps with text keys, arrays, text, byte strings,
 * booleans, null and numbers. Extension types never pass: the decoder would build objects of its own choosing from
 * them. Counts are checked against the bytes that are left, so that a few bytes cannot claim a huge array.
 */
export function scanPlainData(source: Buffer, start: number): void {
  const end = scanValue(source, start, 0)
  if (end !== source.length) throw new WireError('bytes after the value')
}

function scanValue(source: Buffer, offset: number, depth: number): number {
  if (depth > maxDepth) throw new WireError('nested too deeply')
  const token = byteAt(source, offset)
  const next = offset + 1
  if (token <= 0x7f || token >= 0xe0) return next
  if (token <= 0x8f) return scanItems(source, next, { count: token & 0x0f, keyed: true, depth })
  if (token <= 0x9f) return scanItems(source, next, { count: token & 0x0f, keyed: false, depth })
  if (token <= 0xbf) return skip(source, next, token & 0x1f)
  switch (token) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return next
    case 0xc4:
    case 0xd9:
      return skip(source, next + 1, sized(source, next, 1))
    case 0xc5:
    case 0xda:
      return skip(source, next + 2, sized(source, next, 2))
    case 0xc6:
    case 0xdb:
      return skip(source, next + 4, sized(source, next, 4))
    case 0xcc:
    case 0xd0:
      return skip(source, next, 1)
    case 0xcd:
    case 0xd1:
      return skip(source, next, 2)
    case 0xca:
    case 0xce:
    case 0xd2:
      return skip(source, next, 4)
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return skip(source, next, 8)
    case 0xdc:
      return scanItems(source, next + 2, { count: sized(source, next, 2), keyed: false, depth })
    case 0xdd:
      return scanItems(source, next + 4, { count: sized(source, next, 4), keyed: false, depth })
    case 0xde:
      return scanItems(source, next + 2, { count: sized(source, next, 2), keyed: true, depth })
    case 0xdf:
      return scanItems(source, next + 4, { count: sized(source, next, 4), keyed: true, depth })
    default:
      throw new WireError(`MessagePack type 0x${token.toString(16)}, which no message uses`)
  }
}

function scanItems(
  source: Buffer,
  start: number,
  items: { readonly count: number; readonly keyed: boolean; readonly depth: number },
): number {
  const least = items.keyed ? items.count * 2 : items.count
  if (least > source.length - start) throw new WireError('more items than bytes')
  let offset = start
  for (let at = 0; at < items.count; at++) {
    if (items.keyed) {
      const token = byteAt(source, offset)
      const isText = (token >= 0xa0 && token <= 0xbf) || (token >= 0xd9 && token <= 0xdb)
      if (!isText) throw new WireError('a key that is no text')
      offset = scanValue(source, offset, items.depth + 1)
    }
    offset = scanValue(source, offset, items.depth + 1)
  }
  return offset
}

function byteAt(source: Buffer, offset: number): number {
  const value = source[offset]
  if (value === undefined) throw new WireError('bytes that end too early')
  return value
}

function sized(source: Buffer, offset: number, width: 1 | 2 | 4): number {
  if (offset + width > source.length) throw new WireError('bytes that end too early')
  return source.readUIntBE(offset, width)
}

function skip(source: Buffer, offset: number, bytes: number): number {
  if (offset + bytes > source.length) throw new WireError('bytes that end too early')
  return offset + bytes
}
