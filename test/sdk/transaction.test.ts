// Transactions: built step by step, all or none, with results of the types of their operations.

import { expect, expectTypeOf, it } from 'vitest'
import { type Client, check, connect, op } from '../../src/sdk/index.ts'
import { memoryStore } from './memory-cluster.ts'

const { server, client, store } = await memoryStore('carts')

it('does one of its two lists, and answers with the results of that list, typed by its operations', async () => {
  const build = client
    .transaction()
    .if(check.absent('carts', 'c1'))
    .onSuccess(op.setJson('carts', 'c1', { items: 1 }), op.increment(store, 'count', 2))
    .onSuccess(op.get(store, 'count'))
    .onFailure(op.exists('carts', 'c1'), op.touch('carts', 'c1', { ttl: '7s' }), op.delete('carts', 'c1'))
  const done = await build.commit()
  if (!done.succeeded) return expect.fail('the key was absent')
  const [set, sum, count] = done.results
  expectTypeOf(sum.value).toEqualTypeOf<bigint>()
  expect(set).toEqual({ op: 'set', created: true, changed: true })
  expect(sum).toEqual({ op: 'increment', value: 2n })
  expect(count.entry).toMatchObject({
    key: 'count',
    value: new TextEncoder().encode('2'),
    contentType: 'text/plain',
  })
  expect(await (await client.open('carts')).getJson('c1')).toEqual({ items: 1 })
  const again = await build.commit()
  if (again.succeeded) return expect.fail('the key was there')
  const [exists, touched, deleted] = again.results
  expectTypeOf(exists.exists).toEqualTypeOf<boolean>()
  expect([exists.exists, touched.expires, deleted.deleted]).toEqual([
    true,
    new Date('2030-01-01T00:00:07Z'),
    true,
  ])
})

it('asks by revision and by value too, and all that it asks must hold', async () => {
  const { revision } = await store.set('a', 'x')
  await store.set('b', 'y')
  const holds = async (
    ...conditions: Parameters<ReturnType<Client['transaction']>['if']>
  ): Promise<boolean> =>
    (
      await client
        .transaction()
        .if(...conditions)
        .commit()
    ).succeeded
  expect(await holds(check.revision(store, 'a', revision), check.value(store, 'b', 'y'))).toBe(true)
  expect(await holds(check.revision(store, 'a', revision), check.value(store, 'b', 'z'))).toBe(false)
  expect(await holds(check.revision(store, 'c', 0), check.exists(store, 'b'))).toBe(true)
  expect(await holds(check.revision(store, 'a', revision + 1))).toBe(false)
  expect(await holds()).toBe(true)
})

it('undoes all of it when one operation fails, and says which', async () => {
  await store.set('text', 'much')
  const commit = client
    .transaction()
    .onSuccess(op.set(store, 'a', 'v'), op.increment(store, 'text'))
    .commit()
  await expect(commit).rejects.toMatchObject({ code: 'not-a-number', index: 1 })
  expect(await store.exists('a')).toBe(false)
})

it('deletes what begins with a prefix, which is not empty', async () => {
  await store.setMany(['a/1', 'a/2', 'b'].map((key) => [key, '']))
  const { results } = await client.transaction().onSuccess(op.deletePrefix(store, 'a/')).commit()
  expect(results).toEqual([{ op: 'deletePrefix', deleted: 2 }])
  expect(() => op.deletePrefix(store, '')).toThrow(/not empty/)
})

it('takes effect once when its answer is lost', async () => {
  server.faults.push({ type: 'cutAfter' })
  const done = await client.transaction().onSuccess(op.increment(store, 'n')).commit()
  expect(done).toMatchObject({ succeeded: true, results: [{ value: 1n }] })
  expect(await store.getText('n')).toBe('1')
})

it('is no promise, and leaves the step before as it is', async () => {
  const empty = client.transaction()
  const one = empty.onSuccess(op.set(store, 'a', ''))
  expect(await one).toBe(one)
  expect('then' in one).toBe(false)
  expect((await empty.commit()).results).toEqual([])
  expect(await store.exists('a')).toBe(false)
  expect(server.seen.map(({ method }) => method)).toEqual(['POST', 'HEAD'])
})

it('holds at most a thousand conditions and operations, and none after the client is closed', async () => {
  const operations = Array.from({ length: 1001 }, () => op.get(store, 'k'))
  await expect(
    client
      .transaction()
      .onSuccess(...operations)
      .commit(),
  ).rejects.toMatchObject({ limit: 1000 })
  const brief = connect({ endpoints: [server.url], token: 'secret' })
  const left = brief.transaction()
  await brief.close()
  await expect(left.commit()).rejects.toMatchObject({ code: 'invalid-store' })
})
