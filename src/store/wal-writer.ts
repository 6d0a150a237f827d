// The segment that is being written: born whole under its name, then filled by durable writes at its end.

import assert from 'node:assert/strict'
import { dirname } from 'node:path'
import type { Disk, DiskFile } from './disk.ts'
import { isFull } from './disk.ts'
import type { Seat } from './wal-format.ts'
import type { SegmentHeader } from './wal-segment.ts'
import { encodeHeader, LogError, segmentPath, unnamed } from './wal-segment.ts'

/** Room is made in steps that double up to this, so that a log that is hardly written stays small. */
const largestStep = 256 * 1024

const smallestStep = 64 * 1024

const zeros = Buffer.alloc(largestStep)

/**
 * Appends to one segment. Ahead of the end, beside the appends, it fills the file with zeros: a write into bytes that
 * exist need not make the file system's journal durable as well, which measured 0.15 ms instead of 0.25 for 4 KiB and
 * 0.16 instead of 0.24 for 64 KiB.
 */
export class SegmentWriter {
  readonly path: string
  readonly #segment: number
  readonly #salt: number
  readonly #file: DiskFile
  readonly #segmentBytes: number
  /** Where the batches begin. */
  readonly #start: number
  /** Where the next batch goes. Everything below is durable. */
  #end: number
  /** The file exists up to here. */
  #filled: number
  #filling: Promise<void> | undefined
  #fills = true
  readonly #reads = new Set<Promise<number>>()
  #failure: unknown

  private constructor(
    file: DiskFile,
    options: {
      path: string
      segment: number
      salt: number
      start: number
      end: number
      segmentBytes: number
    },
  ) {
    this.#file = file
    this.path = options.path
    this.#segment = options.segment
    this.#salt = options.salt
    this.#start = options.start
    this.#end = options.end
    this.#filled = options.end
    this.#segmentBytes = options.segmentBytes
  }

  /**
   * Makes a segment that opens with this header and whatever `prepare` has for the seat after it. When it resolves,
   * bytes and name are durable, and the names of older segments with it. Rejects with the code `full` when there is no
   * room; then it is as if it had not been called.
   */
  static async create<T>(options: {
    readonly disk: Disk
    readonly directory: string
    readonly segmentBytes: number
    readonly header: SegmentHeader
    readonly prepare: (seat: Seat) => { readonly bytes: Buffer; readonly value: T }
  }): Promise<{ readonly writer: SegmentWriter; readonly value: T }> {
    const { disk, directory, header } = options
    const { segment, salt } = header
    const start = encodeHeader(header)
    const prepared = options.prepare({ segment, salt, offset: start.length })
    assert(prepared.bytes.length === header.preparedBytes, 'a header says what was prepared')
    const path = segmentPath(directory, segment)
    const file = await writeUnnamed(disk, path + unnamed, [start, prepared.bytes])
    await disk.rename(path + unnamed, path)
    await disk.syncDirectory(directory)
    await disk.syncDirectory(dirname(directory))
    const writer = new SegmentWriter(file, {
      path,
      segment,
      salt,
      start: start.length,
      end: start.length + prepared.bytes.length,
      segmentBytes: options.segmentBytes,
    })
    return { writer, value: prepared.value }
  }

  /** Where the next batch will stand. */
  get seat(): Seat {
    return { segment: this.#segment, salt: this.#salt, offset: this.#end }
  }

  /** Whether a write of this size would make the segment larger than it should be. One without batches takes any. */
  isFullFor(bytes: number): boolean {
    return this.#end > this.#start && this.#end + bytes > this.#segmentBytes
  }

  /**
   * Once the disk has been full, makes sure of the bytes of a write before it: rejects with the code `full` when there
   * is no room for them. Nothing of the log is in memory only then, so a failed try takes nothing with it.
   */
  async secure(bytes: number): Promise<void> {
    const end = this.#end + bytes
    if (end > this.#filled) await this.#filling
    if (this.#fills || this.#failure !== undefined || end <= this.#filled) return
    const step = Math.min(this.#segmentBytes, this.#filled + smallestStep)
    // What a larger try has left of the room is still there for the smaller one: it has grown the file.
    const isStepDone = step > end && (await this.#fillFully(step))
    if (isStepDone || (await this.#fillFully(end))) return
    throw full(this.path)
  }

  /** Zeros up to an offset; false when there is no room for them. */
  async #fillFully(to: number): Promise<boolean> {
    try {
      for (let from = this.#filled; from < to; from = this.#filled) {
        const until = Math.min(to, from + largestStep)
        await this.#file.write(from, zeros.subarray(0, until - from))
        this.#filled = until
      }
      return true
    } catch (error) {
      if (!isFull(error)) throw error
      return false
    }
  }

  /** Appends whole sectors; durable when it resolves. One at a time. After a rejection the segment is of no more use. */
  async write(bytes: Buffer): Promise<void> {
    const end = this.#end + bytes.length
    // Zeros on their way must not arrive after the bytes.
    if (end > this.#filled) await this.#filling
    if (this.#failure !== undefined) throw this.#failure
    await this.#file.write(this.#end, bytes)
    this.#end = end
    this.#filled = Math.max(this.#filled, end)
    this.#fillAhead()
  }

  async read(position: number, into: Uint8Array): Promise<number> {
    const reading = this.#file.read(position, into)
    this.#reads.add(reading)
    try {
      return await reading
    } finally {
      this.#reads.delete(reading)
    }
  }

  /** Waits for what is under way: a descriptor closed under a read may be another file's by the time it is used. */
  async close(): Promise<void> {
    await this.#filling
    await Promise.allSettled(this.#reads)
    await this.#file.close()
  }

  #fillAhead(): void {
    const from = this.#filled
    const step = Math.min(largestStep, Math.max(smallestStep, from))
    const to = Math.min(this.#segmentBytes, from + step)
    if (!this.#fills || this.#filling !== undefined || from - this.#end > step / 2 || to <= from) return
    this.#filling = this.#fill(from, to).finally(() => {
      this.#filling = undefined
    })
  }

  async #fill(from: number, to: number): Promise<void> {
    try {
      await this.#file.write(from, zeros.subarray(0, to - from))
      this.#filled = to
    } catch (error) {
      // A full disk is no failure yet: the append that does not fit will say so. Any other error may have taken
      // bytes of the log with it.
      if (isFull(error)) this.#fills = false
      else this.#failure = error
    }
  }
}

/** Writes a new file, durably. A file that does not fit is removed again: nothing has relied on it. */
async function writeUnnamed(disk: Disk, path: string, parts: readonly Buffer[]): Promise<DiskFile> {
  let file: DiskFile | undefined
  try {
    file = await disk.open(path, { access: 'create', durable: true })
    let position = 0
    for (const part of parts) {
      if (part.length > 0) await file.write(position, part)
      position += part.length
    }
    return file
  } catch (cause) {
    await file?.close()
    if (!isFull(cause)) throw cause
    if (file !== undefined) await disk.remove(path)
    throw full(path)
  }
}

function full(path: string): LogError {
  return new LogError('full', `There is no room for more of the log at ${path}: free some space on its disk.`)
}
