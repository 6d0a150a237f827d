// The twin keeps the same contract as the network, and obeys the test that drives it.

import { describe, expect, test } from 'vitest'

import type { Peer } from '../../src/node/transport.ts'
import { MemoryNetwork, type MemoryNetworkOptions, type Scheduler } from './memory-network.ts'
import { cluster } from './names-of-clusters.ts'
import { transportContract, Witness } from './transport-contract.ts'

transportContract('the network in memory', async () => {
  const network = new MemoryNetwork({ delay: { least: 0, most: 1 } })
  return {
    make: async (name, hello) => ({ transport: network.transport(name, hello), peer: peerOf(name) }),
    close: async () => undefined,
  }
})

describe('the network in memory', () => {
  test('a cut is one way where it is made one way, and what was sent into it is gone', async () => {
    const { network, clock, a, b } = await connected({})
    network.cutOneWay('a', 'b')
    say(a, b, 1)
    say(b, a, 2)
    clock.run()
    expect(rounds(b)).toEqual([])
    expect(rounds(a)).toEqual([2])
    network.heal()
    say(a, b, 3)
    clock.run()
    expect(rounds(b)).toEqual([3])
  })

  test('a connection that breaks is missed on both sides and comes back', async () => {
    const { network, clock, a, b } = await connected({})
    network.breakConnection('a', 'b')
    expect(a.events.at(-1)).toBe('disconnected b')
    expect(b.events.at(-1)).toBe('disconnected a')
    clock.run()
    expect(a.transport.isConnected('b')).toBe(true)
  })

  test('the same seed brings the same delays, losses and repetitions', async () => {
    const story = async (seed: number) => {
      const { clock, a, b } = await connected({
        seed,
        delay: { least: 1, most: 9 },
        loss: 0.2,
        duplication: 0.2,
      })
      for (let round = 1; round <= 100; round++) say(a, b, round)
      clock.run()
      return rounds(b)
    }
    const first = await story(42)
    expect(await story(42)).toEqual(first)
    expect(await story(43)).not.toEqual(first)
    expect(first).toEqual([...first].sort((x, y) => x - y))
    expect(new Set(first).size).toBeLessThan(100)
    expect(first.length).toBeGreaterThan(new Set(first).size)
  })
})

/** Time that moves only when told to. */
class Clock implements Scheduler {
  #now = 0
  #waiting: { readonly at: number; readonly action: () => void }[] = []

  readonly now = () => this.#now

  readonly after = (milliseconds: number, action: () => void) => {
    this.#waiting.push({ at: this.#now + milliseconds, action })
  }

  run(): void {
    const deadline = this.#now + 10_000
    for (;;) {
      const [next] = [...this.#waiting].sort((a, b) => a.at - b.at)
      if (next === undefined || next.at > deadline) return
      this.#waiting.splice(this.#waiting.indexOf(next), 1)
      this.#now = next.at
      next.action()
    }
  }
}

function peerOf(name: string): Peer {
  return { peer: name, id: name, addresses: [] }
}

async function connected(options: MemoryNetworkOptions) {
  const clock = new Clock()
  const network = new MemoryNetwork({ ...options, scheduler: clock })
  const make = (id: string) =>
    new Witness({ transport: network.transport(id, { clusterId: cluster, id, boot: 1 }), peer: peerOf(id) })
  const [a, b] = [make('a'), make('b')]
  await a.start([b])
  await b.start([a])
  clock.run()
  expect(a.transport.isConnected('b')).toBe(true)
  return { network, clock, a, b }
}

function say(from: Witness, to: Witness, round: number): void {
  from.transport.send(to.id, from.raft(to, { type: 'heartbeat', since: 0, term: 1, round, commitIndex: 0 }))
}

function rounds(of: Witness): number[] {
  return of.messages.map(({ message }) =>
    message.type === 'raft' && message.message.type === 'heartbeat' ? message.message.round : 0,
  )
}
