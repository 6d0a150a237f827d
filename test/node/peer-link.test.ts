// One link over connections that come, double, freeze and go: which is used, and what is said of it.

import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import { frameMessage } from '../../src/node/framing.ts'
import type { ByteStream, ByteStreamEvents, Lane } from '../../src/node/lanes.ts'
import { type PeerConnection, PeerLink } from '../../src/node/peer-link.ts'
import type { Hello } from '../../src/node/transport.ts'
import { encodeGreeting, type Greeting } from '../../src/node/wire.ts'
import { cluster } from './names-of-clusters.ts'

const hello: Hello = { clusterId: cluster, id: 'b', boot: 1 }

beforeEach(() => {
  vi.useFakeTimers()
})

afterEach(() => {
  vi.useRealTimers()
})

/** A connection whose far end greets as told, and keeps what it gets. */
class FakeConnection implements PeerConnection {
  readonly dialledByUs: boolean
  isOpen = true
  greeting: Greeting = { type: 'hello', hello }
  readonly written: Record<Lane | 'ask', Buffer[]> = { control: [], bulk: [], ask: [] }
  readonly opened: (ByteStreamEvents & { readonly protocol: string })[] = []
  readonly #link: PeerLink

  constructor(link: PeerLink, dialledByUs: boolean) {
    this.#link = link
    this.dialledByUs = dialledByUs
  }

  async openStream(protocol: Lane | 'ask', events: ByteStreamEvents): Promise<ByteStream> {
    this.opened.push({ ...events, protocol })
    let isGreeted = false
    return {
      ready: true,
      write: (bytes) => {
        if (isGreeted) this.written[protocol].push(Buffer.from(bytes))
        else queueMicrotask(() => events.bytes(frameMessage(encodeGreeting(this.greeting))))
        isGreeted = true
      },
      end: () => undefined,
      reset: () => undefined,
    }
  }

  close(): void {
    this.end()
  }

  /** It ends, whoever did it. */
  end(): void {
    if (!this.isOpen) return
    this.isOpen = false
    this.#link.remove(this)
  }
}

/** The link of node `a` to node `b`: `a` dials first. Dials never come through by themselves. */
function makeLink(addresses = ['/dns4/b/tcp/1']) {
  const events: string[] = []
  let dials = 0
  const link: PeerLink = new PeerLink(
    'a',
    { peer: 'b', id: 'b', addresses },
    {
      hello: () => ({ clusterId: cluster, id: 'a', boot: 1 }),
      dial: async () => {
        dials += 1
        throw new Error('nobody there')
      },
      connected: () => events.push('connected'),
      disconnected: ({ byUs }) => events.push(byUs ? 'disconnected by us' : 'disconnected'),
      refused: ({ cause }) => events.push(`refused: ${cause}`),
    },
  )
  const connect = async (dialledByUs: boolean, greeting?: Greeting) => {
    const connection = new FakeConnection(link, dialledByUs)
    if (greeting !== undefined) connection.greeting = greeting
    link.add(connection)
    await vi.advanceTimersByTimeAsync(0)
    return connection
  }
  return { link, events, connect, dials: () => dials }
}

/** Time goes by with the ticks that the transport gives. */
async function pass(link: PeerLink, milliseconds: number): Promise<void> {
  for (let at = 0; at < milliseconds; at += 500) {
    await vi.advanceTimersByTimeAsync(500)
    link.tick()
  }
}

test('of two connections the one that the lower peer id dialled is kept, and nothing is said of the other', async () => {
  const { link, events, connect } = makeLink()
  const theirs = await connect(false)
  expect(events).toEqual(['connected'])
  const ours = await connect(true)
  expect(link.send('control', Buffer.from('x'))).toBe(true)
  await vi.advanceTimersByTimeAsync(0)
  expect(ours.written.control.length).toBe(1)
  expect(theirs.written.control.length).toBe(0)
  // The peer dialled it, so the peer closes it; if it never does, we do.
  expect(theirs.isOpen).toBe(true)
  await vi.advanceTimersByTimeAsync(2_900)
  link.heard()
  link.tick()
  expect(theirs.isOpen).toBe(true)
  await vi.advanceTimersByTimeAsync(200)
  link.heard()
  link.tick()
  expect(theirs.isOpen).toBe(false)
  expect(ours.isOpen).toBe(true)
  expect(events).toEqual(['connected'])
})

test('a spare connection that we dialled is closed as soon as the other is in use', async () => {
  const { events, connect } = makeLink()
  const first = await connect(true)
  const second = await connect(true)
  expect(first.isOpen).toBe(false)
  expect(second.isOpen).toBe(true)
  expect(events).toEqual(['connected'])
})

test('when the connection in use ends, the one that still stands takes over without a word', async () => {
  const { link, events, connect } = makeLink()
  const ours = await connect(true)
  const theirs = await connect(false)
  ours.end()
  await vi.advanceTimersByTimeAsync(0)
  expect(link.send('bulk', Buffer.from('x'))).toBe(true)
  await vi.advanceTimersByTimeAsync(0)
  expect(theirs.written.bulk.length).toBe(1)
  expect(events).toEqual(['connected'])
  theirs.end()
  expect(events).toEqual(['connected', 'disconnected'])
})

test('a later boot ends what an earlier one left behind, and that is a disconnection by nobody', async () => {
  const { link, events, connect } = makeLink()
  const dead = await connect(true)
  link.greeted(dead, hello)
  const alive = await connect(false)
  link.greeted(alive, { ...hello, boot: 2 })
  await vi.advanceTimersByTimeAsync(0)
  expect(dead.isOpen).toBe(false)
  expect(alive.isOpen).toBe(true)
  expect(events).toEqual(['connected', 'disconnected', 'connected'])
})

test('a later boot on the connection in use begins the link anew', async () => {
  const { link, events, connect } = makeLink()
  link.greeted(await connect(false), hello)
  const alive = await connect(true)
  link.greeted(alive, { ...hello, boot: 2 })
  await vi.advanceTimersByTimeAsync(0)
  expect(events).toEqual(['connected', 'disconnected', 'connected'])
  expect(link.isConnected).toBe(true)
})

test('a connection that has gone silent is closed by us after 5 seconds, and not before', async () => {
  const { link, events, connect } = makeLink()
  const connection = await connect(true)
  await pass(link, 4_500)
  expect(connection.isOpen).toBe(true)
  link.heard()
  await pass(link, 5_000)
  expect(connection.isOpen).toBe(true)
  await pass(link, 500)
  expect(connection.isOpen).toBe(false)
  expect(events).toEqual(['connected', 'disconnected by us'])
})

test('an idle link shows that it lives every second', async () => {
  const { link, connect } = makeLink()
  const connection = await connect(true)
  await pass(link, 4_500)
  expect(connection.written.control.length).toBeGreaterThanOrEqual(3)
  expect(connection.written.bulk.length).toBe(0)
})

test('a stream that is lost is opened again over the same connection, and what waited leaves then', async () => {
  const { link, events, connect } = makeLink()
  const connection = await connect(true)
  connection.opened.find(({ protocol }) => protocol === 'bulk')?.closed()
  expect(link.send('bulk', Buffer.from('x'))).toBe(true)
  await vi.advanceTimersByTimeAsync(0)
  expect(connection.written.bulk.length).toBe(0)
  await vi.advanceTimersByTimeAsync(200)
  expect(connection.written.bulk.length).toBe(1)
  expect(events).toEqual(['connected'])
})

test('a peer that refuses is asked again, at last once a second, and at once when it has greeted us', async () => {
  const { link, events, connect } = makeLink()
  const refusal = { type: 'refusal', refusal: { cause: 'empty', reason: 'not yet' } } as const
  const connection = await connect(true, refusal)
  await vi.advanceTimersByTimeAsync(10_000)
  const asked = connection.opened.length / 2
  expect(asked).toBeGreaterThan(8)
  expect(asked).toBeLessThan(25)
  expect(events.every((event) => event === 'refused: empty')).toBe(true)
  connection.greeting = { type: 'hello', hello }
  link.greeted(connection, hello)
  await vi.advanceTimersByTimeAsync(0)
  expect(events.at(-1)).toBe('connected')
})

test('a peer that is not there is dialled for ever, at last about once a second', async () => {
  const { link, dials } = makeLink()
  await vi.advanceTimersByTimeAsync(60_000)
  expect(dials()).toBeGreaterThan(55)
  expect(dials()).toBeLessThan(140)
  link.close('at once')
  const before = dials()
  await vi.advanceTimersByTimeAsync(60_000)
  expect(dials()).toBe(before)
})

test('a link that is closed says that it was by us, and takes no connection any more', async () => {
  const { link, events, connect } = makeLink()
  const connection = await connect(true)
  link.close('gently')
  expect(connection.isOpen).toBe(false)
  expect(events).toEqual(['connected', 'disconnected by us'])
  const late = new FakeConnection(link, true)
  link.add(late)
  expect(late.isOpen).toBe(false)
  expect(link.send('control', Buffer.from('x'))).toBe(false)
})

test('a peer that says that this node is no member is dialled seldom, until it takes it', async () => {
  const { link, connect, dials } = makeLink()
  const told = { type: 'refusal', refusal: { cause: 'stranger', reason: 'who are you?' } } as const
  const refusing = await connect(true, told)
  refusing.end()
  await vi.advanceTimersByTimeAsync(0)
  const before = dials()
  await pass(link, 60_000)
  expect(dials() - before).toBeGreaterThan(1)
  expect(dials() - before).toBeLessThan(8)
  const taking = await connect(false)
  taking.end()
  const after = dials()
  await pass(link, 10_000)
  expect(dials() - after).toBeGreaterThan(8)
})

test('a peer without an address is admitted and not dialled, and dialled once it has one', async () => {
  const { link, events, connect, dials } = makeLink([])
  await pass(link, 5_000)
  expect(dials()).toBe(0)
  await expect(link.connection(AbortSignal.timeout(1_000))).rejects.toThrow('not to be dialled')
  const theirs = await connect(false)
  expect(events).toEqual(['connected'])
  theirs.end()
  link.update({ peer: 'b', id: 'b', addresses: ['/dns4/b/tcp/1'] })
  await pass(link, 1_000)
  expect(dials()).toBeGreaterThan(0)
})
