// A server over a real node, its own document read, and requests made of what the document describes.

import http from 'node:http'
import { type Api, createApi } from '../../src/api/server.ts'
import type { Answered } from './client.ts'
import { listeningLogger } from './client.ts'
import { founding, secrets } from './contract.ts'
import { type Operation, operationsOf, sampleOf } from './document.ts'
import { foundOne } from './real-node.ts'

/** A request as it goes out: nothing of it is encoded or completed. */
export type Sent = {
  readonly method: string
  /** With the query. */
  readonly path: string
  readonly headers?: Readonly<Record<string, string | readonly string[]>>
  readonly body?: string | Uint8Array
}

export type DocumentBed = {
  readonly api: Api
  readonly operations: readonly Operation[]
  readonly logger: ReturnType<typeof listeningLogger>
  /** As the admin. An answer that is a stream of events is cut after its head. */
  send(sent: Sent): Promise<Answered>
  close(): Promise<void>
}

export async function makeDocumentBed(): Promise<DocumentBed> {
  const { node, close } = await foundOne(founding)
  const logger = listeningLogger()
  const api = await createApi({ node, limits: { keyBytes: 4096, valueBytes: founding.valueBytes }, logger })
  await api.listen({ host: '127.0.0.1', port: 0 })
  const agent = new http.Agent({ keepAlive: true, maxSockets: 16 })
  const send = (sent: Sent) => sendOver(agent, api.address.port, sent)
  const { json } = await send({ method: 'GET', path: '/openapi.json' })
  return {
    api,
    operations: operationsOf(json),
    logger,
    send,
    close: async () => {
      agent.destroy()
      await api.close()
      await close()
    },
  }
}

function sendOver(agent: http.Agent, port: number, sent: Sent): Promise<Answered> {
  const { promise, resolve, reject } = Promise.withResolvers<Answered>()
  const { method, path, body } = sent
  const headers: Record<string, string | string[]> = { authorization: `Bearer ${secrets.admin}` }
  if (body !== undefined) headers['content-length'] = String(Buffer.byteLength(body))
  for (const [name, value] of Object.entries(sent.headers ?? {}))
    headers[name] = typeof value === 'string' ? value : [...value]
  const request = http.request({ agent, host: '127.0.0.1', port, method, path, headers }, (response) => {
    const chunks: Buffer[] = []
    const done = (): void => {
      const whole = Buffer.concat(chunks)
      const text = whole.toString()
      resolve({
        status: response.statusCode ?? 0,
        headers: response.headers,
        body: whole,
        text,
        get json() {
          return Object(JSON.parse(text)) as Answered['json']
        },
      })
    }
    if (response.headers['content-type']?.startsWith('text/event-stream') === true) {
      done()
      response.destroy()
      return
    }
    response.on('data', (chunk: Buffer) => chunks.push(chunk))
    response.on('error', reject)
    response.on('end', done)
  })
  request.on('error', reject)
  request.end(body)
  return promise
}

/** What stands in paths and bodies, so that what is asked for is there. */
const names: Readonly<Record<string, string>> = { store: 'carts', key: 'a/key', id: 'n9', name: 'spare' }

/** Of parameters that are texts of a certain form. */
const parameters: Readonly<Record<string, string>> = { ttl: '1h' }

/** A JSON body that the operation takes; undefined where it takes none. */
export function bodyOf({ body }: Operation): unknown {
  const { schema, example } = body?.['application/json'] ?? {}
  return schema === undefined ? undefined : (example ?? sampleOf(schema))
}

/** What is dropped is not what others use. */
function segmentOf({ method, path }: Operation, name: string): string {
  return method === 'DELETE' && path === '/v1/stores/{store}' ? 'spare' : (names[name] ?? 'sample')
}

/** The request that an operation's document asks for at the least. */
export function sampleRequest(operation: Operation): {
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
} {
  const required = operation.parameters.filter((parameter) => parameter.required === true)
  const query = required.filter((parameter) => parameter.in === 'query')
  const json = bodyOf(operation)
  return {
    path: operation.path.replace(/\{(\w+)\}/g, (_, name: string) => segmentOf(operation, name)),
    query: Object.fromEntries(
      query.map(({ name, schema }) => [name, parameters[name] ?? String(sampleOf(schema))]),
    ),
    headers: json === undefined ? {} : { 'content-type': 'application/json' },
    body: json,
  }
}

/** As it goes out. */
export function written(
  operation: Operation,
  request: ReturnType<typeof sampleRequest>,
): Sent & { readonly headers: Readonly<Record<string, string>> } {
  const query = Object.entries(request.query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
  return {
    method: operation.method,
    path: query.length === 0 ? request.path : `${request.path}?${query.join('&')}`,
    headers: request.headers,
    ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
  }
}
