// The real network on the loopback interface: the contract, and what only a real network can meet.

import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { StreamMuxer } from '@libp2p/interface'
import { noise as libp2pNoise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { afterEach, describe, expect, test } from 'vitest'

import { Libp2pTransport } from '../../src/node/libp2p.ts'
import { generatePeerKey, loadPeerKey } from '../../src/node/peer-key.ts'
import type { Hello } from '../../src/node/transport.ts'
import { freePort } from './free-port.ts'
import { cluster } from './names-of-clusters.ts'
import { type Fixture, transportContract, until, Witness } from './transport-contract.ts'

transportContract('libp2p', createFixture)

async function createFixture(): Promise<Fixture> {
  const directory = await mkdtemp(join(tmpdir(), 'trivet-libp2p-'))
  const ports = new Map<string, number>()
  return {
    make: async (name, hello) => {
      const key = await loadPeerKey(join(directory, name))
      const port = ports.get(name) ?? (await freePort())
      ports.set(name, port)
      const listen = `/ip4/127.0.0.1/tcp/${port}`
      return {
        transport: new Libp2pTransport({ key, listen, hello }),
        peer: { peer: key.peer, id: name, addresses: [listen] },
      }
    },
    close: () => rm(directory, { recursive: true }),
  }
}

describe('libp2p', () => {
  const started: Witness[] = []

  afterEach(async () => {
    await Promise.all(started.splice(0).map(({ transport }) => transport.close()))
  })

  const make = async (id: string, hello: Partial<Hello> = {}) => {
    const key = await generatePeerKey()
    const port = await freePort()
    const listen = `/ip4/127.0.0.1/tcp/${port}`
    const transport = new Libp2pTransport({
      key,
      listen,
      hello: { clusterId: cluster, id, boot: 1, ...hello },
      handshakeTimeout: 1_000,
    })
    const witness = new Witness({ transport, peer: { peer: key.peer, id, addresses: [listen] } })
    started.push(witness)
    return { witness, key, port, listen }
  }

  test('random bytes and silence on the port are dropped and counted, and nothing else happens', async () => {
    const { witness: a, port } = await make('a')
    const { witness: b } = await make('b')
    await Promise.all([a.start([b]), b.start([a])])
    await until(() => a.transport.isConnected(b.id))
    const noise = Buffer.alloc(1_000_000)
    for (let at = 0; at < noise.length; at++) noise[at] = (at * 2_654_435_761) >>> 13
    const noisy = connect(port, '127.0.0.1', () => noisy.write(noise))
    const silent = connect(port, '127.0.0.1')
    const closed = [noisy, silent].map(
      (socket) =>
        new Promise((resolve) =>
          socket
            .on('error', () => undefined)
            .on('close', resolve)
            .resume(),
        ),
    )
    await Promise.all(closed)
    await until(() => a.transport.counters().refusedConnections === 2)
    expect(a.transport.isConnected(b.id)).toBe(true)
    expect(a.events).toEqual([`connected ${b.id}`])
    expect(a.refusals).toEqual([])
  })

  test('a length that cannot be decoded ends a connection at once, and keeps the node from nothing', async () => {
    const { witness: a, port } = await make('a')
    const { witness: b } = await make('b')
    await Promise.all([a.start([b]), b.start([a])])
    await until(() => a.transport.isConnected(b.id))
    const header = Buffer.from('\x13/multistream/1.0.0\n')
    const undecodable = Buffer.alloc(1_000_000, 0xfa).fill(0x40, 8)
    for (const before of [Buffer.alloc(0), header, Buffer.concat([header, Buffer.from('\x04/no\n')])]) {
      const begun = performance.now()
      const socket = connect(port, '127.0.0.1', () => socket.write(Buffer.concat([before, undecodable])))
      await new Promise((resolve) => {
        socket
          .on('error', () => undefined)
          .on('close', resolve)
          .resume()
      })
      // Given up after the handshake's second otherwise, or when the event loop is free again.
      expect(performance.now() - begun).toBeLessThan(900)
    }
    await until(() => a.transport.counters().refusedConnections === 3)
    expect(a.transport.isConnected(b.id)).toBe(true)
  })

  test('a stranger that is being told cannot keep the node busy with a length in a stream either', async () => {
    const { witness: a, listen } = await make('a')
    await a.start([])
    const encrypted = { connectionEncrypters: [libp2pNoise()], streamMuxers: [yamux()] }
    const stranger = await createLibp2p({ transports: [tcp()], ...encrypted })
    try {
      const connection = await stranger.dial(multiaddr(`${listen}/p2p/${a.id}`))
      const muxer = Reflect.get(connection, 'muxer') as StreamMuxer
      const stream = await muxer.createStream({})
      const begun = performance.now()
      const closed = new Promise((resolve) => stream.addEventListener('close', resolve))
      const undecodable = Buffer.alloc(200_000, 0xfa).fill(0x40, 8)
      stream.send(Buffer.concat([Buffer.from('\x13/multistream/1.0.0\n'), undecodable]))
      await closed
      expect(performance.now() - begun).toBeLessThan(500)
    } finally {
      await stranger.stop()
    }
  })

  test('a stranger is told why, and finds the door shut afterwards', async () => {
    const { witness: a } = await make('a')
    const { witness: stranger } = await make('stranger')
    await a.start([])
    await stranger.start([a])
    await until(() => stranger.refusals.length === 1)
    expect(stranger.refusals[0]).toMatch(/refused by a: .* is no member of the cluster of a/)
    const question = { type: 'whoAreYou' } as const
    await expect(
      stranger.transport.ask(a.id, question, { signal: AbortSignal.timeout(2_000) }),
    ).rejects.toThrow()
    // It dials seldom by itself now; a question dials at once.
    await until(async () => {
      const signal = AbortSignal.timeout(2_000)
      await stranger.transport.ask(a.id, question, { signal }).catch(() => undefined)
      return a.transport.counters().refusedConnections >= 2
    })
    expect(stranger.events).toEqual([])
    expect(a.events).toEqual([])
    expect(a.refusals).toEqual([`refused ${stranger.id}: it is no member of this cluster.`])
  })

  test('an address that answers with another key is named', async () => {
    const { witness: a, listen } = await make('a')
    const { witness: b } = await make('b')
    const { key } = await make('c')
    await a.start([])
    b.transport.setPeers([{ peer: key.peer, id: 'c', addresses: [listen] }])
    await b.start([
      new Witness({ transport: b.transport, peer: { peer: key.peer, id: 'c', addresses: [listen] } }),
    ])
    await until(() => b.refusals.length === 1)
    expect(b.refusals[0]).toBe(`${listen} answers with another key than that of c, ${key.peer}.`)
  })

  test('a node that dials by the second of two addresses connects all the same', async () => {
    const { witness: a } = await make('a')
    const { witness: b, listen } = await make('b')
    const dead = `/ip4/127.0.0.1/tcp/${await freePort()}`
    const twoWays = new Witness({ transport: b.transport, peer: { ...b.peer, addresses: [dead, listen] } })
    await b.start([a])
    await a.start([twoWays])
    await until(() => a.transport.isConnected(b.id))
  })

  test('an address that is taken is said in one sentence', async () => {
    const { witness: a, listen } = await make('a')
    await a.start([])
    const second = new Libp2pTransport({
      key: await generatePeerKey(),
      listen,
      hello: { clusterId: undefined, id: 'b', boot: 0 },
    })
    const late = new Witness({ transport: second, peer: { peer: second.self, id: 'b', addresses: [listen] } })
    await expect(late.start([])).rejects.toThrow(
      `Cannot listen for peers on ${listen}: another process listens there.`,
    )
  })

  test('a link that is cut again and again comes back every time', async () => {
    const { witness: a } = await make('a')
    const { witness: b } = await make('b')
    await Promise.all([a.start([b]), b.start([a])])
    for (let round = 1; round <= 5; round++) {
      await until(() => a.transport.isConnected(b.id) && b.transport.isConnected(a.id))
      a.transport.setPeers([])
      await until(() => !b.transport.isConnected(a.id))
      a.transport.setPeers([b.peer])
    }
    await until(() => a.transport.isConnected(b.id) && b.transport.isConnected(a.id))
  })
})
