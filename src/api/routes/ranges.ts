// All keys under a prefix, or of a store, deleted at once.

import { TrivetError } from '../../errors.ts'
import type { App, RouteContext } from '../app.ts'
import { decided } from '../decided.ts'
import { callOf } from '../gate.ts'
import { readRepeat, repeatable } from '../once.ts'
import { documented } from '../openapi.ts'
import { RangeDeleted, RangeQuery, StoreParams } from '../schemas.ts'
import { boundOf } from '../url.ts'

export function addRangeRoute(app: App, { node, gate, limits }: RouteContext): void {
  app.route({
    ...gate.route({
      need: { type: 'store', access: 'read-write', over: 'range' },
      judged: 'write',
      repeatable: true,
    }),
    method: 'DELETE',
    url: '/v1/stores/:store/keys',
    schema: {
      summary: 'Delete all keys under a prefix, at once',
      params: StoreParams,
      querystring: RangeQuery,
      ...documented({
        headers: ['idempotency-key', 'trivet-session', 'trivet-timeout'],
        answers: { 200: RangeDeleted },
      }),
    },
    handler: async (request, reply) => {
      const call = callOf(request)
      const repeat = readRepeat(request.headers)
      const prefix = rangeOf(request.query, limits.keyBytes)
      const { tokenHash: token, store } = call
      const command = { type: 'deleteRange', token, store, prefix } as const
      const executed = await node.execute(repeatable(command, repeat), call)
      const { revision, deleted } = decided(reply, executed, call, 'rangeDeleted')
      return reply.send({ revision, deleted })
    },
  })
}

/** The prefix of what is to go; an empty one only where all of it was asked for in so many words. */
function rangeOf(query: { prefix?: string; all?: boolean }, keyBytes: number): Uint8Array {
  const prefix = boundOf('prefix', query.prefix ?? '', keyBytes)
  if (query.all === true) {
    if (prefix === undefined) return new Uint8Array(0)
    throw new TrivetError('invalid-request', 'all=true and a prefix exclude each other', { field: 'all' })
  }
  if (prefix !== undefined) return prefix
  throw new TrivetError(
    'invalid-request',
    'A range needs a prefix; all=true without one deletes every key of the store',
    { field: 'prefix' },
  )
}
