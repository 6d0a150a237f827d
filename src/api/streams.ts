// The answers that do not end by themselves: which are open, and how they end when the server is about to go.

import { Readable } from 'node:stream'
import type { WatchEvent, WatchStream } from '../node/surface.ts'
import type { Logger } from './answers.ts'

/** What a connection holds ready of a stream besides the socket's own buffer, in bytes. */
const readyBytes = 64 * 1024

export class Streams {
  readonly #logger: Logger
  readonly #open = new Set<WatchStream>()
  #draining = false

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /** From now on every stream ends with `closing`. */
  drain(): void {
    this.#draining = true
    for (const stream of this.#open) stream.close()
  }

  /**
   * The stream as text to be sent, which waits where its client does not read. `write` makes text of events; `head` goes
   * first, at once.
   */
  readable(
    stream: WatchStream,
    {
      head,
      write,
      request,
    }: { head: string; write: (events: readonly WatchEvent[]) => string; request: string },
  ): Readable {
    if (this.#draining) stream.close()
    this.#open.add(stream)
    const text = this.#text(stream, { head, write, request })
    return Readable.from(text, { objectMode: false, highWaterMark: readyBytes })
  }

  async *#text(
    stream: WatchStream,
    {
      head,
      write,
      request,
    }: { head: string; write: (events: readonly WatchEvent[]) => string; request: string },
  ): AsyncGenerator<string, void> {
    try {
      yield head
      for await (const events of stream) yield write(events)
    } catch (error) {
      // Too late for another answer: the connection is cut, and whoever reads comes again.
      this.#logger.error({ request, err: error }, 'a stream failed')
      throw error
    } finally {
      this.#open.delete(stream)
    }
  }
}
