// Backup and restore: all that the cluster holds, as a stream of bytes out of it, or into one that has no keys.

import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { TrivetError } from '../../errors.ts'
import { type App, type RouteContext, setRevision } from '../app.ts'
import { startBody, stopClock } from '../body.ts'
import { callOf } from '../gate.ts'
import { documented } from '../openapi.ts'
import { defaultContentType } from '../protocol.ts'
import { NoQuery } from '../schemas.ts'
import { Restored } from '../schemas-backup.ts'

export function addBackupRoutes(app: App, { node, gate }: RouteContext): void {
  app.route({
    ...gate.route({ need: { type: 'admin' }, judged: 'read' }),
    method: 'GET',
    url: '/v1/backup',
    schema: {
      summary: 'A consistent backup of stores, keys, tokens and the revision; whole only with its end',
      querystring: NoQuery,
      ...documented({
        headers: ['trivet-timeout'],
        answersBytes: 'The backup, in frames with checksums that end with counts and a digest',
      }),
    },
    handler: async (_request, reply) => {
      return reply.type(defaultContentType).send(Readable.from(node.backup(), { objectMode: false }))
    },
  })

  const guarded = gate.route({ need: { type: 'admin' }, judged: 'write' })
  app.route({
    ...guarded,
    config: { ...guarded.config, readsBody: true },
    method: 'POST',
    url: '/v1/restore',
    schema: {
      summary: 'Bring a backup into a cluster without keys; nothing of it shows until all of it does',
      querystring: NoQuery,
      ...documented({ takesBytes: 'What GET /v1/backup answered', answers: { 200: Restored } }),
    },
    handler: async (request, reply) => {
      const { tokenHash, signal } = callOf(request)
      startBody(request.raw)
      // It is as long as the cluster's keys, and no more of it is held than one step.
      stopClock(request.raw)
      // Random, so that a step of a restore that is over is never taken for one of this.
      const id = randomBytes(16).toString('base64url')
      const restored = await node.restore(chunksOf(request.raw), { id, token: tokenHash, signal })
      setRevision(reply, restored.revision)
      return reply.send(restored)
    },
  })
}

/** The body as it comes. Who reads only its beginning leaves the connection alone, for the answer is still to go there. */
async function* chunksOf(message: IncomingMessage): AsyncGenerator<Uint8Array, void> {
  try {
    yield* message.iterator({ destroyOnReturn: false })
  } catch (cause) {
    throw new TrivetError('invalid-request', 'The request ended before its body did', { cause })
  }
}
