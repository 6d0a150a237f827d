// The sockets of the server: which requests are open on each, when its client has gone, and what bytes that are no request get.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type Duplex, finished } from 'node:stream'
import { TrivetError } from '../errors.ts'

/** How long a client may take to read a refusal before its connection ends. */
const lingerMs = 1000

/** With so many requests of one socket waiting for their turn, no more of it is read. */
const mostWaiting = 32

type Exchange = { readonly message: IncomingMessage; readonly response: ServerResponse }

type Connection = {
  /** Aborted when the socket closes. One serves all requests of a connection, for they end with it. */
  readonly gone: AbortController
  /** In the order in which they came, as pipelining has it; answered ones leave when the next comes. */
  readonly exchanges: Exchange[]
  /** Requests that came before their turn. */
  waiting: number
  /** Whether the last word was said on it; what still comes is not looked at. */
  ended: boolean
}

/** Why the wait of a request ends when nobody is there any more to take its answer. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone'

  constructor() {
    super('The client closed the connection')
  }
}

/** For requests that came over no socket of ours: their client stays. */
const never = new AbortController().signal

/** Follows every socket of one server from its opening to its close. */
export class Connections {
  readonly #open = new Map<Duplex, Connection>()
  readonly #refusal: (error: TrivetError) => string
  readonly #maxHeaderBytes: number

  /** `refusal` writes an error as a whole HTTP/1.1 answer that closes the connection. */
  constructor(options: {
    readonly maxHeaderBytes: number
    readonly refusal: (error: TrivetError) => string
  }) {
    this.#maxHeaderBytes = options.maxHeaderBytes
    this.#refusal = options.refusal
  }

  get size(): number {
    return this.#open.size
  }

  opened(socket: Socket): void {
    const connection: Connection = { gone: new AbortController(), exchanges: [], waiting: 0, ended: false }
    this.#open.set(socket, connection)
    socket.once('close', () => {
      this.#open.delete(socket)
      connection.gone.abort(new ClientGone())
    })
  }

  /** A request has begun on its socket. */
  began(message: IncomingMessage, response: ServerResponse): void {
    const exchanges = this.#open.get(message.socket)?.exchanges
    if (exchanges === undefined) return
    while (exchanges[0]?.response.writableFinished === true) exchanges.shift()
    exchanges.push({ message, response })
  }

  /**
   * Runs the work of the request that began last on its socket once every earlier one there is answered: a client that sends
   * without reading has one answer in memory, not one for each request that fits into a packet.
   */
  inTurn(message: IncomingMessage, work: () => void): void {
    const { socket } = message
    const connection = this.#open.get(socket)
    const before = connection?.exchanges.at(-2)?.response
    if (connection === undefined || before === undefined || before.writableFinished) {
      work()
      return
    }
    connection.waiting += 1
    if (connection.waiting === mostWaiting) socket.pause()
    before.once('close', () => {
      connection.waiting -= 1
      if (socket.destroyed) return
      if (connection.waiting === mostWaiting - 1) socket.resume()
      work()
    })
  }

  /** Aborted once nobody is there any more to take this request's answer. */
  goneSignal(message: IncomingMessage): AbortSignal {
    return this.#open.get(message.socket)?.gone.signal ?? never
  }

  /** Bytes on a socket were no request, or a head that did not come in time. */
  failed(error: NodeJS.ErrnoException, socket: Duplex): void {
    this.#refuse(socket, this.#judge(error))
  }

  /** A body did not come whole in the time it has. */
  late(socket: Duplex): void {
    this.#refuse(socket, tooLate())
  }

  /** Answers what is no whole request, but never in the place of an answer that an earlier one on this socket still waits for. */
  #refuse(socket: Duplex, refusal: TrivetError | undefined): void {
    const connection = this.#open.get(socket)
    if (connection === undefined || refusal === undefined) {
      socket.destroy()
      return
    }
    if (connection.ended) return
    connection.ended = true
    const waiting = connection.exchanges.filter(({ response }) => !response.writableEnded)
    const before = waiting.findLast(({ message }) => message.complete)
    if (before === undefined) {
      this.#end(socket, waiting[0]?.response.headersSent === true ? undefined : refusal)
    } else {
      finished(before.response, () => this.#end(socket, refusal))
    }
  }

  /** Ends every connection on which no request is being answered. */
  closeIdle(): void {
    for (const [socket, { exchanges }] of this.#open) {
      if (exchanges.every(({ response }) => response.writableFinished)) socket.destroy()
    }
  }

  #end(socket: Duplex, refusal: TrivetError | undefined): void {
    if (refusal === undefined || !socket.writable) {
      socket.destroy()
      return
    }
    socket.end(this.#refusal(refusal))
    const timer = setTimeout(() => socket.destroy(), lingerMs)
    socket.once('close', () => clearTimeout(timer))
  }

  /** Undefined when there is nobody to answer: a reset, or a TLS handshake that failed. */
  #judge(error: NodeJS.ErrnoException): TrivetError | undefined {
    switch (error.code) {
      case 'ERR_HTTP_REQUEST_TIMEOUT':
        return tooLate()
      case 'HPE_HEADER_OVERFLOW':
        return new TrivetError(
          'headers-too-large',
          `The request line and headers have at most ${this.#maxHeaderBytes} bytes together`,
          { limit: this.#maxHeaderBytes },
        )
      case 'HPE_INVALID_EOF_STATE':
        return new TrivetError('invalid-request', 'The request ended in its middle')
      default:
        return error.code?.startsWith('HPE_') === true
          ? new TrivetError('invalid-request', 'What was sent is not an HTTP/1.1 request')
          : undefined
    }
  }
}

function tooLate(): TrivetError {
  return new TrivetError('request-timeout', 'The request did not arrive whole in the time it has')
}
