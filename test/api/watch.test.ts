// Streams of events on a server: how they end when it goes, and what one client that does not read does to the others.

import { expect, test } from 'vitest'
import { makeBed, patience, revoke } from './bed.ts'
import { secrets } from './contract.ts'
import { EventStream } from './event-stream.ts'

const watch = '/v1/stores/default/watch'

test('a server that drains ends its streams with closing, and those that come now at once', async () => {
  const { api, as } = await makeBed()
  await using stream = await EventStream.open(api.address.url, watch)
  await stream.caughtUp()
  await as('PUT', '/v1/stores/default/keys/a', { body: 'x' })
  api.drain()
  await stream.until(({ ended }) => ended)
  expect(stream.events.map(({ type }) => type)).toEqual(['progress', 'set', 'closing'])
  await using late = await EventStream.open(api.address.url, watch)
  await late.until(({ ended }) => ended)
  expect(late.events).toEqual([{ type: 'closing', id: undefined, data: {} }])
  expect(late.text).toMatch(/^retry: 1000\n/)
})

test('a server that closes does not wait for its streams to end by themselves', async () => {
  const { api } = await makeBed({ closeTimeout: 60_000 })
  await using stream = await EventStream.open(api.address.url, watch)
  await stream.caughtUp()
  await api.close()
  await stream.until(({ ended }) => ended)
  expect(stream.events.at(-1)?.type).toBe('closing')
})

test('a client that does not read is ended with lagged, and the others hear everything', async () => {
  const { api, as, node, raw } = await makeBed()
  const dead = await raw()
  dead.say(`GET ${watch}?values=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${secrets.admin}\r\n\r\n`)
  await dead.until(({ heard }) => heard.includes('event: progress'))
  dead.socket.pause()
  await using lively = await EventStream.open(api.address.url, `${watch}?values=true`)
  await lively.caughtUp()
  const body = Buffer.alloc(256 * 1024, 'v')
  for (let n = 0; n < 100; n++) {
    await as('PUT', `/v1/stores/default/keys/k${n}`, { body })
    await lively.until(({ changes }) => changes.length === n + 1)
  }
  dead.socket.resume()
  await dead.until(({ heard }) => heard.includes('event: lagged'))
  expect(dead.heard.split('event: set').length).toBeLessThan(100)
  await expect.poll(() => node.hub.size, patience).toBe(1)
})

test('a client that goes leaves no stream behind', async () => {
  const { api, node } = await makeBed()
  const stream = await EventStream.open(api.address.url, watch)
  await stream.caughtUp()
  stream.cut()
  await expect.poll(() => node.hub.size, patience).toBe(0)
})

test('a stream ends with revoked when its token is taken away', async () => {
  const { api, node } = await makeBed()
  await using stream = await EventStream.open(api.address.url, '/v1/stores/carts/watch', {
    token: secrets.reader,
  })
  await stream.caughtUp()
  await revoke(node, 'reader')
  await stream.until(({ ended }) => ended)
  expect(stream.events.at(-1)?.type).toBe('revoked')
})
