// A walk over MessagePack bytes before anything is made of them: only plain data, no deeper and no larger than its bytes can hold.

import { isUtf8 } from 'node:buffer'

/** What the data may be, besides plain. */
export type ScanRules = {
  /** How deep a value may lie in maps and arrays. */
  readonly maxDepth: number
  /** How many maps and arrays there may be in all; as many as the bytes can hold, unless given. */
  readonly maxContainers?: number
  /** Whether text must be well-formed UTF-8, and no field be called `__proto__`: decoders change both in silence. */
  readonly strictText?: boolean
  /** The error to throw for what is wrong, in a few words. */
  readonly refuse: (fault: string) => Error
}

/** The walk as far as it has come. */
type Scan = {
  readonly source: Buffer
  readonly rules: ScanRules
  containersLeft: number
}

/**
 * Throws unless `source` holds, from `start` on, exactly one value of maps with text keys, arrays, text, byte strings,
 * booleans, null and numbers. Extension types never pass: the decoder would build objects of its own choosing from
 * them. Counts are checked against the bytes that are left, so that a few bytes cannot claim a huge array.
 */
export function scanPlainData(source: Buffer, start: number, rules: ScanRules): void {
  const scan = { source, rules, containersLeft: rules.maxContainers ?? Number.POSITIVE_INFINITY }
  const end = scanValue(scan, start, 0)
  if (end !== source.length) throw rules.refuse('bytes after the value')
}

function scanValue(scan: Scan, offset: number, depth: number): number {
  if (depth > scan.rules.maxDepth) throw scan.rules.refuse('nested too deeply')
  const token = byteAt(scan, offset)
  const next = offset + 1
  if (token <= 0x7f || token >= 0xe0) return next
  if (token <= 0x8f) return scanItems(scan, next, { count: token & 0x0f, keyed: true, depth })
  if (token <= 0x9f) return scanItems(scan, next, { count: token & 0x0f, keyed: false, depth })
  if (token <= 0xbf) return scanText(scan, next, token & 0x1f)
  switch (token) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return next
    case 0xc4:
      return skip(scan, next + 1, sized(scan, next, 1))
    case 0xc5:
      return skip(scan, next + 2, sized(scan, next, 2))
    case 0xc6:
      return skip(scan, next + 4, sized(scan, next, 4))
    case 0xd9:
      return scanText(scan, next + 1, sized(scan, next, 1))
    case 0xda:
      return scanText(scan, next + 2, sized(scan, next, 2))
    case 0xdb:
      return scanText(scan, next + 4, sized(scan, next, 4))
    case 0xcc:
    case 0xd0:
      return skip(scan, next, 1)
    case 0xcd:
    case 0xd1:
      return skip(scan, next, 2)
    case 0xca:
    case 0xce:
    case 0xd2:
      return skip(scan, next, 4)
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return skip(scan, next, 8)
    case 0xdc:
      return scanItems(scan, next + 2, { count: sized(scan, next, 2), keyed: false, depth })
    case 0xdd:
      return scanItems(scan, next + 4, { count: sized(scan, next, 4), keyed: false, depth })
    case 0xde:
      return scanItems(scan, next + 2, { count: sized(scan, next, 2), keyed: true, depth })
    case 0xdf:
      return scanItems(scan, next + 4, { count: sized(scan, next, 4), keyed: true, depth })
    default:
      throw scan.rules.refuse(`MessagePack type 0x${token.toString(16)}, which is no plain data`)
  }
}

function scanItems(
  scan: Scan,
  start: number,
  items: { readonly count: number; readonly keyed: boolean; readonly depth: number },
): number {
  const { source, rules } = scan
  scan.containersLeft -= 1
  if (scan.containersLeft < 0) throw rules.refuse('too many maps and arrays')
  const least = items.keyed ? items.count * 2 : items.count
  if (least > source.length - start) throw rules.refuse('more items than bytes')
  let offset = start
  for (let at = 0; at < items.count; at++) {
    if (items.keyed) {
      const token = byteAt(scan, offset)
      const isText = (token >= 0xa0 && token <= 0xbf) || (token >= 0xd9 && token <= 0xdb)
      if (!isText) throw rules.refuse('a key that is no text')
      const end = scanValue(scan, offset, items.depth + 1)
      if (rules.strictText === true && isProto(source, token, { offset, end })) {
        throw rules.refuse('a field called __proto__')
      }
      offset = end
    }
    offset = scanValue(scan, offset, items.depth + 1)
  }
  return offset
}

const proto = Buffer.from('__proto__')

function isProto(source: Buffer, token: number, text: { readonly offset: number; readonly end: number }) {
  const head = token <= 0xbf ? 1 : token === 0xd9 ? 2 : token === 0xda ? 3 : 5
  const start = text.offset + head
  // Nearly every field is told by its length.
  return text.end - start === proto.length && proto.compare(source, start, text.end) === 0
}

/** Text up to this is looked at byte by byte: by then asking whether it is UTF-8 would take longer. */
const shortText = 64

function scanText(scan: Scan, start: number, length: number): number {
  const end = skip(scan, start, length)
  if (scan.rules.strictText !== true || isShortAscii(scan.source, start, end)) return end
  if (!isUtf8(scan.source.subarray(start, end))) throw scan.rules.refuse('text that is no UTF-8')
  return end
}

function isShortAscii(source: Buffer, start: number, end: number): boolean {
  if (end - start > shortText) return false
  for (let at = start; at < end; at++) if ((source[at] ?? 0x80) >= 0x80) return false
  return true
}

function byteAt({ source, rules }: Scan, offset: number): number {
  const value = source[offset]
  if (value === undefined) throw rules.refuse('bytes that end too early')
  return value
}

function sized({ source, rules }: Scan, offset: number, width: 1 | 2 | 4): number {
  if (offset + width > source.length) throw rules.refuse('bytes that end too early')
  return source.readUIntBE(offset, width)
}

function skip({ source, rules }: Scan, offset: number, bytes: number): number {
  if (offset + bytes > source.length) throw rules.refuse('bytes that end too early')
  return offset + bytes
}
