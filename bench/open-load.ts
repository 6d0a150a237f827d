// A load that does not wait for its answers, in a process of its own: a write every so often, whatever became of the last.
//
// A latency counts from the moment at which a write was due, so that a stall is felt by everyone who would have come meanwhile.

import { randomBytes } from 'node:crypto'
import { Agent, request } from 'node:http'

/** What the parent says first: fill, as fast as it goes, or write at a constant rate until told to stop. */
export type OpenJob = {
  readonly url: string
  readonly token: string
  readonly valueBytes: number
  readonly connections: number
} & (
  | { readonly type: 'fill'; readonly from: number; readonly keys: number }
  | { readonly type: 'rate'; readonly perSecond: number; readonly keys: number }
)

/** What it says afterwards: `cut` ends a window and begins the next one, `stop` ends the load. */
export type Word = 'cut' | 'stop'

/** What a window was like: of the writes that were due in it and have been answered. In milliseconds. */
export type Window = {
  readonly type: 'window'
  readonly seconds: number
  readonly writes: number
  readonly failed: number
  readonly p50: number
  readonly p99: number
  readonly most: number
  /** Writes due whose turn has not come, because too many are under way. */
  readonly waiting: number
  /** How late the load itself was in sending, for the 99th of a hundred: that much of the latencies is its own. */
  readonly lateP99: number
}

type FillDone = { readonly type: 'filled'; readonly seconds: number; readonly failed: number }

export type Report = Window | FillDone

/** A write on one of the kept connections; false when it failed. */
type Write = (key: string) => Promise<boolean>

function writer({ url, token, valueBytes, connections }: OpenJob): Write {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const { hostname, port } = new URL(url)
  // Other bytes for every write, so that LevelDB does not make them few.
  const noise = randomBytes(1 << 20)
  const headers = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/octet-stream',
    'content-length': valueBytes,
  }
  return (key) =>
    new Promise((resolve) => {
      const path = `/v1/stores/default/keys/${key}`
      const sent = request({ agent, hostname, port, path, method: 'PUT', headers }, (answer) => {
        answer.on('end', () => resolve(answer.statusCode === 200 || answer.statusCode === 201))
        answer.on('error', () => resolve(false))
        answer.resume()
      })
      sent.on('error', () => resolve(false))
      const at = Math.floor(Math.random() * (noise.length - valueBytes))
      sent.end(noise.subarray(at, at + valueBytes))
    })
}

function tell(report: Report): void {
  process.send?.(report)
}

async function fill(job: Extract<OpenJob, { type: 'fill' }>): Promise<void> {
  const write = writer(job)
  const begun = performance.now()
  let next = job.from
  let failed = 0
  const one = async () => {
    while (next < job.from + job.keys) {
      const key = `fill-${next++}`
      // What failed is tried again, so that in the end all are there.
      while (!(await write(key))) failed++
    }
  }
  await Promise.all(Array.from({ length: job.connections }, one))
  tell({ type: 'filled', seconds: (performance.now() - begun) / 1000, failed })
}

function rate(job: Extract<OpenJob, { type: 'rate' }>): void {
  const write = writer(job)
  const every = 1000 / job.perSecond
  const begun = performance.now()
  let windowBegun = begun
  let latencies: number[] = []
  let lateness: number[] = []
  let failed = 0
  let due = 0
  let pending = 0

  const cut = (): Window => {
    const now = performance.now()
    const sorted = latencies.toSorted((a, b) => a - b)
    const late = lateness.toSorted((a, b) => a - b)
    const window: Window = {
      type: 'window',
      seconds: (now - windowBegun) / 1000,
      writes: sorted.length,
      failed,
      p50: part(sorted, 0.5),
      p99: part(sorted, 0.99),
      most: sorted.at(-1) ?? Number.NaN,
      waiting: Math.max(0, pending - job.connections),
      lateP99: part(late, 0.99),
    }
    latencies = []
    lateness = []
    failed = 0
    windowBegun = now
    return window
  }

  const send = async (at: number): Promise<void> => {
    pending++
    lateness.push(performance.now() - at)
    const succeeded = await write(`load-${Math.floor(Math.random() * job.keys)}`)
    pending--
    if (succeeded) latencies.push(performance.now() - at)
    else failed++
  }

  setInterval(() => {
    for (const now = performance.now(); begun + due * every <= now; due++) void send(begun + due * every)
  }, 1)

  process.on('message', (word: Word) => {
    tell(cut())
    if (word === 'stop') process.disconnect()
  })
  process.on('disconnect', () => process.exit())
}

function part(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

const job: OpenJob = JSON.parse(process.argv[2] ?? '')
if (job.type === 'fill') await fill(job)
else rate(job)
