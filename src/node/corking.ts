// Fewer system calls and cheaper reads: what libp2p writes to a socket piece by piece (a frame's length, its bytes) leaves together,
// and what comes in goes up without the stacks of errors that are no errors.

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
    readQuietly(socket)
  }

  /**
   * Lets go of everything once what runs now has run, and the microtasks behind it, in which lanes write: from a callback of
   * the event loop `nextTick` alone would come before them.
   */
  flushSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    queueMicrotask(() => process.nextTick(() => this.#flush()))
  }

  #flush(): void {
    this.#flushing = false
    for (const socket of this.#corked) this.#uncork(socket)
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

/** What the limit is outside of `readQuietly`. */
let usualLimit = Error.stackTraceLimit

/**
 * The decoder of noise's frames learns from a thrown RangeError that all bytes which have come are taken, once for every
 * piece that a socket delivers. Its stack, which nobody reads, took 7 of the 8 microseconds that this costs.
 */
function readQuietly(socket: Socket): void {
  const { emit } = socket
  const quiet = (...given: [event: string | symbol, ...rest: unknown[]]): boolean => {
    if (given[0] !== 'data') return Reflect.apply(emit, socket, given)
    usualLimit = Error.stackTraceLimit
    Error.stackTraceLimit = 0
    try {
      return Reflect.apply(emit, socket, given)
    } finally {
      Error.stackTraceLimit = usualLimit
    }
  }
  Object.defineProperty(socket, 'emit', { value: quiet, configurable: true, writable: true })
}

/** Runs what is ours again below a quiet read: an error in here has its stack. */
export function withStacks(run: () => void): void {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = usualLimit
  try {
    run()
  } finally {
    Error.stackTraceLimit = limit
  }
}
