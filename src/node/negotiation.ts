// What comes in while two ends agree on a protocol, looked at before libp2p reads it.
//
// They send names, each behind its length in one byte or two. libp2p takes a length that it cannot decode for one that is not all
// there, forgets its bound on that, and tries again with every byte that follows: a megabyte kept a node busy for seconds, and
// nobody has to prove who they are to send it. So the length is judged here, on connections, encrypted or not yet, and on streams.

import type { ConnectionEncrypter, StreamMuxerFactory } from '@libp2p/interface'

/** A longer name libp2p refuses. */
const longestName = 1024
const lengthBytes = 2

/** Follows what one end sends, until it has named a protocol that the other one takes. */
export class Negotiation {
  readonly #taken: ReadonlySet<string>
  #length = 0
  #lengthBytes = 0
  /** What has come of a name; undefined within a length. */
  #name: string | undefined

  constructor(taken: Iterable<string>) {
    this.#taken = new Set(taken)
  }

  /** `broken` for bytes that are no such names. After `agreed` come other bytes, maybe in these already. */
  follow(bytes: Iterable<number>): 'open' | 'agreed' | 'broken' {
    for (const byte of bytes) {
      if (this.#name === undefined) {
        this.#length |= (byte & 0x7f) << (7 * this.#lengthBytes)
        this.#lengthBytes += 1
        if (byte > 0x7f && this.#lengthBytes < lengthBytes) continue
        if (byte > 0x7f || this.#length > longestName) return 'broken'
        this.#name = ''
      } else {
        this.#name += String.fromCharCode(byte)
      }
      if (this.#name.length < this.#length) continue
      // Each name ends with a line feed.
      if (this.#taken.has(this.#name.slice(0, -1))) return 'agreed'
      this.#length = 0
      this.#lengthBytes = 0
      this.#name = undefined
    }
    return 'open'
  }
}

/** Ends this connection or stream of libp2p when what comes in is no negotiation, until one of these protocols is named. */
export function guardNegotiation(source: object, taken: Iterable<string>): void {
  const onData: unknown = Reflect.get(source, 'onData')
  const abort: unknown = Reflect.get(source, 'abort')
  if (typeof onData !== 'function' || typeof abort !== 'function') {
    throw new Error('libp2p has changed: what comes in cannot be looked at before it is read')
  }
  const negotiation = new Negotiation(taken)
  const guarded = (data: Iterable<number> | Iterable<Uint8Array>): void => {
    const found = negotiation.follow(bytesOf(data))
    if (found === 'broken') {
      Reflect.apply(abort, source, [new Error('what came in is no negotiation of a protocol')])
      return
    }
    if (found === 'agreed') Reflect.deleteProperty(source, 'onData')
    Reflect.apply(onData, source, [data])
  }
  Object.defineProperty(source, 'onData', { value: guarded, configurable: true, writable: true })
}

/** Of a piece of bytes, or of several in a list. */
function* bytesOf(data: Iterable<number | Uint8Array>): Generator<number, void> {
  for (const piece of data) {
    if (typeof piece === 'number') yield piece
    else yield* piece
  }
}

/** The same encryption, where a peer that does not name its muxer with the handshake names it under guard. */
export function guardedEncrypter<C>(
  make: (components: C) => ConnectionEncrypter,
  muxer: string,
): (components: C) => ConnectionEncrypter {
  return (components) => {
    const encrypter = make(components)
    const secure = encrypter.secureInbound.bind(encrypter)
    encrypter.secureInbound = async (connection, options) => {
      const secured = await secure(connection, options)
      if (secured.streamMuxer === undefined) guardNegotiation(secured.connection, [muxer])
      return secured
    }
    return encrypter
  }
}

/** The same muxer, whose streams from the other end name their protocol under guard. */
export function guardedMuxer<C>(
  make: (components: C) => StreamMuxerFactory,
  taken: readonly string[],
): (components: C) => StreamMuxerFactory {
  return (components) => {
    const factory = make(components)
    const create = factory.createStreamMuxer.bind(factory)
    factory.createStreamMuxer = (connection) => {
      const muxer = create(connection)
      muxer.addEventListener('stream', ({ detail }) => guardNegotiation(detail, taken))
      return muxer
    }
    return factory
  }
}
