// Many operations in one request, each as if it had come alone.

import { TrivetError } from '../../errors.ts'
import { type App, type RouteContext, setTiming } from '../app.ts'
import { Batch } from '../batch.ts'
import { readBatchRepeat } from '../once.ts'
import { documented } from '../openapi.ts'
import { listOf, readOperationBody, sendResults } from '../operation-requests.ts'
import { headers } from '../protocol.ts'
import { ReadQuery } from '../schemas.ts'
import { BatchAnswer, BatchRequest } from '../schemas-operations.ts'

export function addBatchRoute(app: App, context: RouteContext): void {
  const { node, gate, limits, room } = context
  const rule = gate.route({ need: { type: 'holder' }, judged: 'write', repeatable: true })
  app.route({
    ...rule,
    config: { ...rule.config, readsBody: true },
    method: 'POST',
    url: '/v1/batch',
    schema: {
      summary: 'Up to 1,000 independent operations, each as if sent alone',
      querystring: ReadQuery,
      ...documented({
        headers: ['idempotency-key', 'trivet-session', 'trivet-timeout'],
        operations: { takes: BatchRequest, answers: BatchAnswer },
      }),
    },
    handler: async (request, reply) => {
      const { consistency, minRevision } = request.query
      const repeat = readBatchRepeat(request.headers)
      const body = await readOperationBody(request, context, ['operations'])
      if (body.fields['operations'] === undefined) {
        const field = 'operations'
        throw new TrivetError('invalid-request', `The field ${field} is missing`, { field })
      }
      const raws = listOf(body, 'operations')
      const call = await gate.settle(request, minRevision)
      const stale = consistency === 'stale'
      const { form } = body
      const share = room.shareFor(reply.raw)
      const batch = new Batch({ node, gate, limits, request, call, form, repeat, stale, share })
      const results = await batch.run(raws)
      if (stale) reply.header(headers.stale, 'true')
      if (batch.replayed) reply.header(headers.replayed, 'true')
      if (batch.timing !== undefined) setTiming(reply, batch.timing)
      return sendResults(reply, form, { fields: {}, results })
    },
  })
}
