// The cluster: who belongs to it, who shall, and who is to lead it.

import type { Static } from 'typebox'
import type { ClusterStatus, MemberStatus } from '../../node/surface.ts'
import type { App, RouteContext } from '../app.ts'
import { callOf } from '../gate.ts'
import { documented } from '../openapi.ts'
import {
  ClusterDescription,
  ForceQuery,
  Handover,
  HandoverRequest,
  MemberAdded,
  MemberParams,
  MemberRemoved,
  NewMember,
  NoQuery,
} from '../schemas.ts'

/** The longest body of an administrative request, in bytes. */
const bodyBytes = 64 * 1024

export function addClusterRoutes(app: App, context: RouteContext): void {
  const { node, gate } = context
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

  addMemberRoutes(app, context)
}

function addMemberRoutes(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route({ need: { type: 'admin' }, judged: 'write' }),
    method: 'POST',
    url: '/v1/cluster/members',
    bodyLimit: bodyBytes,
    schema: {
      summary: 'Add a member as a learner, or have it replace one; it votes once it has caught up',
      querystring: ForceQuery,
      body: NewMember,
      ...documented({ headers: ['trivet-timeout'], answers: { 202: MemberAdded } }),
    },
    handler: async (request, reply) => {
      const { id, http, p2p, peer, replaces } = request.body
      const { force } = request.query
      await node.addMember({ id, http, p2p, peer }, { ...callOf(request), replaces, force })
      return reply.code(202).send({ id, peer })
    },
  })

  app.route({
    ...gate.route({ need: { type: 'admin' }, judged: 'write' }),
    method: 'DELETE',
    url: '/v1/cluster/members/:id',
    schema: {
      summary: 'Remove a member, the leader too',
      params: MemberParams,
      querystring: ForceQuery,
      ...documented({ headers: ['trivet-timeout'], answers: { 200: MemberRemoved } }),
    },
    handler: async (request, reply) => {
      const { id } = request.params
      await node.removeMember(id, { ...callOf(request), force: request.query.force })
      return reply.send({ id })
    },
  })
}

type Described = Static<typeof ClusterDescription>

/** What is not known is left out. */
function describe({ leader, members, ...rest }: ClusterStatus): Described {
  return { ...rest, ...(leader === undefined ? {} : { leader }), members: members.map(describeMember) }
}

function describeMember(member: MemberStatus): Described['members'][number] {
  const { version, term, commitIndex, lastApplied, lag, digest, alarms, ...known } = member
  return {
    ...known,
    alarms: [...alarms],
    ...(version === undefined ? {} : { version }),
    ...(term === undefined ? {} : { term }),
    ...(commitIndex === undefined ? {} : { commitIndex }),
    ...(lastApplied === undefined ? {} : { lastApplied }),
    ...(lag === undefined ? {} : { lag }),
    ...(digest === undefined ? {} : { digest }),
  }
}
