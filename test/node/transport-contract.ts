// What every transport must do, whatever carries it: one suite for the real network and for its twin in memory.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type {
  Answer,
  Hello,
  Peer,
  PeerMessage,
  Question,
  Transport,
  TransportHandlers,
} from '../../src/node/transport.ts'
import type { Entry, Message } from '../../src/raft/types.ts'
import { cluster, otherCluster } from './names-of-clusters.ts'

/** A network on which nodes can be made. Everything on it ends with `close`. */
export type Fixture = {
  /** Makes a transport that is not started. A node made again under the same name has the same peer id and address. */
  make(name: string, hello: Hello): Promise<{ readonly transport: Transport; readonly peer: Peer }>
  close(): Promise<void>
}

/** A node that writes down what its transport tells it. */
export class Witness {
  readonly transport: Transport
  readonly peer: Peer
  readonly events: string[] = []
  readonly messages: { readonly from: string; readonly message: PeerMessage; readonly boot: number }[] = []
  readonly refusals: string[] = []
  progress = 0
  /** Called after each event. */
  onEvent: () => void = () => undefined
  answer: (question: Question) => Promise<Answer> = async () => ({ type: 'done' })

  constructor(made: { readonly transport: Transport; readonly peer: Peer }) {
    this.transport = made.transport
    this.peer = made.peer
  }

  get id(): string {
    return this.peer.peer
  }

  async start(peers: readonly Witness[]): Promise<void> {
    this.transport.setPeers(peers.map(({ peer }) => peer))
    const handlers: TransportHandlers = {
      message: (from, message, boot) => this.messages.push({ from, message, boot }),
      progress: () => {
        this.progress += 1
      },
      connected: (peer) => this.#note(`connected ${peer}`),
      disconnected: (peer, { byUs }) => this.#note(`disconnected ${peer}${byUs ? ' by us' : ''}`),
      question: (_, question) => this.answer(question),
      refused: (_, reason) => this.refusals.push(reason),
      turnedAway: () => undefined,
    }
    await this.transport.start(handlers)
  }

  #note(event: string): void {
    this.events.push(event)
    this.onEvent()
  }

  /** A message between cores, addressed as it must be. */
  raft(to: Witness, body: DistributiveOmit<Message, 'from' | 'to'>): PeerMessage {
    return { type: 'raft', message: { from: this.id, to: to.id, ...body } }
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never

export function until(holds: () => boolean | Promise<boolean>, milliseconds = 8_000): Promise<void> {
  return vi.waitFor(async () => expect(await holds()).toBe(true), { timeout: milliseconds, interval: 2 })
}

export function commandsEntry(index: number, bytes: number): Entry {
  return { type: 'commands', index, term: 1, data: Buffer.alloc(bytes, index) }
}

export function transportContract(name: string, createFixture: () => Promise<Fixture>): void {
  describe(`${name} as a transport`, () => {
    let fixture: Fixture
    const started: Witness[] = []

    const make = async (id: string, hello: Partial<Hello> = {}) => {
      const witness = new Witness(await fixture.make(id, { clusterId: cluster, id, boot: 1, ...hello }))
      started.push(witness)
      return witness
    }
    const pair = async (hellos: { a?: Partial<Hello>; b?: Partial<Hello> } = {}) => {
      const a = await make('a', hellos.a)
      const b = await make('b', hellos.b)
      await Promise.all([a.start([b]), b.start([a])])
      return { a, b }
    }
    const connectedPair = async () => {
      const { a, b } = await pair()
      await until(() => a.transport.isConnected(b.id) && b.transport.isConnected(a.id))
      return { a, b }
    }

    beforeEach(async () => {
      fixture = await createFixture()
    })

    afterEach(async () => {
      await Promise.all(started.splice(0).map(({ transport }) => transport.close()))
      await fixture.close()
    })

    test('two members connect, each says so once, and messages arrive as they were sent', async () => {
      const { a, b } = await connectedPair()
      const there = a.raft(b, { type: 'heartbeat', since: 0, term: 7, round: 3, commitIndex: 5 })
      const back = b.raft(a, { type: 'heartbeatAnswer', term: 7, round: 3 })
      expect(a.transport.send(b.id, there)).toBe(true)
      expect(b.transport.send(a.id, back)).toBe(true)
      await until(() => a.messages.length === 1 && b.messages.length === 1)
      expect(b.messages).toEqual([{ from: a.id, message: there, boot: 1 }])
      expect(a.messages).toEqual([{ from: b.id, message: back, boot: 1 }])
      expect(a.events).toEqual([`connected ${b.id}`])
      expect(b.events).toEqual([`connected ${a.id}`])
    })

    test('appends stay in order among themselves, the long ones whole and announced by their parts', async () => {
      const { a, b } = await connectedPair()
      const sizes = [10, 3_000_000, 0, 65_528, 200_000, 1, 70_000, 5]
      sizes.forEach((bytes, at) => {
        const entries = [commandsEntry(at + 1, bytes)]
        const message = a.raft(b, {
          type: 'append',
          since: 0,
          term: 1,
          prevIndex: at,
          prevTerm: at === 0 ? 0 : 1,
          commitIndex: at,
          entries,
        })
        expect(a.transport.send(b.id, message)).toBe(true)
      })
      await until(() => b.messages.length === sizes.length)
      const seen = b.messages.map(({ message }) => {
        if (message.type !== 'raft' || message.message.type !== 'append')
          throw new Error('an append was sent')
        const [entry] = message.message.entries
        if (entry?.type !== 'commands') throw new Error('commands were sent')
        expect(Buffer.from(entry.data).equals(Buffer.alloc(entry.data.length, entry.index))).toBe(true)
        return entry.data.length
      })
      expect(seen).toEqual(sizes)
      expect(b.progress).toBeGreaterThan(40)
    })

    test('what cannot leave is dropped, counted and said at once', async () => {
      const { a, b } = await connectedPair()
      const c = await make('c')
      expect(a.transport.send(c.id, a.raft(c, { type: 'timeoutNow', term: 1 }))).toBe(false)
      const entries = [commandsEntry(1, 1_000_000)]
      const message = a.raft(b, {
        type: 'append',
        since: 0,
        term: 1,
        prevIndex: 0,
        prevTerm: 0,
        commitIndex: 0,
        entries,
      })
      const taken = Array.from({ length: 40 }, () => a.transport.send(b.id, message)).filter(Boolean).length
      expect(taken).toBeGreaterThan(10)
      expect(taken).toBeLessThan(20)
      expect(a.transport.counters().droppedMessages).toBe(1 + 40 - taken)
      // Control does not mind that bulk is full.
      expect(a.transport.send(b.id, a.raft(b, { type: 'timeoutNow', term: 1 }))).toBe(true)
      await until(() => b.messages.length === taken + 1)
      expect(a.transport.send(b.id, message)).toBe(true)
      await until(() => b.messages.length === taken + 2)
    })

    test('an empty node speaks to nobody until it is introduced', async () => {
      const { a, b } = await pair({
        a: { clusterId: undefined, boot: 0 },
        b: { clusterId: undefined, boot: 0 },
      })
      const answer = await a.transport.ask(
        b.id,
        { type: 'whoAreYou' },
        { signal: AbortSignal.timeout(5_000) },
      )
      expect(answer).toEqual({ type: 'done' })
      a.transport.introduce({ clusterId: cluster, id: 'a', boot: 4 })
      expect(a.transport.isConnected(b.id)).toBe(false)
      b.transport.introduce({ clusterId: cluster, id: 'b', boot: 5 })
      await until(() => a.transport.isConnected(b.id) && b.transport.isConnected(a.id))
      a.transport.send(b.id, a.raft(b, { type: 'timeoutNow', term: 1 }))
      await until(() => b.messages.length === 1)
      expect(b.messages[0]?.boot).toBe(4)
      expect([...a.refusals, ...b.refusals]).toEqual([])
    })

    test('a node of another cluster is refused by name, and both sides say so once', async () => {
      const { a, b } = await pair({ b: { clusterId: otherCluster } })
      await until(() => a.refusals.length > 0 && b.refusals.length > 0)
      const counted = a.transport.counters().refusedStreams + b.transport.counters().refusedStreams
      expect(counted).toBeGreaterThan(0)
      for (const reason of [...a.refusals, ...b.refusals]) {
        expect(reason).toContain(cluster)
        expect(reason).toContain(otherCluster)
      }
      expect(a.events).toEqual([])
      expect(b.events).toEqual([])
    })

    test('a node that stops is missed, and found again when it comes back with its next boot', async () => {
      const { a, b } = await connectedPair()
      await b.transport.close()
      await until(() => a.events.length === 2)
      expect(a.events).toEqual([`connected ${b.id}`, `disconnected ${b.id}`])
      expect(b.events).toEqual([`connected ${a.id}`, `disconnected ${a.id} by us`])
      expect(a.transport.isConnected(b.id)).toBe(false)
      const again = await make('b', { boot: 2 })
      await again.start([a])
      await until(() => a.transport.isConnected(b.id) && again.transport.isConnected(a.id))
      again.transport.send(a.id, again.raft(a, { type: 'timeoutNow', term: 1 }))
      await until(() => a.messages.length === 1)
      expect(a.messages[0]?.boot).toBe(2)
      expect(a.events.at(-1)).toBe(`connected ${b.id}`)
    })

    test('a peer that is no member any more is let go, and turned away when it dials', async () => {
      const { a, b } = await connectedPair()
      a.transport.setPeers([])
      await until(() => a.events.length === 2 && b.events.length === 2)
      expect(a.events).toEqual([`connected ${b.id}`, `disconnected ${b.id} by us`])
      expect(b.events).toEqual([`connected ${a.id}`, `disconnected ${a.id}`])
      await until(() => a.transport.counters().refusedConnections > 0 && b.refusals.length > 0)
      expect(a.refusals.join()).toContain('no member')
      expect(b.refusals.join()).toContain('no member')
      expect(b.transport.isConnected(a.id)).toBe(false)
    })

    test('a question that is refused, unanswered or addressed to nobody rejects or says why', async () => {
      const { a, b } = await pair()
      const c = await make('c')
      const whoAreYou = { type: 'whoAreYou' } as const
      b.answer = async () => ({ type: 'identity', id: 'b', clusterId: undefined, begun: false })
      const answer = await a.transport.ask(b.id, whoAreYou, { signal: AbortSignal.timeout(5_000) })
      expect(answer).toEqual({ type: 'identity', id: 'b', clusterId: undefined, begun: false })
      b.answer = () => new Promise(() => undefined)
      await expect(a.transport.ask(b.id, whoAreYou, { signal: AbortSignal.timeout(50) })).rejects.toThrow()
      b.answer = () => Promise.reject(new Error('the disk is full'))
      await expect(a.transport.ask(b.id, whoAreYou, { signal: AbortSignal.timeout(5_000) })).rejects.toThrow()
      await expect(a.transport.ask(c.id, whoAreYou, { signal: AbortSignal.timeout(5_000) })).rejects.toThrow()
      a.transport.setPeers([b.peer, c.peer])
      await expect(a.transport.ask(c.id, whoAreYou, { signal: AbortSignal.timeout(5_000) })).rejects.toThrow()
    })

    test('a question from somebody who is no member rejects and is never heard', async () => {
      const a = await make('a')
      const b = await make('b')
      let heard = 0
      a.answer = async () => {
        heard += 1
        return { type: 'done' }
      }
      await a.start([])
      await b.start([a])
      for (let round = 0; round < 3; round++) {
        const asked = b.transport.ask(a.id, { type: 'whoAreYou' }, { signal: AbortSignal.timeout(5_000) })
        await expect(asked).rejects.toThrow()
      }
      expect(heard).toBe(0)
    })

    test('many nodes that start in the same moment connect without coming and going', async () => {
      const names = ['a', 'b', 'c', 'd']
      const nodes = await Promise.all(names.map((id) => make(id)))
      await Promise.all(nodes.map((node) => node.start(nodes)))
      await until(() =>
        nodes.every((node) => nodes.every((other) => other === node || node.transport.isConnected(other.id))),
      )
      for (const node of nodes) {
        for (const other of nodes) {
          if (other !== node)
            expect(node.transport.send(other.id, node.raft(other, { type: 'timeoutNow', term: 1 }))).toBe(
              true,
            )
        }
      }
      await until(() => nodes.every((node) => node.messages.length === 3))
      for (const node of nodes)
        expect(node.events.filter((event) => event.startsWith('disconnected'))).toEqual([])
    })

    test('nothing is heard from a transport after it was closed', async () => {
      const { a, b } = await connectedPair()
      await a.transport.close()
      const heard = a.events.length
      expect(a.transport.send(b.id, a.raft(b, { type: 'timeoutNow', term: 1 }))).toBe(false)
      await until(() => b.events.length === 2)
      expect(a.events.length).toBe(heard)
      await a.transport.close()
    })
  })
}
