// What a store does for its user, against a server that keeps the contract's subset.

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'

import type { TrivetError } from '../../src/errors.ts'
import { connectRemote } from '../../src/sdk/client.ts'
import { type Client, connect, type Entry, type Store } from '../../src/sdk/index.ts'
import { MemoryServer } from './memory-server.ts'

let server: MemoryServer
let client: Client
let store: Store

beforeAll(async () => {
  server = await MemoryServer.start()
  server.state.tokens.set('narrow', ['default', 'gone'])
  client = connect({ endpoints: [`${server.url}/`], token: () => Promise.resolve('secret') })
  store = await client.open('default')
})

beforeEach(() => {
  server.state.stores.set('default', new Map())
  server.seen.length = 0
  server.batches.length = 0
})

afterAll(() => server.stop())

async function all(keys: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = []
  for await (const key of keys) found.push(key)
  return found
}

describe('values', () => {
  it('come back as they were set, with their type and revision', async () => {
    const bytes = Uint8Array.of(0, 255, 10, 13)
    const { revision } = await store.set('bytes', bytes)
    expect(await store.getEntry('bytes')).toEqual({
      key: 'bytes',
      value: bytes,
      revision,
      contentType: 'application/octet-stream',
    })
    await store.set('buffer', bytes.buffer)
    expect(await store.get('buffer')).toEqual(bytes)
    await store.set('text', '\ufeffgrüße')
    expect(await store.getText('text')).toBe('\ufeffgrüße')
    expect((await store.getEntry('text'))?.contentType).toBe('text/plain; charset=utf-8')
    await store.set('page', '<p>', { contentType: 'text/html' })
    expect((await store.getEntry('page'))?.contentType).toBe('text/html')
  })

  it('may be empty, which is not missing', async () => {
    await store.set('empty', '')
    expect(await store.getText('empty')).toBe('')
    expect(await store.exists('empty')).toBe(true)
  })

  it('that are missing are undefined, and a stored null is null', async () => {
    expect(await store.get('k')).toBeUndefined()
    expect(await store.getText('k')).toBeUndefined()
    expect(await store.getJson('k')).toBeUndefined()
    expect(await store.getEntry('k')).toBeUndefined()
    expect(await store.exists('k')).toBe(false)
    await store.setJson('k', null)
    expect(await store.getJson('k')).toBeNull()
    expect((await store.getEntry('k'))?.contentType).toBe('application/json')
  })

  it('that are not what the reader asks for are named', async () => {
    await store.set('k', Uint8Array.of(0xff))
    await expect(store.getText('k')).rejects.toThrow(TypeError)
    await store.set('k', '{')
    await expect(store.getJson('k')).rejects.toThrow(/"k" is not JSON/)
    await expect(store.setJson('k', undefined)).rejects.toThrow(TypeError)
    await expect(store.set('k', 5 as unknown as string)).rejects.toThrow(TypeError)
  })

  it('are copied before they are sent', async () => {
    const bytes = Uint8Array.of(1, 2, 3)
    server.faults.push({ type: 'refuse', status: 503, code: 'no-leader' })
    const write = store.set('k', bytes)
    bytes.fill(9)
    await write
    expect(await store.get('k')).toEqual(Uint8Array.of(1, 2, 3))
  })
})

describe('conditions', () => {
  it('let one of two writers through', async () => {
    const { revision } = await store.set('k', 'a', { ifAbsent: true })
    await expect(store.set('k', 'b', { ifAbsent: true })).rejects.toMatchObject({
      code: 'condition-failed',
      revision,
    })
    const next = await store.set('k', 'b', { ifRevision: revision })
    await expect(store.set('k', 'c', { ifRevision: revision })).rejects.toMatchObject({
      code: 'condition-failed',
      revision: next.revision,
    })
    await expect(store.delete('k', { ifRevision: revision })).rejects.toMatchObject({
      code: 'condition-failed',
    })
    expect(await store.delete('k', { ifRevision: next.revision })).toMatchObject({ deleted: true })
    await expect(store.delete('k', { ifRevision: next.revision })).rejects.toMatchObject({ revision: 0 })
    expect(await store.delete('k')).toMatchObject({ deleted: false })
  })

  it('that make no sense are refused before anything is sent', async () => {
    for (const options of [{ ifRevision: 0 }, { ifRevision: 1.5 }, { ifRevision: 1, ifAbsent: true }]) {
      await expect(store.set('k', 'v', options)).rejects.toMatchObject({ code: 'invalid-request' })
    }
    await expect(store.set('k', 'v', { contentType: 'text/plän' })).rejects.toMatchObject({
      field: 'contentType',
    })
    await expect(store.get('k', { minRevision: -1 })).rejects.toMatchObject({ field: 'minRevision' })
    expect(server.seen).toHaveLength(0)
  })
})

describe('keys', () => {
  it('of any spelling reach the server as themselves', async () => {
    const keys = [
      'a/b',
      'a b',
      'ü€😀',
      '%2F',
      '%',
      '?#&=+',
      '\\',
      'a//b',
      '/a',
      'a/',
      '/',
      '...',
      'a/.b/c..',
      '\u0000',
      '__proto__',
    ]
    for (const key of keys) {
      await store.set(key, key)
      expect(await store.getText(key)).toBe(key)
    }
    expect(new Set(await all(store.getKeys()))).toEqual(new Set(keys))
    const paths = server.seen.map((request) => request.path)
    expect(paths).toContain('/v1/stores/default/keys/a/b')
    expect(paths).toContain('/v1/stores/default/keys/a%2F%2Fb')
    expect(paths).toContain('/v1/stores/default/keys/a%2F')
  })

  it('that no URL carries go in a body', async () => {
    for (const key of ['.', '..', 'a/../b', './a', 'a/.', 'ü'.repeat(2000)]) {
      expect(await store.set(key, key, { ifAbsent: true })).toMatchObject({ created: true })
      expect(await store.getText(key)).toBe(key)
      expect(await store.exists(key)).toBe(true)
      expect(await store.touch(key, { ttl: '1s' })).toBeDefined()
      expect(await store.delete(key)).toMatchObject({ deleted: true })
      expect(await store.get(key)).toBeUndefined()
      await expect(store.get(key, { consistency: 'stale' })).rejects.toMatchObject({ code: 'invalid-key' })
    }
    expect(new Set(server.seen.map(({ path }) => path))).toEqual(new Set(['/v1/batch']))
    expect(new Set(server.batches)).toEqual(new Set([1]))
  })

  it('that are none are refused before anything is sent', async () => {
    for (const key of ['', 'half \ud83d']) {
      await expect(store.set(key, 'v')).rejects.toMatchObject({ code: 'invalid-key' })
      await expect(store.get(key)).rejects.toMatchObject({ code: 'invalid-key' })
      await expect(store.delete(key)).rejects.toMatchObject({ code: 'invalid-key' })
    }
    expect(server.seen).toHaveLength(0)
  })

  it('are listed in the order of their bytes, by prefix and range, both ways', async () => {
    for (const key of ['b/2', 'a', 'b/1', '\uffee', '😀', 'c']) await store.set(key, '')
    // By UTF-16 the second last would come last.
    expect(await all(store.getKeys())).toEqual(['a', 'b/1', 'b/2', 'c', '\uffee', '😀'])
    expect(await all(store.getKeys({ prefix: 'b/' }))).toEqual(['b/1', 'b/2'])
    expect(await all(store.getKeys({ start: 'b/1', end: 'c' }))).toEqual(['b/1', 'b/2'])
    expect(await all(store.getKeys({ end: 'c', reverse: true }))).toEqual(['b/2', 'b/1', 'a'])
    expect(await all(store.getKeys({ prefix: 'none' }))).toEqual([])
  })

  it('come in one stream, all from one revision', async () => {
    const names = Array.from({ length: 2500 }, (_, index) => `k${String(index).padStart(4, '0')}`)
    const kept = server.state.stores.get('default')
    for (const key of names) kept?.set(key, { value: Buffer.of(), contentType: 'a/b', revision: 1 })
    expect(await all(store.getKeys())).toEqual(names)
    for await (const key of store.getKeys()) {
      expect(key).toBe('k0000')
      break
    }
    expect(server.seen).toHaveLength(2)
    expect(server.seen[0]?.headers.accept).toBe('application/x-ndjson')
  })

  it('come with their values when entries are asked for', async () => {
    await store.set('a', Uint8Array.of(0, 255), { contentType: 'image/png', ttl: '7s' })
    await store.set('b', '')
    const found: Entry[] = []
    for await (const entry of store.entries()) found.push(entry)
    expect(found).toEqual([
      {
        key: 'a',
        value: Uint8Array.of(0, 255),
        revision: expect.any(Number),
        contentType: 'image/png',
        expires: new Date('2030-01-01T00:00:07Z'),
      },
      {
        key: 'b',
        value: new Uint8Array(0),
        revision: expect.any(Number),
        contentType: 'text/plain; charset=utf-8',
      },
    ])
  })

  it('do not end as if they were all when the stream breaks off or says why', async () => {
    const lines: readonly (readonly [string, object])[] = [
      ['{"key":"a","revision":1,"size":0,"contentType":"a/b"}\n', { code: 'deadline-exceeded' }],
      [
        '{"key":"a","revision":1,"size":0,"contentType":"a/b"}\n{"end":true,"revision":1,"count":2}\n',
        { code: 'deadline-exceeded' },
      ],
      [
        '{"key":"a","revision":1,"size":0,"contentType":"a/b"}\n{"error":{"code":"unauthenticated","detail":"gone"}}\n',
        { code: 'unauthenticated', detail: 'gone' },
      ],
      ['{"key":"a","revision":1,"size":0,"contentType":"a/b"}\n{"key":', { code: 'deadline-exceeded' }],
    ]
    for (const [text, error] of lines) {
      const client = connectRemote(
        { endpoints: [server.url], token: 'secret', fetch: async () => new Response(text) },
        { fewWrites: false },
      )
      const seen: string[] = []
      const reading = (async () => {
        for await (const key of client.store('default').getKeys()) seen.push(key)
      })()
      await expect(reading).rejects.toMatchObject(error)
      expect(seen).toEqual(['a'])
    }
  })

  it('stop coming when the signal fires', async () => {
    const aborter = new AbortController()
    aborter.abort('enough')
    await expect(all(store.getKeys({ signal: aborter.signal }))).rejects.toBe('enough')
  })
})

describe('reads', () => {
  it('pass on what they ask of consistency', async () => {
    await store.get('k', { consistency: 'stale', minRevision: 7 })
    await store.exists('k', { consistency: 'stale' })
    await all(store.getKeys({ minRevision: 3 }))
    await store.get('k')
    expect(server.seen.map((request) => request.path)).toEqual([
      '/v1/stores/default/keys/k?consistency=stale&minRevision=7',
      '/v1/stores/default/keys/k?consistency=stale',
      '/v1/stores/default/keys?minRevision=3',
      '/v1/stores/default/keys/k',
    ])
  })

  it('understand a tag that a compressing proxy has weakened', async () => {
    const weak = connect({
      endpoints: [server.url],
      token: 'secret',
      fetch: async (url, init) => {
        const response = await fetch(url, init)
        const headers = new Headers(response.headers)
        headers.set('ETag', `W/${headers.get('ETag')}`)
        return new Response(response.body, { status: response.status, headers })
      },
    })
    const { revision } = await store.set('k', 'v')
    expect((await (await weak.open('default')).getEntry('k'))?.revision).toBe(revision)
  })
})

describe('opening', () => {
  it('checks the grant before it tells whether the store exists', async () => {
    const narrow = connect({ endpoints: [server.url], token: 'narrow' })
    await expect(narrow.open('forbidden')).rejects.toMatchObject({ code: 'access-denied', status: 403 })
    await expect(narrow.open('gone')).rejects.toMatchObject({ code: 'no-such-store', status: 404 })
    await expect(narrow.open('../me')).rejects.toMatchObject({ code: 'invalid-request', field: 'store' })
    expect((await narrow.open('default')).name).toBe('default')
    await expect(connect({ endpoints: [server.url] }).open('default')).rejects.toMatchObject({
      code: 'unauthenticated',
    })
  })

  it('asks the token source before every request', async () => {
    const tokens = ['secret', 'revoked', 'secret']
    const rotating = connect({ endpoints: [server.url], token: () => tokens.shift() ?? '' })
    const opened = await rotating.open('default')
    await expect(opened.get('k')).rejects.toMatchObject({ code: 'unauthenticated' })
    expect(await opened.get('k')).toBeUndefined()
    const failing = connect({ endpoints: [server.url], token: () => Promise.reject(new RangeError('vault')) })
    await expect(failing.me()).rejects.toThrow(RangeError)
  })

  it('never quotes a token that is none', async () => {
    const error: unknown = await connect({ endpoints: [server.url], token: 'hush\n' })
      .me()
      .catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'invalid-request', field: 'token' })
    expect((error as TrivetError).detail).not.toContain('hush')
  })

  it('refuses options that cannot work', () => {
    for (const endpoints of [
      [],
      ['kv-1:7001'],
      ['ftp://kv-1'],
      ['http://user:pass@kv-1'],
      ['http://kv-1/?x'],
    ]) {
      expect(() => connect({ endpoints })).toThrow(expect.objectContaining({ code: 'invalid-request' }))
    }
    for (const timeout of ['5', '5 s', '', 0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => connect({ endpoints: [server.url], timeout })).toThrow(/timeout must be/)
    }
  })
})

describe('closing', () => {
  it('ends one handle and leaves another', async () => {
    const [one, other] = [await client.open('default'), await client.open('default')]
    const last = one.set('k', 'v')
    await one.close()
    await one.close()
    expect(await last).toMatchObject({ created: true })
    for (const use of [
      one.get('k'),
      one.set('k', 'v'),
      one.delete('k'),
      one.exists('k'),
      all(one.getKeys()),
    ]) {
      await expect(use).rejects.toMatchObject({ code: 'invalid-store' })
    }
    expect(await other.getText('k')).toBe('v')
  })

  it('of the client closes its stores, and await using does both', async () => {
    let kept: Store
    {
      await using brief = connect({ endpoints: [server.url], token: 'secret' })
      await using opened = await brief.open('default')
      kept = await brief.open('default')
      await opened.set('k', 'v')
    }
    await expect(kept.get('k')).rejects.toMatchObject({ code: 'invalid-store' })
  })
})

describe('the cluster', () => {
  it('says who one is, who its members are, and lets leadership be handed over', async () => {
    expect(await client.me()).toEqual({ principal: { type: 'admin', name: 'someone' }, grants: [] })
    expect(await client.cluster()).toMatchObject({
      cluster: 'dev',
      leader: 'n1',
      members: [{ id: 'n1' }, {}, {}],
    })
    await client.transferLeadership('n2')
    expect((await client.cluster()).leader).toBe('n2')
    await expect(client.transferLeadership('n9')).rejects.toMatchObject({
      code: 'invalid-request',
      field: 'to',
    })
  })
})
