// Tokens: listing, minting, revoking, and new secrets for old ones. A secret is shown once and kept only as its hash.

import type { Static } from 'typebox'
import { TrivetError } from '../../errors.ts'
import { ownStore } from '../../store/places.ts'
import type { Grant, Principal, Token } from '../../store/types.ts'
import { hashSecret, newSecret } from '../access.ts'
import { adminBodyBytes, adminHeaders, administer, readDuration } from '../administering.ts'
import type { App, RouteContext } from '../app.ts'
import { callOf, type Rule } from '../gate.ts'
import { documented } from '../openapi.ts'
import { headers, type PrincipalDescription, type TokenDescription } from '../protocol.ts'
import { NoQuery, ReadQuery } from '../schemas.ts'
import {
  Me,
  Minted,
  NewRotation,
  NewToken,
  Rotated,
  TokenList,
  TokenParams,
  TokenRevoked,
} from '../schemas-admin.ts'

const mints: Rule = { need: { type: 'minter' }, judged: 'write', repeatable: true }

export function addTokenRoutes(app: App, context: RouteContext): void {
  addIntroduction(app, context)
  addList(app, context)
  addMint(app, context)
  addRevoke(app, context)
  addRotate(app, context)
}

function addIntroduction(app: App, { gate }: RouteContext): void {
  app.route({
    ...gate.route({ need: { type: 'token' }, judged: 'read' }),
    method: 'GET',
    url: '/v1/me',
    schema: {
      summary: 'Who this token speaks for',
      querystring: ReadQuery,
      ...documented({ headers: ['trivet-timeout'], answers: { 200: Me } }),
    },
    handler: async (request, reply) => {
      const call = await gate.settle(request, request.query.minRevision)
      if (call.stale) reply.header(headers.stale, 'true')
      const { name, principal, expires } = call.token
      return reply.send({
        principal: { ...describePrincipal(principal), name },
        grants: grantsOf(principal),
        ...expiry(expires),
      })
    },
  })
}

function addList(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route({ need: { type: 'minter' }, judged: 'read' }),
    method: 'GET',
    url: '/v1/tokens',
    schema: {
      summary: 'List tokens; to a component that may mint, those it has minted',
      querystring: ReadQuery,
      ...documented({ headers: ['trivet-timeout'], answers: { 200: TokenList } }),
    },
    handler: async (request, reply) => {
      const call = await gate.settle(request, request.query.minRevision)
      if (call.stale) reply.header(headers.stale, 'true')
      const { name, principal } = call.token
      const all = node.state.tokens()
      const shown = principal.type === 'admin' ? all : mintedUnder(name, all)
      return reply.send({ tokens: shown.map(describeToken) })
    },
  })
}

function addMint(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route(mints),
    method: 'POST',
    url: '/v1/tokens',
    bodyLimit: adminBodyBytes,
    schema: {
      summary: 'Mint a token',
      querystring: NoQuery,
      body: NewToken,
      ...documented({ headers: adminHeaders, answers: { 201: Minted } }),
    },
    handler: async (request, reply) => {
      const { name, ttl, secret = newSecret() } = request.body
      const minted = {
        name,
        hash: hashSecret(secret),
        principal: principalOf(request.body),
        ...(ttl === undefined ? {} : { ttl: readDuration('ttl', ttl, 1) }),
      }
      const { replayed } = await administer(request, reply, {
        node,
        command: { type: 'mintToken', token: callOf(request).tokenHash, minted },
        asked: request.body,
        success: 'tokenMinted',
        sentences: {
          'token-exists': `There is a token ${name}, or one with this secret`,
          'access-denied': 'This token may mint only within its own grants and lifetime',
        },
      })
      return reply.code(201).send(replayed === true ? { name } : { name, secret })
    },
  })
}

function addRevoke(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route(mints),
    method: 'DELETE',
    url: '/v1/tokens/:name',
    schema: {
      summary: 'Revoke a token, and with it what it has minted',
      params: TokenParams,
      querystring: NoQuery,
      ...documented({ headers: adminHeaders, answers: { 200: TokenRevoked } }),
    },
    handler: async (request, reply) => {
      const { name } = request.params
      await administer(request, reply, {
        node,
        command: { type: 'revokeToken', token: callOf(request).tokenHash, name },
        asked: name,
        success: 'tokenRevoked',
        sentences: revocationSentences(name, callOf(request).token),
      })
      return reply.send({ name })
    },
  })
}

function addRotate(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route(mints),
    method: 'POST',
    url: '/v1/tokens/:name/rotate',
    bodyLimit: adminBodyBytes,
    schema: {
      summary: 'Give a token a new secret',
      params: TokenParams,
      querystring: NoQuery,
      body: NewRotation,
      ...documented({ headers: adminHeaders, answers: { 200: Rotated } }),
    },
    handler: async (request, reply) => {
      const { name } = request.params
      const { overlap } = request.body
      const secret = newSecret()
      const { replayed, expires } = await administer(request, reply, {
        node,
        command: {
          type: 'rotateToken',
          token: callOf(request).tokenHash,
          name,
          hash: hashSecret(secret),
          overlap: overlap === undefined ? 0 : readDuration('overlap', overlap, 0),
        },
        asked: [name, overlap],
        success: 'tokenRotated',
        sentences: revocationSentences(name, callOf(request).token),
      })
      return reply.send({ name, ...(replayed === true ? {} : { secret }), ...expiry(expires) })
    },
  })
}

/** Tokens that this one has minted, and those that these have. */
function mintedUnder(name: string, all: readonly Token[]): readonly Token[] {
  const own = new Set([name])
  // A chain of tokens is no longer than there are tokens; most end at once.
  for (let size = 0; size < own.size; ) {
    size = own.size
    for (const token of all) if (own.has(token.mintedBy ?? '')) own.add(token.name)
  }
  return all.filter(({ mintedBy }) => own.has(mintedBy ?? ''))
}

function revocationSentences(name: string, { principal }: Token) {
  return {
    'not-found': `There is no token ${name}`,
    'access-denied':
      principal.type === 'admin'
        ? `${name} is the last token of an admin, and stays`
        : `This token has not minted ${name}`,
  }
}

/** Whom a new token speaks for. Throws `invalid-request`, naming the field that does not go with the others. */
function principalOf(body: Static<typeof NewToken>): Principal {
  const { admin, monitor, stores, mint, app } = body
  const kinds = (['admin', 'monitor', 'stores', 'app'] as const).filter((kind) => body[kind] !== undefined)
  const [, second] = kinds
  if (kinds.length !== 1) {
    const detail = 'A token is one of admin, monitor, stores and app'
    throw new TrivetError('invalid-request', detail, { field: second ?? 'stores' })
  }
  const stranger = (['mint', 'user', 'bot'] as const).find(
    (field) => body[field] !== undefined && (field === 'mint' ? stores : app) === undefined,
  )
  if (stranger !== undefined) {
    const detail = `The field ${stranger} goes with ${stranger === 'mint' ? 'stores' : 'app'}`
    throw new TrivetError('invalid-request', detail, { field: stranger })
  }
  if (admin !== undefined) return { type: 'admin' }
  if (monitor !== undefined) return { type: 'monitor' }
  if (app !== undefined) return appOf(app, body)
  return {
    type: 'component',
    grants: (stores ?? []).map(grantOf),
    ...(mint === true ? { mint } : {}),
  }
}

function appOf(app: string, { user, bot }: Static<typeof NewToken>): Principal {
  if (user !== undefined && bot !== undefined) {
    throw new TrivetError('invalid-request', "A token of an app is a user's or a bot's", { field: 'bot' })
  }
  if (user !== undefined) return { type: 'app', app, holder: { type: 'user', id: user } }
  if (bot !== undefined) return { type: 'app', app, holder: { type: 'bot', id: bot } }
  throw new TrivetError('invalid-request', 'The field app goes with user or bot', { field: 'user' })
}

function grantOf(given: NonNullable<Static<typeof NewToken>['stores']>[number]): Grant {
  if (typeof given === 'string') return { store: given, access: 'read-write' }
  const { store, access = 'read-write', prefix } = given
  if (prefix !== undefined && !prefix.isWellFormed()) {
    throw new TrivetError('invalid-request', 'A prefix is well-formed Unicode', { field: 'stores' })
  }
  return { store, access, ...(prefix === undefined ? {} : { prefix }) }
}

function describeToken({
  name,
  principal,
  expires,
  mintedBy,
  replaced,
}: Token): Static<typeof TokenList>['tokens'][number] {
  return {
    name,
    principal: describePrincipal(principal),
    grants: grantsOf(principal),
    ...expiry(expires),
    ...(mintedBy === undefined ? {} : { mintedBy }),
    ...(replaced === undefined ? {} : { replaced }),
  }
}

function describePrincipal(principal: Principal): PrincipalDescription {
  switch (principal.type) {
    case 'admin':
    case 'monitor':
      return { type: principal.type }
    case 'component':
      return { type: 'component', ...(principal.mint === true ? { mint: true } : {}) }
    case 'app':
      return { type: 'app', app: principal.app, holder: principal.holder }
    default:
      return principal satisfies never
  }
}

function grantsOf(principal: Principal): TokenDescription['grants'][number][] {
  if (principal.type === 'app') return [{ store: ownStore, access: 'read-write' }]
  return principal.type === 'component' ? [...principal.grants] : []
}

function expiry(expires: number | undefined): { readonly expires?: string } {
  return expires === undefined ? {} : { expires: new Date(expires).toISOString() }
}
