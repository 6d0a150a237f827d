// One key: read, set, delete, under conditions.

import type { FastifyReply } from 'fastify'
import { TrivetError } from '../../errors.ts'
import type { Item } from '../../store/types.ts'
import type { App, RouteContext } from '../app.ts'
import { formatTag, names, readCondition, type Tags, writeConditions } from '../conditions.ts'
import { decided } from '../decided.ts'
import { callOf, type Rule, storeCallOf } from '../gate.ts'
import { storedContentType } from '../media-type.ts'
import { readRepeat, repeatable } from '../once.ts'
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

const writesKey: Rule = {
  need: { type: 'store', access: 'read-write', over: 'key' },
  judged: 'write',
  conditions: ['if-match', 'if-none-match'],
  repeatable: true,
}

/** The headers of a write, for the document. */
const writeHeaders = [
  'if-match',
  'if-none-match',
  'idempotency-key',
  'trivet-session',
  'trivet-timeout',
] as const

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
  app.route({
    ...gate.route(writesKey),
    method: 'PUT',
    url,
    schema: {
      summary: 'Set a key, overwriting what stood there',
      params: StoreParams,
      querystring: NoQuery,
      ...documented({
        key: true,
        headers: writeHeaders,
        takesValue: true,
        answers: { 200: Written, 201: Written },
      }),
    },
    handler: async (request, reply) => {
      const call = callOf(request)
      const conditions = writeConditions(request.headers)
      const repeat = readRepeat(request.headers)
      const contentType = storedContentType(request.headers['content-type'])
      const value = await bodies.read(request.raw, {
        code: 'value-too-large',
        bytes: storeCallOf(call).maxValueBytes ?? limits.valueBytes,
      })
      const { tokenHash: token, store, key } = call
      const command = { type: 'set', token, store, key, value, contentType, conditions } as const
      const executed = await node.execute(repeatable(command, repeat), call)
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
  app.route({
    ...gate.route(writesKey),
    method: 'DELETE',
    url,
    schema: {
      summary: 'Delete a key, present or not',
      params: StoreParams,
      querystring: NoQuery,
      ...documented({
        key: true,
        headers: writeHeaders,
        answers: { 200: Deleted },
      }),
    },
    handler: async (request, reply) => {
      const call = callOf(request)
      const conditions = writeConditions(request.headers)
      const repeat = readRepeat(request.headers)
      const { tokenHash: token, store, key } = call
      const command = { type: 'delete', token, store, key, conditions } as const
      const executed = await node.execute(repeatable(command, repeat), call)
      const { revision, deleted } = decided(reply, executed, call, 'deleted')
      return reply.send({ revision, deleted })
    },
  })
}
