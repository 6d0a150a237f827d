// A cluster of real processes on real disks and real libp2p, over loopback, for tests that kill them.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { filesIn, makeFiles } from '../../src/cli/dev-files.ts'
import { type DevNode, type DevPlan, environmentOf, planCluster } from '../../src/cli/dev-plan.ts'
import { mainFile, startArguments } from '../../src/cli/node-process.ts'
import { type Client, connect } from '../../src/sdk/index.ts'

type Running = { readonly child: ChildProcess; readonly ended: Promise<unknown>; output: string }

export type ClusterAnswer = {
  readonly id: string
  readonly leader?: string
  readonly term: number
  readonly revision: number
  readonly members: readonly {
    readonly id: string
    readonly role: string
    readonly voter: boolean
    readonly term?: number
    readonly peer: string
    readonly lastApplied?: number
    readonly alarms: readonly string[]
    readonly digest?: { readonly index: number; readonly digest: string }
    readonly self: boolean
  }[]
}

const host = '127.0.0.1'

/** Resolves with the first value that is not undefined; fails with `what` after `seconds`. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  seconds = 20,
): Promise<T> {
  const deadline = performance.now() + seconds * 1000
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > deadline) throw new Error(`After ${seconds} s still waiting for: ${what}`)
    await delay(10)
  }
}

/** The first of `count` consecutive ports that are free now. */
export async function freePorts(count: number): Promise<number> {
  for (;;) {
    // Below the range that outgoing connections are given their ports from, each worker in a range of its own.
    const worker = Number(process.env['VITEST_POOL_ID'] ?? 1) % 2
    const base = 10_000 + worker * 10_000 + Math.floor(Math.random() * 9900)
    const servers = []
    try {
      for (let at = 0; at < count; at++) {
        const server = createServer().listen({ host, port: base + at, exclusive: true })
        await once(server, 'listening')
        servers.push(server)
      }
      return base
    } catch {
      // One of them is taken: try others.
    } finally {
      for (const server of servers) {
        server.close()
        await once(server, 'close')
      }
    }
  }
}

export class RealCluster implements AsyncDisposable {
  readonly directory: string
  readonly plan: DevPlan
  readonly token: string
  readonly #running = new Map<string, Running>()

  private constructor(directory: string, plan: DevPlan, token: string) {
    this.directory = directory
    this.plan = plan
    this.token = token
  }

  /** Keys and configuration of a new cluster; nothing runs yet. */
  static async create(options: { nodes?: number } = {}): Promise<RealCluster> {
    const nodes = options.nodes ?? 3
    const directory = await mkdtemp(join(tmpdir(), 'trivet-test-'))
    const base = await freePorts(nodes * 2)
    const dev = {
      nodes,
      data: directory,
      httpPort: base,
      p2pPort: base + nodes,
      host,
      given: new Set<string>(),
    }
    const plan = planCluster(dev)
    return new RealCluster(directory, plan, await makeFiles(plan, false, dev))
  }

  /** The same, with all nodes running and ready. */
  static async start(options: { nodes?: number; seconds?: number } = {}): Promise<RealCluster> {
    const cluster = await RealCluster.create(options)
    try {
      for (const { id } of cluster.plan.nodes) cluster.spawn(id)
      await cluster.ready(cluster.ids, options.seconds)
      return cluster
    } catch (error) {
      await cluster[Symbol.asyncDispose]()
      throw error
    }
  }

  get ids(): readonly string[] {
    return this.plan.nodes.map((node) => node.id)
  }

  get urls(): readonly string[] {
    return this.plan.nodes.map((node) => node.http)
  }

  node(id: string): DevNode {
    const node = this.plan.nodes.find((one) => one.id === id)
    if (node === undefined) throw new Error(`There is no node ${id}`)
    return node
  }

  url(id: string): string {
    return this.node(id).http
  }

  /** Starts a node's process, with these arguments beside its own. */
  spawn(id: string, ...args: readonly string[]): void {
    this.#running.set(id, this.#run(id, args))
  }

  /** Starts another process of a node that may be running, which is expected to end; resolves with how it did. */
  async attempt(id: string): Promise<{ readonly code: number | null; readonly output: string }> {
    const running = this.#run(id)
    const timer = setTimeout(() => running.child.kill('SIGKILL'), 20_000)
    await running.ended
    clearTimeout(timer)
    return { code: running.child.exitCode, output: running.output }
  }

  #run(id: string, args: readonly string[] = []): Running {
    const node = this.node(id)
    const { configPath } = filesIn(this.directory)
    const child = spawn(process.execPath, [mainFile, ...startArguments(node, configPath), ...args], {
      env: { ...process.env, ...environmentOf(this.plan, node, host, this.token) },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const running: Running = { child, ended: once(child, 'exit'), output: '' }
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        running.output += text
      })
    }
    return running
  }

  /** What the node's last process has printed. */
  output(id: string): string {
    return this.#running.get(id)?.output ?? ''
  }

  /** The process of a node that was spawned. */
  pid(id: string): number {
    return this.#running.get(id)?.child.pid ?? 0
  }

  exitCode(id: string): number | null {
    return this.#running.get(id)?.child.exitCode ?? null
  }

  /** Sends a signal without waiting. */
  signal(id: string, signal: NodeJS.Signals): void {
    this.#running.get(id)?.child.kill(signal)
  }

  /** Resolves when the node's process has ended. */
  async ended(id: string): Promise<void> {
    await this.#running.get(id)?.ended
  }

  async kill(...ids: readonly string[]): Promise<void> {
    for (const id of ids) this.signal(id, 'SIGKILL')
    await Promise.all(ids.map((id) => this.ended(id)))
  }

  /** Resolves when these nodes, or all, are ready. */
  async ready(ids: readonly string[] = this.ids, seconds = 20): Promise<void> {
    await Promise.all(
      ids.map((id) =>
        eventually(
          `${id} to be ready`,
          async () => {
            if (this.exitCode(id) !== null) throw new Error(`${id} ended:\n${this.output(id)}`)
            return (await this.status(`${this.url(id)}/readyz`)) === 200 ? true : undefined
          },
          seconds,
        ).catch((error: unknown) => {
          throw new Error(`${String(error)}\n${this.output(id)}`)
        }),
      ),
    )
  }

  /** The status a URL answers with; undefined when it does not. */
  async status(url: string): Promise<number | undefined> {
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(2000) })
      await answer.arrayBuffer()
      return answer.status
    } catch {
      return undefined
    }
  }

  /** A request to a node, with the admin's token. */
  fetch(id: string, path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers)
    headers.set('authorization', `Bearer ${this.token}`)
    return fetch(`${this.url(id)}${path}`, { ...init, headers })
  }

  async cluster(id: string): Promise<ClusterAnswer> {
    return (await this.fetch(id, '/v1/cluster')).json() as Promise<ClusterAnswer>
  }

  /** Kills the leader with SIGKILL and starts it again; resolves once it serves. */
  async crashLeader(): Promise<void> {
    const leader = await this.leader()
    this.signal(leader, 'SIGKILL')
    await this.ended(leader)
    this.spawn(leader)
    await this.ready([leader])
  }

  /** The leader, as soon as one of these nodes knows one that is among them. */
  leader(ids: readonly string[] = this.ids): Promise<string> {
    return eventually('a leader', async () => {
      for (const id of ids) {
        const leader = await this.cluster(id).then(
          (cluster) => cluster.leader,
          () => undefined,
        )
        if (leader !== undefined && ids.includes(leader)) return leader
      }
      return undefined
    })
  }

  client(options: { endpoints?: readonly string[]; timeout?: number; discover?: boolean } = {}): Client {
    return connect({
      endpoints: options.endpoints ?? this.urls,
      token: this.token,
      timeout: options.timeout ?? 10_000,
      discover: options.discover ?? false,
    })
  }

  /** Every key of the default store with its revision and value, as one node has it locally. */
  async dump(id: string): Promise<Map<string, string>> {
    const keys: string[] = []
    let cursor: string | undefined
    do {
      const query: string = cursor === undefined ? '' : `&cursor=${encodeURIComponent(cursor)}`
      const answer = await this.fetch(id, `/v1/stores/default/keys?consistency=stale&limit=10000${query}`)
      const page = (await answer.json()) as { keys: { key: string }[]; cursor?: string }
      keys.push(...page.keys.map(({ key }) => key))
      cursor = page.cursor
    } while (cursor !== undefined)
    const found = new Map<string, string>()
    const rest = keys.values()
    const readers = Array.from({ length: 32 }, async () => {
      for (const key of rest) {
        const got = await this.fetch(id, `/v1/stores/default/keys/${key}?consistency=stale`)
        found.set(key, `${got.headers.get('etag')}:${await got.text()}`)
      }
    })
    await Promise.all(readers)
    return found
  }

  log(id: string): Promise<string> {
    return readFile(join(this.node(id).data, 'node.log'), 'utf8')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.#running.values()) if (child.exitCode === null) child.kill('SIGKILL')
    await Promise.all([...this.#running.values()].map((running) => running.ended))
    // TRIVET_TEST_KEEP=1 leaves logs and data for a look.
    if (process.env['TRIVET_TEST_KEEP'] === undefined)
      await rm(this.directory, { recursive: true, force: true })
    else process.stdout.write(`kept: ${this.directory}\n`)
  }
}
