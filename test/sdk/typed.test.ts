// Stores of one shape: the schemas of three libraries, all by Standard Schema.

import { type } from 'arktype'
import * as v from 'valibot'
import { describe, expect, expectTypeOf, it } from 'vitest'
import { z } from 'zod'
import { SchemaError, type StandardSchema } from '../../src/sdk/index.ts'
import { memoryStore } from './memory-cluster.ts'

const { server, store } = await memoryStore()

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

type Cart = { owner: string; items: number }

const schemas: Readonly<Record<string, StandardSchema<Cart>>> = {
  zod: z.object({ owner: z.string(), items: z.number() }),
  valibot: v.object({ owner: v.string(), items: v.number() }),
  arktype: type({ owner: 'string', items: 'number' }),
}

for (const [name, schema] of Object.entries(schemas)) {
  describe(`a store typed with ${name}`, () => {
    it('takes and gives what fits, as JSON under its prefix', async () => {
      const carts = store.typed(schema, { prefix: 'cart/' })
      await carts.set('c1', { owner: 'ann', items: 2 })
      expectTypeOf(await carts.get('c1')).toEqualTypeOf<Cart | undefined>()
      expect(await carts.get('c1')).toEqual({ owner: 'ann', items: 2 })
      expect(await store.getEntry('cart/c1')).toMatchObject({ contentType: 'application/json' })
      expect(await carts.get('c2')).toBeUndefined()
    })

    it('refuses what does not fit before anything is sent, and says where', async () => {
      const carts = store.typed(schema)
      const wrong = { owner: 'ann', items: 'two' } as unknown as Cart
      server.seen.length = 0
      const refused = await carts.set('c1', wrong).catch((error: unknown) => error)
      expect(refused).toBeInstanceOf(SchemaError)
      expect(refused).toMatchObject({ key: 'c1', message: expect.stringMatching(/"c1" does not fit.*items/) })
      await expect(carts.setMany([['c1', wrong]])).rejects.toBeInstanceOf(SchemaError)
      expect(server.seen).toEqual([])
    })

    it('refuses what somebody else has stored and does not fit', async () => {
      const carts = store.typed(schema)
      await store.setJson('c1', { owner: 7 })
      await store.set('c2', 'no JSON')
      await expect(carts.get('c1')).rejects.toBeInstanceOf(SchemaError)
      await expect(carts.get('c2')).rejects.toThrow(/not JSON/)
      await expect(carts.getMany(['c2'])).rejects.toBeInstanceOf(SchemaError)
    })
  })
}

it('gives the output of a schema that makes something of its input', async () => {
  const visits = store.typed(z.object({ at: z.iso.datetime().transform((text) => new Date(text)) }))
  await visits.set('v', { at: '2030-01-01T00:00:00Z' })
  expect(await visits.get('v')).toEqual({ at: new Date('2030-01-01T00:00:00Z') })
  // @ts-expect-error what is set is the schema's input
  await expect(visits.set('v', { at: new Date() })).rejects.toBeInstanceOf(SchemaError)
})

it('waits for a schema that takes its time', async () => {
  const slow = store.typed(z.string().refine(async (text) => text !== 'taken'))
  await slow.set('k', 'free')
  await expect(slow.set('k', 'taken')).rejects.toBeInstanceOf(SchemaError)
})

it('sees only what is under its prefix, and the keys without it', async () => {
  const carts = store.typed(z.number(), { prefix: 'cart/' })
  await store.setJson('other', 1)
  await carts.setMany([
    ['a', 1],
    ['b', 2],
    ['c', 3],
  ])
  expect(await carts.getMany(['b', 'missing', 'a'])).toEqual([2, undefined, 1])
  expect(await all(carts.getKeys({ start: 'b' }))).toEqual(['b', 'c'])
  expect(await all(carts.entries({ end: 'b' }))).toMatchObject([{ key: 'a', value: 1 }])
  expect(await carts.exists('a')).toBe(true)
  expect(await carts.touch('a', { ttl: '7s' })).toMatchObject({ expires: expect.any(Date) })
  expect(await carts.delete('a')).toMatchObject({ deleted: true })
  expect(await store.exists('other')).toBe(true)
})
