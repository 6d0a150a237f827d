// The sequence that Spin runs against any key-value store it is to work with, in its order, through our SDK.

import { expect } from 'vitest'
import type { Store } from '../../src/sdk/index.ts'

/** What a component sees: stores by their labels. */
export type Opens = { open(label: string): Promise<Store> }

/** Runs the sequence. The component has a grant for `default` alone, and that is empty. */
export async function conform(component: Opens): Promise<void> {
  await expect(component.open('forbidden')).rejects.toMatchObject({ code: 'access-denied' })

  const store = await component.open('default')
  await store.delete('bar')
  expect(await store.exists('bar')).toBe(false)
  expect(await store.get('bar')).toBeUndefined()
  expect(await keysOf(store)).toEqual([])

  await store.set('bar', Buffer.from('baz'))
  expect(await store.exists('bar')).toBe(true)
  expect(await store.getText('bar')).toBe('baz')
  expect(await keysOf(store)).toEqual(['bar'])

  await store.set('bar', Buffer.from('wow'))
  expect(await store.getText('bar')).toBe('wow')
  expect(await keysOf(store)).toEqual(['bar'])

  await store.set('qux', Buffer.from('yay'))
  expect(await keysOf(store)).toEqual(['bar', 'qux'])

  await store.delete('bar')
  await store.delete('bar')
  expect(await store.exists('bar')).toBe(false)
  await store.delete('qux')
  expect(await store.exists('qux')).toBe(false)
  expect(await store.get('qux')).toBeUndefined()
  expect(await keysOf(store)).toEqual([])
}

export async function keysOf(store: Store): Promise<string[]> {
  const keys: string[] = []
  for await (const key of store.getKeys()) keys.push(key)
  return keys
}
