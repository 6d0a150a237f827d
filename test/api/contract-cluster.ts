// The part of the REST contract on the cluster and its members.

import { describe, expect, test } from 'vitest'
import { type Bench, secrets } from './contract.ts'

export function describeCluster({ as, expectProblem }: Bench): void {
  describe('the cluster', () => {
    test('is described to any token', async () => {
      const answer = await as('GET', '/v1/cluster', { token: secrets.monitor })
      expect(answer.json).toMatchObject({ term: expect.any(Number), leader: expect.any(String) })
      const members = answer.json['members'] as { self: boolean }[]
      expect(members.filter(({ self }) => self)).toHaveLength(1)
    })

    test.each([
      [undefined, undefined, 400],
      ['', 'application/json', 400],
      ['{"to":', 'application/json', 400],
      ['[]', 'application/json', 400],
      ['{}', 'application/json', 400],
      ['{"to":5}', 'application/json', 400],
      ['{"to":""}', 'application/json', 400],
      ['{"to":"n1","now":true}', 'application/json', 400],
      ['{"to":"n1","__proto__":{}}', 'application/json', 400],
      ['{"to":"nobody"}', 'application/json', 400],
      ['to=n1', 'application/x-www-form-urlencoded', 415],
    ])('is not handed over by %j of type %s: %i', async (body, type, status) => {
      const headers: Record<string, string> = type === undefined ? {} : { 'content-type': type }
      const answer = await as('POST', '/v1/cluster/leader', { body, headers })
      expect(answer.status, answer.text).toBe(status)
    })
  })

  describe('the members', () => {
    const newcomer = {
      id: 'n9',
      http: 'http://127.0.0.1:7999',
      p2p: '/ip4/127.0.0.1/tcp/7998',
      peer: '12D3KooWJ6ghkpSQ5Gjy38sLbtBqSSFSM9yhYJKN6G9qEFRXXP4U',
    }
    const renewed = { ...newcomer, peer: '12D3KooWFL5PZHmXux1X3SSRrnLd8q6zQ2qWxEkYa1AY46Pgc4m5' }
    const headers = { 'content-type': 'application/json' }
    const add = (body: object, query = '') =>
      as('POST', `/v1/cluster/members${query}`, { body: JSON.stringify(body), headers })
    const shown = async () => {
      const { json } = await as('GET', '/v1/cluster')
      return (json['members'] as Record<string, unknown>[]).find(({ id }) => id === newcomer.id)
    }

    test('are added as learners, replaced under their name, and removed', async () => {
      expect(await add(newcomer)).toMatchObject({ status: 202, json: { id: 'n9', peer: newcomer.peer } })
      expect(await shown()).toMatchObject({ ...newcomer, voter: false, role: expect.any(String) })
      expectProblem(await add(newcomer), 409, 'member-exists', 'id')
      expectProblem(await add({ ...newcomer, id: 'n8' }), 409, 'member-exists', 'peer')

      expect(await add({ ...renewed, replaces: 'n9' })).toMatchObject({ status: 202 })
      expect(await shown()).toMatchObject({ peer: renewed.peer, voter: false })

      const removed = await as('DELETE', '/v1/cluster/members/n9')
      expect(removed).toMatchObject({ status: 200, json: { id: 'n9' } })
      expect(await shown()).toBeUndefined()
      expectProblem(await as('DELETE', '/v1/cluster/members/n9'), 404, 'not-found', 'id')
      expectProblem(await add({ ...renewed, replaces: 'n9' }), 404, 'not-found', 'id')
    })

    test('are changed by admins alone', async () => {
      for (const token of [secrets.cart, secrets.monitor]) {
        const body = JSON.stringify(newcomer)
        expectProblem(await as('POST', '/v1/cluster/members', { body, headers, token }), 403, 'access-denied')
        expectProblem(await as('DELETE', '/v1/cluster/members/n1', { token }), 403, 'access-denied')
      }
    })

    test.each([
      ['without a peer id', { ...newcomer, peer: undefined }, 'peer'],
      ['with a peer id that is none', { ...newcomer, peer: '12D3KooWnobody' }, 'peer'],
      ['with an HTTP address that is none', { ...newcomer, http: '127.0.0.1:7999' }, 'http'],
      ['with a multiaddr that is none', { ...newcomer, p2p: '127.0.0.1:7998' }, 'p2p'],
      ['with an id that is no name', { ...newcomer, id: 'N9' }, 'id'],
      ['with a field nobody knows', { ...newcomer, voter: true }, 'voter'],
    ])('are not added %s', async (_, body, field) => {
      expectProblem(await add(body), 400, 'invalid-request', field)
    })

    test('take no force that is neither true nor false', async () => {
      expectProblem(await as('DELETE', '/v1/cluster/members/n1?force=1'), 400, 'invalid-request', 'force')
    })
  })
}
