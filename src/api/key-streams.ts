// Streams of keys: a whole listing of one revision, a key a line, at the pace of its reader, for as long as it may go on.

import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { TrivetError } from '../errors.ts'
import type { Place } from '../store/places.ts'
import type { Item, ListQuery } from '../store/types.ts'
import { type RouteContext, setRevision } from './app.ts'
import { ClientGone } from './connections.ts'
import { callOf } from './gate.ts'
import { carriedBytes } from './operation-bodies.ts'
import { asTrivetError, problemOf } from './problem.ts'
import { type ListedKey, ndjsonType, type StreamEnd } from './protocol.ts'

/** What is read at a time: so many keys, or the one that takes keys and values past this, in bytes. */
const stepKeys = 1000
const stepBytes = 256 * 1024

export type StreamedListing = Pick<ListQuery, 'prefix' | 'start' | 'end' | 'reverse'> & {
  readonly store: Place
  readonly values: boolean
}

/** What streams of keys may. */
export type KeyStreamBounds = {
  /** Streams open at one time: each pins the versions that it reads. */
  readonly open: number
  /** How old the grants may be that one goes on by, in milliseconds. */
  readonly grants: number
  /** How long one may go on while the node stops, in milliseconds. */
  readonly drain: number
}

const defaultBounds: KeyStreamBounds = { open: 64, grants: 5000, drain: 5000 }

export class KeyStreams {
  readonly #context: RouteContext
  readonly #bounds: KeyStreamBounds
  #open = 0
  /** When a stream first saw the node drain. */
  #drainingSince: number | undefined

  constructor(context: RouteContext) {
    this.#context = context
    this.#bounds = context.keyStreams ?? defaultBounds
  }

  /** Answers with all of it. What fails before the first line is thrown; what fails later is the last line. */
  async send(request: FastifyRequest, reply: FastifyReply, listing: StreamedListing): Promise<FastifyReply> {
    const limit = this.#bounds.open
    if (this.#open >= limit) {
      throw new TrivetError('overloaded', `No more than ${limit} streams of keys are open at a time`, {
        field: 'open streams of keys',
        limit,
      })
    }
    const lines = this.#lines(request, reply, listing)
    const first = await lines.next()
    return reply.header('content-type', ndjsonType).send(streamOf(first, lines))
  }

  async *#lines(
    request: FastifyRequest,
    reply: FastifyReply,
    { values, ...bounds }: StreamedListing,
  ): AsyncGenerator<Buffer, void> {
    const { signal } = callOf(request)
    this.#open += 1
    let begun = false
    try {
      const read = await this.#context.node.state.openRead()
      try {
        setRevision(reply, read.revision)
        let count = 0
        let judgedAt = performance.now()
        let after: Uint8Array | undefined
        for (let more = true; more; ) {
          judgedAt = await this.#judge(request, judgedAt)
          const query = { ...bounds, after, limit: stepKeys, maxBytes: stepBytes }
          const page = await read.list(query, { signal })
          count += page.items.length
          after = page.items.at(-1)?.key
          more = page.more
          begun = true
          if (page.items.length > 0) yield linesOf(page.items, values)
        }
        yield lineOf({ end: true, revision: read.revision, count })
      } catch (thrown) {
        // Nobody is there to be told; or nothing was sent, and the answer can still be a problem.
        if (thrown instanceof ClientGone || !begun) throw thrown
        yield lineOf({ error: problemOf(this.#told(thrown, request)) })
      } finally {
        await read.close()
      }
    } finally {
      this.#open -= 1
    }
  }

  /**
   * Throws when this stream is to end: the token may not read this any more, nobody can say so for too long, or the node
   * stops. Returns when the grants it goes on by were last known to be those of the cluster.
   */
  async #judge(request: FastifyRequest, judgedAt: number): Promise<number> {
    const { node, gate, draining } = this.#context
    const { stale, signal } = callOf(request)
    const now = performance.now()
    if (draining()) {
      this.#drainingSince ??= now
      if (now - this.#drainingSince >= this.#bounds.drain) {
        throw new TrivetError('shutting-down', 'This node stops: ask another one for all of it')
      }
    }
    const isOld = !stale && now - judgedAt >= this.#bounds.grants
    if (isOld) await node.barrier({ deadline: now + this.#bounds.grants, signal })
    gate.judge(request)
    return isOld ? now : judgedAt
  }

  /** What a client is told. What nobody foresaw is for the log. */
  #told(thrown: unknown, request: FastifyRequest): TrivetError {
    const error = asTrivetError(thrown)
    if (error.code === 'internal') {
      const { method, originalUrl: url, id } = request
      this.#context.logger.error({ request: id, method, url, err: thrown }, 'a stream of keys failed')
    }
    return error
  }
}

/** Lines as they are taken. Ended early, it has the generator clean up, even one of which nothing was taken. */
function streamOf(first: IteratorResult<Buffer, void>, lines: AsyncGenerator<Buffer, void>): Readable {
  let ready: IteratorResult<Buffer, void> | undefined = first
  const take = async (stream: Readable): Promise<void> => {
    try {
      const { done, value } = ready ?? (await lines.next())
      ready = undefined
      stream.push(done === true ? null : value)
    } catch (error) {
      stream.destroy(error instanceof Error ? error : new Error(String(error)))
    }
  }
  return new Readable({
    highWaterMark: stepBytes,
    read() {
      void take(this)
    },
    destroy(error, done) {
      lines.return().then(
        () => done(error),
        (failure: Error) => done(error ?? failure),
      )
    },
  })
}

function linesOf(items: readonly Item[], values: boolean): Buffer {
  return Buffer.from(items.map((item) => `${JSON.stringify(listedKey(item, values))}\n`).join(''))
}

function lineOf(end: StreamEnd): Buffer {
  return Buffer.from(`${JSON.stringify(end)}\n`)
}

/** A key as pages and streams show it. */
export function listedKey(item: Item, values: boolean): ListedKey {
  const { key, revision, value, contentType, expires } = item
  return {
    key: Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString(),
    revision,
    size: value.length,
    contentType,
    ...(expires === undefined ? {} : { expires: new Date(expires).toISOString() }),
    ...(values ? { value: String(carriedBytes('json', value)) } : {}),
  }
}
