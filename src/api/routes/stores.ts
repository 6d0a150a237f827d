// Stores: which a token may open, making one, dropping one with all its keys.

import { formatDuration } from '../../duration.ts'
import { TrivetError } from '../../errors.ts'
import { permits, seesWhole } from '../../store/grants.ts'
import { ownStore, placeOf } from '../../store/places.ts'
import type { Principal, StateReader, StoreStatus, Token } from '../../store/types.ts'
import { adminBodyBytes, adminHeaders, administer, administers, readDuration } from '../administering.ts'
import type { ApiLimits, App, RouteContext } from '../app.ts'
import { callOf, notFound, storeCallOf } from '../gate.ts'
import { documented } from '../openapi.ts'
import { headers, type StoreDescription as StoreShape } from '../protocol.ts'
import { NoQuery, ReadQuery, StoreDescription, StoreList, StoreParams } from '../schemas.ts'
import { NewStore, StoreCreated, StoreDropped } from '../schemas-admin.ts'

export function addStoreRoutes(app: App, context: RouteContext): void {
  const { node, gate, limits } = context
  app.route({
    ...gate.route({ need: { type: 'store', access: 'read', over: 'store' }, judged: 'read' }),
    method: ['GET', 'HEAD'],
    url: '/v1/stores/:store',
    schema: {
      summary: 'Open a store: check that it is there and granted',
      params: StoreParams,
      querystring: ReadQuery,
      ...documented({ headers: ['trivet-timeout'], answers: { 200: StoreDescription } }),
    },
    handler: async (request, reply) => {
      const call = await gate.settle(request, request.query.minRevision)
      if (call.stale) reply.header(headers.stale, 'true')
      const status = { ...storeCallOf(call), name: call.store }
      return reply.send(describe(status, call.token, limits))
    },
  })

  app.route({
    ...gate.route({ need: { type: 'holder' }, judged: 'read' }),
    method: 'GET',
    url: '/v1/stores',
    schema: {
      summary: 'The stores this token may open',
      querystring: ReadQuery,
      ...documented({ headers: ['trivet-timeout'], answers: { 200: StoreList } }),
    },
    handler: async (request, reply) => {
      const call = await gate.settle(request, request.query.minRevision)
      if (call.stale) reply.header(headers.stale, 'true')
      const { token } = call
      const stores = storesOf(token.principal, node.state)
      return reply.send({ stores: stores.map((status) => describe(status, token, limits)) })
    },
  })

  addCreate(app, context)
  addDrop(app, context)
}

function addCreate(app: App, { node, gate, limits }: RouteContext): void {
  app.route({
    ...gate.route(administers),
    method: 'POST',
    url: '/v1/stores',
    bodyLimit: adminBodyBytes,
    schema: {
      summary: 'Create a store',
      querystring: NoQuery,
      body: NewStore,
      ...documented({ headers: adminHeaders, answers: { 201: StoreCreated } }),
    },
    handler: async (request, reply) => {
      const { name, ttl, maxValueBytes } = request.body
      if (maxValueBytes !== undefined && maxValueBytes > limits.valueBytes) {
        const { valueBytes: limit } = limits
        throw new TrivetError('invalid-request', `A value here has at most ${limit} bytes`, {
          field: 'maxValueBytes',
          limit,
          actual: maxValueBytes,
        })
      }
      const definition = {
        name,
        ...(ttl === undefined ? {} : { ttl: readDuration('ttl', ttl, 1) }),
        ...(maxValueBytes === undefined ? {} : { maxValueBytes }),
      }
      await administer(request, reply, {
        node,
        command: { type: 'createStore', token: callOf(request).tokenHash, definition },
        asked: request.body,
        success: 'storeCreated',
        sentences: { 'store-exists': `There is a store ${name}` },
      })
      return reply.code(201).send({
        name,
        ...(definition.ttl === undefined ? {} : { ttl: formatDuration(definition.ttl) }),
        maxValueBytes: maxValueBytes ?? limits.valueBytes,
      })
    },
  })
}

function addDrop(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route(administers),
    method: 'DELETE',
    url: '/v1/stores/:store',
    schema: {
      summary: 'Drop a store with all its keys',
      params: StoreParams,
      querystring: NoQuery,
      ...documented({ headers: adminHeaders, answers: { 200: StoreDropped } }),
    },
    handler: async (request, reply) => {
      const { store: name } = request.params
      // A last slash with nothing after it, which the router takes for a parameter.
      if (name === '') throw notFound()
      await administer(request, reply, {
        node,
        command: { type: 'dropStore', token: callOf(request).tokenHash, name },
        asked: name,
        success: 'storeDropped',
        sentences: {
          'store-protected': `The store ${name} is always there`,
          'no-such-store': `There is no store ${name}`,
        },
      })
      return reply.send({ name })
    },
  })
}

/** Those that a principal may open, by the names that it opens them by. */
function storesOf(principal: Principal, state: StateReader): readonly StoreStatus[] {
  if (principal.type === 'app') {
    const own = state.store(placeOf(principal, ownStore))
    return own === undefined ? [] : [{ ...own, name: ownStore }]
  }
  return state.stores().filter(({ name }) => permits(principal, { store: name, access: 'read' }))
}

function describe(status: StoreStatus, token: Token, limits: ApiLimits): StoreShape {
  return {
    name: status.name,
    ...(status.ttl === undefined ? {} : { ttl: formatDuration(status.ttl) }),
    maxValueBytes: status.maxValueBytes ?? limits.valueBytes,
    ...(seesWhole(token.principal, status.name) ? { keys: status.keys, bytes: status.bytes } : {}),
  }
}
