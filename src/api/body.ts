// Request bodies: read into memory within a bound each and a bound together, or refused without hurting the connection.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { TrivetError } from '../errors.ts'
import type { QueueLevel } from '../node/surface.ts'

/** Bodies being read at one time, in all, in bytes (`safety.md`, rule 25). */
export const bodiesBound = 128 * 1024 * 1024

/** Unread bodies up to this are taken off the connection by Node itself, so that it can be used again. */
const smallBody = 64 * 1024

/** How much of a refused body is still taken, and how long the client has to stop, so that it reads the refusal before the end. */
const lingerBytes = 16 * 1024 * 1024
const lingerMs = 2000

const empty = new Uint8Array(0)

/** How much one body may have, and what to say beyond. */
export type BodyLimit = { readonly code: 'value-too-large' | 'request-too-large'; readonly bytes: number }

/** Counts the bytes of all bodies being read. */
export class BodyReader {
  readonly #bound: number
  #held = 0

  constructor(bound: number) {
    this.#bound = bound
  }

  /** The bytes of bodies that are being read now. */
  get held(): number {
    return this.#held
  }

  /** The same, for whoever watches. */
  get level(): QueueLevel {
    return { queue: 'bodies', unit: 'bytes', size: this.#held, bound: this.#bound }
  }

  /**
   * Reads a whole body. Rejects with the limit's code as soon as the body is known to be longer, with `overloaded` when
   * all bodies together are too much, and with `invalid-request` when it ends early (nobody is there to be told then).
   */
  read(message: IncomingMessage, limit: BodyLimit): Promise<Uint8Array> {
    const declared = declaredLength(message)
    if (declared === 0) return Promise.resolve(empty)
    if (declared !== undefined && declared > limit.bytes) return Promise.reject(tooLarge(limit, declared))
    startBody(message)
    return this.#collect(message, limit)
  }

  #collect(message: IncomingMessage, limit: BodyLimit): Promise<Uint8Array> {
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
    const chunks: Buffer[] = []
    let length = 0
    const onData = (chunk: Buffer): void => {
      length += chunk.length
      this.#held += chunk.length
      chunks.push(chunk)
      if (length > limit.bytes) {
        stop(tooLarge(limit, undefined))
      } else if (this.#held > this.#bound) {
        stop(
          new TrivetError(
            'overloaded',
            `The request bodies being read together exceed ${this.#bound} bytes`,
            {
              limit: this.#bound,
            },
          ),
        )
      }
    }
    const onEnd = (): void => {
      stop(undefined)
      const [first] = chunks
      resolve(chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks, length))
    }
    const onCut = (): void =>
      stop(new TrivetError('invalid-request', 'The request ended before its body did'))
    const stop = (error: TrivetError | undefined): void => {
      message.off('data', onData).off('end', onEnd).off('close', onCut).off('error', onCut)
      this.#held -= length
      if (error !== undefined) reject(error)
    }
    message.on('data', onData).on('end', onEnd).on('close', onCut).on('error', onCut)
    return promise
  }
}

function tooLarge(limit: BodyLimit, actual: number | undefined): TrivetError {
  const what = limit.code === 'value-too-large' ? 'A value here' : 'The body of this request'
  return new TrivetError(limit.code, `${what} has at most ${limit.bytes} bytes`, {
    limit: limit.bytes,
    actual,
  })
}

/** Undefined for a chunked body, whose length only its end tells. */
function declaredLength(message: IncomingMessage): number | undefined {
  if (message.headers['transfer-encoding'] !== undefined) return undefined
  return Number(message.headers['content-length'] ?? 0)
}

/** Requests whose client waits for `100 Continue` before it sends the body. */
const hesitant = new WeakMap<IncomingMessage, ServerResponse>()

/** Notes that this client wants to be told to go on. The reader of its body tells it, unless it is refused before. */
export function noteHesitant(message: IncomingMessage, response: ServerResponse): void {
  hesitant.set(message, response)
}

/** Tells a client that waits to be told to send its body. */
export function startBody(message: IncomingMessage): void {
  hesitant.get(message)?.writeContinue()
  hesitant.delete(message)
}

/** What ends each body that takes too long. */
const clocks = new WeakMap<IncomingMessage, NodeJS.Timeout>()

/** Gives the body of a request its time, in milliseconds. `late` is called when it has not come whole by then. */
export function startClock(message: IncomingMessage, ms: number, late: () => void): void {
  if (declaredLength(message) === 0) return
  const timer = setTimeout(() => {
    if (!message.complete) late()
  }, ms).unref()
  clocks.set(message, timer)
  message.once('close', () => clearTimeout(timer))
}

/** Lets a body take as long as it keeps coming: for one that is taken in as it comes. A connection that falls silent ends all the same. */
export function stopClock(message: IncomingMessage): void {
  clearTimeout(clocks.get(message))
}

/** Whether more of this request may come than Node should silently take off the connection. */
export function hasUnreadBody(message: IncomingMessage): boolean {
  if (message.complete) return false
  const declared = declaredLength(message)
  return declared === undefined || declared > smallBody || (declared > 0 && hesitant.has(message))
}

/**
 * Answers a request whose body is still coming, and closes the connection behind it. The answer goes out whole, but the
 * connection ends only when the client has stopped sending, or after a bound: a reset would destroy the answer on its way.
 */
export function answerUnread(
  message: IncomingMessage,
  response: ServerResponse,
  answer: {
    readonly status: number
    readonly headers: readonly (readonly [string, string])[]
    readonly body: Uint8Array
  },
): void {
  response.writeHead(answer.status, {
    ...Object.fromEntries(answer.headers),
    'content-length': answer.body.length,
    connection: 'close',
  })
  response.write(answer.body)
  let taken = 0
  const finish = (): void => {
    clearTimeout(timer)
    message.off('data', onData).off('end', finish).off('close', finish).off('error', finish)
    response.end()
  }
  const onData = (chunk: Buffer): void => {
    taken += chunk.length
    // A client that cannot send on finds the time to read.
    if (taken > lingerBytes) message.pause()
  }
  const timer = setTimeout(finish, lingerMs)
  message.on('data', onData).on('end', finish).on('close', finish).on('error', finish)
  // Whoever has read its beginning may have left it paused.
  message.resume()
}
