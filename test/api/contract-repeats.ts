// The part of the REST contract on writes that a client sends again: sessions and idempotency keys.

import { describe, expect, test } from 'vitest'
import type { Answered } from './client.ts'
import { type Bench, secrets } from './contract.ts'

const keys = '/v1/stores/default/keys'

export function describeRepeats({ as, expectProblem }: Bench): void {
  async function opened(token: string = secrets.admin): Promise<string> {
    const answer = await as('POST', '/v1/sessions', { token })
    expect(answer.status).toBe(201)
    expect(Object.keys(answer.json)).toEqual(['session'])
    return String(answer.json['session'])
  }

  function session(id: string, seq: number, acked = 0): Record<string, string> {
    return { 'trivet-session': `${id}; seq=${seq}; acked=${acked}` }
  }

  /** The same answer as before, marked as such. */
  function expectReplay(again: Answered, first: Answered): void {
    expect(first.headers['idempotency-replayed']).toBeUndefined()
    expect(again.headers['idempotency-replayed']).toBe('true')
    expect([again.status, again.text]).toEqual([first.status, first.text])
    expect(again.headers['etag']).toBe(first.headers['etag'])
  }

  describe('a session', () => {
    test('answers a write sent again as it answered first, and does nothing more', async () => {
      const id = await opened()
      const headers = session(id, 1)
      const first = await as('PUT', `${keys}/session-1`, { body: 'x', headers })
      expect(first.status).toBe(201)
      await as('PUT', `${keys}/session-1`, { body: 'by another' })
      expectReplay(await as('PUT', `${keys}/session-1`, { body: 'x', headers }), first)
      expect((await as('GET', `${keys}/session-1`)).text).toBe('by another')
      const gone = await as('DELETE', `${keys}/session-1`, { headers: session(id, 2, 1) })
      expect(gone.json).toMatchObject({ deleted: true })
      expectReplay(await as('DELETE', `${keys}/session-1`, { headers: session(id, 2, 1) }), gone)
    })

    test('remembers a condition that failed', async () => {
      const headers = { ...session(await opened(), 1), 'if-match': '*' }
      const first = await as('PUT', `${keys}/session-2`, { body: 'x', headers })
      expectProblem(first, 412, 'condition-failed')
      await as('PUT', `${keys}/session-2`, { body: 'y' })
      expectReplay(await as('PUT', `${keys}/session-2`, { body: 'x', headers }), first)
    })

    test('decides a write once that comes many times at once', async () => {
      const headers = { ...session(await opened(), 1), 'if-none-match': '*' }
      const answers = await Promise.all(
        Array.from({ length: 8 }, () => as('PUT', `${keys}/session-3`, { body: 'x', headers })),
      )
      expect(answers.map(({ status }) => status)).toEqual(new Array(8).fill(201))
      expect(new Set(answers.map(({ text }) => text)).size).toBe(1)
      expect(answers.filter(({ headers: { 'idempotency-replayed': mark } }) => mark === 'true').length).toBe(
        7,
      )
    })

    test('that nobody opened, or somebody else, is 410 and changes nothing', async () => {
      const id = await opened(secrets.cart)
      for (const unknown of [id, 'a-session-of-no-cluster']) {
        const headers = session(unknown, 1)
        const answer = await as('PUT', `${keys}/session-4`, { body: 'x', headers })
        expectProblem(answer, 410, 'session-expired')
      }
      expect((await as('GET', `${keys}/session-4`)).status).toBe(404)
    })

    test('takes no seq again that was acknowledged, and none beyond its window', async () => {
      const id = await opened()
      const put = (headers: Record<string, string>) => as('PUT', `${keys}/session-5`, { body: 'x', headers })
      expect((await put(session(id, 1))).status).toBe(201)
      expect((await put(session(id, 2, 1))).status).toBe(200)
      expectProblem(await put(session(id, 1)), 400, 'invalid-request', 'trivet-session')
      const full = await put(session(id, 1026, 1))
      expectProblem(full, 429, 'overloaded', 'open writes of a session')
      expect(full).toMatchObject({ json: { limit: 1024 }, headers: { 'retry-after': '1' } })
    })

    test('is opened by who may open stores', async () => {
      const as403 = await as('POST', '/v1/sessions', { token: secrets.monitor })
      expectProblem(as403, 403, 'access-denied')
      expectProblem(await as('POST', '/v1/sessions', { token: undefined }), 401, 'unauthenticated')
      expect(await opened(secrets.tenant)).not.toBe(await opened(secrets.tenant))
    })

    test.each([
      '',
      'id',
      'id; seq=1',
      'id; seq=0; acked=0',
      'id; seq=1; acked=1',
      'id; acked=0; seq=1',
      'id; seq=-1; acked=-2',
      'id; seq=1.5; acked=0',
      'id; seq=9999999999999999; acked=0',
      'id; seq=1; acked=0, id; seq=1; acked=0',
      'an id; seq=1; acked=0',
    ])('is named as the contract says, not %j', async (header) => {
      const headers = { 'trivet-session': header }
      const answer = await as('DELETE', `${keys}/session-6`, { headers })
      expectProblem(answer, 400, 'invalid-request', 'trivet-session')
    })
  })

  describe('an idempotency key', () => {
    test('answers the same request as it answered first, and does nothing more', async () => {
      const headers = { 'idempotency-key': 'order-1!~', 'content-type': 'text/plain' }
      const first = await as('PUT', `${keys}/once-1`, { body: 'x', headers })
      expect(first.status).toBe(201)
      await as('PUT', `${keys}/once-1`, { body: 'by another' })
      expectReplay(await as('PUT', `${keys}/once-1`, { body: 'x', headers }), first)
      expect((await as('GET', `${keys}/once-1`)).text).toBe('by another')
      const deletion = { 'idempotency-key': 'order-1-gone' }
      const gone = await as('DELETE', `${keys}/once-1`, { headers: deletion })
      expectReplay(await as('DELETE', `${keys}/once-1`, { headers: deletion }), gone)
    })

    test('remembers a condition that failed', async () => {
      const headers = { 'idempotency-key': 'order-2', 'if-match': '"1000000"' }
      const first = await as('DELETE', `${keys}/once-2`, { headers })
      expectProblem(first, 412, 'condition-failed')
      expectReplay(await as('DELETE', `${keys}/once-2`, { headers }), first)
    })

    test('is refused for any other request', async () => {
      const headers = { 'idempotency-key': 'order-3', 'content-type': 'text/plain' }
      expect((await as('PUT', `${keys}/once-3`, { body: 'x', headers })).status).toBe(201)
      const others: readonly Promise<Answered>[] = [
        as('PUT', `${keys}/once-3`, { body: 'y', headers }),
        as('PUT', `${keys}/once-3`, { body: 'x', headers: { ...headers, 'content-type': 'text/html' } }),
        as('PUT', `${keys}/once-3`, { body: 'x', headers: { ...headers, 'if-match': '*' } }),
        as('PUT', `${keys}/once-3-other`, { body: 'x', headers }),
        as('PUT', '/v1/stores/carts/keys/once-3', { body: 'x', headers }),
        as('DELETE', `${keys}/once-3`, { headers }),
      ]
      for (const other of await Promise.all(others)) expectProblem(other, 422, 'idempotency-key-reused')
      expect((await as('PUT', `${keys}/once-3`, { body: 'x', headers })).status).toBe(201)
    })

    test("is its principal's own", async () => {
      const headers = { 'idempotency-key': 'order-4' }
      const path = '/v1/stores/carts/keys/once-4'
      expect((await as('PUT', path, { body: 'x', headers })).status).toBe(201)
      const other = await as('PUT', path, { body: 'y', headers, token: secrets.cart })
      expect(other.status).toBe(200)
      expect(other.headers['idempotency-replayed']).toBeUndefined()
    })

    test('is not used up by a request that was refused', async () => {
      const headers = { 'idempotency-key': 'order-5' }
      const refused = await as('PUT', '/v1/stores/small/keys/once-5', { body: 'x'.repeat(11), headers })
      expectProblem(refused, 413, 'value-too-large')
      expect((await as('PUT', '/v1/stores/small/keys/once-5', { body: 'x', headers })).status).toBe(201)
      expect((await as('DELETE', '/v1/stores/small/keys/once-5')).status).toBe(200)
    })

    test.each(['', 'two words', 'ü', 'x'.repeat(129)])('is visible ASCII, not %j', async (key) => {
      const headers = { 'idempotency-key': key }
      const answer = await as('DELETE', `${keys}/once-6`, { headers })
      expectProblem(answer, 400, 'invalid-request', 'idempotency-key')
    })

    test('and a session exclude each other', async () => {
      const headers = { 'idempotency-key': 'x', 'trivet-session': 'id; seq=1; acked=0' }
      const answer = await as('DELETE', `${keys}/once-7`, { headers })
      expectProblem(answer, 400, 'invalid-request', 'trivet-session')
    })
  })
}
