// What a Mattermost client is told when a node lags, waits in vain or fails, over a node that does so on demand.

import { expect, it } from 'vitest'
import { TrivetError } from '../../src/errors.ts'
import { type Bed, makeBed, mint, patience, revoke } from './bed.ts'
import { type Answered, type Asked, ask } from './client.ts'
import { hashOf } from './memory-node.ts'

const path = '/plugins/com.mattermost.apps/api/v1/kv/key'
const secret = 'the-mattermost-token-of-ann'
const token = {
  name: 'ann',
  hash: hashOf(secret),
  principal: { type: 'app', app: 'todo', holder: { type: 'user', id: 'ann' } },
} as const

/** A node that knows the user ann. */
async function knowing(): Promise<Bed> {
  const bed = await makeBed()
  await mint(bed.node, token)
  return bed
}

function as(bed: Bed, method: string, asked: Asked = {}): Promise<Answered> {
  return ask(bed.api.address.url, method, path, { token: secret, ...asked })
}

it('a node that lags asks for the newest state before it refuses', async () => {
  for (const [method, body, status] of [
    ['GET', undefined, 200],
    ['POST', '{', 400],
  ] as const) {
    const bed = await makeBed()
    bed.node.behind = () => mint(bed.node, token)
    expect((await as(bed, method, { body })).status).toBe(status)
    expect(bed.node.barriers).toBe(1)
  }
})

it('a node that lags asks for the newest state before it answers a read', async () => {
  const bed = await knowing()
  bed.node.behind = () => revoke(bed.node, token.name)
  expect((await as(bed, 'GET')).status).toBe(401)
})

it('a token that is gone when the write is applied is refused', async () => {
  const bed = await knowing()
  bed.node.faults = { refuse: new TrivetError('unauthenticated', 'This token is not valid any more') }
  const answer = await as(bed, 'DELETE')
  expect(answer).toMatchObject({ status: 401, text: 'user ID is required: unauthorized\n' })
  expect(answer.headers['www-authenticate']).toBeUndefined()
})

it.each([
  ['no-leader', 503],
  ['overloaded', 429],
  ['storage-full', 507],
  ['outcome-unknown', 504],
] as const)('%s is told as %i, in words, with its code', async (code, status) => {
  const bed = await knowing()
  bed.node.faults = { refuse: new TrivetError(code, 'It did not work out') }
  const answer = await as(bed, 'POST', { body: '1' })
  expect(answer).toMatchObject({
    status,
    text: 'It did not work out\n',
    headers: {
      'content-type': 'text/plain; charset=utf-8',
      'x-content-type-options': 'nosniff',
      'trivet-error': code,
    },
  })
})

it('a request without a leader is held until its deadline, and then told 503', async () => {
  const bed = await knowing()
  bed.node.faults = { noLeader: true }
  const headers = { 'trivet-timeout': '30ms' }
  for (const [method, body] of [['GET'], ['POST', '1'], ['DELETE']] as const) {
    const began = performance.now()
    const answer = await as(bed, method, { body, headers })
    expect(answer).toMatchObject({
      status: 503,
      headers: { 'trivet-error': 'no-leader', 'retry-after': '1' },
    })
    expect(performance.now() - began).toBeGreaterThanOrEqual(25)
  }
  const wrong = await as(bed, 'GET', { headers: { 'trivet-timeout': 'soon' } })
  expect(wrong.status).toBe(400)
  expect(wrong.text).toMatch(/: invalid input\n$/)
})

it('what nobody foresaw is a 500 without its reason, which is in the log', async () => {
  const bed = await knowing()
  bed.node.faults = { bug: new Error('a secret of the node') }
  const answer = await as(bed, 'DELETE')
  expect(answer).toMatchObject({ status: 500, headers: { 'content-type': 'text/plain; charset=utf-8' } })
  expect(answer.text).not.toContain('secret')
  const line = bed.logger.lines.find(({ level }) => level === 'error')
  expect(line?.fields).toMatchObject({ request: answer.headers['trivet-request'], method: 'DELETE' })
})

it('a client that goes while it waits is not answered, and leaves nothing behind', async () => {
  const bed = await knowing()
  const { promise, resolve } = Promise.withResolvers<void>()
  bed.node.faults = { barrier: promise }
  const raw = await bed.raw()
  raw.say(`GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: token ${secret}\r\n\r\n`)
  await expect.poll(() => bed.node.barriers, patience).toBe(1)
  raw.close()
  await expect.poll(() => bed.api.connections, patience).toBe(0)
  resolve()
  await expect
    .poll(() => bed.logger.lines.some(({ message }) => message === 'the client has gone'), patience)
    .toBe(true)
})

it('a token in the query is not logged', async () => {
  const bed = await knowing()
  const url = `${path}?access_token=${secret}`
  expect(await ask(bed.api.address.url, 'GET', url)).toMatchObject({ status: 200, text: '{}' })
  await expect.poll(() => bed.logger.lines.length, patience).toBeGreaterThan(0)
  expect(JSON.stringify(bed.logger.lines)).not.toContain(secret)
})

it('every answer is counted, and every error by its code', async () => {
  const bed = await knowing()
  await as(bed, 'GET')
  await as(bed, 'GET', { token: undefined })
  const route = '/plugins/com.mattermost.apps/api/v1/kv/{key}'
  const lines = [
    ...[200, 401].map(
      (status) =>
        `trivet_http_request_duration_seconds_count{method="GET",route="${route}",status="${status}"} 1`,
    ),
    'trivet_http_errors_total{code="unauthenticated"} 1',
  ]
  const counted = async (): Promise<readonly string[]> => (await bed.as('GET', '/metrics')).text.split('\n')
  await expect.poll(counted, patience).toEqual(expect.arrayContaining(lines))
  const kinds = (await counted()).filter((line) => /_duration_seconds_count\{.*mattermost/.test(line))
  expect(kinds).toHaveLength(2)
})

it('a draining node says so on every answer, and closes', async () => {
  const bed = await knowing()
  bed.api.drain()
  const answer = await as(bed, 'GET')
  expect(answer).toMatchObject({ status: 200, headers: { 'trivet-draining': 'true', connection: 'close' } })
})

it('the context of a trace is passed on', async () => {
  const bed = await knowing()
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
  expect((await as(bed, 'GET', { headers: { traceparent } })).headers).toMatchObject({ traceparent })
})

it('a refused body of any size does not hurt: its sender reads the refusal', async () => {
  const bed = await knowing()
  const answer = await as(bed, 'POST', { body: Buffer.alloc(4 * 1024 * 1024, 0x31) })
  expect(answer).toMatchObject({ status: 500, text: 'size limit of 8Kb exceeded\n' })
  const raw = await bed.raw()
  raw.say(`POST ${path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9000\r\n\r\n`)
  await raw.until(({ answers }) => answers.length === 1)
  expect(raw.answers[0]?.status).toBe(500)
})
