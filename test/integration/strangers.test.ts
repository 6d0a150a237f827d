// Who does not belong: strangers and garbage at the libp2p port, other data directories, emptied disks.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Libp2pTransport } from '../../src/node/libp2p.ts'
import { generatePeerKey } from '../../src/node/peer-key.ts'
import { eventually, RealCluster } from './real-cluster.ts'

function p2pPort(cluster: RealCluster, id: string): number {
  return Number(cluster.node(id).p2p.split('/').at(-1))
}

/** Megabytes that a node's process holds in memory. */
async function resident(cluster: RealCluster, id: string): Promise<number> {
  const pid = (await readFile(join(cluster.node(id).data, 'trivet.pid'), 'utf8')).trim()
  const [, pages] = (await readFile(`/proc/${pid}/statm`, 'utf8')).split(' ')
  return (Number(pages) * 4096) / 1e6
}

describe('a running cluster', () => {
  let cluster: RealCluster
  beforeAll(async () => {
    cluster = await RealCluster.start()
  })
  afterAll(() => cluster[Symbol.asyncDispose]())

  it('does not let a peer in whose key is not a member’s, and says so', async () => {
    const { members, term } = await cluster.cluster('n1')
    const target = members.find((member) => member.id === 'n1')
    if (target === undefined) throw new Error('no n1')
    const stranger = new Libp2pTransport({
      key: await generatePeerKey(),
      listen: '/ip4/127.0.0.1/tcp/0',
      hello: { clusterId: (await cluster.cluster('n1')).id, id: 'n9', boot: 1 },
    })
    let connected = false
    let received = 0
    await stranger.start({
      message: () => received++,
      progress: () => {},
      connected: () => {
        connected = true
      },
      disconnected: () => {},
      question: async () => ({ type: 'refused', reason: 'no' }),
      refused: () => {},
      turnedAway: () => {},
    })
    try {
      stranger.setPeers([{ peer: target.peer, id: 'n1', addresses: [cluster.node('n1').p2p] }])
      await eventually('the node to log the refusal', async () =>
        /not a member|stranger|is no member/i.test(await cluster.log('n1')) ? true : undefined,
      )
      await expect(
        stranger.ask(target.peer, { type: 'whoAreYou' }, { signal: AbortSignal.timeout(1000) }),
      ).rejects.toThrow()
      expect(connected).toBe(false)
      expect(received).toBe(0)
      expect((await cluster.cluster('n1')).term).toBe(term)
    } finally {
      await stranger.close()
    }
  })

  it('drops megabytes of random bytes at the libp2p port: term, leader and memory stay, writes go on', async () => {
    const before = await cluster.cluster('n1')
    const memory = await resident(cluster, 'n1')
    const senders = Array.from({ length: 20 }, async () => {
      const socket = connect(p2pPort(cluster, 'n1'), '127.0.0.1')
      const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
      socket.on('error', () => {})
      await once(socket, 'connect')
      socket.write(randomBytes(1024 * 1024))
      const late = delay(20_000, undefined, { ref: false }).then(() =>
        Promise.reject(new Error('a connection still stands')),
      )
      await Promise.race([closed, late])
    })
    await Promise.all(senders)
    const put = await cluster.fetch('n1', '/v1/stores/default/keys/k', { method: 'PUT', body: 'v' })
    expect(put.status).toBe(201)
    const after = await cluster.cluster('n1')
    expect({ term: after.term, leader: after.leader }).toEqual({ term: before.term, leader: before.leader })
    expect((await resident(cluster, 'n1')) - memory).toBeLessThan(60)
  })

  it('refuses in one sentence to run twice on one data directory, or on that of another node', async () => {
    const twice = await cluster.attempt('n2')
    expect(twice.code).toBe(1)
    expect(twice.output.trim()).toMatch(/^(n2 runs on .* already|Port \d+ .* is in use).*\.$/)

    cluster.signal('n1', 'SIGTERM')
    await cluster.ended('n1')
    const own = cluster.node('n1').data
    await rm(own, { recursive: true })
    await cp(cluster.node('n2').data, own, { recursive: true })
    await rm(join(own, 'trivet.pid'), { force: true })
    const other = await cluster.attempt('n1')
    expect(other.code).toBe(1)
    expect(other.output).toMatch(/Is this the data directory of another node\?/)
    expect(other.output).not.toMatch(/\n\s+at /)
  })
})

it('founds no new cluster when two of three data directories are deleted, and each says what it waits for', async () => {
  await using cluster = await RealCluster.start()
  const { id } = await cluster.cluster('n3')
  const put = await cluster.fetch('n1', '/v1/stores/default/keys/k', { method: 'PUT', body: 'kept' })
  expect(put.status).toBe(201)
  await eventually('n3 to have it', async () => ((await cluster.dump('n3')).has('k') ? true : undefined))
  await cluster.kill(...cluster.ids)
  for (const wiped of ['n1', 'n2']) {
    // The key is put back, as an operator would: the configuration names it.
    const key = await readFile(join(cluster.node(wiped).data, 'peer.key'))
    await rm(cluster.node(wiped).data, { recursive: true })
    await mkdir(cluster.node(wiped).data)
    await writeFile(join(cluster.node(wiped).data, 'peer.key'), key, { mode: 0o600 })
  }
  for (const node of cluster.ids) cluster.spawn(node)
  for (const wiped of ['n1', 'n2']) {
    await eventually(`${wiped} to say what it waits for`, () =>
      cluster.output(wiped).includes(`the data directory of ${wiped} is empty`) ? true : undefined,
    )
    expect(await cluster.status(`${cluster.url(wiped)}/readyz`)).toBe(503)
  }
  // Long enough for n3 to have tried to be elected several times.
  await delay(3000)
  const third = await cluster.cluster('n3')
  expect(third.id).toBe(id)
  expect(third.leader).toBeUndefined()
  const stale = await cluster.fetch('n3', '/v1/stores/default/keys/k?consistency=stale')
  expect(await stale.text()).toBe('kept')
})
