// Measures a three-node cluster on this machine: PUT and linearizable GET over HTTP, at the leader and at a follower.
//
// `npm run bench`, or `npm run bench -- --rounds 5 --seconds 5`. Machines are noisy: read the figures as ratios within one
// run. Each is the median of the rounds; the loader is a process of its own.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import type { Load, LoadResult } from './load.ts'

const root = join(import.meta.dirname, '..')
const run = promisify(execFile)

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    quick: { type: 'boolean', default: false },
  },
})
const rounds = options.quick ? 1 : Number(options.rounds)
const seconds = options.quick ? 2 : Number(options.seconds)

type Scenario = Pick<Load, 'method' | 'connections'> & { readonly at: 'leader' | 'follower' }

const scenarios: readonly Scenario[] = (['PUT', 'GET'] as const).flatMap((method) =>
  (['leader', 'follower'] as const).flatMap((at) =>
    [1, 64, 256].map((connections) => ({ method, at, connections })),
  ),
)

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

/** Three consecutive ports each for HTTP and libp2p, most likely free. */
async function startCluster(data: string) {
  const http = await freePort()
  const p2p = await freePort()
  const child = spawn(
    process.execPath,
    ['src/cli/main.ts', 'dev', '--data', data, '--http-port', String(http), '--p2p-port', String(p2p)],
    { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] },
  )
  const ends = once(child, 'exit')
  const urls = [0, 1, 2].map((at) => `http://127.0.0.1:${http + at}`)
  const deadline = Date.now() + 30_000
  for (const url of urls) {
    while (
      !(await fetch(`${url}/readyz`).then(
        (answer) => answer.ok,
        () => false,
      ))
    ) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error('the cluster did not come up')
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  const token = (await readFile(join(data, 'admin.token'), 'utf8')).trim()
  const stop = async () => {
    child.kill('SIGTERM')
    await ends
  }
  return { urls, token, stop }
}

type Member = { readonly id: string; readonly http: string }

async function places(url: string, token: string): Promise<Record<Scenario['at'], string>> {
  const answer = await fetch(`${url}/v1/cluster`, { headers: { authorization: `Bearer ${token}` } })
  const { leader, members } = (await answer.json()) as { leader: string; members: Member[] }
  const at = (found: Member | undefined) => {
    if (found === undefined) throw new Error('the cluster has no leader')
    return found.http
  }
  return {
    leader: at(members.find((member) => member.id === leader)),
    follower: at(members.find((member) => member.id !== leader)),
  }
}

async function load(input: Load): Promise<LoadResult> {
  const { stdout } = await run(process.execPath, [
    join(import.meta.dirname, 'load.ts'),
    JSON.stringify(input),
  ])
  return JSON.parse(stdout) as LoadResult
}

/** Every key exists before anything is measured. */
async function fill(urls: readonly string[], token: string, keys: number): Promise<void> {
  const numbers = Array.from({ length: keys }, (_, key) => key).values()
  const writer = async (at: number) => {
    for (const key of numbers) {
      const answer = await fetch(`${urls[at % urls.length]}/v1/stores/default/keys/bench-${key}`, {
        method: 'PUT',
        headers: { authorization: `Bearer ${token}` },
        body: 'v'.repeat(256),
      })
      if (!answer.ok) throw new Error(`filling failed: ${answer.status} ${await answer.text()}`)
      await answer.arrayBuffer()
    }
  }
  await Promise.all(Array.from({ length: 64 }, (_, at) => writer(at)))
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? Number.NaN
}

const data = await mkdtemp(join(tmpdir(), 'trivet-bench-'))
const cluster = await startCluster(data)
const results = new Map<Scenario, LoadResult[]>(scenarios.map((scenario) => [scenario, []]))
try {
  const [first] = cluster.urls
  if (first === undefined) throw new Error('no node')
  const keys = 5000
  const common = { token: cluster.token, keys, valueBytes: 256 }
  await fill(cluster.urls, cluster.token, keys)
  for (let round = 1; round <= rounds; round++) {
    for (const scenario of scenarios) {
      const where = await places(first, cluster.token)
      const { method, connections, at } = scenario
      const result = await load({ ...common, url: where[at], method, connections, seconds })
      results.get(scenario)?.push(result)
      console.error(
        `round ${round}/${rounds}: ${method} at the ${at}, ${connections}: ${result.perSecond.toFixed(0)}/s`,
      )
    }
  }
} finally {
  await cluster.stop()
  await rm(data, { recursive: true, force: true })
}

console.log(
  `Median of ${rounds} rounds of ${seconds} s; 256-byte values, fsync on, Node ${process.version}\n`,
)
console.log('| request | at | connections | per second | p50 ms | p99 ms | p99.9 ms | failed |')
console.log('|---|---|---:|---:|---:|---:|---:|---:|')
for (const [{ method, at, connections }, measured] of results) {
  const figure = (pick: (result: LoadResult) => number) => median(measured.map(pick))
  const row = [
    method,
    at,
    connections,
    figure((result) => result.perSecond).toFixed(0),
    figure((result) => result.p50),
    figure((result) => result.p99),
    figure((result) => result.p999),
    measured.reduce((sum, result) => sum + result.failed, 0),
  ]
  console.log(`| ${row.join(' | ')} |`)
}
