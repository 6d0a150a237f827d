// Backup and restore over HTTP: through three nodes, and what becomes of a body that is no backup or ends in its middle.

import net from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Answered } from './client.ts'
import { ask } from './client.ts'
import { hashOf } from './memory-node.ts'
import { type Neighbourhood, startNeighbourhood } from './neighbourhood.ts'

const secret = 'admin-secret-of-the-tests-0123456789'
const other = 'other-secret-of-the-tests-0123456789'

function foundingOf(admin: string) {
  return {
    stores: [{ name: 'default' }, { name: 'carts', ttl: 3_600_000 }],
    tokens: [
      { name: 'admin', hash: hashOf(admin), principal: { type: 'admin' } },
      { name: 'metrics', hash: hashOf(`${admin}-monitor`), principal: { type: 'monitor' } },
    ],
    valueBytes: 4096,
  } as const
}

function asAdmin(place: Neighbourhood, admin: string) {
  return (method: string, path: string, body?: string | Uint8Array, headers = {}): Promise<Answered> =>
    ask(place.next(), method, path, { token: admin, headers, body })
}

describe('backup and restore', () => {
  let source: Neighbourhood
  let target: Neighbourhood
  let backup: Buffer

  beforeAll(async () => {
    source = await startNeighbourhood({ seed: 4, founding: foundingOf(secret) })
    target = await startNeighbourhood({ seed: 5, founding: foundingOf(other) })
    const from = asAdmin(source, secret)
    for (let n = 0; n < 300; n++) {
      const store = n % 3 === 0 ? 'carts' : 'default'
      await from('PUT', `/v1/stores/${store}/keys/k${n}`, Buffer.alloc(n * 13, n), {
        'content-type': `x/y${n % 7}`,
      })
    }
    const answer = await from('GET', '/v1/backup')
    expect(answer).toMatchObject({ status: 200, headers: { 'content-type': 'application/octet-stream' } })
    backup = answer.body
  })
  afterAll(async () => {
    await source[Symbol.asyncDispose]()
    await target[Symbol.asyncDispose]()
  })

  async function rowsOf(place: Neighbourhood, admin: string) {
    const as = asAdmin(place, admin)
    const stores = await Promise.all(
      ['default', 'carts'].map((store) => as('GET', `/v1/stores/${store}/keys?values=true`)),
    )
    return stores.map(({ json }) => json['keys'])
  }

  const bytes = { 'content-type': 'application/octet-stream' }

  it('is for administrators', async () => {
    const options = { token: `${secret}-monitor` }
    expect(await ask(source.next(), 'GET', '/v1/backup', options)).toMatchObject({ status: 403 })
    expect(await ask(source.next(), 'POST', '/v1/restore', { ...options, body: 'x' })).toMatchObject({
      status: 403,
    })
  })

  it('is refused where there are keys', async () => {
    const answer = await asAdmin(source, secret)('POST', '/v1/restore', backup, bytes)
    expect(answer).toMatchObject({ status: 412, json: { code: 'condition-failed' } })
  })

  it('tells a client why it is refused, however much that still wanted to send', async () => {
    async function* endless() {
      yield backup.subarray(0, -40)
      for (let sent = 0; sent < 1000; sent++) yield Buffer.alloc(1024 * 1024)
    }
    for (let turn = 0; turn < 5; turn++) {
      const init: RequestInit & { duplex: 'half' } = {
        method: 'POST',
        headers: { authorization: `Bearer ${secret}` },
        body: ReadableStream.from(endless()),
        duplex: 'half',
      }
      const answer = await fetch(`${source.next()}/v1/restore`, init)
      expect(answer.status).toBe(412)
      expect(await answer.json()).toMatchObject({ code: 'condition-failed' })
    }
  })

  it('is refused, and shows nothing, when it is no whole backup', async () => {
    const to = asAdmin(target, other)
    const flipped = Buffer.from(backup)
    flipped.writeUInt8(flipped.readUInt8(backup.length >> 1) ^ 1, backup.length >> 1)
    for (const wrong of ['', 'nonsense', backup.subarray(0, backup.length - 1), flipped]) {
      const answer = await to('POST', '/v1/restore', wrong, bytes)
      expect(answer).toMatchObject({ status: 400, json: { code: 'invalid-request', field: 'body' } })
    }
    expect(await rowsOf(target, other)).toEqual([[], []])
  })

  it('leaves nothing when its client goes in the middle, and can be done again at once', async () => {
    const url = new URL(target.next())
    const socket = net.connect(Number(url.port), url.hostname)
    socket.write(
      `POST /v1/restore HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${other}\r\nContent-Length: ${backup.length}\r\n\r\n`,
    )
    socket.write(backup.subarray(0, backup.length - 40))
    const machine = () => target.town.node('n1').inside?.machine
    await expect.poll(() => machine()?.restoreOverAt, { timeout: 10_000 }).toBeDefined()
    socket.destroy()
    await expect.poll(() => machine()?.restoreOverAt, { timeout: 10_000 }).toBeUndefined()
    // Whatever had come is collected by the leader.
    await expect.poll(() => machine()?.dropped(), { timeout: 10_000 }).toEqual([])
    expect(await rowsOf(target, other)).toEqual([[], []])
  })

  it('brings the same keys, values, types, revisions and expiries through any node', async () => {
    const answer = await asAdmin(target, other)('POST', '/v1/restore', backup, bytes)
    expect(answer).toMatchObject({
      status: 200,
      json: { revision: 300, digest: expect.stringMatching(/^[0-9a-f]{32}$/) },
    })
    for (const admin of [secret, other]) {
      for (let n = 0; n < 3; n++) expect(await rowsOf(target, admin)).toEqual(await rowsOf(source, secret))
    }
    const again = await asAdmin(target, other)('GET', '/v1/backup')
    expect(again.status).toBe(200)
  })
})
