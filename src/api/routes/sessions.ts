// Sessions: for clients that number their writes, so that each takes effect once however often it is sent.

import { randomBytes } from 'node:crypto'
import type { App, RouteContext } from '../app.ts'
import { decided } from '../decided.ts'
import { callOf } from '../gate.ts'
import { documented } from '../openapi.ts'
import { NoQuery, Session } from '../schemas.ts'

export function addSessionRoute(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route({ need: { type: 'holder' }, judged: 'write' }),
    method: 'POST',
    url: '/v1/sessions',
    schema: {
      summary: 'Open a session for exactly-once writes',
      querystring: NoQuery,
      ...documented({ headers: ['trivet-timeout'], answers: { 201: Session } }),
    },
    handler: async (request, reply) => {
      const call = callOf(request)
      // Random, so that the session of a cluster that is gone is never taken for one of this.
      const session = randomBytes(16).toString('base64url')
      const executed = await node.execute({ type: 'openSession', token: call.tokenHash, session }, call)
      decided(reply, executed, call, 'sessionOpened')
      return reply.code(201).send({ session })
    },
  })
}
