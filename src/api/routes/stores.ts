// Stores and principals: what a token may open, and who it is.

import type { Static } from 'typebox'
import { formatDuration } from '../../duration.ts'
import { permits, seesWhole } from '../../store/grants.ts'
import type { StoreStatus, Token } from '../../store/types.ts'
import type { ApiLimits, App, RouteContext } from '../app.ts'
import { storeCallOf } from '../gate.ts'
import { documented } from '../openapi.ts'
import { headers, type StoreDescription as StoreShape } from '../protocol.ts'
import { Me, ReadQuery, StoreDescription, StoreList, StoreParams } from '../schemas.ts'

export function addStoreRoutes(app: App, { node, gate, limits }: RouteContext): void {
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
      return reply.send(describe(storeCallOf(call), call.token, limits))
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
      const stores = node.state
        .stores()
        .filter(({ name }) => permits(token.principal, { store: name, access: 'read' }))
      return reply.send({ stores: stores.map((status) => describe(status, token, limits)) })
    },
  })

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
      return reply.send(introduce(call.token))
    },
  })
}

function describe(status: StoreStatus, token: Token, limits: ApiLimits): StoreShape {
  return {
    name: status.name,
    ...(status.ttl === undefined ? {} : { ttl: formatDuration(status.ttl) }),
    maxValueBytes: status.maxValueBytes ?? limits.valueBytes,
    ...(seesWhole(token.principal, status.name) ? { keys: status.keys, bytes: status.bytes } : {}),
  }
}

function introduce({ name, principal }: Token): Static<typeof Me> {
  return {
    principal: { type: principal.type, name },
    grants: principal.type === 'component' ? [...principal.grants] : [],
  }
}
