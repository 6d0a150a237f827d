// Who has keys and tokens expired: the leader's node, by the log's own time, and only when something is due (rule 23).

import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import { TrivetError } from '../../src/errors.ts'
import { ExpiryKeeper } from '../../src/node/expiry-keeper.ts'
import type { Command, OwnCommand } from '../../src/store/types.ts'
import { bytes, founding, type Machine, memory, set, tokens, Workshop } from '../store/state-fixtures.ts'
import { Town } from './town.ts'

const { foundedAt } = founding

/** A replica of one: what is proposed is applied at once, with the stamp that it says. */
class Alone {
  readonly raft = { role: 'leader' }
  readonly proposed: OwnCommand[] = []
  readonly #machine: Machine
  time = foundedAt
  failure: Error | undefined

  constructor(machine: Machine) {
    this.#machine = machine
  }

  get machine() {
    return this.#machine.state
  }

  stamp(): number {
    return this.time
  }

  async execute(command: Command): Promise<void> {
    if (this.failure !== undefined) throw this.failure
    if (command.type === 'expire' || command.type === 'collect') this.proposed.push(command)
    await this.#machine.runAt(this.time, command)
  }
}

async function setUp(workshop: Workshop) {
  const machine = await workshop.open(await memory(), { flushEveryMs: 0 })
  const replica = new Alone(machine)
  const keeper = new ExpiryKeeper({
    replica,
    now: () => performance.now(),
    logger: pino({ level: 'silent' }),
  })
  /** One round, and what it proposed. */
  const round = async (): Promise<readonly OwnCommand[]> => {
    await keeper.tick()
    return replica.proposed.splice(0)
  }
  return { machine, replica, keeper, round }
}

function lasting(count: number, ttl: number, store = 'default'): readonly Command[] {
  return Array.from({ length: count }, (_, n) => ({ ...set(`k${n}`, 'v', { store }), ttl }) as Command)
}

describe('the keeper of expiry', () => {
  it('proposes nothing while nothing is due, and nothing on a node that does not lead', async () => {
    await using workshop = new Workshop()
    const { machine, replica, round } = await setUp(workshop)
    await machine.runAt(foundedAt, ...lasting(3, 100))
    expect(await round()).toEqual([])
    replica.raft.role = 'follower'
    replica.time = foundedAt + 100
    expect(await round()).toEqual([])
    replica.raft.role = 'leader'
    expect(await round()).toMatchObject([{ type: 'expire', records: [{}, {}, {}] }])
    expect(await round()).toEqual([])
  })

  it('expires a thousand at a time, records and tokens, the earliest first', async () => {
    await using workshop = new Workshop()
    const { machine, replica, round } = await setUp(workshop)
    const minted = { name: 'short', hash: 's'.repeat(43), principal: { type: 'monitor' }, ttl: 5 } as const
    await machine.runAt(foundedAt, ...lasting(2100, 10), {
      type: 'mintToken',
      token: tokens.admin.hash,
      minted,
    })
    replica.time = foundedAt + 10
    const proposed = await round()
    const sizes = proposed.map((one) =>
      one.type === 'expire' ? [one.records.length, one.tokens.length] : [],
    )
    expect(sizes).toEqual([
      [999, 1],
      [1000, 0],
      [101, 0],
    ])
    expect(machine.state.store('default')).toMatchObject({ keys: 0, bytes: 0 })
    expect(machine.state.token('s'.repeat(43))).toBeUndefined()
  })

  it('collects what a dropped store has left, and what was to expire in it', async () => {
    await using workshop = new Workshop()
    const { machine, replica, round } = await setUp(workshop)
    await machine.runAt(foundedAt, ...lasting(1500, 1_000_000, 'sessions'))
    await machine.run({ type: 'dropStore', token: tokens.admin.hash, name: 'sessions' })
    expect((await round()).map(({ type }) => type)).toEqual(['collect', 'collect'])
    expect(machine.state.dropped()).toEqual([])
    replica.time = foundedAt + 2_000_000
    expect(await round()).toEqual([])
  })

  it('tries again with the next round what could not be proposed', async () => {
    await using workshop = new Workshop()
    const { machine, replica, round } = await setUp(workshop)
    await machine.runAt(foundedAt, ...lasting(1, 10))
    replica.time = foundedAt + 10
    replica.failure = new TrivetError('no-leader', 'The leader was lost')
    expect(await round()).toEqual([])
    replica.failure = undefined
    expect(await round()).toMatchObject([{ type: 'expire' }])
  })
})

describe('a key with a time to live in a cluster', () => {
  it('goes at every node, though the leader that took it is gone', async () => {
    await using town = await Town.start({ seed: 11 })
    const leader = await town.leader()
    const token = createHash('sha256').update('the secret of the town').digest('base64url')
    const deadline = performance.now() + 3000
    await town.node(leader).execute({ ...set('short', 'v', { token }), ttl: 300 } as Command, { deadline })
    await town.node(leader).execute(set('long', 'v', { token }), { deadline })
    await town.crash(leader)
    const others = town.ids.filter((id) => id !== leader)
    for (const id of others) {
      const until = performance.now() + 20_000
      while ((await town.node(id).state.get('default', bytes('short'))) !== undefined) {
        expect(performance.now()).toBeLessThan(until)
        await delay(10)
      }
      expect(await town.node(id).state.get('default', bytes('long'))).toBeDefined()
    }
  }, 40_000)
})
