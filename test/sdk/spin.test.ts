// Spin's store, as its guide and its code have it, over three nodes, each request to another one.

import { createHash } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Client, connect, type Store } from '../../src/sdk/index.ts'
import type { Token } from '../../src/store/types.ts'
import { type Neighbourhood, startNeighbourhood } from '../api/neighbourhood.ts'
import { conform, keysOf } from './spin-conformance.ts'

const secrets = {
  admin: 'the-secret-of-the-admin-0123456789',
  component: 'the-secret-of-a-component-01234567',
  wide: 'the-secret-of-a-wide-component-012',
} as const

function founded(name: keyof typeof secrets, principal: Token['principal']): Token {
  return { name, hash: createHash('sha256').update(secrets[name]).digest('base64url'), principal }
}

function grants(...stores: readonly string[]): Token['principal'] {
  return { type: 'component', grants: stores.map((store) => ({ store, access: 'read-write' })) }
}

let nodes: Neighbourhood
const clients: Client[] = []

/** Asks another node with every request. */
function connected(name: keyof typeof secrets): Client {
  const turning = (url: string, init: RequestInit): Promise<Response> => {
    const { pathname, search } = new URL(url)
    return fetch(`${nodes.next()}${pathname}${search}`, init)
  }
  const client = connect({ endpoints: [nodes.next()], token: secrets[name], timeout: '15s', fetch: turning })
  clients.push(client)
  return client
}

beforeAll(async () => {
  nodes = await startNeighbourhood({
    seed: 51,
    founding: {
      valueBytes: 4 * 1024 * 1024,
      stores: [{ name: 'default' }, { name: 'session_data' }, { name: 'user-carts' }],
      tokens: [
        founded('admin', { type: 'admin' }),
        founded('component', grants('default')),
        founded('wide', grants('default', 'session_data', 'user-carts', 'undefined-store')),
      ],
    },
  })
})
afterEach(() => Promise.all(clients.splice(0).map((client) => client.close())))
afterAll(() => nodes[Symbol.asyncDispose]())

async function emptied(store: Store): Promise<Store> {
  const keys = await keysOf(store)
  while (keys.length > 0) await store.deleteMany(keys.splice(0, 1000))
  return store
}

describe("Spin's store", () => {
  it('passes the sequence that Spin runs against any store', async () => {
    await conform(connected('component'))
  })

  it('does not tell a store that was not granted from one that does not exist', async () => {
    const client = connected('component')
    const refused = await Promise.all(
      ['user-carts', 'nowhere'].map((label) => client.open(label).catch((error: unknown) => error)),
    )
    expect(refused).toMatchObject([
      { code: 'access-denied', status: 403 },
      { code: 'access-denied', status: 403 },
    ])
  })

  it('says no-such-store of a label that was granted but is not defined', async () => {
    await expect(connected('wide').open('undefined-store')).rejects.toMatchObject({ code: 'no-such-store' })
  })

  it('takes labels in kebab-case and snake_case, each a store of its own', async () => {
    const client = connected('wide')
    const labels = ['default', 'session_data', 'user-carts'] as const
    for (const label of labels) await (await client.open(label)).set('label', label)
    for (const label of labels) expect(await (await client.open(label)).getText('label')).toBe(label)
  })

  it('tells an empty value from a missing key, and an expected absence from an error', async () => {
    const store = await emptied(await connected('component').open('default'))
    await store.set('empty', new Uint8Array(0))
    expect(await store.get('empty')).toEqual(new Uint8Array(0))
    expect(await store.exists('empty')).toBe(true)
    expect(await store.get('missing')).toBeUndefined()
    expect(await store.exists('missing')).toBe(false)
    expect(await store.delete('missing')).toMatchObject({ deleted: false })
  })

  it('gives two handles on the same data, and closing one leaves the other open', async () => {
    const client = connected('component')
    const [one, other] = [await client.open('default'), await client.open('default')]
    await one.set('both', 'see it')
    expect(await other.getText('both')).toBe('see it')
    await one.close()
    await one.close()
    await expect(one.get('both')).rejects.toMatchObject({ code: 'invalid-store' })
    await expect(one.set('both', 'x')).rejects.toMatchObject({ code: 'invalid-store' })
    expect(await other.getText('both')).toBe('see it')
  })

  it('holds 1,024 keys, keys of 256 bytes and more, and values of 1 MB and more', async () => {
    const store = await emptied(await connected('component').open('default'))
    const names = Array.from({ length: 1024 }, (_, at) => `key-${String(at).padStart(4, '0')}`)
    const rest = names.values()
    await Promise.all(
      Array.from({ length: 32 }, async () => {
        for (const name of rest) await store.set(name, name)
      }),
    )
    expect(await keysOf(store)).toEqual(names)
    for (const length of [256, 4096]) {
      const key = 'ö'.repeat(length / 2)
      await store.set(key, 'long')
      expect(await store.getText(key)).toBe('long')
    }
    for (const size of [1_000_000, 4 * 1024 * 1024]) {
      const value = new Uint8Array(size).fill(size % 251)
      await store.set('large', value)
      expect(Buffer.compare((await store.get('large')) ?? Buffer.alloc(0), value)).toBe(0)
    }
  })

  it('says of an answer beyond 128 MiB, in the words of Spin, that it is too large', async () => {
    const store = await emptied(await connected('component').open('default'))
    const size = 4 * 1024 * 1024
    await store.set('large', new Uint8Array(size))
    // Asked for often enough, one value is as much as many.
    const often = (times: number): readonly string[] => Array.from({ length: times }, () => 'large')
    expect((await store.getMany(often(2))).map((value) => value?.length)).toEqual([size, size])
    await expect(store.getMany(often(33))).rejects.toMatchObject({
      code: 'result-too-large',
      detail: 'query result exceeds limit of 134217728 bytes',
    })
  })
})

describe('wasi:keyvalue on the same stores', () => {
  let store: Store

  beforeEach(async () => {
    store = await emptied(await connected('component').open('default'))
  })

  it('get-many has one entry for each key asked for, in order, and nothing for a missing one', async () => {
    await store.setMany([
      ['a', 'A'],
      ['c', 'C'],
    ])
    const found = await store.getMany(['c', 'b', 'a', 'c'])
    expect(found.map((value) => (value === undefined ? undefined : Buffer.from(value).toString()))).toEqual([
      'C',
      undefined,
      'A',
      'C',
    ])
  })

  it('set-many and delete-many do all or nothing', async () => {
    const tooLarge = new Uint8Array(4 * 1024 * 1024 + 1)
    await expect(
      store.setMany([
        ['a', 'A'],
        ['b', tooLarge],
      ]),
    ).rejects.toMatchObject({ code: 'value-too-large' })
    expect(await keysOf(store)).toEqual([])
    await store.setMany(['a', 'b', 'c'].map((key) => [key, key] as const))
    expect(await store.deleteMany(['a', 'missing', 'c'])).toMatchObject({ deleted: 2 })
    expect(await keysOf(store)).toEqual(['b'])
  })

  it('increment adds a signed delta to decimal text, a missing key counts as 0, anything else is an error', async () => {
    expect(await store.increment('count')).toBe(1n)
    expect(await store.increment('count', -5)).toBe(-4n)
    expect(await store.getText('count')).toBe('-4')
    expect(await store.increment('count', 2n ** 62n)).toBe(2n ** 62n - 4n)
    await expect(store.increment('count', 2n ** 62n + 4n)).rejects.toMatchObject({ code: 'overflow' })
    await store.set('text', 'four')
    await expect(store.increment('text')).rejects.toMatchObject({ code: 'not-a-number' })
  })

  it('an increment whose answer is lost is not counted twice by its repeat', async () => {
    let losses = 0
    const losing = async (url: string, init: RequestInit): Promise<Response> => {
      const { pathname, search } = new URL(url)
      const answer = await fetch(`${nodes.next()}${pathname}${search}`, init)
      if (init.method === 'GET' || pathname === '/v1/sessions' || losses === 3) return answer
      losses += 1
      await answer.arrayBuffer()
      throw new TypeError('the connection broke before the answer')
    }
    const client = connect({
      endpoints: nodes.apis.map((api) => api.address.url),
      token: secrets.component,
      timeout: '15s',
      fetch: losing,
    })
    clients.push(client)
    const counted = await client.open('default')
    expect(await counted.increment('once')).toBe(1n)
    expect(await counted.increment('once')).toBe(2n)
    expect(losses).toBe(3)
    expect(await store.getText('once')).toBe('2')
  })

  it('swap fails when the key changed in any way since, even back to the same bytes, and hands back a fresh cas', async () => {
    await store.set('cas', 'same')
    const cas = store.cas('cas')
    expect((await cas.current())?.value).toEqual(Uint8Array.from(Buffer.from('same')))
    await store.set('cas', 'other')
    await store.set('cas', 'same')
    const first = await cas.swap('mine')
    if (first.swapped) throw new Error('it swapped over a change')
    expect(await store.getText('cas')).toBe('same')
    expect(await first.cas.swap('mine')).toMatchObject({ swapped: true })
    expect(await store.getText('cas')).toBe('mine')
  })

  it('swap after current said that nothing is there only inserts', async () => {
    const [one, other] = [store.cas('new'), store.cas('new')]
    expect([await one.current(), await other.current()]).toEqual([undefined, undefined])
    expect(await one.swap('first')).toMatchObject({ swapped: true })
    expect(await other.swap('second')).toMatchObject({ swapped: false })
    expect(await store.getText('new')).toBe('first')
  })

  it('list-keys goes on from its own cursors, and a cursor that was never issued is an error', async () => {
    const names = ['a', 'b', 'c', 'd', 'e']
    await store.setMany(names.map((key) => [key, key] as const))
    const list = async (
      query: string,
    ): Promise<{ readonly keys: { key: string }[]; readonly cursor?: string }> => {
      const headers = { authorization: `Bearer ${secrets.component}` }
      const answer = await fetch(`${nodes.next()}/v1/stores/default/keys?limit=2${query}`, { headers })
      if (!answer.ok) throw new Error(String(answer.headers.get('trivet-error')))
      return (await answer.json()) as { keys: { key: string }[]; cursor?: string }
    }
    const found: string[] = []
    let cursor: string | undefined
    do {
      const page = await list(cursor === undefined ? '' : `&cursor=${encodeURIComponent(cursor)}`)
      found.push(...page.keys.map(({ key }) => key))
      cursor = page.cursor
    } while (cursor !== undefined)
    expect(found).toEqual(names)
    for (const forged of ['b', 'bm90IG91cnM', '']) {
      await expect(list(`&cursor=${forged}`)).rejects.toThrow('invalid-cursor')
    }
  })
})
