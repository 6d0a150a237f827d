// Reads and sets of a key take a way of their own to their answers; with every request logged they come through the router.

import { expect, test } from 'vitest'
import { makeBed } from './bed.ts'
import { type Answered, type Asked, listeningLogger } from './client.ts'

const path = '/v1/stores/default/keys/a%20key'
const traceparent = `00-${'ab'.repeat(16)}-${'cd'.repeat(8)}-01`

const requests: readonly (readonly [method: string, path: string, asked?: Asked])[] = [
  ['GET', path],
  ['HEAD', path],
  ['PUT', path, { body: 'one', headers: { 'content-type': 'text/plain', traceparent } }],
  ['PUT', path, { body: 'one', headers: { 'content-type': 'text/plain' } }],
  ['GET', path, { headers: { traceparent } }],
  ['HEAD', path],
  ['GET', path, { headers: { 'if-none-match': '"1"' } }],
  ['GET', `${path}?consistency=stale`],
  ['GET', `${path}?minRevision=1`],
  ['GET', `${path}?minRevision=x`],
  ['GET', `${path}?unknown=1`],
  ['GET', path, { token: undefined }],
  ['GET', '/v1/stores/none/keys/k'],
  ['GET', '/v1/stores/%FF/keys/k'],
  ['GET', '/v1/stores/def%61ult/keys/a%20key'],
  ['PUT', `${path}?ttl=1h`, { body: 'two', headers: { 'idempotency-key': 'once' } }],
  ['PUT', `${path}?ttl=1h`, { body: 'two', headers: { 'idempotency-key': 'once' } }],
  ['PUT', path, { body: 'three', headers: { 'if-match': '"1"' } }],
  ['PUT', path, { body: 'x'.repeat(100_000), headers: { 'if-none-match': '*' } }],
  ['PUT', `${path}?ttl=never`, { body: 'x' }],
  ['PUT', path, { body: new Uint8Array(5000).fill(0xff) }],
  ['GET', path],
]

/** What two answers to the same request must share. */
function shared({ status, headers, body }: Answered): object {
  const { date, 'trivet-request': id, 'server-timing': timing, 'trivet-expires': expires, ...same } = headers
  const has = [date, id, timing, expires].map((header) => header !== undefined)
  return { status, same, has, body: body.toString('latin1') }
}

test('answers alike whether each request is logged or not', async () => {
  const origins = ['https://app.example.com']
  const quiet = await makeBed({ origins })
  const logger = listeningLogger('debug')
  const logged = await makeBed({ origins, logger })
  for (const request of requests) {
    const one = shared(await quiet.as(...request))
    expect(shared(await logged.as(...request)), request.join(' ')).toEqual(one)
  }
  expect(logger.lines.filter(({ message }) => message === 'answered')).toHaveLength(requests.length)
  expect(quiet.logger.lines).toEqual([])
})

test('counts each answer once, whichever way it took', async () => {
  for (const level of ['info', 'debug'] as const) {
    const { as } = await makeBed({ logger: listeningLogger(level) })
    await as('PUT', path, { body: 'one' })
    await as('GET', path)
    await as('GET', path)
    const { text } = await as('GET', '/metrics')
    const count = (method: string) =>
      new RegExp(
        `trivet_http_request_duration_seconds_count\\{method="${method}",route="/v1/stores/\\{store\\}/keys/\\{key\\}",status="20[01]"\\} (\\d+)`,
      ).exec(text)?.[1]
    expect([level, count('PUT'), count('GET')]).toEqual([level, '1', '2'])
  }
})

test('names the leader in each answer while one is known, whichever way it took', async () => {
  for (const level of ['info', 'debug'] as const) {
    const { as, node } = await makeBed({ logger: listeningLogger(level) })
    node.leader = 'n2'
    expect((await as('PUT', path, { body: 'one' })).headers['trivet-leader']).toBe('n2')
    expect((await as('POST', '/nowhere')).headers['trivet-leader']).toBe('n2')
    node.leader = undefined
    expect((await as('GET', path)).headers['trivet-leader']).toBeUndefined()
  }
})
