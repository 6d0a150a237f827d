// Random logs against a plain model, and against themselves in other groupings with restarts in between.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Entry } from '../../src/raft/types.ts'
import { decodeCommand } from '../../src/store/commands.ts'
import { StateLoader } from '../../src/store/state-loader.ts'
import type { Command, CommandBatch, KeyCommand, Once, Outcome } from '../../src/store/types.ts'
import { MemoryState } from './memory-state.ts'
import {
  backends,
  batch,
  bytes,
  del,
  dump,
  entry,
  founding,
  inSession,
  openSession,
  set,
  tokens,
  transfer,
  underKey,
  Workshop,
} from './state-fixtures.ts'

const keys = ['a', 'b', 'é', 'cart/1', '\uff5e', '\u{1f600}']

const condition = fc.oneof(
  fc.constant({ type: 'exists' as const }),
  fc.constant({ type: 'absent' as const }),
  fc.record({ type: fc.constant('revision' as const), revisions: fc.array(fc.nat(12), { maxLength: 4 }) }),
)

/** A few sessions, numbers and keys, so that they meet again. */
const once: fc.Arbitrary<{ readonly once?: Once }> = fc.oneof(
  { weight: 3, arbitrary: fc.constant({}) },
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 6 }), fc.nat(3))
      .map(([n, seq, acked]) => inSession(n, seq, Math.min(acked, seq - 1))),
  },
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.constantFrom('x', 'y', 'z'), fc.nat(1))
      .map(([key, request]) => underKey(key, request)),
  },
)

const options = fc.record({
  token: fc.oneof(
    { weight: 6, arbitrary: fc.constant(tokens.admin.hash) },
    { weight: 2, arbitrary: fc.constant(tokens.cart.hash) },
    { weight: 1, arbitrary: fc.constantFrom(tokens.monitor.hash, 'unknown') },
  ),
  store: fc.constantFrom('default', 'default', 'sessions', 'gone'),
  conditions: fc.array(condition, { maxLength: 1 }),
})

const command: fc.Arbitrary<Command> = fc.oneof(
  fc
    .tuple(fc.constantFrom(...keys), fc.constantFrom('', '1', 'x'.repeat(16), 'x'.repeat(17)), options, once)
    .map(([key, value, rest, repeat]) => set(key, value, { ...rest, ...repeat })),
  fc
    .tuple(fc.constantFrom(...keys), options, once)
    .map(([key, rest, repeat]) => del(key, { ...rest, ...repeat })),
  fc
    .tuple(fc.integer({ min: 1, max: 3 }), fc.constantFrom(tokens.admin.hash, tokens.cart.hash))
    .map(([n, token]) => openSession(n, token)),
)

const lifeMs = 10 * 60_000

/** After the founding. Some entries come long after those before, some with an earlier stamp. */
const stamp = fc.oneof(
  fc.nat(100),
  fc.constantFrom(...[1, 2, 3].flatMap((lives) => [lives * lifeMs - 1, lives * lifeMs, lives * lifeMs + 1])),
)

/** Numbers come in any order and more than once; boots go up and come back late; acknowledgements jump. */
const commandBatch: fc.Arbitrary<CommandBatch> = fc
  .record({
    commands: fc.array(fc.tuple(fc.integer({ min: 1, max: 150 }), command), { maxLength: 6 }),
    peer: fc.constantFrom('peer-1', 'peer-2'),
    boot: fc.oneof(
      { weight: 4, arbitrary: fc.constant(1) },
      { weight: 1, arbitrary: fc.constantFrom(1, 2, 3) },
    ),
    acked: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(100) }),
  })
  .map(({ commands, ...rest }) => batch(commands, rest))

const log: fc.Arbitrary<readonly Entry[]> = fc
  .array(
    fc.oneof(
      { weight: 8, arbitrary: fc.tuple(fc.array(commandBatch, { maxLength: 4 }), stamp) },
      { weight: 1, arbitrary: fc.constant(undefined) },
      { weight: 1, arbitrary: fc.nat(2) },
    ),
    { minLength: 1, maxLength: 12 },
  )
  .map((list) =>
    list.map((content, n): Entry => {
      const position = { index: n + 1, term: 1 + Math.floor(n / 5) }
      if (content === undefined) return { type: 'noop', ...position }
      if (typeof content === 'number') {
        const members = founding.configuration.members.map((one, at) => ({ ...one, voter: at !== content }))
        return { type: 'configuration', ...position, configuration: { members } }
      }
      return { ...entry(n + 1, content[0], founding.foundedAt + content[1]), ...position }
    }),
  )

describe('a random log', () => {
  it.each(backends)('comes to what a plain model says, on $name', async ({ name, make }) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.array(commandBatch, { maxLength: 4 }), stamp), { maxLength: 12 }),
        async (rounds) => {
          await using workshop = new Workshop()
          const { open } = await make(workshop)
          const { state } = await workshop.open(await open(), { flushEveryMs: 0 })
          const model = new Model()
          for (const [n, [batches, time]] of rounds.entries()) {
            model.time = Math.max(model.time, founding.foundedAt + time)
            const expected = batches.flatMap((one) => model.hear(one))
            const applied = await state.apply([entry(n + 1, batches, founding.foundedAt + time)])
            expect(applied.map(({ id, outcome }) => ({ id, outcome }))).toEqual(expected)
            expect(state.revision).toBe(model.revision)
          }
          for (const store of ['default', 'sessions']) {
            const page = await state.list({ store, limit: 100, maxBytes: 1 << 20 })
            const found = page.items.map(({ key, value, revision, createdRevision }) => ({
              key: Buffer.from(key).toString(),
              value: Buffer.from(value).toString(),
              revision,
              createdRevision,
            }))
            expect(found).toEqual(model.list(store))
            expect(state.store(store)).toMatchObject(model.counts(store))
            for (const key of keys) {
              const item = await state.get(store, bytes(key))
              expect(item?.revision).toBe(found.find((one) => one.key === key)?.revision)
            }
          }
        },
      ),
      { numRuns: name === 'LevelDB' ? 25 : 120 },
    )
  })

  it('leaves the same bytes in every grouping, with restarts, kills and power losses in between', async () => {
    const cuts = fc.array(
      fc.tuple(fc.nat(12), fc.constantFrom('go on', 'restart', 'kill', 'power loss'), fc.nat()),
    )
    await fc.assert(
      fc.asyncProperty(log, cuts, async (entries, plan) => {
        await using workshop = new Workshop()
        const straight = new MemoryState()
        await straight.open()
        const { state } = await workshop.open(straight, { flushEveryMs: 60_000 })
        const outcomes = await state.apply(entries)
        await state.flush()

        let level = new MemoryState()
        await level.open()
        let machine = await workshop.open(level, { flushEveryMs: 0 })
        for (const [upTo, event, seed] of plan) {
          const before = machine.state.lastApplied
          const applied = await machine.state.apply(entries.slice(before, Math.max(before, upTo)))
          expect(applied).toEqual(outcomes.filter(({ index }) => index > before && index <= upTo))
          if (event === 'go on') continue
          if (event === 'restart') await machine.state.close()
          level = event === 'power loss' ? await level.powerLoss(seed) : await level.restart()
          machine = await workshop.open(level, { flushEveryMs: 0 })
        }
        await machine.state.apply(entries.slice(machine.state.lastApplied))
        await machine.state.flush()
        expect(await dump(level)).toEqual(await dump(straight))
        expect(await machine.state.recompute()).toMatchObject(state.digest)
      }),
      { numRuns: 120 },
    )
  })
})

describe('a snapshot of a random log', () => {
  it.each(backends)('is the state at its index and goes on like it, on $name', async ({ name, make }) => {
    await fc.assert(
      fc.asyncProperty(
        log,
        fc.nat(12),
        fc.integer({ min: 300, max: 1500 }),
        async (entries, cut, maxBytes) => {
          await using workshop = new Workshop()
          const senders = await (await make(workshop)).open()
          const { state: sender } = await workshop.open(senders, { flushEveryMs: 0 })
          await sender.apply(entries.slice(0, cut))
          const snapshot = await sender.snapshot()
          const atCut = await dump(senders)
          await sender.apply(entries.slice(cut))
          await sender.flush()

          const receivers = await (await make(workshop)).open()
          const loader = await StateLoader.open({ level: receivers, expected: snapshot })
          expect(await transfer(snapshot, loader, maxBytes)).toBeLessThanOrEqual(maxBytes)
          await loader.finish()
          expect(await dump(receivers)).toEqual(atCut)

          const { state: receiver } = await workshop.open(receivers, { flushEveryMs: 0 })
          expect(receiver.verified).toBe(true)
          expect(receiver.lastApplied).toBe(Math.min(cut, entries.length))
          expect(receiver.digest.digest).toBe(snapshot.digest)
          await receiver.apply(entries.slice(cut))
          await receiver.flush()
          expect(await dump(receivers)).toEqual(await dump(senders))
          expect(receiver.digest).toEqual(sender.digest)
          expect(await receiver.recompute()).toMatchObject(receiver.digest)
          await snapshot.close()
        },
      ),
      { numRuns: name === 'LevelDB' ? 25 : 120 },
    )
  })
})

type Plain = Extract<KeyCommand, { type: 'set' | 'delete' }>

type ModelRecord = {
  readonly value: string
  readonly contentType: string
  readonly revision: number
  readonly createdRevision: number
}

type ModelSession = { owner: string; used: number; floor: number; outcomes: Map<number, Outcome> }
type ModelKey = { readonly at: number; readonly digest: string; readonly outcome: Outcome }

/** The state as a reader of the contract would write it down: maps, and no thought of disks. */
class Model {
  revision = 0
  time = founding.foundedAt
  /** None is ever taken away: what is over is over by its time. */
  readonly #sessions = new Map<string, ModelSession>()
  readonly #keys = new Map<string, ModelKey>()
  readonly #stores = new Map([
    ['default', new Map<string, ModelRecord>()],
    ['sessions', new Map<string, ModelRecord>()],
  ])
  readonly #origins = new Map<string, { boot: number; floor: number; outcomes: Map<number, Outcome> }>()

  hear({ peer, boot, acked, commands }: CommandBatch) {
    let origin = this.#origins.get(peer)
    if (origin === undefined || origin.boot < boot) origin = { boot, floor: 0, outcomes: new Map() }
    this.#origins.set(peer, origin)
    if (boot < origin.boot) return []
    origin.floor = Math.max(origin.floor, acked)
    const answers: { id: { peer: string; boot: number; number: number }; outcome: Outcome }[] = []
    for (const { number, bytes: encoded } of commands) {
      if (number <= origin.floor) continue
      const outcome = origin.outcomes.get(number) ?? this.#execute(decodeCommand(encoded))
      origin.outcomes.set(number, outcome)
      answers.push({ id: { peer, boot, number }, outcome })
    }
    return answers
  }

  list(store: string) {
    return [...(this.#stores.get(store) ?? [])]
      .sort(([left], [right]) => Buffer.compare(bytes(left), bytes(right)))
      .map(([key, { value, revision, createdRevision }]) => ({ key, value, revision, createdRevision }))
  }

  counts(store: string) {
    const all = [...(this.#stores.get(store) ?? [])]
    const size = all.reduce((sum, [key, { value }]) => sum + bytes(key).length + bytes(value).length, 0)
    return { keys: all.length, bytes: size }
  }

  #execute(command: Command): Outcome {
    assert(command.type === 'set' || command.type === 'delete' || command.type === 'openSession')
    const name = Object.values(tokens).find(({ hash }) => hash === command.token)?.name
    if (name === undefined) return { type: 'refused', code: 'unauthenticated' }
    if (command.type === 'openSession') {
      const { session } = command
      const stands = this.#sessions.get(session)
      if (stands !== undefined && stands.used + lifeMs > this.time) {
        return { type: 'refused', code: 'invalid-request' }
      }
      this.#sessions.set(session, { owner: name, used: this.time, floor: 0, outcomes: new Map() })
      return { type: 'sessionOpened' }
    }
    const { once } = command
    if (once === undefined) return this.#change(command)
    return once.type === 'session'
      ? this.#inSession(name, once, command)
      : this.#underKey(name, once, command)
  }

  #inSession(owner: string, once: Extract<Once, { type: 'session' }>, command: Plain): Outcome {
    const { seq, acked } = once
    const session = this.#sessions.get(once.session)
    if (session === undefined || session.owner !== owner || session.used + lifeMs <= this.time) {
      return { type: 'refused', code: 'session-expired' }
    }
    session.used = this.time
    session.floor = Math.max(session.floor, acked)
    if (seq <= session.floor) return { type: 'refused', code: 'invalid-request', field: 'trivet-session' }
    const known = session.outcomes.get(seq)
    if (known !== undefined) return { ...known, replayed: true }
    const outcome = this.#change(command)
    session.outcomes.set(seq, outcome)
    return outcome
  }

  #underKey(owner: string, once: Extract<Once, { type: 'key' }>, command: Plain): Outcome {
    const id = `${owner} ${once.key}`
    const digest = Buffer.from(once.digest).toString('hex')
    const known = this.#keys.get(id)
    if (known !== undefined && known.at + lifeMs > this.time) {
      if (known.digest !== digest) return { type: 'refused', code: 'idempotency-key-reused' }
      return { ...known.outcome, replayed: true }
    }
    const outcome = this.#change(command)
    if (outcome.type !== 'refused' || outcome.code === 'condition-failed') {
      this.#keys.set(id, { at: this.time, digest, outcome })
    }
    return outcome
  }

  #change(command: Plain): Outcome {
    const key = Buffer.from(command.key).toString()
    const name = Object.values(tokens).find(({ hash }) => hash === command.token)?.name
    const cartMay =
      command.store === 'default' ? key.startsWith('cart/') : ['sessions', 'gone'].includes(command.store)
    if (name === undefined) return { type: 'refused', code: 'unauthenticated' }
    if (name === 'monitor' || (name === 'cart' && !cartMay)) return { type: 'refused', code: 'access-denied' }
    const store = this.#stores.get(command.store)
    if (store === undefined) return { type: 'refused', code: 'no-such-store' }
    const limit = command.store === 'sessions' ? 16 : founding.valueBytes
    if (command.type === 'set' && command.value.length > limit) {
      return { type: 'refused', code: 'value-too-large', limit }
    }
    const present = store.get(key)
    for (const one of command.conditions) {
      const wrong =
        one.type === 'absent'
          ? present !== undefined
          : present === undefined || (one.type === 'revision' && !one.revisions.includes(present.revision))
      if (wrong) return { type: 'refused', code: 'condition-failed', revision: present?.revision ?? 0 }
    }
    this.revision += 1
    const { revision } = this
    if (command.type === 'delete') return { type: 'deleted', revision, deleted: store.delete(key) }
    const { contentType } = command
    const value = Buffer.from(command.value).toString()
    const changed = present?.value !== value || present.contentType !== contentType
    store.set(key, { value, contentType, revision, createdRevision: present?.createdRevision ?? revision })
    return { type: 'set', revision, created: present === undefined, changed }
  }
}
