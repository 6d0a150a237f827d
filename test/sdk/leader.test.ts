// Writes go to the leader by the shortest way; reads stay where they are; and what a client believes of leaders is never needed.

import { describe, expect, it } from 'vitest'
import { RemoteClient } from '../../src/sdk/client.ts'
import { Requester } from '../../src/sdk/requester.ts'

const endpoints = ['http://one:1', 'http://two:2', 'http://three:3']

/** Three nodes, one behind each endpoint, that say who leads. */
class Trio {
  leader: string | undefined = 'n3'
  readonly hung = new Set<string>()
  readonly down = new Set<string>()
  readonly #asked: string[] = []

  readonly fetch = async (url: string, init: RequestInit): Promise<Response> => {
    const { origin, pathname } = new URL(url)
    const node = `n${endpoints.indexOf(origin) + 1}`
    this.#asked.push(pathname === '/livez' ? `${node} who` : `${node} ${init.method}`)
    if (this.down.has(node)) throw new TypeError('fetch failed')
    if (this.hung.has(node)) await new Promise((_, no) => init.signal?.addEventListener('abort', no))
    const headers = new Headers({ 'Trivet-Node': node, 'Trivet-Revision': '7', ETag: '"7"' })
    if (this.leader !== undefined) headers.set('Trivet-Leader', this.leader)
    if (pathname.endsWith('/default')) return Response.json({ name: 'default' }, { headers })
    if (init.method === 'GET') return new Response('value', { headers })
    return Response.json({ revision: 7, created: false, changed: true }, { headers })
  }

  /** What was asked since the last call, of which node. */
  taken(): readonly string[] {
    return this.#asked.splice(0)
  }
}

async function client(trio: Trio) {
  const requester = new Requester({
    endpoints,
    token: 'secret',
    timeoutMs: 30_000,
    fetch: trio.fetch,
    random: () => 0,
    discover: false,
    fewWrites: true,
  })
  const connected = new RemoteClient(requester)
  const store = await connected.open('default')
  return { store, [Symbol.asyncDispose]: () => connected.close() }
}

describe('a client of three endpoints', () => {
  it('finds out where the leader is, sends writes there, and goes on reading where it reads', async () => {
    const trio = new Trio()
    await using one = await client(trio)
    await one.store.set('key', 'value')
    await expect.poll(() => trio.taken().filter((asked) => asked.endsWith('who')).length === 0).toBe(true)
    await one.store.set('key', 'value')
    await one.store.get('key')
    await one.store.set('key', 'value')
    expect(trio.taken()).toEqual(['n3 PUT', 'n1 GET', 'n3 PUT'])
  })

  it('asks each endpoint once who it is, and none where nobody names a leader', async () => {
    const trio = new Trio()
    trio.leader = undefined
    await using one = await client(trio)
    await one.store.get('key')
    expect(trio.taken().filter((asked) => asked.endsWith('who'))).toEqual([])
    trio.leader = 'n9'
    for (let n = 0; n < 3; n++) await one.store.get('key')
    expect(trio.taken().filter((asked) => asked.endsWith('who'))).toEqual(['n2 who', 'n3 who'])
  })

  it('follows the next leader, and writes elsewhere while the leader cannot be asked', async () => {
    const trio = new Trio()
    await using one = await client(trio)
    await one.store.set('key', 'value')
    await one.store.set('key', 'value')
    trio.leader = 'n2'
    await one.store.set('key', 'value')
    trio.taken()
    await one.store.set('key', 'value')
    expect(trio.taken()).toEqual(['n2 PUT'])
    trio.down.add('n2')
    await one.store.set('key', 'value')
    expect(trio.taken()).toEqual(['n2 PUT', 'n1 PUT'])
    await one.store.get('key')
    expect(trio.taken()).toEqual(['n1 GET'])
  })
  it('does not wait for half of its time for a leader that hangs', async () => {
    const trio = new Trio()
    await using one = await client(trio)
    await one.store.set('key', 'value')
    await one.store.set('key', 'value')
    trio.taken()
    trio.hung.add('n3')
    const begun = performance.now()
    await one.store.set('key', 'value')
    expect(trio.taken()).toEqual(['n3 PUT', 'n1 PUT'])
    expect(performance.now() - begun).toBeLessThan(5000)
  })
})
