// So many open streams of watchers, a process of its own: says `open` once all have begun, and holds them until it is let go.

import { connect } from 'node:net'
import type { Exchange } from '../systems/engine.ts'

export type WatchersJob = {
  readonly urls: readonly string[]
  /** One stream for each, spread over the nodes. Bodies are text here. */
  readonly exchanges: readonly (Omit<Exchange, 'body'> & { readonly body?: string })[]
}

/** What the worker says to its parent. */
export type WatchersWord = { readonly type: 'open' } | { readonly type: 'failed'; readonly why: string }

/** Streams that are being opened at a time. */
const atOnce = 100

function open(
  url: string,
  { method, path, headers, body = '' }: WatchersJob['exchanges'][number],
): Promise<void> {
  const { hostname, port, host } = new URL(url)
  const lines = Object.entries({ host, ...headers, 'content-length': String(Buffer.byteLength(body)) })
  const text = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const socket = connect({ host: hostname, port: Number(port) })
  socket.setEncoding('utf8')
  socket.once('data', (answer: string) => {
    if (answer.startsWith('HTTP/1.1 200')) resolve()
    else reject(new Error(answer.slice(0, 300)))
  })
  socket.once('error', reject)
  // A stream that ends later than it began is no longer there: that is a failure of the measurement too.
  socket.once('close', () => tell({ type: 'failed', why: `a stream at ${url} ended` }))
  socket.write(`${method} ${path} HTTP/1.1\r\n${text}\r\n${body}`)
  return promise
}

function tell(word: WatchersWord): void {
  if (process.connected) process.send?.(word)
}

async function run({ urls, exchanges }: WatchersJob): Promise<void> {
  let next = 0
  const one = async (): Promise<void> => {
    while (next < exchanges.length) {
      const at = next++
      const exchange = exchanges[at]
      if (exchange !== undefined) await open(urls[at % urls.length] ?? '', exchange)
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, exchanges.length) }, one))
}

process.once('disconnect', () => process.exit())
process.once('message', (job: WatchersJob) => {
  run(job).then(
    () => tell({ type: 'open' }),
    (error: unknown) => tell({ type: 'failed', why: String(error) }),
  )
})
