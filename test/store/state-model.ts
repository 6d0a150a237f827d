// The state as a reader of the contract would write it down: maps and strings, and no thought of disks, rows or batches.

import assert from 'node:assert/strict'
import { decodeCommand } from '../../src/store/commands.ts'
import type {
  AdminCommand,
  Command,
  CommandBatch,
  Due,
  Founding,
  Item,
  KeyCommand,
  Once,
  Operation,
  OperationResult,
  Outcome,
  Principal,
  RepeatableCommand,
  StoreDefinition,
  Token,
  TransactionCondition,
  Ttl,
  Until,
} from '../../src/store/types.ts'
import { founding } from './state-fixtures.ts'

export const lifeMs = 10 * 60_000

/** Bytes as text, one character each. */
export function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1')
}

export type ModelRecord = {
  readonly value: string
  readonly contentType: string
  readonly revision: number
  readonly createdRevision: number
  readonly expires: number | undefined
}

type ModelStore = {
  readonly number: number
  readonly definition: StoreDefinition
  readonly app?: string
  dropped: boolean
  records: Map<string, ModelRecord>
}

type Founded = Pick<Founding, 'stores' | 'tokens' | 'valueBytes' | 'foundedAt'>

type ModelSession = { owner: string; used: number; floor: number; outcomes: Map<number, Outcome> }
type ModelKey = { readonly at: number; readonly digest: string; readonly outcome: Outcome }

export type ModelChange = {
  revision: number
  n: number
  type: string
  store: number
  key: string
  value?: string
}

type Refused = Extract<Outcome, { type: 'refused' }>

const remembered = new Set([
  'condition-failed',
  'not-a-number',
  'overflow',
  'token-exists',
  'store-exists',
  'store-protected',
])

const never = 2 ** 48 - 2

export class Model {
  revision = 0
  time: number
  readonly changes: ModelChange[] = []
  tokens: Token[]
  stores: ModelStore[]
  readonly #valueBytes: number
  #nextStore: number
  /** None is ever taken away: what is over is over by its time. */
  readonly #sessions = new Map<string, ModelSession>()
  readonly #keys = new Map<string, ModelKey>()
  readonly #origins = new Map<string, { boot: number; floor: number; outcomes: Map<number, Outcome> }>()

  constructor(founded: Founded = founding) {
    this.time = founded.foundedAt
    this.tokens = [...founded.tokens]
    this.stores = founded.stores.map((definition, at) => ({
      number: at + 1,
      definition,
      dropped: false,
      records: new Map(),
    }))
    this.#nextStore = founded.stores.length + 1
    this.#valueBytes = founded.valueBytes
  }

  hear({ peer, boot, acked, commands }: CommandBatch) {
    let origin = this.#origins.get(peer)
    if (origin === undefined || origin.boot < boot) origin = { boot, floor: 0, outcomes: new Map() }
    this.#origins.set(peer, origin)
    if (boot < origin.boot) return []
    origin.floor = Math.max(origin.floor, acked)
    const answers: { id: { peer: string; boot: number; number: number }; outcome: Outcome }[] = []
    for (const { number, bytes: encoded } of commands) {
      if (number <= origin.floor) continue
      const known = origin.outcomes.get(number)
      const outcome = known ?? this.#execute(decodeCommand(encoded))
      if (known === undefined) origin.outcomes.set(number, withoutItems(outcome))
      answers.push({ id: { peer, boot, number }, outcome })
    }
    return answers
  }

  due(now: number, limit: number): Due {
    const all = [
      ...this.tokens.map(({ hash, expires }) => ({ expires, token: hash, name: '' })),
      ...this.stores.flatMap(({ number, records }) =>
        [...records].map(([key, { expires, revision }]) => ({
          expires,
          record: { store: number, key: Buffer.from(key, 'latin1'), revision },
          name: `${String(number).padStart(9)}${key}`,
        })),
      ),
    ].filter(({ expires }) => expires !== undefined && expires <= now)
    const rank = ({ expires = 0, name }: { expires?: number | undefined; name: string }) =>
      [expires, name] as const
    all.sort((left, right) => {
      const [a, b] = [rank(left), rank(right)]
      return a[0] - b[0] || (a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0)
    })
    const first = all.slice(0, limit)
    return {
      records: first.flatMap((one) => ('record' in one ? [one.record] : [])),
      tokens: first.flatMap((one) => ('token' in one ? [one.token] : [])),
    }
  }

  dropped(): readonly number[] {
    return this.stores.filter(({ dropped }) => dropped).map(({ number }) => number)
  }

  /** Every store that can be opened, with all its records. */
  contents() {
    const open = this.stores.filter(({ dropped }) => !dropped)
    return open.map(({ number, app, definition, records }) => {
      const sorted = [...records].sort(([left], [right]) => (left < right ? -1 : 1))
      const bytes = sorted.reduce((sum, [key, { value }]) => sum + key.length + value.length, 0)
      return { number, app, name: definition.name, keys: sorted.length, bytes, records: sorted }
    })
  }

  // ── who asks, and whether again ──────────────────────────────────────────────────────────────────────────────

  #execute(command: Command): Outcome {
    if (command.type === 'expire') return this.#expire(command)
    if (command.type === 'collect') return this.#collect(command.store)
    assert(
      command.type !== 'restore',
      'A restore is held against the backup it brings, not against this model',
    )
    const token = this.tokens.find(({ hash }) => hash === command.token)
    if (token === undefined) return { type: 'refused', code: 'unauthenticated' }
    if (command.type === 'openSession') {
      if (token.principal.type === 'monitor') return { type: 'refused', code: 'access-denied' }
      const { session } = command
      const stands = this.#sessions.get(session)
      if (stands !== undefined && stands.used + lifeMs > this.time) {
        return { type: 'refused', code: 'invalid-request' }
      }
      this.#sessions.set(session, { owner: token.name, used: this.time, floor: 0, outcomes: new Map() })
      return { type: 'sessionOpened' }
    }
    const { once } = command
    if (once === undefined) return this.#change(command, token)
    return once.type === 'session'
      ? this.#inSession(token, once, command)
      : this.#underKey(token, once, command)
  }

  #inSession(token: Token, once: Extract<Once, { type: 'session' }>, command: RepeatableCommand): Outcome {
    const { seq, acked } = once
    const session = this.#sessions.get(once.session)
    if (session === undefined || session.owner !== token.name || session.used + lifeMs <= this.time) {
      return { type: 'refused', code: 'session-expired' }
    }
    session.used = this.time
    session.floor = Math.max(session.floor, acked)
    if (seq <= session.floor) return { type: 'refused', code: 'invalid-request', field: 'trivet-session' }
    const known = session.outcomes.get(seq)
    if (known !== undefined) return { ...known, replayed: true }
    const outcome = this.#change(command, token)
    session.outcomes.set(seq, withoutItems(outcome))
    return outcome
  }

  #underKey(token: Token, once: Extract<Once, { type: 'key' }>, command: RepeatableCommand): Outcome {
    const id = `${token.name} ${once.key}`
    const digest = Buffer.from(once.digest).toString('hex')
    const known = this.#keys.get(id)
    if (known !== undefined && known.at + lifeMs > this.time) {
      if (known.digest !== digest) return { type: 'refused', code: 'idempotency-key-reused' }
      return { ...known.outcome, replayed: true }
    }
    const outcome = this.#change(command, token)
    if (outcome.type !== 'refused' || remembered.has(outcome.code)) {
      this.#keys.set(id, { at: this.time, digest, outcome: withoutItems(outcome) })
    }
    return outcome
  }

  // ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────

  #change(command: RepeatableCommand, token: Token): Outcome {
    switch (command.type) {
      case 'set':
      case 'delete':
      case 'increment':
      case 'touch':
        return this.#changeKey(command, token)
      case 'deleteRange': {
        const { store: name, prefix } = command
        if (!allowed(token.principal, name, 'read-write', text(prefix))) {
          return { type: 'refused', code: 'access-denied' }
        }
        if (this.#find(token, name) === undefined) return { type: 'refused', code: 'no-such-store' }
        const before = this.#copy()
        const result = this.#operate({ type: 'deletePrefix', store: name, prefix }, token, this.revision + 1)
        assert(result.type === 'rangeDeleted')
        this.revision += 1
        this.#tell(before)
        return { ...result, revision: this.revision }
      }
      case 'transaction':
        return this.#transact(command, token)
      default:
        return this.#administer(command, token)
    }
  }

  #changeKey(command: KeyCommand, token: Token): Outcome {
    if (!allowed(token.principal, command.store, 'read-write', text(command.key))) {
      return { type: 'refused', code: 'access-denied' }
    }
    const found = this.#find(token, command.store)
    if (found === undefined) return { type: 'refused', code: 'no-such-store' }
    const limit = found.store.definition.maxValueBytes ?? this.#valueBytes
    if (command.type === 'set' && command.value.length > limit) {
      return { type: 'refused', code: 'value-too-large', limit }
    }
    const present = found.store.records.get(found.within + text(command.key))
    for (const one of command.conditions) {
      const wrong =
        one.type === 'absent'
          ? present !== undefined
          : present === undefined || (one.type === 'revision' && !one.revisions.includes(present.revision))
      if (wrong) return { type: 'refused', code: 'condition-failed', revision: present?.revision ?? 0 }
    }
    const before = this.#copy()
    const result = this.#operate(command, token, this.revision + 1)
    if (result.type === 'refused') return result
    if (result.type === 'touched') return result
    this.revision += 1
    this.#tell(before)
    return { ...result, revision: this.revision } as Outcome
  }

  #transact(command: Extract<Command, { type: 'transaction' }>, token: Token): Outcome {
    const { principal } = token
    const mayRead = command.if.every(({ store, key }) => allowed(principal, store, 'read', text(key)))
    const may = [...command.then, ...command.else].every((operation) => {
      const reads = ['get', 'head', 'exists'].includes(operation.type)
      const within = operation.type === 'deletePrefix' ? operation.prefix : operation.key
      return allowed(principal, operation.store, reads ? 'read' : 'read-write', text(within))
    })
    if (!mayRead || !may) return { type: 'refused', code: 'access-denied' }
    if (command.if.some(({ store }) => this.#find(token, store) === undefined)) {
      return { type: 'refused', code: 'no-such-store' }
    }
    const succeeded = command.if.every((condition) => this.#holds(condition, token))
    const branch = succeeded ? command.then : command.else
    const writes = branch.some(({ type }) => ['set', 'delete', 'increment', 'deletePrefix'].includes(type))
    const revision = writes ? this.revision + 1 : this.revision
    const before = this.#copy()
    const results: OperationResult[] = []
    for (const [index, operation] of branch.entries()) {
      const result = this.#operate(operation, token, revision)
      if (result.type === 'refused') {
        for (const [at, store] of this.stores.entries()) store.records = before[at] ?? new Map()
        return { ...result, index }
      }
      results.push(result)
    }
    this.revision = revision
    this.#tell(before)
    return { type: 'transaction', revision, succeeded, results }
  }

  #holds(condition: TransactionCondition, token: Token): boolean {
    const found = this.#find(token, condition.store)
    const present = found?.store.records.get(found.within + text(condition.key))
    if (condition.type === 'revision') return (present?.revision ?? 0) === condition.revision
    if (condition.type === 'exists') return (present !== undefined) === condition.exists
    return present?.value === text(condition.value)
  }

  #operate(operation: Operation, token: Token, revision: number): OperationResult | Refused {
    const found = this.#find(token, operation.store)
    if (found === undefined) return { type: 'refused', code: 'no-such-store' }
    const { store, within } = found
    const { records, definition } = store
    if (operation.type === 'deletePrefix') {
      const gone = [...records.keys()].filter((key) => key.startsWith(within + text(operation.prefix)))
      for (const key of gone) records.delete(key)
      return { type: 'rangeDeleted', deleted: gone.length }
    }
    const key = within + text(operation.key)
    const present = records.get(key)
    const limit = definition.maxValueBytes ?? this.#valueBytes
    switch (operation.type) {
      case 'get':
        return { type: 'get', item: present && itemOf(operation.key, present) }
      case 'head': {
        if (present === undefined) return { type: 'head', item: undefined }
        const { value, ...rest } = itemOf(operation.key, present)
        return { type: 'head', item: { ...rest, size: value.length } }
      }
      case 'exists':
        return { type: 'exists', exists: present !== undefined }
      case 'set': {
        const { contentType } = operation
        const value = text(operation.value)
        if (value.length > limit) return { type: 'refused', code: 'value-too-large', limit }
        const changed = present?.value !== value || present.contentType !== contentType
        const createdRevision = present?.createdRevision ?? revision
        const expires = this.#expiry(operation.ttl ?? definition.ttl)
        records.set(key, { value, contentType, revision, createdRevision, expires })
        return { type: 'set', revision, created: present === undefined, changed }
      }
      case 'delete':
        return { type: 'deleted', deleted: records.delete(key) }
      case 'increment': {
        const digits = present?.value ?? '0'
        if (!/^-?[0-9]{1,19}$/.test(digits) || !fits(BigInt(digits))) {
          return { type: 'refused', code: 'not-a-number' }
        }
        const value = BigInt(digits) + operation.delta
        if (!fits(value)) return { type: 'refused', code: 'overflow' }
        if (String(value).length > limit) return { type: 'refused', code: 'value-too-large', limit }
        const fresh = {
          contentType: 'text/plain',
          createdRevision: revision,
          expires: this.#expiry(operation.ttl ?? definition.ttl),
        }
        records.set(key, { ...(present ?? fresh), value: String(value), revision })
        return { type: 'incremented', value }
      }
      case 'touch': {
        if (present === undefined) return { type: 'refused', code: 'no-such-key' }
        const expires = this.#expiry(operation.ttl)
        records.set(key, { ...present, expires })
        return { type: 'touched', ...(expires === undefined ? {} : { expires }) }
      }
    }
  }

  #administer(command: AdminCommand, token: Token): Outcome {
    const isAdmin = token.principal.type === 'admin'
    const refused = (code: Refused['code'], more = {}): Outcome => ({ type: 'refused', code, ...more })
    const done = (type: 'storeCreated' | 'storeDropped' | 'tokenMinted' | 'tokenRevoked' | 'appRemoved') => {
      this.revision += 1
      return { type } as Outcome
    }
    const current = (name: string) =>
      this.tokens.find((one) => one.name === name && one.replaced === undefined)
    const isBelow = (name: string): boolean => {
      for (let one = current(name)?.mintedBy; one !== undefined; one = current(one)?.mintedBy) {
        if (one === token.name) return true
      }
      return false
    }
    const mayMint = token.principal.type === 'component' && token.principal.mint === true
    switch (command.type) {
      case 'createStore': {
        const { definition } = command
        if (!isAdmin) return refused('access-denied')
        if (this.#named(definition.name) !== undefined) return refused('store-exists')
        this.#open(definition)
        return done('storeCreated')
      }
      case 'dropStore': {
        if (!isAdmin) return refused('access-denied')
        const store = this.#named(command.name)
        if (store === undefined) return refused('no-such-store')
        if (command.name === 'default') return refused('store-protected')
        this.#drop(store)
        return done('storeDropped')
      }
      case 'mintToken': {
        const { name, hash, principal, ttl } = command.minted
        const asked = ttl === undefined ? undefined : this.time + ttl
        const last = isAdmin ? undefined : (current(token.name) ?? token).expires
        if (!isAdmin) {
          if (!mayMint || principal.type !== 'component') return refused('access-denied')
          if (!principal.grants.every((grant) => covered(grant, token.principal)))
            return refused('access-denied')
          if (asked !== undefined && last !== undefined && asked > last) return refused('access-denied')
        }
        if (this.tokens.some((one) => one.name === name || one.hash === hash)) return refused('token-exists')
        if (principal.type === 'app' && this.#appStore(principal.app) === undefined) {
          this.#open({ name: `app:${principal.app}` }, principal.app)
        }
        const expires = asked ?? last
        this.tokens.push({
          name,
          hash,
          principal,
          ...(expires === undefined ? {} : { expires }),
          ...(isAdmin ? {} : { mintedBy: token.name }),
        })
        return done('tokenMinted')
      }
      case 'revokeToken': {
        const { name } = command
        if (!isAdmin && !(mayMint && isBelow(name))) return refused('access-denied')
        if (!this.tokens.some((one) => one.name === name)) return refused('not-found')
        const found = current(name)
        if (found?.principal.type === 'admin') {
          const others = this.tokens.filter(
            (one) => one.principal.type === 'admin' && one.replaced === undefined && one.name !== name,
          )
          const lasting = others.filter(({ expires }) => expires === undefined)
          if (others.length === 0 || (found.expires === undefined && lasting.length === 0)) {
            return refused('access-denied')
          }
        }
        const gone = new Set([name])
        for (let size = 0; size !== gone.size; ) {
          size = gone.size
          for (const one of this.tokens) if (gone.has(one.mintedBy ?? '')) gone.add(one.name)
        }
        this.tokens = this.tokens.filter((one) => !gone.has(one.name))
        return done('tokenRevoked')
      }
      case 'rotateToken': {
        const { name, hash, overlap } = command
        if (!isAdmin && !(mayMint && isBelow(name))) return refused('access-denied')
        const found = current(name)
        if (found === undefined) return refused('not-found')
        if (this.tokens.some((one) => one.hash === hash)) return refused('token-exists')
        const until = overlap === 0 ? undefined : Math.min(this.time + overlap, found.expires ?? never)
        this.tokens = this.tokens.filter((one) => one !== found)
        if (until !== undefined) this.tokens.push({ ...found, expires: until, replaced: true })
        this.tokens.push({ ...found, hash })
        this.revision += 1
        return { type: 'tokenRotated', ...(until === undefined ? {} : { expires: until }) }
      }
      case 'removeApp': {
        if (!isAdmin) return refused('access-denied')
        const store = this.#appStore(command.app)
        if (store === undefined) return refused('not-found')
        this.tokens = this.tokens.filter(
          ({ principal }) => principal.type !== 'app' || principal.app !== command.app,
        )
        this.#drop(store)
        return done('appRemoved')
      }
    }
  }

  // ── what the node asks itself ────────────────────────────────────────────────────────────────────────────────

  #expire({ records, tokens }: Extract<Command, { type: 'expire' }>): Outcome {
    const before = this.#copy()
    let isSeen = false
    for (const { store: number, key, revision } of records) {
      const store = this.stores.find((one) => one.number === number)
      const record = store?.records.get(text(key))
      if (store === undefined || record?.revision !== revision) continue
      if (record.expires === undefined || record.expires > this.time) continue
      store.records.delete(text(key))
      isSeen ||= !store.dropped
    }
    if (isSeen) this.revision += 1
    this.#tell(before, 'expire')
    this.tokens = this.tokens.filter(
      ({ hash, expires }) => !tokens.includes(hash) || expires === undefined || expires > this.time,
    )
    return { type: 'done' }
  }

  #collect(number: number): Outcome {
    this.stores = this.stores.filter((store) => !store.dropped || store.number !== number)
    return { type: 'done' }
  }

  // ── stores ───────────────────────────────────────────────────────────────────────────────────────────────────

  #named(name: string): ModelStore | undefined {
    return this.stores.find((one) => !one.dropped && one.app === undefined && one.definition.name === name)
  }

  #appStore(app: string): ModelStore | undefined {
    return this.stores.find((one) => !one.dropped && one.app === app)
  }

  #find({ principal }: Token, name: string): { store: ModelStore; within: string } | undefined {
    const isOwn = principal.type === 'app' && name === 'self'
    const store = isOwn ? this.#appStore(principal.app) : this.#named(name)
    return store && { store, within: isOwn ? holderOf(principal) : '' }
  }

  #open(definition: StoreDefinition, app?: string): void {
    const number = this.#nextStore
    this.#nextStore += 1
    this.stores.push({
      number,
      definition,
      dropped: false,
      records: new Map(),
      ...(app === undefined ? {} : { app }),
    })
  }

  #drop(store: ModelStore): void {
    store.dropped = true
    if (store.records.size === 0) this.stores = this.stores.filter((one) => one !== store)
  }

  #copy(): Map<string, ModelRecord>[] {
    return this.stores.map(({ records }) => new Map(records))
  }

  /** What a watcher sees of all that is another record now; in one revision watchers may see keys in any order. */
  #tell(before: readonly Map<string, ModelRecord>[], gone = 'delete'): void {
    const changes: Omit<ModelChange, 'n'>[] = []
    const { revision } = this
    for (const [at, { number, records, dropped }] of this.stores.entries()) {
      if (dropped) continue
      const old = before[at] ?? new Map<string, ModelRecord>()
      for (const key of new Set([...old.keys(), ...records.keys()])) {
        const record = records.get(key)
        if (record?.revision === old.get(key)?.revision) continue
        const change = { revision, store: number, key }
        changes.push(
          record === undefined ? { ...change, type: gone } : { ...change, type: 'set', value: record.value },
        )
      }
    }
    this.changes.push(...changes.map((change, at) => ({ ...change, n: at + 1 })))
  }

  #expiry(ttl: Ttl | Until | undefined): number | undefined {
    if (typeof ttl === 'object') return ttl.until
    return typeof ttl === 'number' ? this.time + ttl : undefined
  }
}

function allowed(
  principal: Principal,
  store: string,
  access: 'read' | 'read-write',
  within: string,
): boolean {
  if (principal.type === 'admin') return true
  if (principal.type === 'app') return store === 'self'
  if (principal.type === 'monitor') return false
  return principal.grants.some(
    (grant) =>
      grant.store === store &&
      (access === 'read' || grant.access === 'read-write') &&
      within.startsWith(text(Buffer.from(grant.prefix ?? ''))),
  )
}

function covered(
  grant: { store: string; access: 'read' | 'read-write'; prefix?: string },
  by: Principal,
): boolean {
  return allowed(by, grant.store, grant.access, text(Buffer.from(grant.prefix ?? '')))
}

function holderOf({ holder }: Extract<Principal, { type: 'app' }>): string {
  return `${holder.type === 'user' ? 'u' : 'b'}\0${String.fromCharCode(holder.id.length)}${holder.id}`
}

function itemOf(key: Uint8Array, record: ModelRecord): Item {
  return { ...record, key: Buffer.from(key), value: Buffer.from(record.value, 'latin1') }
}

function fits(number: bigint): boolean {
  return number >= -(2n ** 63n) && number < 2n ** 63n
}

function withoutItems(outcome: Outcome): Outcome {
  if (outcome.type !== 'transaction') return outcome
  let isLess = false
  const results = outcome.results.map((result): OperationResult => {
    if (result.type !== 'get' && result.type !== 'head') return result
    isLess = true
    return { type: 'recalled', found: result.item !== undefined, revision: result.item?.revision ?? 0 }
  })
  return isLess ? { ...outcome, results, replayed: true } : outcome
}
