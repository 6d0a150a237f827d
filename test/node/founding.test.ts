// Founding: once, with everybody, and never again over what exists (`safety.md`, rule 10).

import { describe, expect, it } from 'vitest'
import { answerFounding, type FoundingOptions, found, type Identity } from '../../src/node/founding.ts'
import type { Membership } from '../../src/node/transport.ts'
import type { Member } from '../../src/raft/types.ts'
import type { Founding } from '../../src/store/types.ts'

/** A few nodes that can ask each other, each with a disk that is nothing but its identity. */
class Village {
  readonly #nodes = new Map<string, House>()
  readonly names: readonly string[]
  founded = 0

  constructor(names: readonly string[]) {
    this.names = names
    for (const name of names) this.#nodes.set(name, new House(this, name))
  }

  house(name: string): House {
    const house = this.#nodes.get(name)
    if (house === undefined) throw new Error(`no house ${name}`)
    return house
  }

  get houses(): readonly House[] {
    return [...this.#nodes.values()]
  }
}

class House {
  identity: Identity = { type: 'empty' }
  up = false
  waiting = ''
  looks = 0
  without: readonly string[] = []
  /** Fails the next durable step, as a crash would. */
  crashBefore: 'found' | 'begin' | undefined
  /** What it tells those of its members that ask. */
  membership: Membership | undefined
  /** What it joined by. */
  joined: Membership | undefined
  /** Whom its cluster has as members, once it runs; undefined: everybody. */
  admits: readonly string[] | undefined
  readonly name: string
  readonly #village: Village

  constructor(village: Village, name: string) {
    this.#village = village
    this.name = name
  }

  get options(): FoundingOptions {
    const village = this.#village
    return {
      own: addressOf(this.name),
      nodes: village.names.map(addressOf),
      without: this.without,
      identity: () => this.identity,
      membership: () => (this.up && this.begun ? this.membership : undefined),
      compose: (ids) => {
        village.founded++
        return foundingOf(`cluster-${village.founded}-by-${this.name}`, ids)
      },
      found: async (founding) => {
        this.#crash('found')
        if (this.identity.type === 'empty') this.identity = { type: 'founded', founding, begun: false }
      },
      begin: async () => {
        this.#crash('begin')
        if (this.identity.type === 'founded') this.identity = { ...this.identity, begun: true }
      },
      ask: async (peer, question) => {
        const other = village.house(peer)
        if (!other.up) throw new Error(`${peer} is down`)
        if (other.admits?.includes(this.name) === false) {
          return { type: 'refused', reason: `${this.name} is no member of the cluster of ${peer}` }
        }
        switch (question.type) {
          case 'whoAreYou':
          case 'found':
          case 'begin':
            return answerFounding(other.options, question, this.name)
          default:
            throw new Error('not of founding')
        }
      },
      join: async (membership) => {
        this.joined = membership
        this.identity = { type: 'founded', founding: membership.founding, begun: true }
      },
      waiting: (sentence) => {
        this.waiting = sentence
        this.looks++
      },
      sleep: () => new Promise((resolve) => setImmediate(resolve)),
    }
  }

  #crash(before: 'found' | 'begin'): void {
    if (this.crashBefore !== before) return
    this.crashBefore = undefined
    this.up = false
    throw new Error('crashed')
  }

  /** Runs until the node may take part, or has looked around `looks` times in vain, or crashes. */
  async run(looks = 50): Promise<void> {
    this.up = true
    this.looks = 0
    await found(this.options, () => this.looks >= looks || !this.up).catch((error: unknown) => {
      if (!(error instanceof Error && error.message === 'crashed')) throw error
    })
  }

  get clusterId(): string | undefined {
    return this.identity.type === 'founded' ? this.identity.founding.clusterId : undefined
  }

  get begun(): boolean {
    return this.identity.type === 'founded' && this.identity.begun
  }

  wipe(): void {
    this.identity = { type: 'empty' }
  }
}

function addressOf(id: string) {
  return { id, peer: id, http: `http://${id}`, p2p: `/dns4/${id}/tcp/1` }
}

function foundingOf(clusterId: string, ids: readonly string[]): Founding {
  return {
    clusterId,
    name: 'dev',
    configuration: {
      members: ids.map((id) => ({
        id,
        peer: id,
        http: '',
        p2p: '',
        voter: true,
        since: 0,
        commandVersion: 1,
      })),
    },
    stores: [],
    tokens: [],
    valueBytes: 1,
    foundedAt: 0,
    commandVersion: 1,
  }
}

async function runAll(village: Village, names = village.names, looks = 50): Promise<void> {
  await Promise.all(names.map((name) => village.house(name).run(looks)))
}

describe('founding', () => {
  it('makes one cluster of all nodes once all say that they are empty', async () => {
    const village = new Village(['n1', 'n2', 'n3'])
    await runAll(village)
    expect(village.founded).toBe(1)
    expect(new Set(village.houses.map((house) => house.clusterId)).size).toBe(1)
    expect(village.houses.every((house) => house.begun)).toBe(true)
  })

  it('founds a single node by itself', async () => {
    const village = new Village(['n1'])
    await runAll(village)
    expect(village.house('n1').begun).toBe(true)
  })

  it('waits for a node that cannot be asked, and names it', async () => {
    const village = new Village(['n1', 'n2', 'n3'])
    await runAll(village, ['n1', 'n2'])
    expect(village.founded).toBe(0)
    expect(village.house('n1').waiting).toMatch(/^waiting for n3 to answer.*--found-without n3/)
    expect(village.house('n2').waiting).toBe('waiting for n1 to found the cluster')
  })

  it('founds without a node when the operator says so, and leaves it out', async () => {
    const village = new Village(['n1', 'n2', 'n3'])
    village.house('n1').without = ['n3']
    await runAll(village, ['n1', 'n2'])
    const { identity } = village.house('n1')
    expect(
      identity.type === 'founded' && identity.founding.configuration.members.map((member) => member.id),
    ).toEqual(['n1', 'n2'])
    expect(village.house('n2').begun).toBe(true)
  })

  it('tells a node that was left out that it is no member, instead of having it wait for a founder', async () => {
    const village = new Village(['n1', 'n2', 'n3'])
    village.house('n1').without = ['n3']
    await runAll(village, ['n1', 'n2'])
    for (const name of ['n1', 'n2']) village.house(name).admits = ['n1', 'n2']
    await village.house('n3').run()
    expect(village.house('n3').identity.type).toBe('empty')
    expect(village.house('n3').waiting).toContain(
      'there is a cluster of n1, n2, and this node is no member of it',
    )
    expect(village.house('n3').waiting).toContain(
      '`trivet member add n3 --http http://n3 --p2p /dns4/n3/tcp/1 --peer n3`',
    )
  })

  describe('a node that was added to a cluster', () => {
    /** n1 and n2 founded the cluster; n3 is empty, and what n1 and n2 say of it is `own`. */
    async function added(own: Partial<Member>) {
      const village = new Village(['n1', 'n2', 'n3'])
      village.house('n1').without = ['n3']
      await runAll(village, ['n1', 'n2'])
      const [first, second] = [village.house('n1'), village.house('n2')]
      if (first.identity.type !== 'founded') throw new Error('not founded')
      const { founding } = first.identity
      const member = { ...addressOf('n3'), voter: false, since: 0, commandVersion: 1, ...own }
      const configuration = { members: [...founding.configuration.members, member] }
      first.membership = { founding, index: 9, configuration, boot: 4 }
      // It lags, but has heard of a later boot.
      const before = { members: [...founding.configuration.members, { ...member, http: 'http://before' }] }
      second.membership = { founding, index: 8, configuration: before, boot: 7 }
      await village.house('n3').run()
      return { house: village.house('n3'), configuration }
    }

    it('joins by the newest configuration that anybody knows', async () => {
      const { house, configuration } = await added({})
      expect(house.begun).toBe(true)
      expect(house.joined).toMatchObject({ index: 9, configuration })
    })

    it('joins under a boot after the latest that anybody has heard of: its own disk has forgotten it', async () => {
      const { house } = await added({})
      expect(house.joined?.boot).toBe(7)
    })

    it('does not join as a voter: with an empty directory it is one that lost what it promised', async () => {
      const { house } = await added({ voter: true })
      expect(house.identity.type).toBe('empty')
      expect(house.waiting).toContain('it may have voted before')
      expect(house.waiting).toContain('`trivet member replace n3 --http http://n3 --p2p /dns4/n3/tcp/1')
    })

    it('does not join with a program that is too old for what the state holds', async () => {
      const village = new Village(['n1', 'n2'])
      village.house('n1').without = ['n2']
      await runAll(village, ['n1'])
      const { identity } = village.house('n1')
      if (identity.type !== 'founded') throw new Error('not founded')
      const { founding } = identity
      const members = [
        ...founding.configuration.members.map((member) => ({ ...member, commandVersion: 99 })),
        { ...addressOf('n2'), voter: false, since: 0, commandVersion: 99 },
      ]
      village.house('n1').membership = { founding, index: 9, configuration: { members }, boot: 0 }
      await village.house('n2').run()
      expect(village.house('n2').identity.type).toBe('empty')
      expect(village.house('n2').waiting).toContain('the cluster dev uses version 99')
    })
  })

  it('tells what new members need to nobody who is none', async () => {
    const village = new Village(['n1'])
    await runAll(village)
    const { options, identity } = village.house('n1')
    if (identity.type !== 'founded') throw new Error('not founded')
    const { founding } = identity
    const membership = { founding, index: 0, configuration: founding.configuration, boot: 0 }
    const asked = { ...options, membership: () => membership }
    expect(await answerFounding(asked, { type: 'whoAreYou' }, 'n9')).not.toHaveProperty('membership')
    expect(await answerFounding(asked, { type: 'whoAreYou' }, 'n1')).toHaveProperty('membership')
  })

  it('does not found over a cluster: two of three wiped wait, and say what helps', async () => {
    const village = new Village(['n1', 'n2', 'n3'])
    await runAll(village)
    const before = village.house('n3').clusterId
    village.house('n1').wipe()
    village.house('n2').wipe()
    await runAll(village)
    expect(village.founded).toBe(1)
    expect(village.house('n3').clusterId).toBe(before)
    for (const name of ['n1', 'n2']) {
      expect(village.house(name).identity.type).toBe('empty')
      expect(village.house(name).waiting).toContain(`the data directory of ${name} is empty`)
      expect(village.house(name).waiting).toContain(`trivet member replace ${name}`)
    }
  })

  it('does not give an emptied node a vote through --found-without either', async () => {
    const village = new Village(['n1', 'n2', 'n3'])
    await runAll(village)
    village.house('n1').wipe()
    village.house('n1').without = ['n3']
    await runAll(village)
    expect(village.house('n1').identity.type).toBe('empty')
    expect(village.founded).toBe(1)
  })

  it.each(['found', 'begin'] as const)(
    'goes on after the founder crashed before its %s was durable',
    async (step) => {
      const village = new Village(['n1', 'n2', 'n3'])
      village.house('n1').crashBefore = step
      await runAll(village)
      expect(village.houses.some((house) => house.begun)).toBe(false)
      await runAll(village)
      expect(village.houses.every((house) => house.begun)).toBe(true)
      expect(new Set(village.houses.map((house) => house.clusterId)).size).toBe(1)
    },
  )

  it.each(['found', 'begin'] as const)(
    'goes on after another node crashed before its %s was durable',
    async (step) => {
      const village = new Village(['n1', 'n2', 'n3'])
      village.house('n2').crashBefore = step
      await runAll(village)
      expect(village.house('n2').begun).toBe(false)
      await runAll(village)
      expect(village.houses.every((house) => house.begun)).toBe(true)
      expect(village.founded).toBe(1)
    },
  )

  it('goes on when a node lost its disk before anybody had begun', async () => {
    const village = new Village(['n1', 'n2', 'n3'])
    village.house('n1').crashBefore = 'begin'
    await runAll(village)
    village.house('n3').wipe()
    await runAll(village)
    expect(village.houses.every((house) => house.begun)).toBe(true)
    expect(new Set(village.houses.map((house) => house.clusterId)).size).toBe(1)
  })

  it('tells the operator when the founder itself lost its disk before anybody had begun', async () => {
    const village = new Village(['n1', 'n2', 'n3'])
    village.house('n1').crashBefore = 'begin'
    await runAll(village)
    village.house('n1').wipe()
    await runAll(village)
    expect(village.house('n1').identity.type).toBe('empty')
    expect(village.house('n1').waiting).toContain('empty the data directories of all nodes')
    expect(village.houses.some((house) => house.begun)).toBe(false)
  })

  it('lets nobody begin while one node has not got the founding', async () => {
    const village = new Village(['n1', 'n2', 'n3'])
    village.house('n3').crashBefore = 'found'
    await runAll(village)
    expect(village.houses.some((house) => house.begun)).toBe(false)
    expect(village.house('n1').waiting).toMatch(/n3/)
  })

  it('refuses a founding of another cluster, and one that does not name it', async () => {
    const village = new Village(['n1', 'n2'])
    await runAll(village)
    const other = foundingOf('another', ['n1', 'n2'])
    const answer = await answerFounding(village.house('n2').options, { type: 'found', founding: other }, 'n1')
    expect(answer).toMatchObject({ type: 'refused' })
    const empty = new Village(['n1', 'n2']).house('n2')
    expect(
      await answerFounding(empty.options, { type: 'found', founding: foundingOf('x', ['n1']) }, 'n1'),
    ).toMatchObject({
      type: 'refused',
      reason: 'the founding does not name n2',
    })
    expect(empty.identity.type).toBe('empty')
  })
})
