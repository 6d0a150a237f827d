// The stores and tokens of a configuration file: what the cluster is founded with. Secrets are hashed as soon as they are read.

import { createHash } from 'node:crypto'

import type { Grant, Principal, StoreDefinition, Token } from '../store/types.ts'
import type { ConfigReader, Place, TextRule } from './config-reader.ts'
import { isHolder, isName, isTitle, maxKeyBytes, maxTtl, maxValueBytes } from './names.ts'

const leastSecret = 32
const most = 10_000

const storeRule: TextRule = {
  expected: 'a store name of lower-case letters, digits, - and _, at most 63 characters',
  test: isName,
}

const tokenNameRule: TextRule = { expected: 'a name of 1 to 63 printable characters', test: isTitle }

const secretRule: TextRule = {
  expected: `a secret of at least ${leastSecret} characters`,
  test: (text) => [...text].length >= leastSecret && text.length <= 1_024,
  secret: true,
}

const prefixRule: TextRule = {
  expected: `a prefix of at most ${maxKeyBytes} bytes`,
  test: (text) => text.isWellFormed() && Buffer.byteLength(text) <= maxKeyBytes,
}

const holderRule: TextRule = { expected: 'an id of 1 to 128 visible ASCII characters', test: isHolder }

const accessRule: TextRule = { expected: 'read or read-write', test: (text) => /^read(-write)?$/.test(text) }

/** All stores of the file; `default` first, listed or not. */
export function readStores(
  reader: ConfigReader,
  place: Place,
  valueBytes: number,
): readonly StoreDefinition[] {
  const stores = new Map<string, StoreDefinition>([['default', { name: 'default' }]])
  const entries = reader.isPresent(place) ? reader.entries(place) : []
  for (const [name, at] of entries ?? []) {
    if (!isName(name)) reader.mistake(at, `expected ${storeRule.expected}, found ${JSON.stringify(name)}`)
    stores.set(name, readStore(reader, name, at, valueBytes))
  }
  if (stores.size > most) reader.mistake(place, `expected at most ${most} stores, found ${stores.size}`)
  return [...stores.values()]
}

function readStore(reader: ConfigReader, name: string, place: Place, valueBytes: number): StoreDefinition {
  const fields = reader.isPresent(place) ? reader.fields(place, ['ttl', 'maxValueBytes']) : undefined
  if (fields === undefined) return { name }
  const ttl = reader.isPresent(fields.ttl)
    ? { ttl: reader.duration(fields.ttl, { least: 1, most: maxTtl }, maxTtl) }
    : {}
  if (!reader.isPresent(fields.maxValueBytes)) return { name, ...ttl }
  const maxBytes = reader.whole(fields.maxValueBytes, { least: 1, most: maxValueBytes }, valueBytes)
  if (maxBytes > valueBytes) {
    reader.mistake(
      fields.maxValueBytes,
      `expected at most limits.valueBytes, ${valueBytes}, found ${maxBytes}`,
    )
  }
  return { name, ...ttl, maxValueBytes: maxBytes }
}

const tokenFields = ['name', 'admin', 'monitor', 'stores', 'mint', 'app', 'user', 'bot', 'secret'] as const

/** Those tokens that are whole. Every other one has left a mistake. */
export function readTokens(
  reader: ConfigReader,
  place: Place,
  stores: readonly StoreDefinition[],
): readonly Token[] {
  const items = reader.isPresent(place) ? (reader.items(place) ?? []) : []
  if (items.length > most) reader.mistake(place, `expected at most ${most} tokens, found ${items.length}`)
  const defined = new Set(stores.map(({ name }) => name))
  const nameOf = new Map<string, string>()
  const hashOf = new Map<string, string>()
  const tokens: Token[] = []
  for (const item of items) {
    const fields = reader.fields(item, tokenFields)
    if (fields === undefined) continue
    const name = reader.text(fields.name, tokenNameRule)
    const hash = readSecret(reader, fields.secret)
    const principal = readPrincipal(reader, item, { ...fields, component: name ?? item.path, defined })
    noteTwin(reader, fields.name, { seen: nameOf, value: name, path: item.path, what: 'name' })
    noteTwin(reader, fields.secret, { seen: hashOf, value: hash, path: item.path, what: 'secret' })
    if (name !== undefined && hash !== undefined && principal !== undefined)
      tokens.push({ name, hash, principal })
  }
  return tokens
}

function readSecret(reader: ConfigReader, place: Place): string | undefined {
  const secret = reader.text(place, secretRule)
  return secret === undefined ? undefined : createHash('sha256').update(secret).digest('base64url')
}

function noteTwin(
  reader: ConfigReader,
  place: Place,
  twin: {
    readonly seen: Map<string, string>
    readonly value: string | undefined
    readonly path: string
    readonly what: string
  },
): void {
  if (twin.value === undefined) return
  const first = twin.seen.get(twin.value)
  if (first === undefined) twin.seen.set(twin.value, twin.path)
  else reader.mistake(place, `expected a ${twin.what} of its own, found that of ${first}`)
}

type PrincipalPlaces = Readonly<
  Record<'admin' | 'monitor' | 'stores' | 'mint' | 'app' | 'user' | 'bot', Place>
>

function readPrincipal(
  reader: ConfigReader,
  item: Place,
  input: PrincipalPlaces & { readonly component: string; readonly defined: ReadonlySet<string> },
): Principal | undefined {
  const kinds = (['admin', 'monitor', 'stores', 'app'] as const).filter((kind) =>
    reader.isPresent(input[kind]),
  )
  const [kind] = kinds
  if (kind === undefined || kinds.length > 1) {
    const found = kinds.length === 0 ? 'none' : kinds.join(' and ')
    reader.mistake(item, `expected one of admin: true, monitor: true, stores and app, found ${found}`)
    return undefined
  }
  if (kind !== 'stores') refuseField(reader, input.mint, 'stores')
  if (kind !== 'app') {
    refuseField(reader, input.user, 'app')
    refuseField(reader, input.bot, 'app')
  }
  switch (kind) {
    case 'stores': {
      const grants = readGrants(reader, input.stores, input)
      const mint = reader.flag(input.mint, false)
      return { type: 'component', grants, ...(mint ? { mint } : {}) }
    }
    case 'app':
      return readApp(reader, item, input)
    case 'admin':
    case 'monitor': {
      const isSet = reader.text(input[kind], { expected: 'true', test: (text) => text === 'true' })
      return isSet === undefined ? undefined : { type: kind }
    }
    default:
      return kind satisfies never
  }
}

function refuseField(reader: ConfigReader, place: Place, belongsTo: string): void {
  if (reader.isPresent(place)) reader.mistake(place, `expected only beside ${belongsTo}`)
}

function readApp(reader: ConfigReader, item: Place, places: PrincipalPlaces): Principal | undefined {
  const types = (['user', 'bot'] as const).filter((type) => reader.isPresent(places[type]))
  const [type] = types
  if (type === undefined || types.length > 1) {
    reader.mistake(
      item,
      `expected one of user and bot beside app, found ${types.length === 0 ? 'none' : 'both'}`,
    )
    return undefined
  }
  const app = reader.text(places.app, holderRule)
  const id = reader.text(places[type], holderRule)
  return app === undefined || id === undefined ? undefined : { type: 'app', app, holder: { type, id } }
}

function readGrants(
  reader: ConfigReader,
  place: Place,
  input: { readonly component: string; readonly defined: ReadonlySet<string> },
): readonly Grant[] {
  const items = reader.items(place) ?? []
  const grants: Grant[] = []
  const seen = new Map<string, string>()
  for (const item of items) {
    const grant = readGrant(reader, item)
    if (grant === undefined) continue
    if (!input.defined.has(grant.store)) {
      reader.mistake(
        item,
        `component ${JSON.stringify(input.component)} is granted the store ${JSON.stringify(grant.store)}, which is not defined under stores`,
      )
    }
    noteTwin(reader, item, {
      seen,
      value: JSON.stringify([grant.store, grant.prefix]),
      path: item.path,
      what: 'store or prefix',
    })
    grants.push(grant)
  }
  return grants
}

function readGrant(reader: ConfigReader, place: Place): Grant | undefined {
  if (!reader.isMap(place)) {
    const store = reader.text(place, storeRule)
    return store === undefined ? undefined : { store, access: 'read-write' }
  }
  const fields = reader.fields(place, ['store', 'access', 'prefix'])
  if (fields === undefined) return undefined
  const store = reader.text(fields.store, storeRule)
  const access = reader.isPresent(fields.access) ? reader.text(fields.access, accessRule) : 'read-write'
  const prefix = reader.isPresent(fields.prefix) ? reader.text(fields.prefix, prefixRule) : undefined
  if (store === undefined || access === undefined) return undefined
  const grant = { store, access: access === 'read' ? 'read' : 'read-write' } as const
  return prefix === undefined ? grant : { ...grant, prefix }
}
