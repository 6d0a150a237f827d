// Concurrent operations share requests, and each still has an answer, an error and a fate of its own.

import { describe, expect, it } from 'vitest'
import type { ConnectOptions } from '../../src/sdk/index.ts'
import { type MemoryCluster, memoryCluster } from './memory-cluster.ts'

/** The session is opened, so that requests are those of the test alone. */
async function packing(size: number, options: Partial<ConnectOptions> = {}): Promise<MemoryCluster> {
  const cluster = await memoryCluster(size, options)
  await cluster.store.set('warm', '')
  for (const server of [cluster.first, ...cluster.others]) server.seen.length = 0
  return cluster
}

const names = Array.from({ length: 50 }, (_, index) => `k${index}`)

describe('operations of one moment', () => {
  it('go in one request', async () => {
    const { store, first } = await packing(1)
    const written = await Promise.all(names.map((key) => store.set(key, key)))
    expect(new Set(written.map(({ revision }) => revision)).size).toBe(50)
    expect(first.seen.map(({ method, path }) => `${method} ${path}`)).toEqual(['POST /v1/batch'])
    expect(await Promise.all(names.map((key) => store.getText(key)))).toEqual(names)
    expect(first.batches).toEqual([50, 50])
  })

  it('go by their own route where there is but one', async () => {
    const { store, first } = await packing(1)
    await store.set('k', 'v')
    await store.get('k')
    expect(first.seen.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'PUT /v1/stores/default/keys/k',
      'GET /v1/stores/default/keys/k',
    ])
  })

  it('go together in the next request while one is under way, or beside it where they are many', async () => {
    const { store, first } = await packing(1)
    const released = Promise.withResolvers<void>()
    first.faults.push({ type: 'held', until: released.promise })
    const one = store.set('one', '')
    await expect.poll(() => first.seen.length).toBe(1)
    const many = Array.from({ length: 300 }, (_, at) => store.set(`many/${at}`, ''))
    await Promise.all(many)
    expect(first.batches).toEqual([300])
    released.resolve()
    await one
    const few = [store.get('a'), store.get('b')]
    await expect.poll(() => first.batches.length).toBe(2)
    await Promise.all(few)
  })

  it('do not overtake a write of their key that is under way, while those of other keys do', async () => {
    const { store, first } = await packing(1)
    const released = Promise.withResolvers<void>()
    first.faults.push({ type: 'held', until: released.promise })
    const one = store.set('k', 'first')
    await expect.poll(() => first.seen.length).toBe(1)
    const again = store.set('k', 'second')
    await Promise.all(Array.from({ length: 300 }, (_, at) => store.set(`many/${at}`, '')))
    expect(first.batches).toEqual([300])
    released.resolve()
    await Promise.all([one, again])
  })

  it('of all kinds answer in a batch what they answer alone', async () => {
    const { store, first } = await packing(1)
    const all = async (): Promise<unknown[]> => {
      await Promise.all(names.map((key) => store.delete(key)))
      await store.set('e', Uint8Array.of(0, 255), { contentType: 'a/b', ttl: '7s' })
      const settled: unknown[] = []
      const calls: (() => Promise<unknown>)[] = [
        () => store.get('missing'),
        () => store.getEntry('e'),
        () => store.exists('e'),
        () => store.exists('missing'),
        () => store.increment('k1', 2n ** 60n),
        () => store.touch('e', { ttl: '9s' }),
        () => store.touch('missing', { ttl: '9s' }),
        () => store.increment('e').catch((error: unknown) => (error as { code: string }).code),
        () => store.set('e', '', { ifAbsent: true }).catch((error: unknown) => Object(error).revision > 0),
        () => store.delete('missing').then(({ deleted }) => deleted),
      ]
      const together = first.batches.length
      if (alone) for (const call of calls) settled.push(await call())
      else settled.push(...(await Promise.all(calls.map((call) => call()))))
      expect(first.batches.length === together).toBe(alone)
      const entry = settled[1] as { revision?: number }
      return settled.with(1, { ...entry, revision: 0 })
    }
    let alone = true
    const one = await all()
    alone = false
    // What is read may be older or newer than what is written beside it: only `expires` of the entry shows it.
    const other = await all()
    expect(other).toEqual(one)
    expect(one[4]).toBe(2n ** 60n)
  })

  it('wait for one that hangs only a moment', async () => {
    const { store, first } = await packing(1)
    first.faults.push({ type: 'hang' })
    const aborter = new AbortController()
    const slow = store.get('slow', { signal: aborter.signal }).catch(() => 'aborted')
    await expect.poll(() => first.seen.length).toBe(1)
    expect(await Promise.all([store.get('a'), store.get('b')])).toEqual([undefined, undefined])
    aborter.abort()
    expect(await slow).toBe('aborted')
  })

  it('go apart where they are large, stale, or written by a client of few writes', async () => {
    const { store, first } = await packing(1)
    const large = new Uint8Array(100_000)
    await Promise.all(['a', 'b', 'c'].map((key) => store.set(key, large)))
    await Promise.all(['a', 'b', 'c'].map((key) => store.get(key, { consistency: 'stale' })))
    expect(first.batches).toEqual([])
  })

  it('go apart where some are read and some written, so that every write has its session', async () => {
    const { store, state, first } = await packing(1)
    const mixed = names.map((key, at) => (at % 2 === 0 ? store.get(key) : store.set(key, key)))
    const settled = await Promise.all(mixed)
    expect(settled.filter((answer) => answer === undefined)).toHaveLength(25)
    expect(first.batches).toEqual([25, 25])
    expect(state.numbers.slice(-25).every((header) => /^session-1; seq=\d+; acked=\d+$/.test(header))).toBe(
      true,
    )
  })

  it('of more than a thousand, or more than a megabyte, are several batches', async () => {
    const { store, first } = await packing(1)
    const keys = Array.from({ length: 2500 }, (_, index) => String(index))
    await Promise.all(keys.map((key) => store.get(key)))
    expect(first.batches.toSorted((a, b) => b - a)).toEqual([1000, 1000, 500])
    first.batches.length = 0
    await Promise.all(keys.slice(0, 41).map((key) => store.set(key, new Uint8Array(50_000))))
    expect(first.batches.length).toBeGreaterThan(1)
    expect(first.batches.reduce((sum, size) => sum + size, 0)).toBe(40)
  })
})

describe('a batch', () => {
  it('that is refused as a whole is split until each error is its own', async () => {
    const { store, first } = await packing(1)
    first.largestBatch = 6
    const values = await Promise.all(names.map((key) => store.set(key, key)))
    expect(values).toHaveLength(50)
    expect(Math.max(...first.batches)).toBe(50)
    expect(first.batches.filter((size) => size <= 6).reduce((sum, size) => sum + size, 0)).toBeGreaterThan(40)
  })

  it('leaves errors with the calls that they belong to', async () => {
    const { store } = await packing(1)
    await store.set('there', '')
    const calls = ['a', 'there', 'b', 'there'].map((key) => store.set(key, 'new', { ifAbsent: true }))
    const settled = await Promise.allSettled(calls)
    expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected'])
    expect(settled[1]).toMatchObject({ reason: { code: 'condition-failed', outcome: 'none' } })
  })

  for (const fault of ['cutBefore', 'cutAfter', 'cutBody', 'garbage'] as const) {
    it(`is sent again elsewhere after ${fault}, and all of it takes effect once`, async () => {
      const { store, state, first } = await packing(2)
      const on = ({ path }: { readonly path: string }): boolean => path === '/v1/batch'
      first.faults.push({ type: fault, on })
      const before = state.writes
      const sums = await Promise.all(names.map(() => store.increment('n')))
      expect(sums.map(Number).sort((a, b) => a - b)).toEqual(names.map((_, index) => index + 1))
      expect(state.writes - before).toBe(50)
    })
  }

  it('that is turned away is sent again when the server asks for it', async () => {
    const { store, first } = await packing(1)
    const on = ({ path }: { readonly path: string }): boolean => path === '/v1/batch'
    first.faults.push({ type: 'refuse', status: 429, code: 'overloaded', retryAfter: 1, on })
    const start = performance.now()
    await Promise.all(names.map((key) => store.set(key, key)))
    expect(performance.now() - start).toBeGreaterThanOrEqual(1000)
  })

  it('lets go of a call that is aborted before it was sent, and never sends it', async () => {
    const { store, state, first } = await packing(1)
    const released = Promise.withResolvers<void>()
    first.faults.push({ type: 'held', until: released.promise })
    const aborter = new AbortController()
    const one = store.set('one', '')
    await expect.poll(() => first.seen.length).toBe(1)
    const gone = store.set('gone', '', { signal: aborter.signal }).catch((error: unknown) => error)
    const other = store.set('other', '')
    aborter.abort('enough')
    expect(await gone).toBe('enough')
    released.resolve()
    await Promise.all([one, other])
    expect(state.stores.get('default')?.has('gone')).toBe(false)
    await store.set('next', '')
    expect(state.numbers.at(-1)).toMatch(/acked=4$/)
  })

  it('leaves the fate of a call open that is aborted under way, and that of the others alone', async () => {
    const { store, first } = await packing(1)
    const on = ({ path }: { readonly path: string }): boolean => path === '/v1/batch'
    first.faults.push({ type: 'slow', milliseconds: 200, on })
    const aborter = new AbortController()
    const one = store.set('one', '')
    const gone = store.set('gone', '', { signal: aborter.signal }).catch((error: unknown) => error)
    const other = store.set('other', '')
    await expect.poll(() => first.seen.length).toBe(1)
    aborter.abort(new Error('the user left'))
    expect(await gone).toMatchObject({ code: 'outcome-unknown', outcome: 'unknown' })
    expect((await Promise.all([one, other])).map(({ created }) => created)).toEqual([true, true])
  })

  it('of a session that has ended goes into a new one', async () => {
    const { store, state } = await packing(1)
    state.sessions.clear()
    await Promise.all(names.map(() => store.increment('n')))
    expect(await store.getText('n')).toBe('50')
  })
})
