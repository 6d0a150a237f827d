// Operations on the keys of the server in memory: alone, in a batch, in a transaction; and the history of what they changed.

export type Stored = {
  readonly value: Buffer
  readonly contentType: string
  readonly revision: number
  readonly expires?: string
}

export type Keyspace = Map<string, Stored>

/** One event of a watch. */
export type Change = {
  readonly type: 'set' | 'delete'
  readonly id: string
  readonly store: string
  readonly key: string
  readonly revision: number
  readonly stored?: Stored
}

/** An operation as it travels: see the contract. */
export type Asked = {
  readonly op: string
  readonly store: string
  readonly key: string
  readonly prefix?: string
  readonly value?: Uint8Array
  readonly contentType?: string
  readonly ttl?: string
  readonly delta?: number | bigint
  readonly ifRevision?: number | bigint
  readonly ifAbsent?: boolean
  readonly seq?: number | bigint
}

/** What an operation comes to, as a result of a batch. */
export type Result = { readonly status: number; readonly [field: string]: unknown }

export function failed(status: number, code: string, more: Readonly<Record<string, unknown>> = {}): Result {
  return { type: `urn:trivet:${code}`, title: code, status, detail: `because ${code}`, code, ...more }
}

/** Keys of several stores under one revision, with the history of their changes. */
export class MemoryKeys {
  revision = 0
  /** Writes that took effect. */
  writes = 0
  readonly stores = new Map<string, Keyspace>([['default', new Map()]])
  readonly history: Change[] = []
  /** Called after every write, for those who watch. */
  readonly watchers = new Set<() => void>()

  /** One operation by itself. */
  single(asked: Asked): Result {
    const old = this.stores.get(asked.store)?.get(asked.key)
    if (!this.stores.has(asked.store)) return failed(404, 'no-such-store')
    const { ifRevision, ifAbsent } = asked
    const fails = ifRevision !== undefined && Number(ifRevision) !== old?.revision
    if (fails || (ifAbsent === true && old !== undefined)) {
      return failed(412, 'condition-failed', { revision: old?.revision ?? 0 })
    }
    return this.#committed(asked.op, () => this.#carryOut(asked, this.revision + 1))
  }

  transaction(asked: {
    readonly if: readonly (Asked & { readonly exists?: boolean; readonly revision?: number })[]
    readonly then: readonly Asked[]
    readonly else: readonly Asked[]
  }): Result {
    const succeeded = asked.if.every(({ store, key, exists, revision, value }) => {
      const stored = this.stores.get(store)?.get(key)
      if (exists !== undefined) return exists === (stored !== undefined)
      if (revision !== undefined) return revision === (stored?.revision ?? 0)
      return value !== undefined && stored?.value.equals(value) === true
    })
    const operations = succeeded ? asked.then : asked.else
    const before = new Map([...this.stores].map(([name, keys]) => [name, new Map(keys)]))
    const known = this.history.length
    const results: Result[] = []
    const writes = operations.some(({ op }) => isWrite(op))
    for (const [index, operation] of operations.entries()) {
      const result = this.#carryOut(operation, this.revision + 1)
      if (result.status >= 400 && isWrite(operation.op)) {
        for (const [name, keys] of before) this.stores.set(name, keys)
        this.history.length = known
        return { ...result, index }
      }
      const { status, code, ...fields } = result
      results.push(code === 'no-such-key' ? { found: false, status: 200 } : { ...fields, status: 200 })
    }
    this.#number(known)
    return this.#committed(writes ? 'set' : 'get', () => ({
      status: 200,
      succeeded,
      revision: this.revision + (writes ? 1 : 0),
      results: results.map(({ status, ...fields }) => fields),
    }))
  }

  deleteRange(store: string, prefix: string): Result {
    const keys = this.stores.get(store) ?? new Map<string, Stored>()
    return this.#committed('delete', () => {
      const deleted = [...keys.keys()].filter((key) => key.startsWith(prefix))
      const known = this.history.length
      for (const key of deleted) this.#remove(store, key, this.revision + 1)
      this.#number(known)
      return { status: 200, revision: this.revision + 1, deleted: deleted.length }
    })
  }

  #committed(op: string, run: () => Result): Result {
    const result = run()
    if (!isWrite(op) || result.status >= 400) return result
    this.revision += 1
    this.writes += 1
    for (const wake of this.watchers) wake()
    return result
  }

  /** Events of one revision have numbers when they are several. */
  #number(from: number): void {
    const events = this.history.splice(from)
    const several = events.length > 1
    this.history.push(
      ...events.map((event, n) => (several ? { ...event, id: `${event.revision}.${n + 1}` } : event)),
    )
  }

  #carryOut(asked: Asked, revision: number): Result {
    const { store, key } = asked
    const keys = this.stores.get(store)
    if (keys === undefined) return failed(404, 'no-such-store')
    const old = keys.get(key)
    switch (asked.op) {
      case 'get':
        return old === undefined
          ? { ...failed(404, 'no-such-key'), found: false }
          : { status: 200, found: true, ...old }
      case 'exists':
        return { status: 200, exists: old !== undefined }
      case 'set': {
        const value = Buffer.from(asked.value ?? [])
        const contentType = asked.contentType ?? 'application/octet-stream'
        const changed = old === undefined || !old.value.equals(value) || old.contentType !== contentType
        this.#put(store, key, { value, contentType, revision, ...expiry(asked.ttl) })
        return { status: old === undefined ? 201 : 200, revision, created: old === undefined, changed }
      }
      case 'delete':
        return { status: 200, revision, deleted: this.#remove(store, key, revision) }
      case 'increment': {
        const text = old?.value.toString() ?? '0'
        if (!/^-?\d+$/.test(text)) return failed(409, 'not-a-number')
        const sum = BigInt(text) + BigInt(asked.delta ?? 1)
        if (BigInt.asIntN(64, sum) !== sum) return failed(409, 'overflow')
        const kept = old ?? { contentType: 'text/plain', ...expiry(asked.ttl) }
        this.#put(store, key, { ...kept, value: Buffer.from(String(sum)), revision })
        return { status: 200, value: sum, revision }
      }
      case 'touch': {
        if (old === undefined) return failed(404, 'no-such-key')
        const { expires: _, ...rest } = old
        keys.set(key, { ...rest, ...expiry(asked.ttl) })
        return { status: 200, ...expiry(asked.ttl) }
      }
      case 'deletePrefix': {
        const gone = [...keys.keys()].filter((name) => name.startsWith(asked.prefix ?? ''))
        for (const name of gone) this.#remove(store, name, revision)
        return { status: 200, deleted: gone.length }
      }
      default:
        return failed(400, 'invalid-request', { field: 'op' })
    }
  }

  #put(store: string, key: string, stored: Stored): void {
    this.stores.get(store)?.set(key, stored)
    const { revision } = stored
    this.history.push({ type: 'set', id: String(revision), store, key, revision, stored })
  }

  #remove(store: string, key: string, revision: number): boolean {
    if (this.stores.get(store)?.delete(key) !== true) return false
    this.history.push({ type: 'delete', id: String(revision), store, key, revision })
    return true
  }
}

export function isWrite(op: string): boolean {
  return op !== 'get' && op !== 'exists'
}

/** Whole seconds are all that tests ask for; the clock of the server begins with the year 2030. */
function expiry(ttl: string | undefined): { readonly expires?: string } {
  const seconds = Number.parseInt(ttl ?? '', 10)
  return Number.isNaN(seconds) ? {} : { expires: new Date(Date.UTC(2030, 0) + seconds * 1000).toISOString() }
}
