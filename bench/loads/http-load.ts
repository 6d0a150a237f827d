// A load over HTTP by a process of its own: wrk where it is installed, autocannon otherwise, the same for every system.

import { mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Exchange } from '../systems/engine.ts'
import { ifInstalled, output, temporaryDirectory } from '../systems/processes.ts'

type HttpLoad = {
  /** The nodes that the connections are spread over. */
  readonly urls: readonly string[]
  /** Each request is drawn from these at random. */
  readonly exchanges: readonly Exchange[]
  readonly connections: number
  readonly seconds: number
}

/** Latencies in milliseconds. */
export type LoadFigures = {
  readonly requests: number
  readonly seconds: number
  readonly p50: number
  readonly p99: number
  readonly p999: number
  readonly failed: number
}

export type LoadTool = {
  /** As the report names it. */
  readonly name: string
  run(load: HttpLoad): Promise<LoadFigures>
}

/** What the worker with autocannon is told. */
export type PlainJob = Omit<HttpLoad, 'exchanges'> & { readonly exchangesPath: string }

export async function findLoadTool(): Promise<LoadTool> {
  // wrk answers its version with a status that is not 0.
  const version = await ifInstalled({ command: 'sh', args: ['-c', 'wrk --version 2>&1 || true'] })
  const directory = temporaryDirectory()
  const [, wrk] = /^wrk (\S+)/.exec(version ?? '') ?? []
  return wrk === undefined
    ? { name: 'autocannon', run: (load) => runAutocannon(load, directory) }
    : { name: `wrk ${wrk}`, run: (load) => runWrk(load, directory) }
}

async function runWrk(load: HttpLoad, directory: string): Promise<LoadFigures> {
  const { urls, connections, seconds } = load
  // One thread per node, each with its share of the connections.
  const threads = Math.min(urls.length, connections)
  const hosts = urls.map((url) => new URL(url).host)
  const path = join(await mkdtemp(join(directory, 'load-')), 'requests')
  await writeFile(path, requestBytes(load.exchanges, hosts[0] ?? ''))
  const printed = await output({
    command: 'wrk',
    args: [
      '--threads',
      String(threads),
      '--connections',
      String(connections),
      '--duration',
      `${seconds}s`,
      '--timeout',
      '10s',
      '--script',
      join(import.meta.dirname, 'load.lua'),
      urls[0] ?? '',
    ],
    environment: {
      BENCH_NODES: hosts.join(','),
      BENCH_REQUESTS: path,
      BENCH_SEED: String(Math.floor(Math.random() * 1e9)),
    },
  })
  return figuresIn(printed)
}

/** The line of figures among what wrk prints. Throws when there is none. */
export function figuresIn(printed: string): LoadFigures {
  const line = printed.split('\n').findLast((text) => text.startsWith('{'))
  if (line === undefined) throw new Error(`The load told no figures: ${printed.trim().slice(-500)}`)
  return JSON.parse(line)
}

/** The requests as they go over the wire, each behind its length. */
export function requestBytes(exchanges: readonly Exchange[], host: string): Buffer {
  return Buffer.concat(
    exchanges.flatMap(({ method, path, headers, body = Buffer.alloc(0) }) => {
      const length = method === 'GET' ? {} : { 'content-length': String(body.length) }
      const lines = Object.entries({ host, ...headers, ...length }).map(
        ([name, value]) => `${name}: ${value}\r\n`,
      )
      const head = Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
      const size = String(head.length + body.length).padStart(10, '0')
      return [Buffer.from(`${size}\n`), head, body]
    }),
  )
}

async function runAutocannon({ exchanges, ...rest }: HttpLoad, directory: string): Promise<LoadFigures> {
  const exchangesPath = join(await mkdtemp(join(directory, 'load-')), 'exchanges')
  await writeFile(exchangesPath, exchangeText(exchanges))
  const job: PlainJob = { ...rest, exchangesPath }
  const worker = join(import.meta.dirname, 'autocannon-worker.ts')
  return figuresIn(await output({ command: process.execPath, args: [worker, JSON.stringify(job)] }))
}

/** Exchanges as text for another process. */
export function exchangeText(exchanges: readonly Exchange[]): string {
  return exchanges
    .map(({ body, ...rest }) => JSON.stringify({ ...rest, body: body?.toString('base64') }))
    .join('\n')
}

export function exchangesIn(text: string): readonly Exchange[] {
  return text.split('\n').map((line) => {
    const { body, ...rest } = JSON.parse(line) as Omit<Exchange, 'body'> & { readonly body?: string }
    return body === undefined ? rest : { ...rest, body: Buffer.from(body, 'base64') }
  })
}
