// What a store does beyond get and set: counters, lifetimes, many keys at once, ranges, compare and swap.

import { describe, expect, it } from 'vitest'
import { memoryStore } from './memory-cluster.ts'

const { server, store } = await memoryStore()

const in7s = { expires: new Date('2030-01-01T00:00:07Z') }

describe('a counter', () => {
  it('counts exactly, beyond what a number can hold, from nothing on', async () => {
    expect(await store.increment('n')).toBe(1n)
    expect(await store.increment('n', -3)).toBe(-2n)
    expect(await store.increment('n', 9_007_199_254_740_993n)).toBe(9_007_199_254_740_991n)
    expect(await store.getText('n')).toBe('9007199254740991')
  })

  it('does not count what overflows, is no number, or fails its condition', async () => {
    await store.set('n', String(2n ** 63n - 1n))
    await expect(store.increment('n')).rejects.toMatchObject({ code: 'overflow', status: 409 })
    await store.set('n', 'much')
    await expect(store.increment('n')).rejects.toMatchObject({ code: 'not-a-number' })
    await expect(store.increment('n', 1, { ifAbsent: true })).rejects.toMatchObject({
      code: 'condition-failed',
    })
    expect(await store.getText('n')).toBe('much')
  })

  it('counts once when its answer is lost', async () => {
    server.faults.push({ type: 'cutAfter' })
    expect(await store.increment('n', 5)).toBe(5n)
    expect(await store.getText('n')).toBe('5')
  })

  it('takes whole numbers of 64 bits', async () => {
    for (const delta of [0.5, Number.NaN, 2 ** 60, 2n ** 63n]) {
      await expect(store.increment('n', delta)).rejects.toMatchObject({
        code: 'invalid-request',
        field: 'delta',
      })
    }
    expect(server.seen).toEqual([])
  })
})

describe('a lifetime', () => {
  it('is set with the value, renewed and cleared by a touch, which leaves the revision alone', async () => {
    const { revision } = await store.set('k', 'v', { ttl: '7s' })
    expect(await store.getEntry('k')).toMatchObject(in7s)
    expect(await store.touch('k', { ttl: 'none' })).toEqual({})
    expect(await store.getEntry('k')).not.toHaveProperty('expires')
    expect(await store.touch('k', { ttl: 7000 })).toEqual(in7s)
    expect(await store.getEntry('k')).toMatchObject({ revision, ...in7s })
  })

  it('of a missing key cannot be touched, which is no error', async () => {
    expect(await store.touch('k', { ttl: '7s' })).toBeUndefined()
    await expect(store.touch('k', { ttl: '7s', ifRevision: 3 })).rejects.toMatchObject({
      code: 'condition-failed',
      revision: 0,
    })
  })

  it('is a duration', async () => {
    for (const ttl of ['soon', 0, -1, 1.5, '7 s']) {
      await expect(store.set('k', 'v', { ttl })).rejects.toMatchObject({
        code: 'invalid-request',
        field: 'ttl',
      })
    }
  })
})

describe('many keys', () => {
  it('are read in order, from one revision', async () => {
    await store.setMany([
      ['b', 'two'],
      { key: 'a', value: Uint8Array.of(1), contentType: 'image/png', ttl: '7s' },
    ])
    const [b, missing, a, again] = await store.getMany(['b', 'missing', 'a', 'b'])
    expect([b, missing, a, again]).toEqual([
      new TextEncoder().encode('two'),
      undefined,
      Uint8Array.of(1),
      new TextEncoder().encode('two'),
    ])
    expect(await store.getEntry('a')).toMatchObject({ contentType: 'image/png', ...in7s })
    expect(server.seen.map(({ path }) => path).slice(0, 2)).toEqual(['/v1/transactions', '/v1/transactions'])
  })

  it('are written and deleted under one revision', async () => {
    const { revision } = await store.setMany([
      ['a', '1'],
      ['b', '2'],
    ])
    expect((await store.getEntry('a'))?.revision).toBe(revision)
    expect((await store.getEntry('b'))?.revision).toBe(revision)
    expect(await store.deleteMany(['a', 'missing', 'b'])).toEqual({ revision: revision + 1, deleted: 2 })
  })

  it('are at most a thousand', async () => {
    const keys = Array.from({ length: 1001 }, (_, index) => String(index))
    await expect(store.getMany(keys)).rejects.toMatchObject({
      code: 'invalid-request',
      limit: 1000,
      actual: 1001,
    })
    await expect(store.deleteMany(keys)).rejects.toMatchObject({ limit: 1000 })
    expect(server.seen).toEqual([])
    expect(await store.getMany(keys.slice(1))).toHaveLength(1000)
  })

  it('of a range are deleted at once, and all of them only when that is said', async () => {
    await store.setMany(['a/1', 'a/2', 'b'].map((key) => [key, '']))
    expect(await store.deleteRange({ prefix: 'a/' })).toMatchObject({ deleted: 2 })
    await expect(store.deleteRange({ prefix: '' })).rejects.toMatchObject({ field: 'prefix' })
    expect(await store.deleteRange({ all: true })).toMatchObject({ deleted: 1 })
    expect(server.seen.filter(({ method }) => method === 'DELETE').map(({ path }) => path)).toEqual([
      '/v1/stores/default/keys?prefix=a%2F',
      '/v1/stores/default/keys?all=true',
    ])
  })
})

describe('compare and swap', () => {
  it('swaps what nobody has written since, and hands back a fresh one otherwise', async () => {
    await store.set('k', 'a')
    const cas = store.cas('k')
    expect((await cas.current())?.value).toEqual(new TextEncoder().encode('a'))
    // There and back: by value nothing has changed.
    await store.set('k', 'b')
    await store.set('k', 'a')
    const result = await cas.swap('c')
    expect(result.swapped).toBe(false)
    expect(await store.getText('k')).toBe('a')
    if (result.swapped) return
    await result.cas.current()
    expect(await result.cas.swap('c')).toEqual({ swapped: true, revision: expect.any(Number) })
    expect(await store.getText('k')).toBe('c')
  })

  it('only inserts after it saw that the key is missing', async () => {
    const cas = store.cas('k')
    expect(await cas.current()).toBeUndefined()
    await store.set('k', 'other')
    expect((await cas.swap('mine')).swapped).toBe(false)
    expect(await store.getText('k')).toBe('other')
    await store.delete('k')
    expect((await store.cas('k').swap('mine')).swapped).toBe(true)
  })

  it('stands on what it has seen, however often it is asked', async () => {
    await store.set('k', 'a')
    const cas = store.cas('k')
    const first = await cas.current()
    await store.set('k', 'b')
    expect(await cas.current()).toBe(first)
    expect((await cas.swap('c')).swapped).toBe(false)
  })

  it('says what else was wrong', async () => {
    server.faults.push({
      type: 'refuse',
      status: 413,
      code: 'value-too-large',
      on: ({ method }) => method === 'PUT',
    })
    await expect(store.cas('k').swap('v')).rejects.toMatchObject({ code: 'value-too-large' })
  })
})
