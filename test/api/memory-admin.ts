// Administration in memory: stores, tokens and apps as the state machine decides of them, without time.

import type { ErrorCode } from '../../src/errors.ts'
import { covers } from '../../src/store/grants.ts'
import type {
  AdminCommand,
  Minted,
  Outcome,
  Principal,
  StoreDefinition,
  Token,
} from '../../src/store/types.ts'

/** What it works on. */
export type Administered = {
  readonly held: Map<string, Token>
  readonly keyspaces: { has(name: string): boolean; delete(name: string): boolean }
  addStore(definition: StoreDefinition): void
}

const memoryNow = Date.parse('2026-01-01T00:00:00Z')

export function isAdminCommand(command: { readonly type: string }): command is AdminCommand {
  return /^(?:createStore|dropStore|mintToken|revokeToken|rotateToken|removeApp)$/.test(command.type)
}

export function administer(state: Administered, token: Token, command: AdminCommand): Outcome {
  const refused = (code: ErrorCode): Outcome => ({ type: 'refused', code })
  const isAdmin = token.principal.type === 'admin'
  const named = [...state.held.values()]
  switch (command.type) {
    case 'createStore':
      if (!isAdmin) return refused('access-denied')
      if (state.keyspaces.has(command.definition.name)) return refused('store-exists')
      state.addStore(command.definition)
      return { type: 'storeCreated' }
    case 'dropStore':
      if (!isAdmin) return refused('access-denied')
      if (!state.keyspaces.has(command.name)) return refused('no-such-store')
      if (command.name === 'default') return refused('store-protected')
      state.keyspaces.delete(command.name)
      return { type: 'storeDropped' }
    case 'mintToken':
      return mint(state, token, command.minted)
    case 'revokeToken': {
      const found = named.find(({ name }) => name === command.name)
      if (!isAdmin && found?.mintedBy !== token.name) return refused('access-denied')
      if (found === undefined) return refused('not-found')
      const admins = named.filter(({ principal }) => principal.type === 'admin')
      if (admins.length === 1 && admins[0] === found) return refused('access-denied')
      for (const { hash, name, mintedBy } of named)
        if (name === command.name || mintedBy === command.name) state.held.delete(hash)
      return { type: 'tokenRevoked' }
    }
    case 'rotateToken': {
      const found = named.find(({ name }) => name === command.name)
      if (!isAdmin && found?.mintedBy !== token.name) return refused('access-denied')
      if (found === undefined) return refused('not-found')
      state.held.delete(found.hash)
      state.held.set(command.hash, { ...found, hash: command.hash })
      if (command.overlap === 0) return { type: 'tokenRotated' }
      const expires = memoryNow + command.overlap
      state.held.set(found.hash, { ...found, expires, replaced: true })
      return { type: 'tokenRotated', expires }
    }
    case 'removeApp': {
      if (!isAdmin) return refused('access-denied')
      const ofApp = named.filter(({ principal }) => principal.type === 'app' && principal.app === command.app)
      if (ofApp.length === 0) return refused('not-found')
      for (const { hash } of ofApp) state.held.delete(hash)
      return { type: 'appRemoved' }
    }
    default:
      return command satisfies never
  }
}

function mint(state: Administered, token: Token, { name, hash, principal, ttl }: Minted): Outcome {
  if (!mayMint(token.principal, principal)) return { type: 'refused', code: 'access-denied' }
  const isTaken = state.held.has(hash) || [...state.held.values()].some((held) => held.name === name)
  if (isTaken) return { type: 'refused', code: 'token-exists' }
  state.held.set(hash, {
    name,
    hash,
    principal,
    ...(ttl === undefined ? {} : { expires: memoryNow + ttl }),
    ...(token.principal.type === 'admin' ? {} : { mintedBy: token.name }),
  })
  return { type: 'tokenMinted' }
}

function mayMint(principal: Principal, wanted: Principal): boolean {
  if (principal.type === 'admin') return true
  if (principal.type !== 'component' || principal.mint !== true || wanted.type !== 'component') return false
  return wanted.grants.every((grant) => principal.grants.some((own) => covers(own, grant)))
}
