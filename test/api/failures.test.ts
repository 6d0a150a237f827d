// What a client is told when the node cannot do what it asks: the truth, with a code.

import { describe, expect, it, test } from 'vitest'
import { type ErrorCode, errorCodes, TrivetError } from '../../src/errors.ts'
import { makeBed, patience } from './bed.ts'
import { secrets } from './contract.ts'

const path = '/v1/stores/default/keys/x'

test('every code answers with its status, as a problem', async () => {
  const { node, as } = await makeBed()
  for (const code of errorCodes) {
    node.faults = { refuse: new TrivetError(code, 'as the test wants it', { limit: 7, field: 'f' }) }
    const { status, title, retryable } = node.faults.refuse ?? {}
    const answer = await as('PUT', path, { body: 'x' })
    expect(answer.status, code).toBe(status)
    expect(answer.headers['trivet-error']).toBe(code)
    expect(answer.json).toEqual({
      type: `urn:trivet:${code}`,
      title,
      status,
      detail: 'as the test wants it',
      code,
      retryable,
      field: 'f',
      limit: 7,
    })
    const asksToWait: ErrorCode[] = ['overloaded', 'no-leader', 'not-ready', 'shutting-down', 'storage-full']
    expect(answer.headers['retry-after'] !== undefined, code).toBe(asksToWait.includes(code))
  }
})

test('a write without a leader waits for its deadline, and says that it entered no log', async () => {
  const { node, as } = await makeBed()
  node.faults = { noLeader: true }
  const began = performance.now()
  const answer = await as('PUT', path, { body: 'x', headers: { 'trivet-timeout': '60ms' } })
  expect(answer).toMatchObject({ status: 503, json: { code: 'no-leader', retryable: true } })
  expect(answer.headers['retry-after']).toBe('1')
  expect(performance.now() - began).toBeGreaterThanOrEqual(55)
  expect(performance.now() - began).toBeLessThan(3000)
})

test('a write that may have taken effect is no failure', async () => {
  const { node, as } = await makeBed()
  node.faults = { outcomeUnknown: true }
  const answer = await as('PUT', path, { body: 'x' })
  expect(answer).toMatchObject({ status: 504, json: { code: 'outcome-unknown', retryable: false } })
  node.faults = {}
  expect(await as('GET', path)).toMatchObject({ text: 'x' })
})

test('a node that does not take part yet does not call a token invalid that it cannot know', async () => {
  const { node, as } = await makeBed()
  node.state.show(undefined)
  node.faults = { refuse: new TrivetError('not-ready', 'n1 waits for n3') }
  expect(await as('GET', '/v1/cluster')).toMatchObject({ status: 503, json: { code: 'not-ready' } })
})

test('a bug is 500 without its stack, which the log has under the request id', async () => {
  const { node, as, logger } = await makeBed()
  node.faults = { bug: new Error('secret of the house') }
  const answer = await as('PUT', path, { body: 'x' })
  expect(answer).toMatchObject({ status: 500, json: { code: 'internal' } })
  expect(answer.text).not.toMatch(/secret of the house|at /)
  const [line] = logger.lines.filter(({ level }) => level === 'error')
  expect(line?.fields).toMatchObject({
    request: answer.headers['trivet-request'],
    err: { message: 'secret of the house' },
  })
})

test('a value too large for the state machine is refused with its limit', async () => {
  const { node, as } = await makeBed()
  node.faults = { outcome: { type: 'refused', code: 'value-too-large', limit: 3 } }
  expect(await as('PUT', path, { body: 'four' })).toMatchObject({ status: 413, json: { limit: 3 } })
})

test('a client that goes away ends the wait of its read, and nothing is logged as a failure', async () => {
  const { node, raw, logger } = await makeBed()
  const { promise, resolve } = Promise.withResolvers<AbortSignal | undefined>()
  node.barrier = (options) => {
    resolve(options.signal)
    return new Promise((_, reject) =>
      options.signal?.addEventListener('abort', () => reject(options.signal?.reason)),
    )
  }
  const client = await raw()
  client.say(`GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${secrets.admin}\r\n\r\n`)
  const signal = await promise
  expect(signal?.aborted).toBe(false)
  client.close()
  await expect.poll(() => signal?.aborted, patience).toBe(true)
  expect(logger.lines.filter(({ level }) => level === 'error')).toEqual([])
})

test('a write already proposed goes on when its client goes away', async () => {
  const { node, raw, as } = await makeBed()
  const { promise, resolve } = Promise.withResolvers<void>()
  const { execute } = node
  let proposed = false
  node.execute = async (command, options) => {
    proposed = true
    await promise
    return execute.call(node, command, options)
  }
  const client = await raw()
  client.say(
    `PUT ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${secrets.admin}\r\nContent-Length: 1\r\n\r\nx`,
  )
  await expect.poll(() => proposed, patience).toBe(true)
  client.close()
  resolve()
  await expect.poll(async () => (await as('GET', path)).status, patience).toBe(200)
})

test('the cluster and the hand-over work without a body in between', async () => {
  const { node, as } = await makeBed()
  const headers = { 'content-type': 'application/json' }
  expect(await as('POST', '/v1/cluster/leader', { body: '{"to":"n2"}', headers })).toMatchObject({
    status: 200,
    json: { leader: 'n2' },
  })
  expect(node.leader).toBe('n2')
  expect((await as('POST', '/v1/cluster/leader', { body: '{"to":"n1"}' })).status).toBe(200)
  node.faults = { noLeader: true }
  const { json } = await as('GET', '/v1/cluster')
  expect(json).not.toHaveProperty('leader')
  expect((json['members'] as object[])[1]).not.toHaveProperty('lag')
})

test('a node that is not ready says why, and one that is draining too', async () => {
  const { node, as, api } = await makeBed()
  node.faults = { reasons: ['no leader is known', 'the disk is slow'] }
  const answer = await as('GET', '/readyz', { token: undefined })
  expect(answer).toMatchObject({
    status: 503,
    json: { code: 'not-ready', reasons: ['no leader is known', 'the disk is slow'] },
  })
  expect((await as('HEAD', '/readyz')).headers['trivet-error']).toBe('not-ready')
  expect((await as('GET', '/livez')).status).toBe(503)
  node.faults = {}
  api.drain()
  expect(await as('GET', '/readyz')).toMatchObject({ status: 503, json: { reasons: ['draining'] } })
  expect((await as('GET', '/livez')).status).toBe(200)
})

describe('a change of the members', () => {
  it('that puts the quorum at risk is refused, unless it is forced', async () => {
    const { as, node } = await makeBed()
    node.faults.ailing = true
    const refused = await as('DELETE', '/v1/cluster/members/n2')
    expect(refused).toMatchObject({ status: 409, headers: { 'trivet-error': 'quorum-at-risk' } })
    expect(await as('DELETE', '/v1/cluster/members/n2?force=true')).toMatchObject({ status: 200 })
  })

  it('is refused even so for the last voter', async () => {
    const { as } = await makeBed()
    await as('DELETE', '/v1/cluster/members/n2')
    const refused = await as('DELETE', '/v1/cluster/members/n1?force=true')
    expect(refused).toMatchObject({ status: 409, headers: { 'trivet-error': 'quorum-at-risk' } })
  })

  it('without a leader ends with the deadline', async () => {
    const { as, node } = await makeBed()
    node.faults.noLeader = true
    const refused = await as('DELETE', '/v1/cluster/members/n2', { headers: { 'trivet-timeout': '20ms' } })
    expect(refused).toMatchObject({ status: 503, headers: { 'trivet-error': 'no-leader' } })
  })
})
