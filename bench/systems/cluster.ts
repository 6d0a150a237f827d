// A cluster of one system: real processes on loopback, each with a data directory of its own below one temporary directory.

import { join } from 'node:path'
import { eventually } from '../../test/integration/real-cluster.ts'
import type { Engine, Layout, NodePlan } from './engine.ts'
import { cpuSeconds, residentMegabytes } from './proc.ts'
import { removeDirectory, Server, temporaryDirectory } from './processes.ts'

export class Cluster implements AsyncDisposable {
  readonly engine: Engine
  readonly layout: Layout
  readonly #directory: string
  readonly #servers = new Map<string, Server>()

  private constructor(engine: Engine, layout: Layout, directory: string) {
    this.engine = engine
    this.layout = layout
    this.#directory = directory
  }

  /** Starts a new cluster of so many nodes; resolves once all serve. */
  static async start(engine: Engine, nodes = 3): Promise<Cluster> {
    const directory = temporaryDirectory()
    const cluster = new Cluster(engine, await engine.layOut(directory, nodes), directory)
    try {
      for (const { id } of cluster.layout.nodes) cluster.spawn(id)
      await cluster.ready()
      return cluster
    } catch (error) {
      await cluster[Symbol.asyncDispose]()
      throw error
    }
  }

  get ids(): readonly string[] {
    return this.layout.nodes.map(({ id }) => id)
  }

  get urls(): readonly string[] {
    return this.layout.nodes.map(({ url }) => url)
  }

  url(id: string): string {
    return this.#plan(id).url
  }

  /** Starts a node's process. */
  spawn(id: string): void {
    this.#servers.set(id, new Server(this.#plan(id).start, join(this.#directory, `${id}.output`)))
  }

  signal(id: string, signal: NodeJS.Signals): void {
    this.#server(id).signal(signal)
  }

  /** Resolves when the node's process has ended. */
  async ended(id: string): Promise<void> {
    await this.#server(id).ended
  }

  /** Resolves when these nodes, or all, serve. */
  async ready(ids: readonly string[] = this.ids, seconds = 120): Promise<void> {
    await Promise.all(
      ids.map(async (id) => {
        const server = this.#server(id)
        await eventually(
          `${id} of ${this.engine.name} to be ready`,
          async () => {
            if (server.death !== undefined) {
              throw new Error(`${id} of ${this.engine.name} ended:\n${await server.lastWords()}`)
            }
            // Nobody listens yet, or nobody answers: both mean that it is not ready.
            return (await this.layout.isReady(this.url(id)).catch(() => false)) ? true : undefined
          },
          seconds,
        )
      }),
    )
  }

  /** The node that leads, as soon as one of these knows it and it is among them. */
  leader(ids: readonly string[] = this.ids): Promise<string> {
    return eventually(`a leader of ${this.engine.name}`, async () => {
      for (const id of ids) {
        const leader = await this.layout.leader(this.url(id)).catch(() => undefined)
        if (leader !== undefined && ids.includes(leader)) return leader
      }
      return undefined
    })
  }

  async follower(): Promise<string> {
    const leader = await this.leader()
    const found = this.ids.find((id) => id !== leader)
    if (found === undefined) throw new Error('A cluster of one has no follower.')
    return found
  }

  /** Processor time of all nodes since they began. */
  async cpuSeconds(): Promise<number> {
    const each = await Promise.all([...this.#servers.values()].map(({ pid }) => cpuSeconds(pid)))
    return each.reduce((sum, seconds) => sum + seconds, 0)
  }

  /** Resident memory of every node. */
  async residentMegabytes(): Promise<readonly number[]> {
    return Promise.all([...this.#servers.values()].map(({ pid }) => residentMegabytes(pid)))
  }

  /** Ends all nodes without ceremony and removes their data. */
  async [Symbol.asyncDispose](): Promise<void> {
    const servers = [...this.#servers.values()]
    for (const server of servers) if (server.death === undefined) server.signal('SIGKILL')
    await Promise.all(servers.map(({ ended }) => ended))
    removeDirectory(this.#directory)
  }

  #plan(id: string): NodePlan {
    const plan = this.layout.nodes.find((node) => node.id === id)
    if (plan === undefined) throw new Error(`There is no node ${id}.`)
    return plan
  }

  #server(id: string): Server {
    const server = this.#servers.get(id)
    if (server === undefined) throw new Error(`${id} was not started.`)
    return server
  }
}
