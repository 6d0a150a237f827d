// Bytes cut into lines, each with the place where it ends, so that work on a file can go on there.

/** The longest line that is read, in bytes: a value of 64 MiB in base64, and room to spare. */
const longestLine = 96 * 1024 * 1024
const newline = 10

export type Line = {
  /** Without its newline. */
  readonly bytes: Buffer
  /** The bytes from the beginning up to here, its newline included. */
  readonly end: number
  /** Counted from 1. */
  readonly number: number
  /** False for a last one that has no newline. */
  readonly whole: boolean
}

/** Where to begin to count. */
export type LinePlace = { readonly bytes: number; readonly lines: number }

/** The lines of a stream that begins at `from` of what is read. Rejects with a sentence for one that is too long. */
export async function* linesOf(
  chunks: AsyncIterable<Uint8Array>,
  from: LinePlace = { bytes: 0, lines: 0 },
): AsyncGenerator<Line> {
  let parts: Uint8Array[] = []
  let waiting = 0
  let end = from.bytes
  let number = from.lines
  for await (const chunk of chunks) {
    let at = 0
    for (let next = chunk.indexOf(newline); next !== -1; next = chunk.indexOf(newline, at)) {
      parts.push(chunk.subarray(at, next))
      at = next + 1
      const bytes = Buffer.concat(parts)
      end += bytes.length + 1
      number += 1
      parts = []
      waiting = 0
      yield { bytes, end, number, whole: true }
    }
    parts.push(chunk.subarray(at))
    waiting += chunk.length - at
    if (waiting > longestLine) throw new Error(`Line ${number + 1} has more than ${longestLine} bytes.`)
  }
  if (waiting === 0) return
  yield { bytes: Buffer.concat(parts), end: end + waiting, number: number + 1, whole: false }
}
