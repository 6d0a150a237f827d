// One key: read, set, delete, under conditions.

import type { FastifyReply } from 'fastify'
import { TrivetError } from '../../errors.ts'
import type { Executed } from '../../node/surface.ts'
import type { Item, Outcome } from '../../store/types.ts'
import { type App, type RouteContext, setRevision, setTiming } from '../app.ts'
import { formatTag, names, readCondition, type Tags, writeConditions } from '../conditions.ts'
import { type Call, callOf, denied, noSuchStore, storeCallOf } from '../gate.ts'
import { storedContentType } from '../media-type.ts'
import { documented } from '../openapi.ts'
import { headers } from '../protocol.ts'
import { Deleted, NoQuery, ReadQuery, StoreParams, Written } from '../schemas.ts'

/** The router sees every key as `-` (see `routedTarget`). */
const url = '/v1/stores/:store/keys/-'

/** Values are private to a token, kept as they are by everything between, and never run as a page of ours. */
const valueHeaders = {
  'cache-control': 'private, no-cache, no-transform',
  'content-security-policy': 'sandbox',
  'x-content-type-options': 'nosniff',
} as const

export function addKeyRoutes(app: App, context: RouteContext): void {
  addRead(app, context)
  addSet(app, context)
  addDelete(app, context)
}

function addRead(app: App, { node, gate }: RouteContext): void {
  const rule = gate.route({
    need: { type: 'store', access: 'read', over: 'key' },
    judged: 'read',
    conditions: ['if-none-match'],
  })
  app.route({
    ...rule,
    method: ['GET', 'HEAD'],
    url,
    schema: {
      summary: 'Read a key; HEAD tells whether it exists',
      params: StoreParams,
      querystring: ReadQuery,
      ...documented({ key: true, headers: ['if-none-match', 'trivet-timeout'], answersValue: true }),
    },
    handler: async (request, reply) => {
      const had = readCondition(request.headers)
      const call = await gate.settle(request, request.query.minRevision)
      const item = await node.state.get(call.store, call.key)
      if (call.stale) reply.header(headers.stale, 'true')
      if (item === undefined) throw new TrivetError('no-such-key', 'There is no such key in this store')
      return sendItem(reply, item, had)
    },
  })
}

function sendItem(reply: FastifyReply, item: Item, had: Tags | undefined): FastifyReply {
  reply.headers(valueHeaders).header('etag', formatTag(item.revision))
  if (item.expires !== undefined) reply.header(headers.expires, new Date(item.expires).toISOString())
  if (had !== undefined && names(had, item.revision)) return reply.code(304).send()
  return reply.header('content-type', item.contentType).send(item.value)
}

function addSet(app: App, { node, gate, bodies, limits }: RouteContext): void {
  const rule = gate.route({
    need: { type: 'store', access: 'read-write', over: 'key' },
    judged: 'write',
    conditions: ['if-match', 'if-none-match'],
  })
  app.route({
    ...rule,
    method: 'PUT',
    url,
    schema: {
      summary: 'Set a key, overwriting what stood there',
      params: StoreParams,
      querystring: NoQuery,
      ...documented({
        key: true,
        headers: ['if-match', 'if-none-match', 'trivet-timeout'],
        takesValue: true,
        answers: { 200: Written, 201: Written },
      }),
    },
    handler: async (request, reply) => {
      const call = callOf(request)
      const conditions = writeConditions(request.headers)
      const contentType = storedContentType(request.headers['content-type'])
      const value = await bodies.read(request.raw, {
        code: 'value-too-large',
        bytes: storeCallOf(call).maxValueBytes ?? limits.valueBytes,
      })
      const executed = await node.execute(
        {
          type: 'set',
          token: call.tokenHash,
          store: call.store,
          key: call.key,
          value,
          contentType,
          conditions,
        },
        call,
      )
      const outcome = decided(reply, executed, call, 'set')
      const { revision, created, changed } = outcome
      return reply
        .code(created ? 201 : 200)
        .header('etag', formatTag(revision))
        .send({ revision, created, changed })
    },
  })
}

function addDelete(app: App, { node, gate }: RouteContext): void {
  const rule = gate.route({
    need: { type: 'store', access: 'read-write', over: 'key' },
    judged: 'write',
    conditions: ['if-match', 'if-none-match'],
  })
  app.route({
    ...rule,
    method: 'DELETE',
    url,
    schema: {
      summary: 'Delete a key, present or not',
      params: StoreParams,
      querystring: NoQuery,
      ...documented({
        key: true,
        headers: ['if-match', 'if-none-match', 'trivet-timeout'],
        answers: { 200: Deleted },
      }),
    },
    handler: async (request, reply) => {
      const call = callOf(request)
      const conditions = writeConditions(request.headers)
      const executed = await node.execute(
        { type: 'delete', token: call.tokenHash, store: call.store, key: call.key, conditions },
        call,
      )
      const { revision, deleted } = decided(reply, executed, call, 'deleted')
      return reply.send({ revision, deleted })
    },
  })
}

/** The outcome of a command, of the type its success has. Throws what apply refused. */
function decided<Type extends Outcome['type']>(
  reply: FastifyReply,
  executed: Executed,
  call: Call,
  type: Type,
): Extract<Outcome, { type: Type }> {
  const { outcome } = executed
  setRevision(reply, executed.revision)
  setTiming(reply, executed.timing)
  if (isOfType(outcome, type)) return outcome
  if (outcome.type === 'refused') throw refusal(outcome, call)
  throw new Error(`the node answered ${outcome.type} to a command whose success is ${type}`)
}

function isOfType<Type extends Outcome['type']>(
  outcome: Outcome,
  type: Type,
): outcome is Extract<Outcome, { type: Type }> {
  return outcome.type === type
}

/** What apply refused, as the error a client reads: judged there in the newest state there is. */
function refusal(outcome: Extract<Outcome, { type: 'refused' }>, call: Call): TrivetError {
  const { code, revision, limit } = outcome
  switch (code) {
    case 'unauthenticated':
      return new TrivetError(code, 'This token is not valid any more')
    case 'access-denied':
      return denied(call.token, { store: call.store, access: 'read-write' })
    case 'no-such-store':
      return noSuchStore(call.store)
    case 'condition-failed': {
      const found = revision === undefined || revision === 0 ? 'the key is absent' : `it is at ${revision}`
      return new TrivetError(code, `The key is not as the condition wants it: ${found}`, {
        revision: revision ?? 0,
      })
    }
    case 'value-too-large':
      return new TrivetError(code, `A value here has at most ${limit ?? 'fewer'} bytes`, { limit })
    default:
      return new TrivetError(code, `The command was refused: ${code}`, { revision, limit })
  }
}
