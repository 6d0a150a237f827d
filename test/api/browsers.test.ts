// Pages of other origins: only those named may read, preflights need no token, and every answer says so, also errors.

import { expect, test } from 'vitest'
import { makeBed } from './bed.ts'

const origin = 'https://app.example.com'
const path = '/v1/stores/default/keys/k'

test('without origins nothing is said of them, and a preflight is a method that is not served', async () => {
  const { as } = await makeBed()
  const read = await as('GET', path, { headers: { origin } })
  expect(read.headers['access-control-allow-origin']).toBeUndefined()
  expect(read.headers.vary).toBeUndefined()
  const preflight = await as('OPTIONS', path, {
    token: undefined,
    headers: { origin, 'access-control-request-method': 'PUT' },
  })
  expect(preflight).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD, PUT, DELETE' } })
})

test('a preflight of a named origin needs no token and allows what the API takes', async () => {
  const { as, node } = await makeBed({ origins: ['https://other.example.com', origin] })
  const headers = {
    origin,
    'access-control-request-method': 'PUT',
    'access-control-request-headers': 'authorization,if-match,trivet-timeout',
  }
  const preflight = await as('OPTIONS', path, { token: undefined, headers })
  expect(preflight.status).toBe(204)
  expect(preflight.headers['access-control-allow-origin']).toBe(origin)
  expect(preflight.headers['access-control-allow-methods']).toBe('GET, HEAD, PUT, POST, DELETE')
  expect(preflight.headers['access-control-allow-credentials']).toBeUndefined()
  expect(preflight.headers.vary).toBe('Origin')
  const allowed = preflight.headers['access-control-allow-headers'] ?? ''
  for (const name of ['Authorization', 'If-Match', 'If-None-Match', 'Idempotency-Key', 'Trivet-Session']) {
    expect(allowed.split(', ')).toContain(name)
  }
  expect(node.executed).toEqual([])
})

test('only exact origins may read', async () => {
  const { as } = await makeBed({ origins: [origin] })
  for (const other of ['https://app.example.com.evil', 'http://app.example.com', 'null', `${origin}:8443`]) {
    const read = await as('GET', path, { headers: { origin: other } })
    expect(read.headers['access-control-allow-origin'], other).toBeUndefined()
    expect(read.headers.vary).toBe('Origin')
    const headers = { origin: other, 'access-control-request-method': 'PUT' }
    const preflight = await as('OPTIONS', path, { token: undefined, headers })
    expect(preflight.headers['access-control-allow-origin'], other).toBeUndefined()
    expect(preflight.status).toBe(405)
  }
})

test('every answer names the origin and what may be read of it', async () => {
  const { as, raw, node } = await makeBed({ origins: [origin] })
  const headers = { origin }
  const answers = [
    await as('PUT', path, { headers, body: 'x' }),
    await as('GET', path, { headers }),
    await as('GET', path, { headers, token: undefined }),
    await as('GET', '/nowhere', { headers }),
    await as('GET', '/%zz', { headers }),
    await as('PATCH', path, { headers }),
    await as('PUT', path, { headers, body: new Uint8Array(5_000_000) }),
    await as('GET', '/readyz', { headers, token: undefined }),
  ]
  node.faults = { bug: new Error('as a bug would') }
  answers.push(await as('PUT', path, { headers, body: 'x' }))
  expect(answers.map(({ status }) => status)).toEqual([201, 200, 401, 404, 400, 405, 413, 200, 500])
  for (const answer of answers) {
    expect(answer.headers['access-control-allow-origin']).toBe(origin)
    expect(answer.headers['access-control-allow-credentials']).toBeUndefined()
    const exposed = (answer.headers['access-control-expose-headers'] ?? '').split(', ')
    for (const name of ['ETag', 'Retry-After', 'Server-Timing', 'Trivet-Revision', 'Trivet-Error']) {
      expect(exposed).toContain(name)
    }
  }
  const client = await raw()
  client.say(`GET / HTTP/1.1\r\nOrigin: ${origin}\r\nConnection: close\r\n\r\n`)
  await client.until(({ answers: [answer] }) => answer !== undefined)
  expect(client.answers[0]).toMatchObject({
    status: 400,
    headers: { 'access-control-allow-origin': origin, vary: 'Origin' },
  })
})
