// Bytes on a socket that are malformed, cut, oversized, slow or out of turn: each gets the contract's answer, the node no harm.

import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { makeBed, patience } from './bed.ts'
import type { RawClient } from './client.ts'
import { secrets } from './contract.ts'

const path = '/v1/stores/default/keys/x'
const token = `Authorization: Bearer ${secrets.admin}\r\n`

function head(method: string, target: string, lines = ''): string {
  return `${method} ${target} HTTP/1.1\r\nHost: x\r\n${token}${lines}\r\n`
}

function expectRefusal(client: RawClient, status: number, code: string): void {
  const answer = client.answers.at(-1)
  expect(answer, client.heard).toMatchObject({
    status,
    headers: { 'trivet-error': code, 'trivet-node': 'n1', 'content-type': 'application/problem+json' },
  })
  expect(answer?.headers['trivet-request']).toBeDefined()
  expect(answer?.headers['trivet-revision']).toBeDefined()
  expect(answer?.json).toMatchObject({ code, status })
}

test.each([
  ['no HTTP at all', 'hello\r\n\r\n', 400, 'invalid-request'],
  ['TLS to a plain port', Buffer.from('160301020001000001fc0303', 'hex'), 400, 'invalid-request'],
  ['an unknown method', head('FETCH', path), 400, 'invalid-request'],
  ['a header with a control character', head('GET', path, 'X: a\x01b\r\n'), 400, 'invalid-request'],
  ['two lengths', head('PUT', path, 'Content-Length: 1\r\nContent-Length: 2\r\n'), 400, 'invalid-request'],
  [
    'a length and chunks',
    head('PUT', path, 'Content-Length: 1\r\nTransfer-Encoding: chunked\r\n'),
    400,
    'invalid-request',
  ],
  ['a length that is none', head('PUT', path, 'Content-Length: 0x1\r\n'), 400, 'invalid-request'],
  [
    'a chunk that is none',
    `${head('PUT', path, 'Transfer-Encoding: chunked\r\n')}zz\r\n`,
    400,
    'invalid-request',
  ],
  ['a tunnel', 'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n', 400, 'invalid-request'],
  ['no Host', `GET ${path} HTTP/1.1\r\n${token}\r\n`, 400, 'invalid-request'],
  [
    'another expectation',
    head('PUT', path, 'Expect: miracles\r\nContent-Length: 1\r\n'),
    400,
    'invalid-request',
  ],
  [
    'a body gzipped on its way',
    head('PUT', path, 'Transfer-Encoding: gzip, chunked\r\n'),
    415,
    'unsupported-media-type',
  ],
  ['headers without end', head('GET', path, `X: ${'x'.repeat(70_000)}\r\n`), 431, 'headers-too-large'],
  [
    'a target without end',
    head('GET', `/v1/stores/default/keys/${'x'.repeat(70_000)}`),
    431,
    'headers-too-large',
  ],
])('%s is refused and the connection closed', async (_case, bytes, status, code) => {
  const { raw, as } = await makeBed()
  const client = await raw()
  client.say(bytes)
  await client.until(({ answers }) => answers.length === 1)
  expectRefusal(client, status, code)
  expect(client.answers[0]?.headers.connection).toBe('close')
  client.socket.end()
  await client.until(({ closed }) => closed)
  expect((await as('GET', '/livez')).status).toBe(200)
})

test.each([
  ['head', `PUT ${path} HTTP/1.1\r\nHost: x\r\n`],
  ['body', `${head('PUT', path, 'Content-Length: 10\r\n')}half`],
  ['chunk', `${head('PUT', path, 'Transfer-Encoding: chunked\r\n')}5\r\nab`],
])('a request cut in its %s has changed nothing', async (_case, bytes) => {
  const { raw, node, logger } = await makeBed()
  const client = await raw()
  client.say(bytes)
  client.socket.end()
  await client.until(({ closed }) => closed)
  expectRefusal(client, 400, 'invalid-request')
  expect(client.answers).toHaveLength(1)
  const rude = await raw()
  rude.say(bytes)
  rude.socket.resetAndDestroy()
  await rude.until(({ closed }) => closed)
  expect(node.executed).toEqual([])
  expect(logger.lines.filter(({ level }) => level === 'error')).toEqual([])
})

test.each([
  ['nothing', ''],
  ['half a head', `PUT ${path} HTTP/1.1\r\nHost`],
  ['half a body', `${head('PUT', path, 'Content-Length: 10\r\n')}half`],
])('a client that sends %s and no more is told 408', async (_case, bytes) => {
  const { raw, node } = await makeBed({ times: { headers: 150, request: 150 } })
  const client = await raw()
  if (bytes !== '') client.say(bytes)
  await client.until(({ answers }) => answers.length === 1)
  expectRefusal(client, 408, 'request-timeout')
  await client.until(({ socket }) => socket.readableEnded)
  expect(node.executed).toEqual([])
})

test('a restore may take longer than other bodies, as long as it keeps coming', async () => {
  const source = await makeBed()
  for (let n = 0; n < 20; n++) await source.as('PUT', `/v1/stores/default/keys/k${n}`, { body: 'x' })
  const { body } = await source.as('GET', '/v1/backup')
  const { raw, as } = await makeBed({ times: { request: 200, stall: 2000 } })
  const client = await raw()
  client.say(head('POST', '/v1/restore', `Content-Length: ${body.length}\r\n`))
  for (let at = 0; at < 30; at++) {
    const step = Math.ceil(body.length / 30)
    client.say(body.subarray(at * step, (at + 1) * step))
    await delay(20)
  }
  await client.until(({ answers }) => answers.length === 1)
  expect(client.answers[0]).toMatchObject({ status: 200, json: { revision: 20 } })
  expect((await as('GET', '/v1/stores/default')).json).toMatchObject({ keys: 20 })
})

test('a restore that falls silent is cut off, and nothing shows of it', async () => {
  const { raw, as } = await makeBed({ times: { request: 100, stall: 300 } })
  const { body } = await as('GET', '/v1/backup')
  const client = await raw()
  client.say(head('POST', '/v1/restore', `Content-Length: ${body.length}\r\n`))
  client.say(body.subarray(0, -1))
  await client.until(({ socket }) => socket.readableEnded)
  expect(client.heard).toBe('')
  expect((await as('GET', '/v1/stores/default')).json).toMatchObject({ keys: 0 })
})

test('no reader waits for a body that a request does not have', async () => {
  const { raw } = await makeBed()
  const client = await raw()
  client.say(head('PUT', '/v1/stores/default/keys/x', ''))
  await client.until(({ answers }) => answers.length === 1)
  expect(client.answers[0]).toMatchObject({ status: 201, json: { created: true } })
  for (const [at, target] of ['/v1/restore', '/v1/batch', '/v1/transactions'].entries()) {
    client.say(head('POST', target, 'Content-Type: application/json\r\n'))
    await client.until(({ answers }) => answers.length === at + 2)
    expect(client.answers[at + 1]).toMatchObject({ status: 400, json: { code: 'invalid-request' } })
  }
})

test('a body over the limit is refused before it is sent', async () => {
  const { raw } = await makeBed()
  const client = await raw()
  client.say(head('PUT', '/v1/stores/small/keys/x', 'Content-Length: 11\r\nExpect: 100-continue\r\n'))
  await client.until(({ answers }) => answers.length === 1)
  expectRefusal(client, 413, 'value-too-large')
  expect(client.heard).not.toContain('100 Continue')
})

test('a body that is welcome is asked for', async () => {
  const { raw, as } = await makeBed()
  const client = await raw()
  client.say(head('PUT', path, 'Content-Length: 5\r\nExpect: 100-Continue\r\n'))
  await client.until(({ heard }) => heard.startsWith('HTTP/1.1 100 Continue\r\n\r\n'))
  client.say('hello')
  await client.until(({ heard }) => heard.includes('"created":true'))
  expect(await as('GET', path)).toMatchObject({ text: 'hello' })
})

test('a chunked body is read, and refused while it is read once it is too long', async () => {
  const { raw, node } = await makeBed()
  const client = await raw()
  client.say(`${head('PUT', '/v1/stores/small/keys/x', 'Transfer-Encoding: chunked\r\n')}5\r\nhello\r\n`)
  client.say('5\r\nworld\r\n0\r\n\r\n')
  await client.until(({ answers }) => answers.length === 1)
  expect(client.answers[0]?.status).toBe(201)
  client.say(
    `${head('PUT', '/v1/stores/small/keys/y', 'Transfer-Encoding: chunked\r\n')}b\r\nhello world\r\n`,
  )
  await client.until(({ answers }) => answers.length === 2)
  expectRefusal(client, 413, 'value-too-large')
  // What the client still sends is taken off, so that no reset destroys the answer; then the connection ends.
  client.say('5\r\nagain\r\n0\r\n\r\n')
  await client.until(({ socket }) => socket.readableEnded)
  expect(node.executed).toHaveLength(1)
})

test('a large upload that is refused reads its refusal whole', async () => {
  const { as, node } = await makeBed()
  const body = new Uint8Array(6 * 1024 * 1024)
  for (const [target, asked, status] of [
    [path, {}, 413],
    [path, { token: secrets.nobody }, 401],
    ['/v1/stores/none/keys/x', {}, 404],
    [path, { headers: { 'if-match': 'x' } }, 400],
  ] as const) {
    expect((await as('PUT', target, { ...asked, body })).status).toBe(status)
  }
  expect(node.executed).toEqual([])
})

test('a refused upload without end is cut off', async () => {
  const { raw } = await makeBed()
  const client = await raw()
  client.say(head('PUT', path, 'Content-Length: 1000000000\r\n'))
  const megabyte = new Uint8Array(1024 * 1024)
  for (let sent = 0; sent < 64 && client.socket.writable; sent += 1) client.say(megabyte)
  await client.until(({ closed }) => closed)
  expectRefusal(client, 413, 'value-too-large')
})

test('a small refused body leaves the connection usable', async () => {
  const { raw } = await makeBed()
  const client = await raw()
  client.say(
    `${head('PUT', '/v1/stores/small/keys/x', 'Content-Length: 20\r\n')}${'x'.repeat(20)}${head('GET', '/livez')}`,
  )
  await client.until(({ answers }) => answers.length === 2)
  expect(client.answers.map(({ status }) => status)).toEqual([413, 200])
})

test('all bodies being read together have a bound, which is given back', async () => {
  const { raw, as } = await makeBed({ bodiesBytes: 1000 })
  const slow = await raw()
  slow.say(`${head('PUT', path, 'Content-Length: 900\r\n')}${'x'.repeat(800)}`)
  await expect
    .poll(async () => (await as('PUT', `${path}2`, { body: 'y'.repeat(300) })).status, patience)
    .toBe(429)
  const refused = await as('PUT', `${path}2`, { body: 'y'.repeat(300) })
  expect(refused).toMatchObject({
    json: { code: 'overloaded', limit: 1000 },
    headers: { 'retry-after': '1' },
  })
  expect((await as('PUT', `${path}3`, { body: 'y'.repeat(100) })).status).toBe(201)
  slow.say('x'.repeat(100))
  await slow.until(({ answers }) => answers.length === 1)
  expect(slow.answers[0]?.status).toBe(201)
  expect((await as('PUT', `${path}2`, { body: 'y'.repeat(300) })).status).toBe(201)
  const cut = await raw()
  cut.say(`${head('PUT', path, 'Content-Length: 900\r\n')}${'x'.repeat(800)}`)
  await expect
    .poll(async () => (await as('PUT', `${path}2`, { body: 'y'.repeat(300) })).status, patience)
    .toBe(429)
  cut.close()
  await expect
    .poll(async () => (await as('PUT', `${path}2`, { body: 'y'.repeat(300) })).status, patience)
    .toBe(200)
})

test('pipelined requests are answered in their order', async () => {
  const { raw } = await makeBed()
  const client = await raw()
  client.say(head('PUT', path, 'Content-Length: 1\r\n'))
  client.say(`x${head('GET', '/nope')}${head('DELETE', '/livez')}${head('GET', '/v1/me')}`)
  await client.until(({ answers }) => answers.length === 4)
  expect(client.answers.map(({ status }) => status)).toEqual([201, 404, 405, 200])
})

test('garbage behind a write that is being decided does not take the place of its answer', async () => {
  const { raw, node } = await makeBed()
  const { promise, resolve } = Promise.withResolvers<void>()
  const { execute } = node
  node.execute = async (command, options) => {
    await promise
    return execute.call(node, command, options)
  }
  const client = await raw()
  client.say(`${head('PUT', path, 'Content-Length: 1\r\n')}x`)
  client.say('\x00garbage\r\n\r\n')
  resolve()
  await client.until(({ answers }) => answers.length === 2)
  expect(client.answers.map(({ status }) => status)).toEqual([201, 400])
})

test('a condition behind thousands of headers is honoured', async () => {
  const { raw, as } = await makeBed()
  await as('PUT', path, { body: 'x' })
  const client = await raw()
  client.say(`${head('PUT', path, `${'a:b\r\n'.repeat(5000)}If-None-Match: *\r\nContent-Length: 1\r\n`)}y`)
  await client.until(({ answers }) => answers.length === 1)
  expectRefusal(client, 412, 'condition-failed')
})

test('a client that does not take its answers is cut off', async () => {
  const { raw, as, api } = await makeBed({ times: { stall: 200 } })
  await as('PUT', path, { body: new Uint8Array(4 * 1024 * 1024) })
  const before = api.connections
  const client = await raw()
  client.socket.pause()
  client.say(head('GET', path).repeat(8))
  await expect.poll(() => api.connections, patience).toBe(before + 1)
  await expect.poll(() => api.connections, patience).toBe(before)
})

test.each(['*', 'http://x', 'http://x?y', '/%', '//', '/v1/me#x', 'nonsense'])(
  'the target %s is answered like any other',
  async (target) => {
    const { raw } = await makeBed()
    const client = await raw()
    client.say(head('OPTIONS', target))
    await client.until(({ answers }) => answers.length === 1)
    expect([400, 404, 405]).toContain(client.answers[0]?.status)
    expect(client.answers[0]?.headers['trivet-request']).toBeDefined()
  },
)

test('pipelined requests are worked on in their order, one after the other', async () => {
  const { raw, node } = await makeBed()
  const client = await raw()
  const line = (method: string, path: string, more = '') =>
    `${method} ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${secrets.admin}\r\n${more}\r\n`
  const writes = Array.from({ length: 100 }, (_, at) => {
    const body = `value ${at}`
    return line('PUT', '/v1/stores/default/keys/k', `Content-Length: ${body.length}\r\n`) + body
  })
  client.say(writes.join('') + line('GET', '/v1/stores/default/keys/k'))
  await client.until(({ answers }) => answers.length === 101)
  expect(client.answers.at(-1)).toMatchObject({ status: 200, text: 'value 99' })
  expect(client.answers.slice(0, 100).map(({ json }) => json['revision'])).toEqual(
    Array.from({ length: 100 }, (_, at) => at + 1),
  )
  expect(node.executed).toHaveLength(100)
})

test('a client that asks on and never reads has one answer made for it', async () => {
  const { raw, as, node } = await makeBed()
  await as('PUT', '/v1/stores/default/keys/large', { body: new Uint8Array(4_000_000) })
  const client = await raw()
  client.socket.pause()
  const asked = `GET /v1/stores/default/keys/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${secrets.admin}\r\n\r\n`
  const before = node.barriers
  for (let times = 0; times < 20; times++) client.say(asked.repeat(50))
  await expect.poll(() => node.barriers, patience).toBe(before + 1)
  expect((await as('GET', '/v1/stores/default/keys/large')).body.length).toBe(4_000_000)
  expect(node.barriers).toBe(before + 2)
  const held = 'trivet_queue_size{queue="answers",unit="bytes",peer=""}'
  expect((await as('GET', '/metrics')).text).toContain(`${held} 4000000`)
  client.close()
  await expect.poll(async () => (await as('GET', '/metrics')).text, patience).toContain(`${held} 0\n`)
})
