// One key: read, set, delete, increment, touch, under conditions.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { TrivetError } from '../../errors.ts'
import type { NodeSurface } from '../../node/surface.ts'
import type { Condition, KeyCommand, Outcome } from '../../store/types.ts'
import type { App, RouteContext } from '../app.ts'
import { formatTag, writeConditions } from '../conditions.ts'
import { decided } from '../decided.ts'
import { readDelta } from '../delta.ts'
import { type Call, callOf } from '../gate.ts'
import { readsKey, writesKey } from '../key-lane.ts'
import { type Repeat, readRepeat, repeatable } from '../once.ts'
import { documented } from '../openapi.ts'
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

/** For the document and the router: the lane checks and answers these two itself. */
function addRead(app: App, { lane }: RouteContext): void {
  app.route({
    config: { rule: readsKey, readsBody: true },
    attachValidation: true,
    method: ['GET', 'HEAD'],
    url,
    schema: {
      summary: 'Read a key; HEAD tells whether it exists',
      params: StoreParams,
      querystring: ReadQuery,
      ...documented({ key: true, headers: ['if-none-match', 'trivet-timeout'], answersValue: true }),
    },
    handler: (request, reply) => lane.serve(request, reply),
  })
}

function addSet(app: App, { lane }: RouteContext): void {
  app.route({
    config: { rule: writesKey, readsBody: true },
    attachValidation: true,
    method: 'PUT',
    url,
    schema: {
      summary: 'Set a key, overwriting what stood there',
      params: StoreParams,
      querystring: SetQuery,
      ...documented({ ...writeNotes, takesValue: true, answers: { 200: Written, 201: Written } }),
    },
    handler: (request, reply) => lane.serve(request, reply),
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
