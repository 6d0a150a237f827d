// Single requests to a node, for all that is asked beside the loads.

import { Agent, request } from 'node:http'
import type { Exchange } from './engine.ts'

export type Reply = { readonly status: number; readonly body: string }

/** A put that makes a new key is 201 at Trivet and 200 at etcd. */
export function isDone({ status }: Reply): boolean {
  return status === 200 || status === 201
}

const kept = new Agent({ keepAlive: true })

/** Sends one request and reads its answer. Rejects when there is none within `timeoutMs`. */
export function exchange(
  url: string,
  { method, path, headers, body }: Exchange,
  { timeoutMs = 10_000, agent = kept }: { readonly timeoutMs?: number; readonly agent?: Agent } = {},
): Promise<Reply> {
  const { hostname, port } = new URL(url)
  const { promise, resolve, reject } = Promise.withResolvers<Reply>()
  const length = body === undefined ? {} : { 'content-length': String(body.length) }
  const signal = AbortSignal.timeout(timeoutMs)
  const sent = request(
    { agent, hostname, port, path, method, headers: { ...headers, ...length }, signal },
    (answer) => {
      let text = ''
      answer.setEncoding('utf8')
      answer.on('data', (part: string) => {
        text += part
      })
      answer.once('end', () => resolve({ status: answer.statusCode ?? 0, body: text }))
      answer.once('error', reject)
    },
  )
  sent.once('error', reject)
  sent.end(body)
  return promise
}
