// A node inside this program: the same store as over the network, with the same errors and the same grants.

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Node } from '../../src/embedded/index.ts'
import { loadPeerKey } from '../../src/node/peer-key.ts'
import type { Store } from '../../src/sdk/index.ts'
import { freePort } from '../node/free-port.ts'
import { scenarios } from '../sdk/scenarios.ts'

let directory: string
let config: string
let node: Node

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'trivet-embedded-'))
  config = join(directory, 'cluster.yml')
  const { peer } = await loadPeerKey(join(directory, 'n1'))
  const [http, p2p] = [await freePort(), await freePort()]
  await writeFile(
    config,
    `
cluster: embedded
nodes:
  n1: { http: "http://127.0.0.1:${http}", p2p: /ip4/127.0.0.1/tcp/${p2p}, peer: ${peer}, data: ./n1 }
stores:
  default: {}
  small: { maxValueBytes: 8 }
tokens:
  - { name: admin, admin: true, secret: "\${ADMIN_TOKEN}" }
  - { name: reader, stores: [{ store: default, access: read, prefix: a/ }], secret: "\${READER_TOKEN}" }
`,
  )
  const environment = { ADMIN_TOKEN: 'a'.repeat(40), READER_TOKEN: 'r'.repeat(40) }
  node = await Node.start({ config, node: 'n1', environment, timeout: '10s' })
  await node.ready()
})

afterAll(async () => {
  await node.stop()
  await rm(directory, { recursive: true })
})

describe('a store of an embedded node', () => {
  beforeEach(async () => {
    const store = await node.open('default', { as: 'admin' })
    await store.deleteRange({ all: true })
  })

  for (const [name, run] of Object.entries(scenarios)) {
    it(`does what every store does: ${name}`, async () => {
      const [store, other] = [
        await node.open('default', { as: 'admin' }),
        await node.open('default', { as: 'admin' }),
      ]
      await run({ store, other, transaction: () => node.transaction({ as: 'admin' }) })
    })
  }

  it('is opened by the grants of the token that the program acts as', async () => {
    await expect(node.open('small', { as: 'reader' })).rejects.toMatchObject({ code: 'access-denied' })
    await expect(node.open('nowhere', { as: 'reader' })).rejects.toMatchObject({ code: 'access-denied' })
    await expect(node.open('nowhere', { as: 'admin' })).rejects.toMatchObject({ code: 'no-such-store' })
    await expect(node.open('default', { as: 'nobody' })).rejects.toMatchObject({ code: 'unauthenticated' })
    const store = await node.open('default', { as: 'reader' })
    expect(await store.get('a/1')).toBeUndefined()
    const uses = await Promise.allSettled([
      store.get('b'),
      store.get('b', { consistency: 'stale' }),
      store.set('a/1', ''),
      store.delete('a/1'),
      store.increment('a/1'),
      store.touch('a/1', { ttl: '1s' }),
      store.deleteRange({ prefix: 'a/' }),
      store.getMany(['a/1', 'b']),
      all(store.getKeys()),
      all(store.watch({ prefix: 'b' })),
    ])
    for (const use of uses) {
      expect(use).toMatchObject({ status: 'rejected', reason: { code: 'access-denied', status: 403 } })
    }
    expect(await all(store.getKeys({ prefix: 'a/' }))).toEqual([])
  })

  it('refuses what is too long or too large, in the words of the contract', async () => {
    const small = await node.open('small', { as: 'admin' })
    await expect(small.set('k', '123456789')).rejects.toMatchObject({ code: 'value-too-large', limit: 8 })
    await expect(small.set('k'.repeat(4097), '')).rejects.toMatchObject({ code: 'invalid-key', limit: 4096 })
    await expect(all(small.getKeys({ prefix: 'k'.repeat(4097) }))).rejects.toMatchObject({
      code: 'invalid-request',
    })
    const large = node.transaction({ as: 'admin' })
    const { set } = { set: { op: 'set', store: 'small', key: 'k', contentType: 'a/b' } as const }
    await expect(large.onSuccess({ ...set, value: new Uint8Array(9) }).commit()).rejects.toMatchObject({
      code: 'value-too-large',
      index: 0,
    })
  })

  it('hands out values that are its caller’s own', async () => {
    const store = await node.open('default', { as: 'admin' })
    const value = Uint8Array.of(1, 2, 3)
    const written = store.set('k', value)
    value.fill(0)
    await written
    const read = await store.get('k')
    read?.fill(9)
    expect(await store.get('k')).toEqual(Uint8Array.of(1, 2, 3))
  })

  it('ends with its handle and with the node', async () => {
    const store = await node.open('default', { as: 'admin' })
    await store.close()
    await expect(store.get('k')).rejects.toMatchObject({ code: 'invalid-store' })
    const kept: Store = await node.open('default', { as: 'admin' })
    const watching = all(kept.watch()).catch((error: unknown) => error)
    await node.stop()
    await node.stop()
    expect(await watching).toMatchObject({ code: 'invalid-store' })
    await expect(kept.get('k')).rejects.toMatchObject({ code: 'invalid-store' })
    await expect(node.open('default', { as: 'admin' })).rejects.toMatchObject({ code: 'invalid-store' })
    await expect(node.ready()).rejects.toMatchObject({ code: 'invalid-store' })
  })
})

it('says which nodes there are when it is told to be another', async () => {
  const environment = { ADMIN_TOKEN: 'a'.repeat(40), READER_TOKEN: 'r'.repeat(40) }
  await expect(Node.start({ config, node: 'n9', environment })).rejects.toThrow(
    /has no node n9; its nodes are n1/,
  )
})

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}
