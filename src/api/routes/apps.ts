// Mattermost apps: which there are, and taking one away with all that it has.

import { adminHeaders, administer, administers } from '../administering.ts'
import type { App, RouteContext } from '../app.ts'
import { callOf } from '../gate.ts'
import { documented } from '../openapi.ts'
import { headers } from '../protocol.ts'
import { NoQuery, ReadQuery } from '../schemas.ts'
import { AppList, AppParams, AppRemoved } from '../schemas-admin.ts'

export function addAppRoutes(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route({ need: { type: 'admin' }, judged: 'read' }),
    method: 'GET',
    url: '/v1/apps',
    schema: {
      summary: 'List the Mattermost apps',
      querystring: ReadQuery,
      ...documented({ headers: ['trivet-timeout'], answers: { 200: AppList } }),
    },
    handler: async (request, reply) => {
      const call = await gate.settle(request, request.query.minRevision)
      if (call.stale) reply.header(headers.stale, 'true')
      return reply.send({ apps: [...node.state.apps()] })
    },
  })

  app.route({
    ...gate.route(administers),
    method: 'DELETE',
    url: '/v1/apps/:id',
    schema: {
      summary: 'Remove an app with the keys and tokens of all its users',
      params: AppParams,
      querystring: NoQuery,
      ...documented({ headers: adminHeaders, answers: { 200: AppRemoved } }),
    },
    handler: async (request, reply) => {
      const { id } = request.params
      await administer(request, reply, {
        node,
        command: { type: 'removeApp', token: callOf(request).tokenHash, app: id },
        asked: id,
        success: 'appRemoved',
        sentences: { 'not-found': `There is no app ${id}` },
      })
      return reply.send({ id })
    },
  })
}
