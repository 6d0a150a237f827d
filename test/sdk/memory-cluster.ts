// Clients of servers in memory, as tests of the SDK begin with them; the servers stop with whom they were started for.

import { afterAll, beforeEach, onTestFinished } from 'vitest'
import { type Client, type ConnectOptions, connect, type Store } from '../../src/sdk/index.ts'
import { MemoryServer, MemoryState } from './memory-server.ts'

export type MemoryCluster = {
  readonly state: MemoryState
  readonly client: Client
  readonly store: Store
  /** The one that the client sticks to. */
  readonly first: MemoryServer
  readonly others: readonly MemoryServer[]
}

/** Servers of one state, for one test, and a store opened through a client of all of them; they have seen nothing yet. */
export async function memoryCluster(
  size: number,
  options: Partial<ConnectOptions> = {},
): Promise<MemoryCluster> {
  const state = new MemoryState()
  const servers = await Promise.all(Array.from({ length: size }, () => MemoryServer.start(state)))
  onTestFinished(async () => {
    await Promise.all(servers.map((server) => server.stop()))
  })
  const endpoints = servers.map((server) => server.url)
  const client = connect({ endpoints, token: 'secret', timeout: '3s', ...options })
  const store = await client.open('default')
  const first = servers.find((server) => server.seen.length === 1)
  if (first === undefined) throw new Error('no server was asked')
  first.seen.length = 0
  return { state, client, store, first, others: servers.filter((server) => server !== first) }
}

/** One server for all tests of a file, its stores empty before each. */
export async function memoryStore(
  ...names: readonly string[]
): Promise<{ readonly server: MemoryServer; readonly client: Client; readonly store: Store }> {
  const server = await MemoryServer.start()
  const client = connect({ endpoints: [server.url], token: 'secret' })
  const store = await client.open('default')
  beforeEach(() => {
    for (const name of ['default', ...names]) server.state.stores.set(name, new Map())
    server.seen.length = 0
  })
  afterAll(() => server.stop())
  return { server, client, store }
}
