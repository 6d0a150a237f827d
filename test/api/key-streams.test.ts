// Streams of keys over bad weather: readers that stop or leave, tokens that are revoked, nodes without a leader or about to stop.

import { once } from 'node:events'
import net from 'node:net'
import { Packr } from 'msgpackr'
import { expect, onTestFinished, test } from 'vitest'
import { AnswerRoom } from '../../src/api/answer-room.ts'
import { type Bed, makeBed, patience, revoke } from './bed.ts'
import { secrets } from './contract.ts'
import { hashOf } from './memory-node.ts'

const pages = 24

/** Far more than sockets hold, each key a page of its own. */
async function fill({ node }: Bed): Promise<void> {
  const value = Buffer.alloc(1024 * 1024)
  for (let n = 0; n < pages; n++) {
    await node.apply({
      type: 'set',
      token: hashOf(secrets.admin),
      store: 'carts',
      key: Buffer.from(`key-${n}`),
      value,
      contentType: 'image/x',
      conditions: [],
    })
  }
}

/** A reader that takes nothing beyond what its socket holds until it is told to. */
type Reader = { readonly socket: net.Socket; readonly lastLine: () => Promise<unknown> }

async function stopped(bed: Bed): Promise<Reader> {
  const socket = net.connect({ port: bed.api.address.port, host: '127.0.0.1' })
  onTestFinished(() => void socket.destroy())
  socket.pause()
  socket.write(
    'GET /v1/stores/carts/keys?values=true HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n' +
      `Authorization: Bearer ${secrets.cart}\r\nConnection: close\r\n\r\n`,
  )
  await expect.poll(() => bed.node.state.reads.pages, patience).toBeGreaterThan(0)
  const lastLine = async (): Promise<unknown> => {
    let tail = ''
    socket.on('data', (chunk) => {
      tail = (tail + chunk.toString('latin1')).slice(-2000)
    })
    socket.resume()
    await once(socket, 'close')
    const line = tail.split('\n').findLast((text) => text.startsWith('{'))
    return JSON.parse(line ?? 'null')
  }
  return { socket, lastLine }
}

test('a stream reads no further than its reader takes, and goes on when it does', async () => {
  const bed = await makeBed()
  await fill(bed)
  const client = await stopped(bed)
  let read = -1
  await expect
    .poll(
      () => {
        const before = read
        read = bed.node.state.reads.pages
        return read === before
      },
      { timeout: 5000, interval: 200 },
    )
    .toBe(true)
  expect(read).toBeLessThan(pages)
  expect(await client.lastLine()).toMatchObject({ end: true, count: pages })
  expect(bed.node.state.reads).toEqual({ open: 0, pages })
})

test('a stream whose reader leaves gives up what it pinned', async () => {
  const bed = await makeBed()
  await fill(bed)
  const client = await stopped(bed)
  expect(bed.node.state.reads.open).toBe(1)
  client.socket.destroy()
  await expect.poll(() => bed.node.state.reads.open, patience).toBe(0)
  expect(bed.node.state.reads.pages).toBeLessThan(pages)
  expect(bed.logger.lines.filter(({ level }) => level === 'error')).toEqual([])
})

test('a stream ends when its token is revoked, and says so', async () => {
  const bed = await makeBed()
  await fill(bed)
  const client = await stopped(bed)
  await revoke(bed.node, 'cart')
  expect(await client.lastLine()).toMatchObject({ error: { code: 'unauthenticated', status: 401 } })
  expect(bed.node.state.reads.open).toBe(0)
})

test('a stream ends when nobody can say whether it may go on, unless it is a stale one', async () => {
  const bed = await makeBed({ keyStreams: { open: 64, grants: 0, drain: 5000 } })
  await fill(bed)
  const client = await stopped(bed)
  bed.node.faults = { noLeader: true }
  expect(await client.lastLine()).toMatchObject({ error: { code: 'no-leader', retryable: true } })
})

test('a stream ends when the node stops, after its time', async () => {
  const bed = await makeBed({ keyStreams: { open: 64, grants: 5000, drain: 0 } })
  await fill(bed)
  const client = await stopped(bed)
  bed.api.drain()
  expect(await client.lastLine()).toMatchObject({ error: { code: 'shutting-down' } })
  const patient = await makeBed()
  await fill(patient)
  const other = await stopped(patient)
  patient.api.drain()
  expect(await other.lastLine()).toMatchObject({ end: true, count: pages })
})

test('a stream that fails in its middle says so in its last line, and the log says why', async () => {
  const bed = await makeBed({ keyStreams: { open: 64, grants: 0, drain: 5000 } })
  await fill(bed)
  const client = await stopped(bed)
  bed.node.state.bug = new Error('nobody foresaw it')
  const last = await client.lastLine()
  expect(last).toMatchObject({ error: { code: 'internal' } })
  expect(JSON.stringify(last)).not.toContain('foresaw')
  expect(bed.logger.lines).toContainEqual(
    expect.objectContaining({ level: 'error', message: 'a stream of keys failed' }),
  )
})

test('so many streams are open at a time', async () => {
  const bed = await makeBed({ keyStreams: { open: 1, grants: 5000, drain: 5000 } })
  await fill(bed)
  const client = await stopped(bed)
  const headers = { accept: 'application/x-ndjson' }
  expect(await bed.as('GET', '/v1/stores/carts/keys', { headers })).toMatchObject({
    status: 429,
    json: { code: 'overloaded', field: 'open streams of keys', limit: 1 },
  })
  client.socket.destroy()
  await expect.poll(() => bed.node.state.reads.open, patience).toBe(0)
  expect((await bed.as('GET', '/v1/stores/carts/keys', { headers })).status).toBe(200)
})

test('the values of one batch go up to the limit of an answer, and the rest is told so', {
  // 128 MiB take their time on a busy machine.
  timeout: 60_000,
}, async () => {
  const { as } = await makeBed()
  const packr = new Packr({ useRecords: false })
  await as('PUT', '/v1/stores/default/keys/large', { body: Buffer.alloc(4 * 1024 * 1024) })
  const get = { op: 'get', store: 'default', key: 'large' }
  const exists = { op: 'exists', store: 'default', key: 'large' }
  const headers = { 'content-type': 'application/msgpack' }
  const body = packr.pack({ operations: [...Array.from({ length: 33 }, () => get), exists] })
  const answer = await as('POST', '/v1/batch', { body, headers })
  const { results } = packr.unpack(answer.body) as { results: Record<string, unknown>[] }
  expect(results.filter(({ status }) => status === 200)).toHaveLength(32)
  expect(results.find(({ status }) => status === 413)).toMatchObject({
    code: 'result-too-large',
    detail: 'query result exceeds limit of 134217728 bytes',
    limit: 134_217_728,
  })
  expect(results.at(-1)).toMatchObject({ status: 200, exists: true })
})

test('all answers being made share a bound, and give back what they had', async () => {
  const room = new AnswerRoom(100)
  const { promise, resolve } = Promise.withResolvers<void>()
  const response = Object.assign(Object.create(null), {
    once: (_: string, done: () => void) => void promise.then(done),
  })
  const share = room.shareFor(response)
  share.take(60)
  expect(() => share.take(41)).toThrow(expect.objectContaining({ code: 'overloaded', limit: 100 }))
  expect(room.held).toBe(60)
  resolve()
  await promise
  await Promise.resolve()
  expect(room.held).toBe(0)
  share.take(60)
  expect(room.held, 'nobody gives back what comes after the end').toBe(0)
})
