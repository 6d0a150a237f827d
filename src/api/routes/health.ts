// For whoever watches or balances: whether the node lives, whether it serves, and what it serves. Open to all.

import type { FastifyReply } from 'fastify'
import { TrivetError } from '../../errors.ts'
import type { App, RouteContext } from '../app.ts'
import { documented } from '../openapi.ts'
import { problemHeaders, problemOf } from '../problem.ts'
import { problemType } from '../protocol.ts'
import { Health, NoQuery } from '../schemas.ts'

export function addHealthRoutes(app: App, { node, gate, draining }: RouteContext): void {
  const open = gate.route({ need: { type: 'nothing' }, judged: 'local' })
  app.route({
    ...open,
    method: ['GET', 'HEAD'],
    url: '/livez',
    schema: {
      summary: 'Whether the event loop and the disk answer',
      querystring: NoQuery,
      security: [],
      ...documented({ answers: { 200: Health } }),
    },
    handler: (_request, reply) => {
      sendHealth(reply, 'ill', node.illness())
    },
  })

  app.route({
    ...open,
    method: ['GET', 'HEAD'],
    url: '/readyz',
    schema: {
      summary: 'Whether the node is ready for requests',
      querystring: NoQuery,
      security: [],
      ...documented({ answers: { 200: Health } }),
    },
    handler: (_request, reply) => {
      const reasons = node.unreadiness()
      sendHealth(reply, 'not ready', draining() ? [...reasons, 'draining'] : reasons)
    },
  })

  app.route({
    ...open,
    method: ['GET', 'HEAD'],
    url: '/openapi.json',
    schema: { hide: true, querystring: NoQuery },
    handler: (_request, reply) => {
      reply.send(app.swagger())
    },
  })
}

function sendHealth(reply: FastifyReply, state: 'ill' | 'not ready', reasons: readonly string[]): void {
  if (reasons.length === 0) {
    reply.send({ status: 'ok' })
    return
  }
  const error = new TrivetError('not-ready', `The node is ${state}: ${reasons.join('; ')}`)
  for (const [name, value] of problemHeaders(error)) reply.header(name, value)
  // As bytes, so that the type goes out as it is.
  reply
    .code(error.status)
    .header('content-type', problemType)
    .send(Buffer.from(JSON.stringify(problemOf(error, reasons))))
}
