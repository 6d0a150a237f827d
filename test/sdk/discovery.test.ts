// A client that follows the members goes on when what it was given is gone, and is not misled by who was removed.

import { describe, expect, it, onTestFinished } from 'vitest'
import { connect } from '../../src/sdk/index.ts'
import { MemoryServer, MemoryState } from './memory-server.ts'

const patience = { timeout: 5000, interval: 5 } as const

/** Servers that are one cluster, each a member under its address. */
async function cluster(count: number) {
  const state = new MemoryState()
  const servers = await Promise.all(Array.from({ length: count }, () => MemoryServer.start(state)))
  onTestFinished(async () => {
    await Promise.all(servers.map((server) => server.stop()))
  })
  const become = (...members: readonly MemoryServer[]) => {
    state.members.clear()
    for (const [at, { url }] of members.entries()) state.members.set(`n${at + 1}`, { http: url })
  }
  become(...servers)
  return { state, servers, become }
}

function asked(servers: readonly (MemoryServer | undefined)[]): number {
  return servers.reduce((sum, server) => sum + (server?.seen.length ?? 0), 0)
}

describe('a client that discovers', () => {
  it('goes on when the endpoint it was given is gone', async () => {
    const { servers } = await cluster(3)
    const [first, ...others] = servers
    await using client = connect({ endpoints: [first?.url ?? ''], token: 'secret', discover: true })
    const store = await client.open('default')
    await store.set('k', 'v')
    await expect.poll(() => first?.seen.some(({ path }) => path === '/v1/cluster'), patience).toBe(true)
    await first?.stop()
    expect(await store.getText('k')).toBe('v')
    expect(asked(others)).toBeGreaterThan(0)
  })

  it('learns of new members when one of the old gives trouble', async () => {
    const { servers, become } = await cluster(4)
    const [first, second, third, fourth] = servers
    if (!first || !second || !third || !fourth) throw new Error('four were started')
    become(first, second)
    await using client = connect({ endpoints: [first.url], token: 'secret', discover: true })
    const store = await client.open('default')
    await expect.poll(() => asked([first, second]) > 1, patience).toBe(true)
    become(third, fourth)
    await first.stop()
    await store.get('k')
    await expect
      .poll(async () => {
        await store.get('k').catch(() => undefined)
        return second.seen.some(({ path }) => path === '/v1/cluster')
      }, patience)
      .toBe(true)
    await second.stop()
    await expect.poll(() => store.set('k', 'v').then(() => asked([third, fourth]) > 0), patience).toBe(true)
  })

  it('does not believe a node that is no member any more', async () => {
    const { state, servers, become } = await cluster(2)
    const [first, second] = servers
    if (!first || !second) throw new Error('two were started')
    become(second)
    // It sees itself nowhere.
    state.self = 'n9'
    await using client = connect({ endpoints: [first.url], token: 'secret', discover: true })
    const store = await client.open('default')
    await expect.poll(() => first.seen.some(({ path }) => path === '/v1/cluster'), patience).toBe(true)
    await first.stop()
    await expect(store.get('k')).rejects.toThrow()
    expect(asked([second])).toBe(0)
  })

  it('asks nobody before its first request, and nobody at all when it was not told to', async () => {
    const { servers } = await cluster(1)
    const [only] = servers
    await using quiet = connect({ endpoints: [only?.url ?? ''], token: 'secret', discover: true })
    expect(asked(servers)).toBe(0)
    await quiet.close()
    await using plain = connect({ endpoints: [only?.url ?? ''], token: 'secret' })
    await plain.me()
    expect(only?.seen.map(({ path }) => path)).toEqual(['/v1/me'])
  })
})
