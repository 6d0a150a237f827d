// The load generator, a process of its own: one scenario from its argument, one line of JSON as its answer.

import autocannon from 'autocannon'

/** What to send, and for how long. */
export type Load = {
  readonly url: string
  readonly token: string
  readonly method: 'GET' | 'PUT'
  readonly connections: number
  readonly seconds: number
  /** Keys are `bench-0` up to this number, taken at random. */
  readonly keys: number
  readonly valueBytes: number
}

/** Latencies in milliseconds. */
export type LoadResult = {
  readonly perSecond: number
  readonly p50: number
  readonly p99: number
  readonly p999: number
  readonly failed: number
}

async function run(load: Load): Promise<LoadResult> {
  const value = Buffer.alloc(load.valueBytes, 'v')
  const path = () => `/v1/stores/default/keys/bench-${Math.floor(Math.random() * load.keys)}`
  const headers = {
    authorization: `Bearer ${load.token}`,
    ...(load.method === 'PUT' ? { 'content-type': 'application/octet-stream' } : {}),
  }
  const result = await autocannon({
    url: load.url,
    connections: load.connections,
    duration: load.seconds,
    headers,
    requests: [
      {
        method: load.method,
        path: path(),
        ...(load.method === 'PUT' ? { body: value } : {}),
        setupRequest: (request) => ({ ...request, path: path() }),
      },
    ],
  })
  return {
    perSecond: result.requests.average,
    p50: result.latency.p50,
    p99: result.latency.p99,
    p999: result.latency.p99_9,
    failed: result.errors + result.timeouts + result.non2xx,
  }
}

const argument: Load = JSON.parse(process.argv[2] ?? '')
console.log(JSON.stringify(await run(argument)))
