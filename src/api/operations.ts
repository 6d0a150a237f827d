// Operations as clients write them, one by one into those of the store: strict, naming the field, whatever form they came in.

import { TrivetError } from '../errors.ts'
import type { Target } from '../store/grants.ts'
import type { Condition, Operation, TransactionCondition, Until } from '../store/types.ts'
import { readDelta } from './delta.ts'
import { storedContentType } from './media-type.ts'
import type { BodyForm } from './operation-bodies.ts'
import { defaultContentType } from './protocol.ts'
import { readTtl } from './ttl.ts'

export type ReadingRules = {
  readonly form: BodyForm
  /** The longest key, in bytes. */
  readonly keyBytes: number
}

type Raw = Readonly<Record<string, unknown>>

/** Operations that may stand in a batch: any, but that of a range. */
export type BatchOperation = Exclude<Operation, { type: 'deletePrefix' }>

/** One of a batch: with conditions, and with its number in a session. */
export type BatchEntry = {
  readonly operation: BatchOperation
  readonly conditions: readonly Condition[]
  readonly seq: number | undefined
}

/** What an operation opens; undefined where it does not say. For judging it before its mistakes are told. */
export function targetOfRaw(raw: unknown): Target | undefined {
  if (!isRaw(raw)) return undefined
  const { store, key, prefix, op } = raw
  if (typeof store !== 'string') return undefined
  const access = op === 'get' || op === 'head' || op === 'exists' ? 'read' : 'read-write'
  const within = op === 'deletePrefix' ? prefix : key
  const named = typeof within === 'string' && (within !== '' || op === 'deletePrefix')
  return { store, access, within: named ? Buffer.from(within) : undefined }
}

/** What a condition of a transaction opens. */
export function targetOfRawCondition(raw: unknown): Target | undefined {
  if (!isRaw(raw) || typeof raw['store'] !== 'string') return undefined
  const { store, key } = raw
  const named = typeof key === 'string' && key !== ''
  return { store, access: 'read', within: named ? Buffer.from(key) : undefined }
}

const readFields = ['op', 'store', 'key'] as const

/** The fields of each operation. */
const fieldsOf = {
  get: readFields,
  head: readFields,
  exists: readFields,
  set: [...readFields, 'value', 'text', 'json', 'contentType', 'ttl', 'expires'],
  delete: readFields,
  increment: [...readFields, 'delta', 'ttl'],
  touch: [...readFields, 'ttl'],
  deletePrefix: ['op', 'store', 'prefix'],
} as const satisfies Record<Operation['type'], readonly string[]>

/** What a write of a batch may say besides. */
const batchFields = ['ifRevision', 'ifAbsent', 'seq'] as const

/** One of a transaction's. Throws `invalid-request` or `invalid-key` with the field. */
export function readOperation(raw: unknown, rules: ReadingRules): Operation {
  const { fields, type } = opened(raw)
  refuseOthers(fields, fieldsOf[type])
  return operationOf(fields, type, rules)
}

/** One of a batch. Throws `invalid-request` or `invalid-key` with the field. */
export function readBatchEntry(raw: unknown, rules: ReadingRules): BatchEntry {
  const { fields, type } = opened(raw)
  if (type === 'deletePrefix') {
    throw invalid('op', 'deletePrefix is for transactions alone: a batch has one key in each operation')
  }
  const isRead = type === 'get' || type === 'head' || type === 'exists'
  refuseOthers(fields, isRead ? fieldsOf[type] : [...fieldsOf[type], ...batchFields])
  const operation = operationOf(fields, type, rules)
  const seq = fields['seq'] === undefined ? undefined : wholeNumber(fields, 'seq', 1)
  return { operation, conditions: readConditions(fields), seq }
}

/** One condition of a transaction. */
export function readTransactionCondition(raw: unknown, rules: ReadingRules): TransactionCondition {
  if (!isRaw(raw)) throw invalid('', 'A condition is an object')
  refuseOthers(raw, ['store', 'key', 'revision', 'exists', 'value'])
  const target = { store: text(raw, 'store'), key: readKey(raw, rules) }
  const said = (['revision', 'exists', 'value'] as const).filter((name) => raw[name] !== undefined)
  const [name] = said
  if (name === undefined || said.length > 1) {
    throw invalid(said[1] ?? 'revision', 'A condition has one of revision, exists and value')
  }
  if (name === 'revision') return { type: 'revision', ...target, revision: wholeNumber(raw, 'revision', 0) }
  if (name === 'exists') return { type: 'exists', ...target, exists: truth(raw, 'exists') }
  return { type: 'value', ...target, value: bytes(raw, 'value', rules) }
}

function opened(raw: unknown): { readonly fields: Raw; readonly type: Operation['type'] } {
  if (!isRaw(raw)) throw invalid('', 'An operation is an object')
  const type = raw['op']
  if (typeof type === 'string' && isType(type)) return { fields: raw, type }
  throw invalid('op', `op is one of ${Object.keys(fieldsOf).join(', ')}`)
}

function isType(type: string): type is Operation['type'] {
  return Object.hasOwn(fieldsOf, type)
}

function operationOf(fields: Raw, type: BatchOperation['type'], rules: ReadingRules): BatchOperation
function operationOf(fields: Raw, type: Operation['type'], rules: ReadingRules): Operation
function operationOf(fields: Raw, type: Operation['type'], rules: ReadingRules): Operation {
  const store = text(fields, 'store')
  if (type === 'deletePrefix') return { type, store, prefix: readPrefix(fields, rules) }
  const target = { store, key: readKey(fields, rules) }
  const ttl = fields['ttl'] === undefined ? {} : { ttl: readTtl(text(fields, 'ttl')) }
  switch (type) {
    case 'get':
    case 'head':
    case 'exists':
    case 'delete':
      return { type, ...target }
    case 'set':
      return { type, ...target, ...readContent(fields, rules), ...ttl, ...readUntil(fields) }
    case 'increment':
      return { type, ...target, delta: readDelta(fields['delta']), ...ttl }
    case 'touch':
      return { type, ...target, ttl: readTtl(text(fields, 'ttl')) }
    default:
      return type satisfies never
  }
}

/** The moment at which a set is to expire, in the place of a `ttl`. */
function readUntil(fields: Raw): { readonly ttl?: Until } {
  if (fields['expires'] === undefined) return {}
  const said = text(fields, 'expires')
  const until = Date.parse(said)
  const isMoment = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/.test(said) && until >= 1
  // A day that the month has not is read as one of the next.
  if (!isMoment || !new Date(until).toISOString().startsWith(said.slice(0, 19))) {
    throw invalid('expires', 'expires is a moment in UTC such as 2027-01-31T12:00:00.000Z')
  }
  if (fields['ttl'] !== undefined) throw invalid('expires', 'A set has a ttl or expires, not both')
  return { ttl: { until } }
}

function readConditions(fields: Raw): readonly Condition[] {
  const conditions: Condition[] = []
  if (fields['ifRevision'] !== undefined) {
    conditions.push({ type: 'revision', revisions: [wholeNumber(fields, 'ifRevision', 1)] })
  }
  if (fields['ifAbsent'] !== undefined && truth(fields, 'ifAbsent')) conditions.push({ type: 'absent' })
  return conditions
}

/** What is set: exactly one of `value`, `text` and `json`. */
function readContent(fields: Raw, rules: ReadingRules): { value: Uint8Array; contentType: string } {
  const said = (['value', 'text', 'json'] as const).filter((name) => fields[name] !== undefined)
  const [name] = said
  if (name === undefined || said.length > 1) {
    throw invalid(said[1] ?? 'value', 'A set has exactly one of value, text and json')
  }
  const given = fields['contentType'] === undefined ? undefined : text(fields, 'contentType')
  const typed = (standard: string) => storedContentType(given ?? standard, 'contentType')
  if (name === 'value') return { value: bytes(fields, name, rules), contentType: typed(defaultContentType) }
  if (name === 'text') {
    return { value: Buffer.from(wellFormed(fields, name)), contentType: typed('text/plain; charset=utf-8') }
  }
  refuseUnplain(fields['json'])
  return { value: Buffer.from(JSON.stringify(fields['json'])), contentType: typed('application/json') }
}

/** JSON has numbers, text, truth values, null, lists and objects; what MessagePack has besides would become something else. */
function refuseUnplain(value: unknown): void {
  if (typeof value === 'number' && !Number.isFinite(value)) throw noJson('a number beyond all bounds')
  if (typeof value === 'bigint') throw noJson('a number beyond 2^53')
  if (typeof value !== 'object' || value === null) return
  if (value instanceof Uint8Array) throw noJson('bytes')
  for (const part of Object.values(value)) refuseUnplain(part)
}

function noJson(what: string): TrivetError {
  return invalid('json', `json holds ${what}, which JSON cannot say as it is`)
}

function readKey(fields: Raw, { keyBytes }: ReadingRules): Uint8Array {
  const said = fields['key']
  if (said === undefined) throw missing('key')
  if (typeof said !== 'string') throw invalid('key', 'key must be text')
  const fault = (sentence: string) => new TrivetError('invalid-key', sentence, { field: 'key' })
  if (said === '') throw fault('A key has at least one byte')
  if (!said.isWellFormed()) throw fault('A key is well-formed UTF-8')
  const key = Buffer.from(said)
  if (key.length <= keyBytes) return key
  throw new TrivetError('invalid-key', `A key has at most ${keyBytes} bytes; this one has ${key.length}`, {
    field: 'key',
    limit: keyBytes,
    actual: key.length,
  })
}

/** Of a range within a transaction: never empty, so that no mistake empties a store. */
function readPrefix(fields: Raw, { keyBytes }: ReadingRules): Uint8Array {
  const prefix = Buffer.from(wellFormed(fields, 'prefix'))
  if (prefix.length > 0 && prefix.length <= keyBytes) return prefix
  throw new TrivetError('invalid-request', `prefix has 1 to ${keyBytes} bytes`, {
    field: 'prefix',
    limit: keyBytes,
    actual: prefix.length,
  })
}

function bytes(fields: Raw, name: string, { form }: ReadingRules): Uint8Array {
  const said = fields[name]
  if (form === 'msgpack') {
    if (said instanceof Uint8Array) return said
    throw invalid(name, `${name} must be a byte string`)
  }
  const decoded = typeof said === 'string' ? fromBase64(said) : undefined
  if (decoded === undefined) throw invalid(name, `${name} must be base64 (RFC 4648, 4), with its padding`)
  return decoded
}

/** Undefined for what is no base64: Node's decoder would skip what it does not know. */
function fromBase64(said: string): Buffer | undefined {
  if (said.length % 4 !== 0 || said.includes('-') || said.includes('_')) return undefined
  const padding = said.endsWith('==') ? 2 : said.endsWith('=') ? 1 : 0
  const decoded = Buffer.from(said, 'base64')
  return decoded.length === (said.length / 4) * 3 - padding ? decoded : undefined
}

function text(fields: Raw, name: string): string {
  const said = fields[name]
  if (said === undefined) throw missing(name)
  if (typeof said !== 'string') throw invalid(name, `${name} must be text`)
  return said
}

function wellFormed(fields: Raw, name: string): string {
  const said = text(fields, name)
  if (!said.isWellFormed()) throw invalid(name, `${name} must be well-formed Unicode`)
  return said
}

function truth(fields: Raw, name: string): boolean {
  const said = fields[name]
  if (typeof said !== 'boolean') throw invalid(name, `${name} must be true or false`)
  return said
}

/** Encoders of MessagePack write small numbers with 64 bits too. */
function wholeNumber(fields: Raw, name: string, least: number): number {
  const said = fields[name]
  const number = typeof said === 'bigint' ? Number(said) : said
  if (typeof number === 'number' && Number.isSafeInteger(number) && number >= least) return number
  throw invalid(name, `${name} must be a whole number from ${least} on`)
}

function refuseOthers(fields: Raw, known: readonly string[]): void {
  for (const name of Object.keys(fields)) {
    if (!known.includes(name)) throw invalid(name, `There is no field ${name} here`)
  }
}

function isRaw(raw: unknown): raw is Raw {
  return typeof raw === 'object' && raw !== null && !Array.isArray(raw) && !(raw instanceof Uint8Array)
}

function missing(field: string): TrivetError {
  return invalid(field, `The field ${field} is missing`)
}

function invalid(field: string, detail: string): TrivetError {
  return new TrivetError('invalid-request', detail, { field: field === '' ? undefined : field })
}

/** The error of one operation, with its place: `at` among `list`, which names its field too. Conditions have no `index`. */
export function atOperation(error: TrivetError, at: number, list?: string): TrivetError {
  const { field, limit, actual, revision, cause } = error
  const named = list === undefined ? field : [list, at, ...(field === undefined ? [] : [field])].join('.')
  return new TrivetError(error.code, error.detail, {
    field: named,
    limit,
    actual,
    revision,
    index: list === 'if' ? undefined : at,
    cause,
  })
}
