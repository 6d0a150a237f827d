// The cluster: who belongs to it, and who is to lead it.

import type { Static } from 'typebox'
import type { ClusterStatus, MemberStatus } from '../../node/surface.ts'
import type { App, RouteContext } from '../app.ts'
import { callOf } from '../gate.ts'
import { documented } from '../openapi.ts'
import { ClusterDescription, Handover, HandoverRequest, NoQuery } from '../schemas.ts'

/** The longest body of an administrative request, in bytes. */
const bodyBytes = 64 * 1024

export function addClusterRoutes(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route({ need: { type: 'token' }, judged: 'local' }),
    method: 'GET',
    url: '/v1/cluster',
    schema: {
      summary: 'The cluster as this node sees it, with or without a leader',
      querystring: NoQuery,
      ...documented({ answers: { 200: ClusterDescription } }),
    },
    handler: (_request, reply) => {
      reply.send(describe(node.cluster()))
    },
  })

  app.route({
    ...gate.route({ need: { type: 'admin' }, judged: 'write' }),
    method: 'POST',
    url: '/v1/cluster/leader',
    bodyLimit: bodyBytes,
    schema: {
      summary: 'Hand leadership over',
      querystring: NoQuery,
      body: HandoverRequest,
      ...documented({ headers: ['trivet-timeout'], answers: { 200: Handover } }),
    },
    handler: async (request, reply) => {
      const { to } = request.body
      await node.transferLeadership(to, callOf(request))
      return reply.send({ leader: to })
    },
  })
}

type Described = Static<typeof ClusterDescription>

/** What is not known is left out. */
function describe({ leader, members, ...rest }: ClusterStatus): Described {
  return { ...rest, ...(leader === undefined ? {} : { leader }), members: members.map(describeMember) }
}

function describeMember(member: MemberStatus): Described['members'][number] {
  const { version, term, commitIndex, lastApplied, lag, alarms, ...known } = member
  return {
    ...known,
    alarms: [...alarms],
    ...(version === undefined ? {} : { version }),
    ...(term === undefined ? {} : { term }),
    ...(commitIndex === undefined ? {} : { commitIndex }),
    ...(lastApplied === undefined ? {} : { lastApplied }),
    ...(lag === undefined ? {} : { lag }),
  }
}
