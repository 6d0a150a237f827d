// Reads the MessagePack of commands: the few shapes that nearly all of them have, in a fraction of a general decoder's time.
//
// Every node reads every command, so this is paid for each write on each member. Commands are arrays of bytes, small numbers and
// short texts that keep coming back: a token, a store, a content type, a session. A text read lately is not made anew.

/** A shape that is left to the general decoder. */
const other = Symbol('another shape')

/** Deeper than any command goes. */
const maxDepth = 8

let source: Buffer = Buffer.alloc(0)
let at = 0

/**
 * The array in these bytes, just as msgpackr has it; bytes in it are views. Undefined for whatever else they hold, damage
 * included, and for an array that has more than bytes, ASCII, numbers from 0 to 2^32, null, true, false and such arrays.
 */
export function readFields(bytes: Buffer): unknown[] | undefined {
  source = bytes
  at = 0
  const fields = readField(0)
  // Reading past the end finds zeros, and shows here.
  return Array.isArray(fields) && at === bytes.length ? fields : undefined
}

function readField(depth: number): unknown {
  const head = source[at++] ?? 0
  if (head < 0x80) return head
  if (head >= 0xa0 && head < 0xc0) return readText(head & 0x1f)
  if (head >= 0x90 && head < 0xa0) return readArray(head & 0x0f, depth)
  switch (head) {
    case 0xc0:
      return null
    case 0xc2:
      return false
    case 0xc3:
      return true
    case 0xc4:
      return readBytes(readNumber(1))
    case 0xc5:
      return readBytes(readNumber(2))
    case 0xc6:
      return readBytes(readNumber(4))
    case 0xcc:
      return readNumber(1)
    case 0xcd:
      return readNumber(2)
    case 0xce:
      return readNumber(4)
    case 0xd9:
      return readText(readNumber(1))
    case 0xdc:
      return readArray(readNumber(2), depth)
    default:
      return other
  }
}

function readNumber(width: 1 | 2 | 4): number {
  let number = 0
  for (let left: number = width; left > 0; left--) number = number * 256 + (source[at++] ?? 0)
  return number
}

function readBytes(length: number): Uint8Array {
  const start = at
  at += length
  return source.subarray(start, at)
}

function readArray(length: number, depth: number): unknown {
  if (depth === maxDepth) return other
  const fields: unknown[] = []
  for (let left = length; left > 0; left--) {
    const field = readField(depth + 1)
    if (field === other) return other
    fields.push(field)
  }
  return fields
}

/** Texts read lately, each in the one place that its bytes lead to. */
const lately: string[] = new Array(256).fill('')

function readText(length: number): unknown {
  const start = at
  at += length
  const last = source[at - 1] ?? 0
  const place =
    (length * 31 + (source[start] ?? 0) * 7 + (source[start + (length >> 1)] ?? 0) * 3 + last) & 255
  const known = lately[place] ?? ''
  if (isText(known, start, length)) return known
  for (let n = start; n < at; n++) if ((source[n] ?? 0) >= 0x80) return other
  const text = source.toString('latin1', start, at)
  lately[place] = text
  return text
}

function isText(text: string, start: number, length: number): boolean {
  if (text.length !== length) return false
  for (let n = 0; n < length; n++) if (text.charCodeAt(n) !== source[start + n]) return false
  return true
}
