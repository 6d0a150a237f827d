// A store behind REST: operations as requests, or as parts of a batch, and what the answers mean.

import {
  type Deleted,
  type KeyPage,
  msgpackType,
  ndjsonType,
  pageLimits,
  type Written,
} from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import { readListing } from './answers.ts'
import type {
  Backend,
  Incremented,
  Listed,
  RangeDeleted,
  Touched,
  Transacted,
  Transaction,
} from './backend.ts'
import { linesOf } from './byte-lines.ts'
import { pack } from './codec.ts'
import type {
  Conditions,
  DeleteOperation,
  ExistsOperation,
  GetOperation,
  IncrementOperation,
  Operation,
  SetOperation,
  SingleOperation,
  TouchOperation,
} from './operations.ts'
import { keyPath, queryString, storePath } from './paths.ts'
import type { Requester } from './requester.ts'
import {
  readDeleted,
  readEntry,
  readExists,
  readIncremented,
  readLine,
  readRangeDeleted,
  readTouched,
  readTransacted,
  readWritten,
} from './results.ts'
import type { HttpRequest } from './shipment.ts'
import type { CallOptions, Entry, KeysOptions, ReadOptions, WatchEvent, WatchOptions } from './types.ts'
import { type Answer, problemError } from './verdict.ts'
import { Watcher } from './watcher.ts'

export class RestBackend implements Backend {
  readonly #requester: Requester
  readonly #watchers = new Map<string, Watcher>()

  constructor(requester: Requester) {
    this.#requester = requester
  }

  async get(operation: GetOperation, options: ReadOptions): Promise<Entry | undefined> {
    const answer = await orMissing(this.#read('GET', operation, options))
    return answer === undefined ? undefined : readEntry(operation.key, answer)
  }

  async exists(operation: ExistsOperation, options: ReadOptions): Promise<boolean> {
    const answer = await orMissing(this.#read('HEAD', operation, options))
    return answer !== undefined && readExists(answer)
  }

  async set(operation: SetOperation & Conditions, options: CallOptions): Promise<Written> {
    const { value, contentType, ttl } = operation
    const single = () =>
      ofKey(operation, {
        method: 'PUT',
        query: { ttl },
        headers: { 'Content-Type': contentType },
        body: value,
      })
    return readWritten(await this.#write(operation, single, options))
  }

  async delete(operation: DeleteOperation & Conditions, options: CallOptions): Promise<Deleted> {
    return readDeleted(await this.#write(operation, () => ofKey(operation, { method: 'DELETE' }), options))
  }

  async increment(operation: IncrementOperation & Conditions, options: CallOptions): Promise<Incremented> {
    const { delta, ttl } = operation
    const single = () =>
      ofKey(operation, {
        method: 'POST',
        verb: 'increment',
        headers: { 'Content-Type': 'application/json' },
        // As text also where a number would do: JSON's readers round beyond 2^53.
        body: JSON.stringify({ delta: String(delta), ttl }),
      })
    return readIncremented(await this.#write(operation, single, options))
  }

  async touch(operation: TouchOperation & Conditions, options: CallOptions): Promise<Touched> {
    const { ttl } = operation
    const single = () => ofKey(operation, { method: 'POST', verb: 'touch', query: { ttl } })
    const answer = await orMissing(this.#write(operation, single, options))
    return answer === undefined ? undefined : readTouched(answer)
  }

  async deleteRange(store: string, prefix: string, { signal }: CallOptions): Promise<RangeDeleted> {
    const query = queryString(prefix === '' ? { all: 'true' } : { prefix })
    const path = `${storePath(store)}/keys${query}`
    return readRangeDeleted(await this.#requester.send({ method: 'DELETE', path, effect: 'once', signal }))
  }

  async transact(transaction: Transaction, { signal }: CallOptions): Promise<Transacted> {
    const { conditions, onSuccess, onFailure } = transaction
    const writes = [...onSuccess, ...onFailure].some(isWrite)
    const answer = await this.#requester.send({
      method: 'POST',
      path: '/v1/transactions',
      headers: { 'Content-Type': msgpackType, Accept: msgpackType },
      // From pairs, because an object with a `then` could be taken for a promise.
      body: pack(
        Object.fromEntries([
          ['if', conditions],
          ['then', onSuccess],
          ['else', onFailure],
        ]),
      ),
      effect: writes ? 'once' : 'none',
      signal,
    })
    return readTransacted(answer, transaction, { writes })
  }

  async *list(
    store: string,
    query: KeysOptions & { readonly values: boolean },
  ): AsyncGenerator<Listed, void, undefined> {
    const path = `${storePath(store)}/keys${listQuery({ ...query, values: query.values ? 'true' : undefined })}`
    const { signal } = query
    const headers = { Accept: ndjsonType }
    const answer = await this.#requester.send({
      method: 'GET',
      path,
      headers,
      effect: 'none',
      streams: true,
      signal,
    })
    if (answer.stream === undefined) throw brokenOff(answer, 'it has no body')
    let rows = 0
    try {
      for await (const text of linesOf(answer.stream, { silence: this.#requester.timeoutMs, signal })) {
        if (text === '') continue
        const line = readLine(text)
        if (line.type === 'error') throw problemError(line.problem, answer.endpoint)
        if (line.type === 'end') {
          if (line.count !== rows) throw brokenOff(answer, `${rows} of ${line.count} keys came`)
          return
        }
        rows += 1
        yield line.row
      }
    } catch (cause) {
      signal?.throwIfAborted()
      if (cause instanceof TrivetError) throw cause
      this.#requester.suspect(answer.endpoint)
      throw brokenOff(answer, cause instanceof Error ? cause.message : String(cause), cause)
    }
    this.#requester.suspect(answer.endpoint)
    throw brokenOff(answer, 'its last line is missing')
  }

  /** The listing as pages, each from a revision of its own. */
  async *pages(store: string, query: KeysOptions): AsyncGenerator<KeyPage, void, undefined> {
    let cursor: string | undefined
    do {
      const path = `${storePath(store)}/keys${listQuery({ ...query, limit: String(pageLimits.defaultKeys), cursor })}`
      const headers = { Accept: 'application/json' }
      const { signal } = query
      const page = readListing(
        await this.#requester.send({ method: 'GET', path, headers, effect: 'none', signal }),
      )
      yield page
      cursor = page.cursor
    } while (cursor !== undefined)
  }

  watch(store: string, options: WatchOptions): AsyncIterable<WatchEvent> {
    const watcher = this.#watchers.get(store) ?? new Watcher(store, this.#requester)
    this.#watchers.set(store, watcher)
    return watcher.watch(options)
  }

  #read(
    method: 'GET' | 'HEAD',
    operation: GetOperation | ExistsOperation,
    options: ReadOptions,
  ): Promise<Answer> {
    const { signal } = options
    const single = () => ofKey(operation, { method, query: consistencyOf(options) })
    const plain = options.consistency !== 'stale' && options.minRevision === undefined
    if (plain) return this.#requester.send({ operation, single, effect: 'none', signal })
    // A batch has one consistency for all of its reads: what asks for another one goes alone.
    const alone = single()
    if (alone === undefined) throw notInUrl(operation.key)
    return this.#requester.send({ ...alone, effect: 'none', signal })
  }

  #write(
    operation: SingleOperation,
    single: () => HttpRequest | undefined,
    { signal }: CallOptions,
  ): Promise<Answer> {
    return this.#requester.send({ operation, single, effect: 'once', signal })
  }
}

type KeyRequest = {
  readonly method: HttpRequest['method']
  readonly verb?: string
  readonly query?: Readonly<Record<string, string | undefined>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: NonNullable<HttpRequest['body']>
}

/** The route of the operation's own; undefined where the key fits into no URL. */
function ofKey(
  { store, key, ifRevision, ifAbsent }: SingleOperation,
  { method, verb, query = {}, headers = {}, body }: KeyRequest,
): HttpRequest | undefined {
  const path = keyPath(store, key)
  if (path === undefined) return undefined
  const condition = {
    ...(ifRevision === undefined ? {} : { 'If-Match': `"${ifRevision}"` }),
    ...(ifAbsent === undefined ? {} : { 'If-None-Match': '*' }),
  }
  return {
    method,
    path: `${path}${verb === undefined ? '' : `/${verb}`}${queryString(query)}`,
    headers: { ...headers, ...condition },
    ...(body === undefined ? {} : { body }),
  }
}

function isWrite({ op }: Operation): boolean {
  return op !== 'get' && op !== 'exists'
}

async function orMissing(answer: Promise<Answer>): Promise<Answer | undefined> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof TrivetError && error.code === 'no-such-key') return undefined
    throw error
  }
}

function listQuery(
  query: KeysOptions & {
    readonly values?: string | undefined
    readonly limit?: string
    readonly cursor?: string | undefined
  },
): string {
  const { prefix, start, end, reverse, values, limit, cursor } = query
  return queryString({
    prefix,
    start,
    end,
    reverse: reverse === true ? 'true' : undefined,
    values,
    limit,
    cursor,
    ...consistencyOf(query),
  })
}

function consistencyOf({
  consistency,
  minRevision,
}: ReadOptions): Readonly<Record<string, string | undefined>> {
  return { consistency, minRevision: minRevision === undefined ? undefined : String(minRevision) }
}

function brokenOff({ endpoint }: Answer, why: string, cause?: unknown): TrivetError {
  return new TrivetError('deadline-exceeded', `The listing from ${endpoint} broke off: ${why}`, { cause })
}

function notInUrl(key: string): TrivetError {
  return new TrivetError(
    'invalid-key',
    `This key fits into no URL, so that it cannot be read with a consistency of its own: ${JSON.stringify(key.slice(0, 100))}`,
    { field: 'key' },
  )
}
