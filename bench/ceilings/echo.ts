// A bare libp2p echo between two processes, over TCP, noise and yamux as between nodes: frames of 256 bytes there and back.
//
// `echo.ts serve PORT` answers until it is killed; `echo.ts ask PORT PEER SECONDS` prints figures for 1 and for 64 under way. The server
// prints its peer id first.

import type { Stream, StreamMessageEvent } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { percentile } from '../statistics.ts'

const protocol = '/echo/1'
const frame = Buffer.alloc(256, 'e')

const [, , role, port = '', peer = '', seconds = '2'] = process.argv
const address = `/ip4/127.0.0.1/tcp/${port}`

function create(listen: readonly string[]): Promise<Libp2p> {
  return createLibp2p({
    addresses: { listen: [...listen] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
  })
}

function onBytes(stream: Stream, heard: (bytes: Uint8Array) => void): void {
  stream.addEventListener('message', ({ data }: StreamMessageEvent) => {
    for (const piece of data instanceof Uint8Array ? [data] : data) heard(piece)
  })
}

/** Frames there and back in a second, with so many under way. */
async function rate(
  stream: Stream,
  underWay: number,
): Promise<{ perSecond: number; p50: number; p99: number }> {
  const latencies: number[] = []
  const sentAt: number[] = []
  let bytes = 0
  const begun = performance.now()
  const until = begun + Number(seconds) * 1000
  const { promise, resolve } = Promise.withResolvers<void>()
  const send = () => {
    sentAt.push(performance.now())
    stream.send(frame)
  }
  const heard = (piece: Uint8Array) => {
    bytes += piece.byteLength
    for (; bytes >= frame.length; bytes -= frame.length) {
      const now = performance.now()
      latencies.push(now - (sentAt.shift() ?? now))
      if (now < until) send()
      else if (sentAt.length === 0) resolve()
    }
  }
  onBytes(stream, heard)
  for (let at = 0; at < underWay; at++) send()
  await promise
  const sorted = latencies.toSorted((a, b) => a - b)
  const took = (performance.now() - begun) / 1000
  return { perSecond: sorted.length / took, p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99) }
}

if (role === 'serve') {
  const node = await create([address])
  await node.handle(protocol, (stream) => onBytes(stream, (bytes) => stream.send(bytes)))
  console.log(node.peerId.toString())
} else {
  const node = await create([])
  const connection = await node.dial(multiaddr(`${address}/p2p/${peer}`))
  const found = []
  for (const underWay of [1, 64]) {
    const stream = await connection.newStream(protocol)
    found.push({ underWay, ...(await rate(stream, underWay)) })
    stream.abort(new Error('done'))
  }
  console.log(JSON.stringify(found))
  await node.stop()
}
