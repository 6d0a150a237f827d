// What administration comes to: stores and tokens that come and go, by administrators and by components that may mint.

import assert from 'node:assert/strict'
import type { ErrorCode } from '../errors.ts'
import { maxTtlMs } from './command-shapes.ts'
import { covers } from './grants.ts'
import { isHolder, isName, isTitle } from './names.ts'
import { lastExpiry } from './state-rows.ts'
import { type StoreTable, storeBounds } from './state-stores.ts'
import { mostTokens, type TokenTable } from './state-tokens.ts'
import type { AdminCommand, Minted, Outcome, Principal, StoreDefinition, Token } from './types.ts'

/** All of the state that administration is judged by, and all that it changes. */
export type Administered = {
  readonly token: Token
  readonly stores: StoreTable
  readonly tokens: TokenTable
  /** The largest value the cluster takes, in bytes. */
  readonly valueBytes: number
  /** The stamp of the entry, in milliseconds since the epoch. */
  readonly time: number
}

/** `carryOut` is to be called once, or never. Without one it is refused. */
export type AdminDecision = { readonly outcome: Outcome; readonly carryOut: (() => void) | undefined }

/** The store that is always there. */
const protectedStore = 'default'

const tokenHash = /^[\w-]{43}$/

export function decideAdmin(command: AdminCommand, administered: Administered): AdminDecision {
  switch (command.type) {
    case 'createStore':
      return createStore(command.definition, administered)
    case 'dropStore':
      return dropStore(command.name, administered)
    case 'mintToken':
      return mintToken(command.minted, administered)
    case 'revokeToken':
      return revokeToken(command.name, administered)
    case 'rotateToken':
      return rotateToken(command, administered)
    case 'removeApp':
      return removeApp(command.app, administered)
    default:
      throw new assert.AssertionError({ message: `No meaning for command ${command satisfies never}` })
  }
}

function refused(
  code: ErrorCode,
  more: Omit<Extract<Outcome, { type: 'refused' }>, 'type' | 'code'> = {},
): AdminDecision {
  return { outcome: { type: 'refused', code, ...more }, carryOut: undefined }
}

function isAdmin({ principal }: Token): boolean {
  return principal.type === 'admin'
}

function createStore(
  definition: StoreDefinition,
  { token, stores, valueBytes }: Administered,
): AdminDecision {
  if (!isAdmin(token)) return refused('access-denied')
  const { name, ttl = 1, maxValueBytes = valueBytes } = definition
  if (!isName(name)) return refused('invalid-request')
  if (ttl < 1 || ttl > maxTtlMs) return refused('invalid-request', { limit: maxTtlMs })
  if (maxValueBytes < 1 || maxValueBytes > valueBytes)
    return refused('invalid-request', { limit: valueBytes })
  if (stores.at(name) !== undefined) return refused('store-exists')
  const limit = storeBounds.named
  if (stores.counts.named >= limit) return refused('overloaded', { limit, field: 'stores' })
  return { outcome: { type: 'storeCreated' }, carryOut: () => stores.create(definition) }
}

function dropStore(name: string, { token, stores }: Administered): AdminDecision {
  if (!isAdmin(token)) return refused('access-denied')
  const store = stores.at(name)
  if (store === undefined) return refused('no-such-store')
  if (name === protectedStore) return refused('store-protected')
  return { outcome: { type: 'storeDropped' }, carryOut: () => stores.drop(store) }
}

function mintToken(minted: Minted, administered: Administered): AdminDecision {
  const { token, stores, tokens } = administered
  const { name, hash, principal } = minted
  if (!mayMint(token.principal, principal)) return refused('access-denied')
  const expires = expiryOf(minted, administered)
  if (expires === 'too long') return refused('access-denied')
  const isValid = isTitle(name) && tokenHash.test(hash) && isWhole(principal)
  if (!isValid || minted.ttl === 0 || (minted.ttl ?? 0) > maxTtlMs) return refused('invalid-request')
  if (tokens.hasName(name) || tokens.get(hash) !== undefined) return refused('token-exists')
  if (tokens.size >= mostTokens) return refused('overloaded', { limit: mostTokens, field: 'tokens' })
  const app = principal.type === 'app' && !stores.hasApp(principal.app) ? principal.app : undefined
  const limit = storeBounds.apps
  if (app !== undefined && stores.counts.apps >= limit) return refused('overloaded', { limit, field: 'apps' })
  const mintedBy = isAdmin(token) ? undefined : token.name
  const carryOut = (): void => {
    if (app !== undefined) stores.createForApp(app)
    tokens.add({
      name,
      hash,
      principal,
      ...(expires === undefined ? {} : { expires }),
      ...(mintedBy === undefined ? {} : { mintedBy }),
    })
  }
  return { outcome: { type: 'tokenMinted' }, carryOut }
}

/** A component mints components, each within one of its own grants. */
function mayMint(principal: Principal, wanted: Principal): boolean {
  if (principal.type === 'admin') return true
  if (principal.type !== 'component' || principal.mint !== true || wanted.type !== 'component') return false
  return wanted.grants.every((grant) => principal.grants.some((own) => covers(own, grant)))
}

/** No token outlives the one that minted it. */
function expiryOf({ ttl }: Minted, { token, tokens, time }: Administered): number | undefined | 'too long' {
  const wanted = ttl === undefined ? undefined : Math.min(time + ttl, lastExpiry)
  // A secret that was replaced ends sooner than the token it still speaks for.
  const { expires } = tokens.named(token.name) ?? token
  if (isAdmin(token) || expires === undefined) return wanted
  if (wanted === undefined) return expires
  return wanted > expires ? 'too long' : wanted
}

function isWhole(principal: Principal): boolean {
  if (principal.type === 'component') return principal.grants.every(({ store }) => isName(store))
  if (principal.type !== 'app') return true
  return isHolder(principal.app) && isHolder(principal.holder.id)
}

/** Of this name and under this token's rule: an administrator's are all, a component's those it minted and these minted. */
function rules({ token, tokens }: Administered, name: string): boolean {
  if (isAdmin(token)) return true
  const { principal } = token
  const found = tokens.named(name)
  return (
    principal.type === 'component' &&
    principal.mint === true &&
    found !== undefined &&
    tokens.descends(found, token.name)
  )
}

function revokeToken(name: string, administered: Administered): AdminDecision {
  if (!rules(administered, name)) return refused('access-denied')
  const { tokens } = administered
  const found = tokens.named(name)
  // What is left of a token whose present secret has expired goes too.
  if (found === undefined && !tokens.hasName(name)) return refused('not-found')
  if (found !== undefined && tokens.isLastAdmin(found)) return refused('access-denied')
  return { outcome: { type: 'tokenRevoked' }, carryOut: () => tokens.revoke(name) }
}

function rotateToken(
  { name, hash, overlap }: Extract<AdminCommand, { type: 'rotateToken' }>,
  administered: Administered,
): AdminDecision {
  if (!rules(administered, name)) return refused('access-denied')
  const { tokens, time } = administered
  const found = tokens.named(name)
  if (found === undefined) return refused('not-found')
  if (!tokenHash.test(hash) || overlap > maxTtlMs) return refused('invalid-request')
  if (tokens.get(hash) !== undefined) return refused('token-exists')
  if (tokens.size >= mostTokens) return refused('overloaded', { limit: mostTokens, field: 'tokens' })
  const until = overlap === 0 ? undefined : Math.min(time + overlap, found.expires ?? lastExpiry)
  return {
    outcome: { type: 'tokenRotated', ...(until === undefined ? {} : { expires: until }) },
    carryOut: () => tokens.rotate(found, hash, until),
  }
}

function removeApp(app: string, { token, stores, tokens }: Administered): AdminDecision {
  if (!isAdmin(token)) return refused('access-denied')
  const store = stores.at({ app, prefix: new Uint8Array() })
  if (store === undefined) return refused('not-found')
  const carryOut = (): void => {
    tokens.removeApp(app)
    stores.drop(store)
  }
  return { outcome: { type: 'appRemoved' }, carryOut }
}
