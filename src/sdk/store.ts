// A store as its user sees it, and the one behind REST.

import {
  type Deleted,
  defaultContentType,
  headers as fieldNames,
  type KeyPage,
  pageLimits,
  type Written,
} from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import { readDelete, readListing, readRevision, readSet } from './answers.ts'
import { keyPath, queryString, storePath } from './paths.ts'
import type { ApiRequest, Requester } from './requester.ts'
import type { Answer } from './verdict.ts'

/** What can be stored. A string is stored as UTF-8 with type `text/plain; charset=utf-8`, unless told otherwise. */
export type Value = string | Uint8Array | ArrayBuffer

export type ReadOptions = {
  /** `linearizable` (the default): every write acknowledged before the call is seen. `stale`: what this node has. */
  readonly consistency?: 'linearizable' | 'stale' | undefined
  /** Wait until the node has applied this revision: a `stale` read then sees at least that. */
  readonly minRevision?: number | undefined
  readonly signal?: AbortSignal | undefined
}

export type DeleteOptions = {
  /** Only if the key's revision is this one; otherwise `condition-failed`, with the current revision. */
  readonly ifRevision?: number | undefined
  readonly signal?: AbortSignal | undefined
}

export type SetOptions = DeleteOptions & {
  /** The media type to store beside the value. */
  readonly contentType?: string | undefined
  /** Only if the key is missing; otherwise `condition-failed`. Excludes `ifRevision`. */
  readonly ifAbsent?: boolean | undefined
}

/** Bounds are by the bytes of UTF-8, not by JavaScript's order of strings. */
export type KeysOptions = ReadOptions & {
  readonly prefix?: string | undefined
  /** Inclusive. */
  readonly start?: string | undefined
  /** Exclusive. */
  readonly end?: string | undefined
  /** Last key first. */
  readonly reverse?: boolean | undefined
}

export type Entry = {
  readonly key: string
  readonly value: Uint8Array<ArrayBuffer>
  /** The revision that last wrote the key: what `ifRevision` compares with. */
  readonly revision: number
  readonly contentType: string
  /** Absent when it does not expire. */
  readonly expires?: Date
}

/**
 * A named keyspace. A missing key is `undefined` or `false`, never an error. Every method rejects with a `TrivetError`
 * when the store refuses or cannot be asked, and with the signal's reason when aborted. A write goes through the client's
 * session and is sent again until its outcome is known, and applied once; only when time or the signal ends that early does
 * it say `outcome-unknown`, because it may still take effect.
 */
export interface Store extends AsyncDisposable {
  readonly name: string
  get(key: string, options?: ReadOptions): Promise<Uint8Array<ArrayBuffer> | undefined>
  /** Rejects with a `TypeError` when the value is not UTF-8. */
  getText(key: string, options?: ReadOptions): Promise<string | undefined>
  /** Rejects with a `SyntaxError` when the value is not JSON. `T` is the caller's word for what was stored. */
  getJson<T = unknown>(key: string, options?: ReadOptions): Promise<T | undefined>
  getEntry(key: string, options?: ReadOptions): Promise<Entry | undefined>
  set(key: string, value: Value, options?: SetOptions): Promise<Written>
  /** Stores `JSON.stringify(value)` as `application/json`. Throws a `TypeError` for what JSON has no text for. */
  setJson(key: string, value: unknown, options?: Omit<SetOptions, 'contentType'>): Promise<Written>
  /** Deleting what is missing is no error. */
  delete(key: string, options?: DeleteOptions): Promise<Deleted>
  exists(key: string, options?: ReadOptions): Promise<boolean>
  /**
   * The keys in the order of their bytes, fetched 1,000 at a time. Each page is consistent at its own revision; keys
   * written or deleted while one iterates may or may not show.
   */
  getKeys(options?: KeysOptions): AsyncIterable<string>
  /** Afterwards every method rejects with `invalid-store`. Calls under way end as they would have. Twice is fine. */
  close(): Promise<void>
}

/** A store reached through REST. `isOpen` is false once the client behind it is closed. */
export class RemoteStore implements Store {
  readonly name: string
  readonly #requester: Requester
  readonly #clientIsOpen: () => boolean
  #open = true

  constructor(name: string, requester: Requester, clientIsOpen: () => boolean) {
    this.name = name
    this.#requester = requester
    this.#clientIsOpen = clientIsOpen
  }

  async get(key: string, options: ReadOptions = {}): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return (await this.getEntry(key, options))?.value
  }

  async getText(key: string, options: ReadOptions = {}): Promise<string | undefined> {
    const value = await this.get(key, options)
    if (value === undefined) return undefined
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value)
    } catch (cause) {
      throw new TypeError(`The value of ${JSON.stringify(key)} is not UTF-8; read it with get`, { cause })
    }
  }

  async getJson<T = unknown>(key: string, options: ReadOptions = {}): Promise<T | undefined> {
    const text = await this.getText(key, options)
    if (text === undefined) return undefined
    try {
      return JSON.parse(text)
    } catch (cause) {
      throw new SyntaxError(`The value of ${JSON.stringify(key)} is not JSON`, { cause })
    }
  }

  async getEntry(key: string, options: ReadOptions = {}): Promise<Entry | undefined> {
    const answer = await this.#read('GET', key, options)
    if (answer === undefined) return undefined
    const expires = answer.headers.get(fieldNames.expires)
    return {
      key,
      value: answer.body,
      revision: readRevision(answer),
      contentType: answer.headers.get('Content-Type') ?? defaultContentType,
      ...(expires === null ? {} : { expires: new Date(expires) }),
    }
  }

  async exists(key: string, options: ReadOptions = {}): Promise<boolean> {
    const answer = await this.#read('HEAD', key, options)
    if (answer === undefined) return false
    readRevision(answer)
    return true
  }

  async set(key: string, value: Value, options: SetOptions = {}): Promise<Written> {
    const text = typeof value === 'string'
    const contentType = options.contentType ?? (text ? 'text/plain; charset=utf-8' : defaultContentType)
    const body = text ? new TextEncoder().encode(value) : copyOf(value)
    const headers = { ...conditions(options), 'Content-Type': checkContentType(contentType) }
    const { signal } = options
    return readSet(
      await this.#send({
        method: 'PUT',
        path: keyPath(this.name, key),
        headers,
        body,
        effect: 'once',
        signal,
      }),
    )
  }

  async setJson(
    key: string,
    value: unknown,
    options: Omit<SetOptions, 'contentType'> = {},
  ): Promise<Written> {
    const text: string | undefined = JSON.stringify(value)
    if (text === undefined) throw new TypeError(`JSON has no text for this value of ${JSON.stringify(key)}`)
    return this.set(key, text, { ...options, contentType: 'application/json' })
  }

  async delete(key: string, options: DeleteOptions = {}): Promise<Deleted> {
    const { signal } = options
    const path = keyPath(this.name, key)
    return readDelete(
      await this.#send({ method: 'DELETE', path, headers: conditions(options), effect: 'once', signal }),
    )
  }

  async *getKeys(options: KeysOptions = {}): AsyncGenerator<string, void, undefined> {
    for await (const page of this.pages(options)) for (const { key } of page.keys) yield key
  }

  /** The listing as it comes, a page at a time. */
  async *pages(options: KeysOptions = {}): AsyncGenerator<KeyPage, void, undefined> {
    const { prefix, start, end, reverse, signal } = options
    let cursor: string | undefined
    do {
      const query = queryString({
        prefix,
        start,
        end,
        reverse: reverse === true ? 'true' : undefined,
        limit: String(pageLimits.defaultKeys),
        cursor,
        ...consistency(options),
      })
      const path = `${storePath(this.name)}/keys${query}`
      const headers = { Accept: 'application/json' }
      const page = readListing(await this.#send({ method: 'GET', path, headers, effect: 'none', signal }))
      yield page
      cursor = page.cursor
    } while (cursor !== undefined)
  }

  async close(): Promise<void> {
    this.#open = false
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #read(method: 'GET' | 'HEAD', key: string, options: ReadOptions): Promise<Answer | undefined> {
    const path = keyPath(this.name, key) + queryString(consistency(options))
    try {
      return await this.#send({ method, path, effect: 'none', signal: options.signal })
    } catch (error) {
      if (error instanceof TrivetError && error.code === 'no-such-key') return undefined
      throw error
    }
  }

  async #send(request: ApiRequest): Promise<Answer> {
    if (!this.#open || !this.#clientIsOpen()) {
      throw new TrivetError('invalid-store', `The handle on the store ${this.name} is closed`)
    }
    return this.#requester.send(request)
  }
}

/** A copy, so that what the caller does with its buffer meanwhile is not what another try sends. */
function copyOf(value: Uint8Array | ArrayBuffer): Uint8Array<ArrayBuffer> {
  if (value instanceof ArrayBuffer) return new Uint8Array(value.slice(0))
  if (value instanceof Uint8Array) return new Uint8Array(value)
  throw new TypeError('A value is a string, a Uint8Array or an ArrayBuffer')
}

function consistency(options: ReadOptions): Readonly<Record<string, string | undefined>> {
  const { minRevision } = options
  if (minRevision !== undefined) checkRevision(minRevision, 'minRevision')
  return {
    consistency: options.consistency,
    minRevision: minRevision === undefined ? undefined : String(minRevision),
  }
}

function conditions(options: SetOptions): Readonly<Record<string, string>> {
  const { ifRevision, ifAbsent } = options
  if (ifRevision === undefined) return ifAbsent === true ? { 'If-None-Match': '*' } : {}
  if (ifAbsent === true) {
    throw new TrivetError('invalid-request', 'ifRevision and ifAbsent exclude each other', {
      field: 'ifAbsent',
    })
  }
  checkRevision(ifRevision, 'ifRevision')
  return { 'If-Match': `"${ifRevision}"` }
}

function checkRevision(revision: number, field: string): void {
  if (Number.isSafeInteger(revision) && revision > 0) return
  throw new TrivetError('invalid-request', `${field} must be a positive integer; it is ${revision}`, {
    field,
  })
}

function checkContentType(contentType: string): string {
  if (/^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/.test(contentType)) return contentType
  throw new TrivetError(
    'invalid-request',
    'contentType must be a media type in printable ASCII, at most 255 bytes',
    {
      field: 'contentType',
    },
  )
}
