// The scenarios of every store over REST, against three nodes of a cluster, each handle at another one.

import { createHash } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, it } from 'vitest'
import { type Client, connect } from '../../src/sdk/index.ts'
import { type Neighbourhood, startNeighbourhood } from '../api/neighbourhood.ts'
import { scenarios } from './scenarios.ts'

const secret = 'the-secret-of-the-admin-0123456789'

let nodes: Neighbourhood
let clients: readonly Client[]

beforeAll(async () => {
  const hash = createHash('sha256').update(secret).digest('base64url')
  nodes = await startNeighbourhood({
    seed: 7,
    founding: {
      valueBytes: 1024 * 1024,
      stores: [{ name: 'default' }],
      tokens: [{ name: 'admin', hash, principal: { type: 'admin' } }],
    },
  })
  clients = [1, 2].map(() => connect({ endpoints: [nodes.next()], token: secret, timeout: '15s' }))
})

beforeEach(async () => {
  await (await clients[0]?.open('default'))?.deleteRange({ all: true })
})

afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()))
  await nodes[Symbol.asyncDispose]()
})

describe('a store over REST', () => {
  for (const [name, run] of Object.entries(scenarios)) {
    it(`does what every store does: ${name}`, async () => {
      const [client, another] = clients
      if (client === undefined || another === undefined) throw new Error('two clients were connected')
      const [store, other] = [await client.open('default'), await another.open('default')]
      await run({ store, other, transaction: () => client.transaction() })
    })
  }
})
