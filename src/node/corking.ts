// Fewer system calls: what libp2p writes to a socket piece by piece (a frame's length, its bytes, window updates) leaves together.

import { Socket } from 'node:net'

/**
 * Holds sockets back while they are written to. What this node sends leaves at the end of the same turn (`flushSoon`);
 * what libp2p writes of its own accord waits for that, or for the turn after next, whichever comes first.
 */
export class Corks {
  readonly #corked = new Set<Socket>()
  #flushing = false

  /** Takes over the socket below a connection of the TCP transport; anything else is left as it is. */
  add(raw: object): void {
    const socket: unknown = Reflect.get(raw, 'socket')
    if (!(socket instanceof Socket)) return
    const write = socket.write
    const corking = (...given: Parameters<Socket['write']>): boolean => {
      this.#cork(socket)
      return write.apply(socket, given)
    }
    Object.defineProperty(socket, 'write', { value: corking, configurable: true, writable: true })
  }

  /** Lets go of everything once what runs now has run. */
  flushSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    process.nextTick(() => {
      this.#flushing = false
      for (const socket of this.#corked) this.#uncork(socket)
    })
  }

  #cork(socket: Socket): void {
    if (this.#corked.has(socket)) return
    this.#corked.add(socket)
    socket.cork()
    setImmediate(() => setImmediate(() => this.#uncork(socket)))
  }

  #uncork(socket: Socket): void {
    if (this.#corked.delete(socket)) socket.uncork()
  }
}
