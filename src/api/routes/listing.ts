// The keys of a store, page by page in the order of their bytes.

import { TrivetError } from '../../errors.ts'
import type { Item } from '../../store/types.ts'
import { type App, type RouteContext, setRevision } from '../app.ts'
import { type CursorQuery, openCursor, sealCursor } from '../cursor.ts'
import { storeCallOf } from '../gate.ts'
import { documented } from '../openapi.ts'
import { headers, type ListedKey, pageLimits } from '../protocol.ts'
import { KeyPage, ListQuery, StoreParams } from '../schemas.ts'

/** A page ends after the item that takes its keys and values past this, in bytes. */
const pageBytes = 4 * 1024 * 1024

export function addListingRoute(app: App, { node, gate, limits }: RouteContext): void {
  const rule = gate.route({ need: { type: 'store', access: 'read', over: 'range' }, judged: 'read' })
  app.route({
    ...rule,
    method: 'GET',
    url: '/v1/stores/:store/keys',
    schema: {
      summary: 'List keys',
      params: StoreParams,
      querystring: ListQuery,
      ...documented({ headers: ['trivet-timeout'], answers: { 200: KeyPage } }),
    },
    handler: async (request, reply) => {
      refuseStreaming(request.headers.accept)
      const { prefix = '', start = '', end = '', reverse = false, limit, cursor, minRevision } = request.query
      const bounds = {
        prefix: bound('prefix', prefix, limits.keyBytes),
        start: bound('start', start, limits.keyBytes),
        end: bound('end', end, limits.keyBytes),
      }
      const call = await gate.settle(request, minRevision)
      const sealed: CursorQuery = {
        clusterId: node.state.clusterId,
        storeNumber: storeCallOf(call).number,
        prefix,
        start,
        end,
        reverse,
      }
      const after = cursor === undefined ? undefined : openCursor(sealed, cursor)
      const page = await node.state.list(
        {
          store: call.store,
          ...bounds,
          after,
          reverse,
          limit: limit ?? pageLimits.defaultKeys,
          maxBytes: pageBytes,
        },
        { signal: call.signal },
      )
      setRevision(reply, page.revision)
      if (call.stale) reply.header(headers.stale, 'true')
      const last = page.more ? page.items.at(-1) : undefined
      return reply.send({
        keys: page.items.map(listed),
        ...(last === undefined ? {} : { cursor: sealCursor(sealed, last.key) }),
        revision: page.revision,
      })
    },
  })
}

/** A bound of the listing as bytes; undefined when it was not given. No key is longer than the limit. */
function bound(field: string, text: string, limit: number): Uint8Array | undefined {
  if (text === '') return undefined
  const bytes = Buffer.from(text)
  if (bytes.length <= limit) return bytes
  throw new TrivetError('invalid-request', `The query parameter ${field} has at most ${limit} bytes`, {
    field,
    limit,
    actual: bytes.length,
  })
}

function listed(item: Item): ListedKey {
  const { key, revision, value, contentType, expires } = item
  return {
    key: keyText(key),
    revision,
    size: value.length,
    contentType,
    ...(expires === undefined ? {} : { expires: new Date(expires).toISOString() }),
  }
}

function keyText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString()
}

/** Who asks for a stream must not take one page for the whole. */
function refuseStreaming(accept: string | undefined): void {
  if (accept === undefined || !/\bapplication\/x-ndjson\b/i.test(accept)) return
  throw new TrivetError('invalid-request', 'This server lists keys as application/json only', {
    field: 'accept',
  })
}
