// libp2p's connections and streams, turned into what the links use: raw events, no iterators, no error that escapes.

import type { Connection, Stream, StreamMessageEvent } from '@libp2p/interface'

import { withStacks } from './corking.ts'
import type { ByteStream, ByteStreamEvents, Lane } from './lanes.ts'
import type { PeerConnection } from './peer-link.ts'

/** What each stream is opened for. The major version is part of the name: another one is another protocol. */
export const protocols = {
  control: '/trivet/1/control',
  bulk: '/trivet/1/bulk',
  ask: '/trivet/1/ask',
} as const satisfies Record<Lane | 'ask', string>

/** Counts what leaves and comes in on all streams, frames and all, since the start. */
export type Traffic = { sentBytes: number; receivedBytes: number }

/** A connection as a link sees it. */
export function adaptConnection(connection: Connection, traffic: Traffic): PeerConnection {
  return {
    dialledByUs: connection.direction === 'outbound',
    get isOpen() {
      return connection.status === 'open'
    },
    openStream: async (protocol, events, signal) =>
      adaptStream(await connection.newStream(protocols[protocol], { signal }), events, traffic),
    close: (how) => {
      if (how === 'at once') connection.abort(new Error('closed by this node'))
      else connection.close().catch((error: Error) => connection.abort(error))
    },
  }
}

/** Listeners are attached in here at once: without one, what arrives would pile up and end the stream. */
export function adaptStream(stream: Stream, events: ByteStreamEvents, traffic: Traffic): ByteStream {
  let isOver = false
  const end = () => {
    if (stream.writeStatus === 'writable') stream.close().catch((error: Error) => stream.abort(error))
  }
  const closed = () => {
    if (isOver) return
    isOver = true
    end()
    events.closed()
  }
  stream.addEventListener('message', ({ data }: StreamMessageEvent) => {
    traffic.receivedBytes += data.byteLength
    withStacks(() => {
      for (const piece of data instanceof Uint8Array ? [data] : data) events.bytes(piece)
    })
  })
  spareWindowUpdates(stream)
  stream.addEventListener('drain', () => events.drained())
  // Said in the midst of sending: what is written in there would lie until the next write.
  stream.addEventListener('idle', () => queueMicrotask(() => events.drained()))
  stream.addEventListener('end', closed)
  stream.addEventListener('close', closed)
  if (stream.status !== 'open' || stream.readableEnded) queueMicrotask(closed)
  return {
    get ready() {
      return stream.status === 'open' && !stream.writableNeedsDrain && stream.writeBufferLength === 0
    },
    write: (bytes) => {
      if (stream.writeStatus !== 'writable') return
      try {
        stream.send(bytes)
        traffic.sentBytes += bytes.length
      } catch (error) {
        stream.abort(error instanceof Error ? error : new Error(String(error)))
      }
    },
    end,
    reset: (reason) => stream.abort(reason),
  }
}

/** yamux's `StreamState.Established`: what it sends then carries no flags. */
const established = 3

/**
 * yamux answers every piece that comes with a frame which opens the window again to the full; each is sealed, written and read
 * like a message. Once half of the window is used is soon enough. Another version of yamux than the one that is known here
 * goes on as it does.
 */
function spareWindowUpdates(stream: Stream): void {
  const update: unknown = Reflect.get(stream, 'sendWindowUpdate')
  if (typeof update !== 'function') return
  const sparing = (): void => {
    const left: unknown = Reflect.get(stream, 'recvWindowCapacity')
    const whole: unknown = Reflect.get(stream, 'recvWindow')
    const isAmple = typeof left === 'number' && typeof whole === 'number' && left > whole / 2
    if (isAmple && Reflect.get(stream, 'state') === established) return
    Reflect.apply(update, stream, [])
  }
  Object.defineProperty(stream, 'sendWindowUpdate', { value: sparing, configurable: true, writable: true })
}
