// One key: read, set, delete, increment, touch, under conditions.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { TrivetError } from '../../errors.ts'
import type { NodeSurface } from '../../node/surface.ts'
import type { Condition, Item, KeyCommand, Outcome } from '../../store/types.ts'
import type { App, RouteContext } from '../app.ts'
import { formatTag, names, readCondition, type Tags, writeConditions } from '../conditions.ts'
import { decided, noSuchKey } from '../decided.ts'
import { readDelta } from '../delta.ts'
import { type Call, callOf, placeOfCall, type Rule, storeCallOf } from '../gate.ts'
import { storedContentType } from '../media-type.ts'
import { type Repeat, readRepeat, repeatable } from '../once.ts'
import { documented } from '../openapi.ts'
import { headers } from '../protocol.ts'
import {
  Deleted,
  Incremented,
  IncrementRequest,
  NoQuery,
  ReadQuery,
  SetQuery,
  StoreParams,
  Touched,
  TouchQuery,
  Written,
} from '../schemas.ts'
import { readTtl } from '../ttl.ts'

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

/** For the document, of every write. */
const writeNotes = {
  key: true,
  headers: ['if-match', 'if-none-match', 'idempotency-key', 'trivet-session', 'trivet-timeout'],
} as const

export function addKeyRoutes(app: App, context: RouteContext): void {
  addRead(app, context)
  addSet(app, context)
  addDelete(app, context)
  addIncrement(app, context)
  addTouch(app, context)
}

/** A write of the route's key: all of it but what is to be done. */
class Write {
  readonly call: Call
  /** Who wants it done to which key, and when: what every command of a key begins with. */
  readonly target: {
    readonly token: string
    readonly store: string
    readonly key: Uint8Array
    readonly conditions: readonly Condition[]
  }
  readonly #repeat: Repeat | undefined

  /** Throws `invalid-request` for headers that are none. */
  constructor(request: FastifyRequest) {
    this.call = callOf(request)
    const { tokenHash: token, store, key } = this.call
    this.target = { token, store, key, conditions: writeConditions(request.headers) }
    this.#repeat = readRepeat(request.headers)
  }

  /** Has it decided. Throws what it was refused for. */
  async decide<Type extends Outcome['type']>(
    command: KeyCommand,
    { node, reply, success }: { readonly node: NodeSurface; readonly reply: FastifyReply; success: Type },
  ): Promise<Extract<Outcome, { type: Type }>> {
    const executed = await node.execute(repeatable(command, this.#repeat), this.call)
    return decided(reply, executed, this.call, success)
  }
}

function addRead(app: App, { node, gate, room }: RouteContext): void {
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
      const item = await node.state.get(placeOfCall(call), call.key)
      if (call.stale) reply.header(headers.stale, 'true')
      if (item === undefined) throw noSuchKey()
      if (item.value.length > smallValue) room.shareFor(reply.raw).take(item.value.length)
      return sendItem(reply, item, had)
    },
  })
}

/** Up to this a value waits for its reader in what a socket buffers anyway, in bytes. */
const smallValue = 64 * 1024

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
      querystring: SetQuery,
      ...documented({ ...writeNotes, takesValue: true, answers: { 200: Written, 201: Written } }),
    },
    handler: async (request, reply) => {
      const write = new Write(request)
      const { ttl } = request.query
      const record = {
        contentType: storedContentType(request.headers['content-type']),
        ...(ttl === undefined ? {} : { ttl: readTtl(ttl) }),
      }
      const value = await bodies.read(request.raw, {
        code: 'value-too-large',
        bytes: storeCallOf(write.call).maxValueBytes ?? limits.valueBytes,
      })
      const command = { type: 'set', ...write.target, value, ...record } as const
      const { revision, created, changed } = await write.decide(command, { node, reply, success: 'set' })
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
      ...documented({ ...writeNotes, answers: { 200: Deleted } }),
    },
    handler: async (request, reply) => {
      const write = new Write(request)
      const command = { type: 'delete', ...write.target } as const
      const { revision, deleted } = await write.decide(command, { node, reply, success: 'deleted' })
      return reply.send({ revision, deleted })
    },
  })
}

function addIncrement(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route(writesKey),
    method: 'POST',
    url: `${url}/increment`,
    // A body is not needed: what it may say has defaults.
    preValidation: (request, _reply, done) => {
      if (request.body === undefined) request.body = {}
      done()
    },
    schema: {
      summary: 'Add to a key, which counts as 0 when it is missing',
      params: StoreParams,
      querystring: NoQuery,
      body: IncrementRequest,
      ...documented({ ...writeNotes, answers: { 200: Incremented } }),
    },
    handler: async (request, reply) => {
      const write = new Write(request)
      const { ttl } = request.body
      const command = {
        type: 'increment',
        ...write.target,
        delta: readDelta(request.body.delta),
        ...(ttl === undefined ? {} : { ttl: readTtl(ttl) }),
      } as const
      const { value, revision } = await write.decide(command, { node, reply, success: 'incremented' })
      return reply.header('etag', formatTag(revision)).send({ value: String(value), revision })
    },
  })
}

function addTouch(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route(writesKey),
    method: 'POST',
    url: `${url}/touch`,
    schema: {
      summary: 'Set, renew or clear how long a key lasts, and change nothing else of it',
      params: StoreParams,
      querystring: TouchQuery,
      ...documented({ ...writeNotes, answers: { 200: Touched } }),
    },
    handler: async (request, reply) => {
      const write = new Write(request)
      if (request.body !== undefined) {
        throw new TrivetError('invalid-request', 'A touch has no body', { field: 'body' })
      }
      const command = { type: 'touch', ...write.target, ttl: readTtl(request.query.ttl) } as const
      const { expires } = await write.decide(command, { node, reply, success: 'touched' })
      return reply.send(expires === undefined ? {} : { expires: new Date(expires).toISOString() })
    },
  })
}
