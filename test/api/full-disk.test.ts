// A full disk as REST tells it, over a node on the real disk whose free space is what the test says.

import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { createApi } from '../../src/api/server.ts'
import { Libp2pTransport } from '../../src/node/libp2p.ts'
import { Node } from '../../src/node/node.ts'
import { loadPeerKey } from '../../src/node/peer-key.ts'
import { realDisk } from '../../src/store/real-disk.ts'
import { openLevel } from '../../src/store/state-open.ts'
import { ask, listeningLogger } from './client.ts'
import { founding, secrets } from './contract.ts'

const MiB = 1024 * 1024

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await delay(10)
  }
}

test('a set is answered 507 with the limit while the disk is short, a delete is not, and both are taken again', async () => {
  const data = await mkdtemp(join(tmpdir(), 'trivet-full-'))
  const key = await loadPeerKey(data)
  let free = 200 * MiB
  const node = await Node.start(
    {
      id: 'n1',
      cluster: 'full',
      nodes: [{ id: 'n1', peer: key.peer, http: 'http://127.0.0.1:1', p2p: '/ip4/127.0.0.1/tcp/1' }],
      ...founding,
      heartbeatMs: 100,
      electionMs: 1000,
      foundWithout: [],
    },
    {
      data,
      disk: realDisk,
      openLevel,
      transport: new Libp2pTransport({
        key,
        listen: '/ip4/127.0.0.1/tcp/0',
        hello: { clusterId: undefined, id: 'n1', boot: 0 },
      }),
      surroundings: {
        now: () => performance.now(),
        soon: (run) => void setImmediate(run),
        random: Math.random,
        worked: () => performance.eventLoopUtilization().active,
      },
      clock: Date.now,
      every: (ms, run) => {
        const timer = setInterval(run, ms)
        return () => clearInterval(timer)
      },
      sleep: (ms) => delay(ms),
      freeBytes: async () => free,
      reserveBytes: MiB,
      logger: pino({ level: 'silent' }),
      onFatal: (error) => {
        throw error
      },
    },
  )
  const limits = { keyBytes: 4096, valueBytes: founding.valueBytes }
  const api = await createApi({ node, limits, logger: listeningLogger() })
  try {
    await api.listen({ host: '127.0.0.1', port: 0 })
    await until('the node to be ready', () => node.unreadiness().length === 0)
    const as = (method: string, path: string, body?: string) =>
      ask(api.address.url, method, path, {
        token: secrets.admin,
        ...(body === undefined ? {} : { body, headers: { 'content-type': 'text/plain' } }),
      })
    const path = '/v1/stores/default/keys/k'
    await until('the refusal', async () => (await as('PUT', path, 'v')).status === 507)
    const refused = await as('PUT', path, 'v')
    expect(refused.headers).toMatchObject({ 'trivet-error': 'storage-full', 'retry-after': '5' })
    expect(refused.json).toEqual({
      type: 'urn:trivet:storage-full',
      title: 'No space is left',
      status: 507,
      detail:
        'No quorum of voters has room: n1 has 200 MiB free, less than 256 MiB. Deletes are still taken.',
      code: 'storage-full',
      retryable: true,
      field: 'free space',
      limit: 256 * MiB,
      actual: 200 * MiB,
    })
    expect((await as('DELETE', path)).status).toBe(200)
    const cluster = await as('GET', '/v1/cluster')
    expect(cluster.json['members']).toMatchObject([
      { healthy: false, alarms: [expect.stringContaining('200 MiB')] },
    ])
    await expect(stat(join(data, 'reserve'))).rejects.toThrow('ENOENT')

    free = 400 * MiB
    await until('a set to be taken', async () => (await as('PUT', path, 'v')).status === 201)
    await until('the reserve', async () =>
      stat(join(data, 'reserve')).then(
        ({ size }) => size === MiB,
        () => false,
      ),
    )
  } finally {
    await api.close()
    await node.stop()
    await rm(data, { recursive: true })
  }
})
