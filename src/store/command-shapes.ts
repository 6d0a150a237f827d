// What commands are made of, as arrays of plain values: for `commands.ts`, which packs and unpacks them.

import assert from 'node:assert/strict'
import { maxStoreNumber } from './state-rows.ts'
import type {
  AdminCommand,
  Condition,
  DueRecord,
  Grant,
  Minted,
  Once,
  Operation,
  Principal,
  RestoreStep,
  StoreDefinition,
  TransactionCondition,
  Ttl,
  Until,
} from './types.ts'

// Every kind has a number that it keeps. What is not there is null.
const conditionNumbers = { exists: 1, absent: 2, revision: 3 } as const
const onceNumbers = { session: 1, key: 2 } as const
const transactionConditionNumbers = { revision: 1, exists: 2, value: 3 } as const
const operationNumbers = {
  get: 1,
  head: 2,
  exists: 3,
  set: 4,
  delete: 5,
  increment: 6,
  touch: 7,
  deletePrefix: 8,
} as const
const principalNumbers = { admin: 1, monitor: 2, component: 3, app: 4 } as const
const accessNumbers = { read: 1, 'read-write': 2 } as const
const holderNumbers = { user: 1, bot: 2 } as const

const operationTypes = namesOf(operationNumbers)
const restoreStepNumbers = { begin: 1, rows: 2, link: 3, drop: 4 } as const

const restoreStepTypes = namesOf(restoreStepNumbers)
const accessTypes = namesOf(accessNumbers)
const holderTypes = namesOf(holderNumbers)

/** Milliseconds that a time to live may have: 3,650 days. */
export const maxTtlMs = 3650 * 24 * 60 * 60 * 1000

function namesOf<Name extends string>(numbers: Readonly<Record<Name, number>>): ReadonlyMap<unknown, Name> {
  return new Map(Object.entries(numbers).map(([name, number]) => [number, name as Name]))
}

export function packCondition(condition: Condition): readonly number[] {
  return condition.type === 'revision'
    ? [conditionNumbers.revision, ...condition.revisions]
    : [conditionNumbers[condition.type]]
}

export function unpackCondition(condition: unknown): Condition {
  const [type, ...revisions] = listOf(condition, 'A condition is an array')
  if (type === conditionNumbers.exists && revisions.length === 0) return { type: 'exists' }
  if (type === conditionNumbers.absent && revisions.length === 0) return { type: 'absent' }
  assert(type === conditionNumbers.revision && revisions.every(isNumber), 'A condition is one of three kinds')
  return { type: 'revision', revisions }
}

export function packOnce(once: Once): readonly unknown[] {
  return once.type === 'session'
    ? [onceNumbers.session, once.session, once.seq, once.acked]
    : [onceNumbers.key, once.key, once.digest]
}

export function unpackOnce(once: unknown): Once {
  const [type, ...rest] = listOf(once, 'How a write is repeated is an array')
  if (type === onceNumbers.session) {
    const [session, seq, acked] = rest
    assert(rest.length === 3 && typeof session === 'string', 'A write of a session names it')
    assert(isCount(seq) && isCount(acked) && acked < seq, 'A session counts its writes up')
    return { type: 'session', session, seq, acked }
  }
  const [key, digest] = rest
  assert(type === onceNumbers.key && rest.length === 2, 'A write is repeated in one of two ways')
  assert(typeof key === 'string' && /^[\x21-\x7e]{1,128}$/.test(key), 'An idempotency key is visible ASCII')
  assert(digest instanceof Uint8Array && digest.length === 32, 'A digest is SHA-256')
  return { type: 'key', key, digest }
}

export function packTtl(ttl: Ttl | Until | undefined): unknown {
  if (typeof ttl === 'object') return [ttl.until]
  return ttl === 'none' ? 0 : (ttl ?? null)
}

/** Empty where none is given, so that it may be spread into a command. */
export function unpackTtl(ttl: unknown): { readonly ttl?: Ttl } {
  return ttl === null ? {} : { ttl: givenTtl(ttl) }
}

/** Of a set, which may also say the moment itself. */
export function unpackLifetime(ttl: unknown): { readonly ttl?: Ttl | Until } {
  return Array.isArray(ttl) ? { ttl: { until: count(ttl[0]) } } : unpackTtl(ttl)
}

export function givenTtl(ttl: unknown): Ttl {
  assert(isCount(ttl) && ttl <= maxTtlMs, 'A time to live has at most 3,650 days')
  return ttl === 0 ? 'none' : ttl
}

export function packDelta(delta: bigint): string {
  assert(BigInt.asIntN(64, delta) === delta, 'What is added is a signed 64-bit number')
  return String(delta)
}

export function unpackDelta(text: unknown): bigint {
  assert(typeof text === 'string' && /^(0|-?[1-9]\d{0,18})$/.test(text), 'What is added is decimal text')
  const delta = BigInt(text)
  assert(BigInt.asIntN(64, delta) === delta, 'What is added is a signed 64-bit number')
  return delta
}

export function packTransactionCondition(condition: TransactionCondition): readonly unknown[] {
  const head = [transactionConditionNumbers[condition.type], condition.store, condition.key]
  switch (condition.type) {
    case 'revision':
      return [...head, condition.revision]
    case 'exists':
      return [...head, condition.exists]
    case 'value':
      return [...head, condition.value]
    default:
      throw new assert.AssertionError({ message: `Unknown condition ${condition satisfies never}` })
  }
}

export function unpackTransactionCondition(condition: unknown): TransactionCondition {
  const [type, store, key, wanted, ...rest] = listOf(condition, 'A condition is an array')
  assert(typeof store === 'string' && key instanceof Uint8Array, 'A condition names a store and a key')
  assert(rest.length === 0, 'A condition wants one thing')
  if (type === transactionConditionNumbers.revision) {
    assert(isCount(wanted), 'A revision is a whole number')
    return { type: 'revision', store, key, revision: wanted }
  }
  if (type === transactionConditionNumbers.exists) {
    assert(typeof wanted === 'boolean', 'A key exists or does not')
    return { type: 'exists', store, key, exists: wanted }
  }
  assert(type === transactionConditionNumbers.value, 'A transaction has three kinds of conditions')
  assert(wanted instanceof Uint8Array, 'A value is bytes')
  return { type: 'value', store, key, value: wanted }
}

export function packOperation(operation: Operation): readonly unknown[] {
  const number = operationNumbers[operation.type]
  if (operation.type === 'deletePrefix') return [number, operation.store, operation.prefix]
  const head = [number, operation.store, operation.key]
  switch (operation.type) {
    case 'get':
    case 'head':
    case 'exists':
    case 'delete':
      return head
    case 'set':
      return [...head, operation.value, operation.contentType, packTtl(operation.ttl)]
    case 'increment':
      return [...head, packDelta(operation.delta), packTtl(operation.ttl)]
    case 'touch':
      return [...head, packTtl(operation.ttl)]
    default:
      throw new assert.AssertionError({ message: `No encoding for operation ${operation satisfies never}` })
  }
}

export function unpackOperation(operation: unknown): Operation {
  const [number, store, key, ...rest] = listOf(operation, 'An operation is an array')
  const type = operationTypes.get(number)
  assert(type !== undefined, 'There are eight kinds of operations')
  assert(typeof store === 'string' && key instanceof Uint8Array, 'An operation names a store and a key')
  const [first, second, third] = rest
  const brings = (count: number): void => assert(rest.length === count, `${type} has ${count} fields more`)
  switch (type) {
    case 'deletePrefix':
      brings(0)
      return { type, store, prefix: key }
    case 'get':
    case 'head':
    case 'exists':
    case 'delete':
      brings(0)
      return { type, store, key }
    case 'set':
      brings(3)
      assert(first instanceof Uint8Array && typeof second === 'string', 'A set brings a value and its type')
      return { type, store, key, value: first, contentType: second, ...unpackLifetime(third) }
    case 'increment':
      brings(2)
      return { type, store, key, delta: unpackDelta(first), ...unpackTtl(second) }
    case 'touch':
      brings(1)
      return { type, store, key, ttl: givenTtl(first) }
    default:
      throw new assert.AssertionError({ message: `No decoding for operation ${type satisfies never}` })
  }
}

export function packAdminFields(command: AdminCommand): readonly unknown[] {
  switch (command.type) {
    case 'createStore':
      return packDefinition(command.definition)
    case 'dropStore':
    case 'revokeToken':
      return [command.name]
    case 'mintToken':
      return packMinted(command.minted)
    case 'rotateToken':
      return [command.name, command.hash, command.overlap]
    case 'removeApp':
      return [command.app]
    default:
      throw new assert.AssertionError({ message: `No encoding for command ${command satisfies never}` })
  }
}

type AdminFields = AdminCommand extends infer One
  ? One extends AdminCommand
    ? Omit<One, 'token' | 'once'>
    : never
  : never

export function unpackAdminFields(type: AdminCommand['type'], fields: readonly unknown[]): AdminFields {
  const [first, second, third] = fields
  switch (type) {
    case 'createStore':
      return { type, definition: unpackDefinition(fields) }
    case 'dropStore':
    case 'revokeToken':
      return { type, name: text(first) }
    case 'mintToken':
      return { type, minted: unpackMinted(fields) }
    case 'rotateToken':
      assert(isCount(third), 'An overlap is a whole number of milliseconds')
      return { type, name: text(first), hash: text(second), overlap: third }
    case 'removeApp':
      return { type, app: text(first) }
    default:
      throw new assert.AssertionError({ message: `No decoding for command ${type satisfies never}` })
  }
}

function packDefinition({ name, ttl, maxValueBytes }: StoreDefinition): readonly unknown[] {
  return [name, ttl ?? null, maxValueBytes ?? null]
}

function unpackDefinition([name, ttl, maxValueBytes]: readonly unknown[]): StoreDefinition {
  return {
    name: text(name),
    ...(ttl === null ? {} : { ttl: count(ttl) }),
    ...(maxValueBytes === null ? {} : { maxValueBytes: count(maxValueBytes) }),
  }
}

function packMinted({ name, hash, principal, ttl }: Minted): readonly unknown[] {
  return [name, hash, packPrincipal(principal), ttl ?? null]
}

function unpackMinted([name, hash, principal, ttl]: readonly unknown[]): Minted {
  const minted = { name: text(name), hash: text(hash), principal: unpackPrincipal(principal) }
  return ttl === null ? minted : { ...minted, ttl: count(ttl) }
}

function packPrincipal(principal: Principal): readonly unknown[] {
  const number = principalNumbers[principal.type]
  switch (principal.type) {
    case 'admin':
    case 'monitor':
      return [number]
    case 'component':
      return [number, principal.grants.map(packGrant), principal.mint === true]
    case 'app':
      return [number, principal.app, holderNumbers[principal.holder.type], principal.holder.id]
    default:
      throw new assert.AssertionError({ message: `No encoding for principal ${principal satisfies never}` })
  }
}

function unpackPrincipal(principal: unknown): Principal {
  const [type, first, second, third] = listOf(principal, 'A principal is an array')
  if (type === principalNumbers.admin) return { type: 'admin' }
  if (type === principalNumbers.monitor) return { type: 'monitor' }
  if (type === principalNumbers.component) {
    const grants = listOf(first, 'A component lists its grants').map(unpackGrant)
    return { type: 'component', grants, ...(second === true ? { mint: true } : {}) }
  }
  assert(type === principalNumbers.app, 'There are four kinds of principals')
  const holderType = holderTypes.get(second)
  assert(holderType !== undefined, 'An app acts for a user or as its bot')
  return { type: 'app', app: text(first), holder: { type: holderType, id: text(third) } }
}

function packGrant({ store, access, prefix }: Grant): readonly unknown[] {
  return [store, accessNumbers[access], prefix ?? null]
}

function unpackGrant(grant: unknown): Grant {
  const [store, number, prefix] = listOf(grant, 'A grant is an array')
  const access = accessTypes.get(number)
  assert(access !== undefined, 'A grant is to read, or to write too')
  return { store: text(store), access, ...(prefix === null ? {} : { prefix: text(prefix) }) }
}

export function packRestoreStep(step: RestoreStep): readonly unknown[] {
  const number = restoreStepNumbers[step.type]
  switch (step.type) {
    case 'begin':
      return [number, step.header]
    case 'rows':
      return [number, step.number, step.rows]
    case 'link':
      return [number, step.rows, step.digest]
    case 'drop':
      return [number]
    default:
      throw new assert.AssertionError({ message: `No encoding for step ${step satisfies never}` })
  }
}

export function unpackRestoreStep(step: unknown): RestoreStep {
  const [number, first, second, ...rest] = listOf(step, 'A step of a restore is an array')
  const type = restoreStepTypes.get(number)
  assert(type !== undefined && rest.length === 0, 'There are four steps of a restore')
  switch (type) {
    case 'begin':
      assert(first instanceof Uint8Array && second === undefined, 'A restore begins with a header')
      return { type, header: first }
    case 'rows':
      assert(second instanceof Uint8Array, 'A restore goes on with rows')
      return { type, number: count(first), rows: second }
    case 'link':
      return { type, rows: count(first), digest: text(second) }
    case 'drop':
      assert(first === undefined && second === undefined, 'Nothing more is said of what is dropped')
      return { type }
    default:
      throw new assert.AssertionError({ message: `No decoding for step ${type satisfies never}` })
  }
}

export function packDue({ store, key, revision }: DueRecord): readonly unknown[] {
  return [store, key, revision]
}

/** Records and tokens that one command may expire. */
const mostDue = 1000

export function unpackExpired(
  records: unknown,
  tokens: unknown,
): { readonly records: readonly DueRecord[]; readonly tokens: readonly string[] } {
  const due = {
    records: listOf(records, 'What expires lists records').map(unpackDue),
    tokens: listOf(tokens, 'What expires lists tokens').map(text),
  }
  assert(due.records.length + due.tokens.length <= mostDue, 'One command expires a thousand at most')
  return due
}

function unpackDue(due: unknown): DueRecord {
  const [store, key, revision, ...rest] = listOf(due, 'A record that is due is an array')
  assert(key instanceof Uint8Array && rest.length === 0, 'A record that is due has three fields')
  return { store: storeNumber(store), key, revision: count(revision) }
}

export function listOf(value: unknown, what: string): readonly unknown[] {
  assert(Array.isArray(value), what)
  return value
}

function text(value: unknown): string {
  assert(typeof value === 'string', 'A name is text')
  return value
}

function count(value: unknown): number {
  assert(isCount(value), 'A count is a whole number')
  return value
}

export function storeNumber(value: unknown): number {
  assert(isCount(value) && value <= maxStoreNumber, 'A store number is a u32')
  return value
}

function isCount(value: unknown): value is number {
  return isNumber(value) && Number.isSafeInteger(value) && value >= 0
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number'
}
