// Removes the segments that a log needs no more, beside its appends, once nobody reads them.

import type { Disk } from './disk.ts'
import { hasCode } from './disk.ts'
import { segmentPath } from './wal-segment.ts'

type Options = {
  readonly disk: Disk
  readonly directory: string
  /** A segment could not be removed. It is tried again with the next. */
  readonly onNotice: (error: Error) => void
}

export class SegmentCollector {
  readonly #options: Options
  readonly #unneeded = new Set<number>()
  #collecting: Promise<void> | undefined

  constructor(options: Options) {
    this.#options = options
  }

  /** Segments that are still there. */
  get size(): number {
    return this.#unneeded.size
  }

  /**
   * Takes segments that no durable header needs. Nothing depends on when they go, nor on which of their names outlives
   * a loss of power. They go after the reads under way, which may be about them.
   */
  collect(segments: Iterable<number>, reads: Iterable<Promise<unknown>>): void {
    for (const segment of segments) this.#unneeded.add(segment)
    if (this.#unneeded.size === 0) return
    const before = this.#collecting
    const under = [...reads]
    this.#collecting = (async () => {
      await before
      await Promise.allSettled(under)
      await this.#remove()
    })()
  }

  /** Resolves once what was taken is gone, or was tried. */
  async settled(): Promise<void> {
    await this.#collecting
  }

  async #remove(): Promise<void> {
    const { disk, directory, onNotice } = this.#options
    try {
      for (const segment of [...this.#unneeded].sort((a, b) => a - b)) {
        await disk.remove(segmentPath(directory, segment)).catch((error: unknown) => {
          if (!hasCode(error, 'ENOENT')) throw error
        })
        this.#unneeded.delete(segment)
      }
      await disk.syncDirectory(directory)
    } catch (cause) {
      onNotice(new Error(`Old segments of the log in ${directory} could not be removed.`, { cause }))
    }
  }
}
