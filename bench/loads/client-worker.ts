// The load through a packaged client, a process of its own: one job from its argument, one line of JSON as its answer.
//
// So many callers, each of which waits for its answer before it asks again, and one client with what it does by default.

import { randomBytes } from 'node:crypto'
import { Etcd3 } from 'etcd3'
import { percentile } from '../statistics.ts'
import type { ClientTarget } from '../systems/engine.ts'
import { keyName } from './keys.ts'

export type ClientJob = {
  readonly target: ClientTarget
  readonly operation: 'set' | 'get'
  readonly concurrency: number
  readonly seconds: number
  readonly keys: number
  readonly valueBytes: number
}

/** Latencies in milliseconds; processor time is that of this process. */
export type ClientFigures = {
  /** What succeeded while it counted. */
  readonly operations: number
  /** What was asked for from the beginning, the time of warming up included. */
  readonly all: number
  readonly seconds: number
  readonly p50: number
  readonly p99: number
  readonly p999: number
  readonly failed: number
  readonly cpuSeconds: number
}

type Caller = {
  set(key: string, value: Buffer): Promise<unknown>
  get(key: string): Promise<unknown>
  close(): Promise<unknown>
}

async function callerOf(target: ClientTarget): Promise<Caller> {
  if (target.type === 'etcd3') {
    const etcd = new Etcd3({ hosts: [...target.endpoints] })
    return {
      set: (key, value) => etcd.put(key).value(value).exec(),
      get: (key) => etcd.get(key).buffer(),
      close: async () => etcd.close(),
    }
  }
  const { connect }: typeof import('../../src/sdk/index.ts') = await import(target.sdk)
  const client = connect({ endpoints: target.endpoints, token: target.token })
  const store = await client.open('default')
  return {
    set: (key, value) => store.set(key, value),
    get: (key) => store.get(key),
    close: () => client.close(),
  }
}

async function run({
  target,
  operation,
  concurrency,
  seconds,
  keys,
  valueBytes,
}: ClientJob): Promise<ClientFigures> {
  const caller = await callerOf(target)
  const noise = randomBytes(1 << 20)
  const value = () => {
    const at = Math.floor(Math.random() * (noise.length - valueBytes))
    return noise.subarray(at, at + valueBytes)
  }
  const key = () => keyName(Math.floor(Math.random() * keys))
  const once = operation === 'set' ? () => caller.set(key(), value()) : () => caller.get(key())

  const measure = async (forSeconds: number) => {
    const latencies: number[] = []
    let failed = 0
    const begun = performance.now()
    const until = begun + forSeconds * 1000
    const cpu = process.cpuUsage()
    const calls = async () => {
      for (let now = performance.now(); now < until; ) {
        const answer = await once().then(
          (found) => found !== null && found !== undefined,
          () => false,
        )
        const then = performance.now()
        if (answer) latencies.push(then - now)
        else failed++
        now = then
      }
    }
    await Promise.all(Array.from({ length: concurrency }, calls))
    const { user, system } = process.cpuUsage(cpu)
    return { latencies, failed, took: (performance.now() - begun) / 1000, cpuSeconds: (user + system) / 1e6 }
  }

  // Compiled, connected and discovered before anything counts.
  const warm = await measure(Math.min(1, seconds / 4))
  const { latencies, failed, took, cpuSeconds } = await measure(seconds)
  await caller.close()
  const sorted = Float64Array.from(latencies).sort()
  return {
    operations: latencies.length,
    all: warm.latencies.length + warm.failed + latencies.length + failed,
    seconds: took,
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
    p999: percentile(sorted, 0.999),
    failed,
    cpuSeconds,
  }
}

const job: ClientJob = JSON.parse(process.argv[2] ?? '')
console.log(JSON.stringify(await run(job)))
