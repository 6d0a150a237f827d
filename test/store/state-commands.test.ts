// What single commands promise at their bounds; `state-properties.test.ts` holds all of them against a model.

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { placeOf } from '../../src/store/places.ts'
import type { Change } from '../../src/store/state-changes.ts'
import type { Command, Minted, Operation, Outcome, Ttl } from '../../src/store/types.ts'
import { copied } from './state-agreement.ts'
import {
  bytes,
  del,
  founding,
  inSession,
  type Machine,
  memory,
  openSession,
  set,
  tokens,
  underKey,
  Workshop,
} from './state-fixtures.ts'
import { transaction } from './state-logs.ts'

const admin = { token: tokens.admin.hash }
const { foundedAt } = founding

let workshop: Workshop
let machine: Machine

beforeEach(async () => {
  workshop = new Workshop()
  machine = await workshop.open(await memory(), { flushEveryMs: 0 })
})

afterEach(async () => {
  await workshop[Symbol.asyncDispose]()
})

function lasting(key: string, ttl: Ttl): Command {
  return { ...set(key, 'value'), ttl } as Command
}

function touch(key: string, ttl: Ttl): Command {
  return { type: 'touch', ...admin, store: 'default', key: bytes(key), ttl, conditions: [] }
}

function increment(key: string, delta: bigint, more: object = {}): Command {
  return { type: 'increment', ...admin, store: 'default', key: bytes(key), delta, conditions: [], ...more }
}

function range(prefix: string, store = 'default'): Command {
  return { type: 'deleteRange', ...admin, store, prefix: bytes(prefix) }
}

function mint(
  name: string,
  principal: Minted['principal'],
  more: { token?: string; ttl?: number } = {},
): Command {
  const { token = tokens.admin.hash, ...rest } = more
  return { type: 'mintToken', token, minted: { name, hash: name.padEnd(43, '_'), principal, ...rest } }
}

async function expireAt(time: number): Promise<Outcome | undefined> {
  const due = await machine.state.due(time, 1000)
  return (await machine.runAt(time, { type: 'expire', ...due }))[0]
}

describe('a record with a time to live', () => {
  it('is visible until the command that expires it, however late that comes', async () => {
    await machine.runAt(foundedAt, lasting('a', 10))
    await machine.runAt(foundedAt + 1000, set('other', ''))
    expect(await machine.text('a')).toBe('value')
    expect(await machine.state.due(foundedAt + 9, 10)).toEqual({ records: [], tokens: [] })
    const { records } = await machine.state.due(foundedAt + 10, 10)
    expect(records.map(({ key }) => Buffer.from(key).toString())).toEqual(['a'])
    await expireAt(foundedAt + 1000)
    expect(await machine.text('a')).toBeUndefined()
    expect(machine.state.revision).toBe(3)
  })

  it('is not expired before the stamp of the log has come to it, whatever a leader finds due', async () => {
    await machine.runAt(foundedAt, lasting('a', 10))
    const due = await machine.state.due(Number.MAX_SAFE_INTEGER, 10)
    await machine.runAt(foundedAt + 9, { type: 'expire', ...due })
    expect(await machine.text('a')).toBe('value')
    expect(machine.state.revision).toBe(1)
  })

  it('stays when it was renewed, written anew or made lasting after it was found due', async () => {
    await machine.runAt(foundedAt, lasting('renewed', 10), lasting('written', 10), lasting('lasting', 10))
    const due = await machine.state.due(foundedAt + 20, 10)
    expect(due.records).toHaveLength(3)
    await machine.runAt(foundedAt + 11, touch('renewed', 10), lasting('written', 5), touch('lasting', 'none'))
    await machine.runAt(foundedAt + 20, { type: 'expire', ...due })
    expect(await machine.text('renewed')).toBe('value')
    expect(await machine.text('written')).toBe('value')
    expect(await machine.text('lasting')).toBe('value')
    await expireAt(foundedAt + 21)
    expect(await machine.text('renewed')).toBeUndefined()
    expect(await machine.text('lasting')).toBe('value')
  })

  it('keeps revision and watchers untouched when it is renewed, and its time when it is incremented', async () => {
    await machine.runAt(foundedAt, { ...set('n', '1'), ttl: 100 } as Command)
    const [renewed] = await machine.runAt(foundedAt + 50, touch('n', 100))
    expect(renewed).toEqual({ type: 'touched', expires: foundedAt + 150 })
    expect((await machine.state.get('default', bytes('n')))?.revision).toBe(1)
    await machine.runAt(foundedAt + 60, increment('n', 1n, { ttl: 5 }))
    const item = await machine.state.get('default', bytes('n'))
    expect(item).toMatchObject({ revision: 2, expires: foundedAt + 150, contentType: 'text/plain' })
  })
})

describe('an increment', () => {
  it('counts in signed 64 bits, and refuses what is no number or would be too large', async () => {
    const outcomes = await machine.run(
      increment('n', 2n ** 63n - 1n),
      increment('n', 1n),
      increment('n', -(2n ** 63n)),
      increment('n', -(2n ** 63n)),
      set('text', '1 '),
      increment('text', 1n),
    )
    expect(outcomes).toMatchObject([
      { type: 'incremented', value: 2n ** 63n - 1n },
      { type: 'refused', code: 'overflow' },
      { type: 'incremented', value: -1n },
      { type: 'refused', code: 'overflow' },
      { type: 'set' },
      { type: 'refused', code: 'not-a-number' },
    ])
    expect(await machine.text('n')).toBe('-1')
  })

  it('that comes again is answered with the same number', async () => {
    const again = increment('n', 5n, underKey('once'))
    const outcomes = await machine.run(again, again)
    expect(outcomes).toEqual([
      { type: 'incremented', revision: 1, value: 5n },
      { type: 'incremented', revision: 1, value: 5n, replayed: true },
    ])
  })
})

describe('a range', () => {
  it('of 100,000 keys is deleted at once; of one more nothing is', async () => {
    const most = 100_000
    for (let from = 0; from < most; from += 10_000) {
      await machine.run(...Array.from({ length: 10_000 }, (_, n) => set(`r/${from + n}`, '')))
    }
    await machine.run(set('r/one more', ''), set('s', ''))
    expect(await machine.run(range('r/'))).toEqual([
      { type: 'refused', code: 'range-too-large', limit: most },
    ])
    const inside = { type: 'deletePrefix' as const, store: 'default', prefix: bytes('r/') }
    expect(await machine.run({ ...transaction([], [inside]), ...admin })).toEqual([
      { type: 'refused', code: 'range-too-large', limit: most, index: 0 },
    ])
    expect(machine.state.store('default')?.keys).toBe(most + 2)
    expect(await machine.run(del('r/one more'), range('r/'))).toMatchObject([{}, { deleted: most }])
    expect(machine.state.store('default')).toMatchObject({ keys: 1, bytes: 1 })
    expect(await machine.state.recompute()).toMatchObject({ rows: expect.any(Number) })
  }, 60_000)

  it('is what stands when it is applied, on the disk or on its way there', async () => {
    const level = await memory()
    const waiting = await workshop.open(level, { flushEveryMs: 60_000 })
    await waiting.run(set('r/disk', ''), set('r/gone', ''), set('r/changed', 'old'), set('q', ''))
    await waiting.state.flush()
    await waiting.run(del('r/gone'), set('r/changed', 'new'), set('r/waiting', ''))
    expect(await waiting.run(set('r/same entry', ''), range('r/'))).toMatchObject([{}, { deleted: 4 }])
    expect(waiting.state.store('default')).toMatchObject({ keys: 1, bytes: 1 })
    expect(await waiting.state.recompute()).toBeDefined()
  })
})

describe('a transaction', () => {
  it('undoes all when one operation fails, and says which', async () => {
    await machine.run(set('text', 'x'))
    const operations: readonly Operation[] = [
      { type: 'set', store: 'default', key: bytes('a'), value: bytes('1'), contentType: 'text/plain' },
      { type: 'delete', store: 'default', key: bytes('text') },
      { type: 'increment', store: 'default', key: bytes('a'), delta: 2n ** 63n - 1n },
    ]
    expect(await machine.run({ ...transaction([], operations), ...admin })).toEqual([
      { type: 'refused', code: 'overflow', index: 2 },
    ])
    expect(await machine.text('a')).toBeUndefined()
    expect(await machine.text('text')).toBe('x')
    expect(machine.state.revision).toBe(1)
  })

  it('reads 128 MiB at most', async () => {
    const large = 4 * 1024 * 1024
    const roomy = { ...founding, valueBytes: large }
    machine = await workshop.open(await memory(), { founding: roomy })
    const names = Array.from({ length: 33 }, (_, n) => `k${String(n).padStart(2, '0')}`)
    const value = Buffer.alloc(large)
    for (const name of names) await machine.run(set(name, value))
    const all = (type: 'get' | 'head') =>
      names.map((name) => ({ type, store: 'default', key: bytes(name) }) as const)
    const limit = 128 * 1024 * 1024
    const touched: Operation[] = names.map((name) => ({
      type: 'touch',
      store: 'default',
      key: bytes(name),
      ttl: 1,
    }))
    const twice = [...all('get').slice(0, 17), ...all('get').slice(0, 17)]
    const [gets, heads, touches, repeated] = await machine.run(
      { ...transaction([], all('get')), ...admin },
      { ...transaction([], all('head')), ...admin },
      { ...transaction([], touched), ...admin },
      { ...transaction([], twice), ...admin },
    )
    expect(gets).toMatchObject({ type: 'refused', code: 'result-too-large', limit, index: 32 })
    expect(heads).toMatchObject({ type: 'transaction', succeeded: true })
    expect(touches).toMatchObject({ type: 'refused', code: 'result-too-large', index: 32 })
    expect(repeated).toMatchObject({ type: 'refused', code: 'result-too-large', index: 32 })
  }, 60_000)

  it('that comes again is answered without the items it returned', async () => {
    await machine.run(set('a', 'x'))
    const get = { type: 'get', store: 'default', key: bytes('a') } as const
    const counting = { type: 'increment', store: 'default', key: bytes('n'), delta: 1n } as const
    const again = { ...transaction([], [get, counting]), ...admin, ...underKey('once') }
    const [first, second] = await machine.run(again, again)
    expect(first).toMatchObject({ results: [{ type: 'get', item: { revision: 1 } }, { value: 1n }] })
    expect(second).toEqual({
      type: 'transaction',
      revision: 2,
      succeeded: true,
      results: [
        { type: 'recalled', found: true, revision: 1 },
        { type: 'incremented', value: 1n },
      ],
      replayed: true,
    })
  })

  it('takes room in its session by what it came to, which is bounded', async () => {
    machine = await workshop.open(await memory(), { flushEveryMs: 60_000 })
    await machine.run(openSession(1))
    const get = { type: 'get', store: 'default', key: bytes('absent') } as const
    const many: readonly Operation[] = new Array(1000).fill(get)
    let refused: Outcome | undefined
    let seq = 0
    while (refused === undefined) {
      seq += 1
      const [outcome] = await machine.run({ ...transaction([], many), ...admin, ...inSession(1, seq) })
      if (outcome?.type === 'refused') refused = outcome
    }
    expect(refused).toEqual({
      type: 'refused',
      code: 'overloaded',
      limit: 1024 * 1024,
      field: 'bytes of outcomes of a session',
    })
    expect(seq).toBe(132)
    expect(await machine.run({ ...transaction([], many), ...admin, ...inSession(1, seq, 50) })).toMatchObject(
      [{ type: 'transaction' }],
    )
  })
})

describe('a dropped store', () => {
  it('is gone at once, and its records go by the thousand', async () => {
    const create: Command = { type: 'createStore', ...admin, definition: { name: 'many' } }
    const drop: Command = { type: 'dropStore', ...admin, name: 'many' }
    const writes = Array.from({ length: 2500 }, (_, n) => ({
      ...set(`k${n}`, 'v', { store: 'many' }),
      ttl: 1_000_000,
    }))
    await machine.run(create, ...(writes as Command[]))
    await machine.run(drop, create, set('k1', 'anew', { store: 'many' }))
    const [first] = machine.state.dropped()
    expect(machine.state.store('many')).toMatchObject({ keys: 1, number: 4 })
    expect(first).toBe(3)
    for (const left of [[3], [3], []]) {
      await machine.run({ type: 'collect', store: 3 })
      expect(machine.state.dropped()).toEqual(left)
    }
    expect(await machine.text('k1', 'many')).toBe('anew')
    expect(await machine.state.due(Number.MAX_SAFE_INTEGER, 10)).toEqual({ records: [], tokens: [] })
    expect(await machine.state.recompute()).toBeDefined()
  })

  it('is still read by who opened it before', async () => {
    await machine.run(set('a', '1', { store: 'sessions' }))
    const read = await machine.state.openRead()
    await machine.run({ type: 'dropStore', ...admin, name: 'sessions' })
    await machine.run({ type: 'collect', store: 2 })
    const { items } = await read.list({ store: 'sessions', limit: 10, maxBytes: 1000 })
    expect(items).toHaveLength(1)
    await read.close()
    expect(machine.state.store('sessions')).toBeUndefined()
  })
})

describe('a token', () => {
  it('of an administrator cannot be revoked while no other lasts', async () => {
    const revoke: Command = { type: 'revokeToken', ...admin, name: 'admin' }
    const refused = { type: 'refused', code: 'access-denied' }
    expect(await machine.run(revoke, mint('short', { type: 'admin' }, { ttl: 1000 }), revoke)).toEqual([
      refused,
      { type: 'tokenMinted' },
      refused,
    ])
    expect(await machine.run(mint('long', { type: 'admin' }), revoke)).toMatchObject([
      {},
      { type: 'tokenRevoked' },
    ])
    expect(await machine.run(set('a', ''))).toEqual([{ type: 'refused', code: 'unauthenticated' }])
  })

  it('stands under its old secret for the overlap of a rotation', async () => {
    const rotate: Command = {
      type: 'rotateToken',
      ...admin,
      name: 'cart',
      hash: 'n'.repeat(43),
      overlap: 100,
    }
    const write = (token: string) => set('cart/1', '', { token })
    const [rotated] = await machine.runAt(foundedAt + 10, rotate)
    expect(rotated).toEqual({ type: 'tokenRotated', expires: foundedAt + 110 })
    expect(await machine.run(write(tokens.cart.hash), write('n'.repeat(43)))).toMatchObject([
      { type: 'set' },
      { type: 'set' },
    ])
    await expireAt(foundedAt + 110)
    expect(await machine.run(write(tokens.cart.hash), write('n'.repeat(43)))).toMatchObject([
      { code: 'unauthenticated' },
      { type: 'set' },
    ])
  })

  it('that a component mints lies within its grants and its life, and goes with it', async () => {
    const token = tokens.minter.hash
    const grant = (store: string, prefix?: string) =>
      ({
        type: 'component',
        grants: [{ store, access: 'read-write', ...(prefix === undefined ? {} : { prefix }) }],
        mint: true,
      }) as const
    const denied = { type: 'refused', code: 'access-denied' }
    expect(
      await machine.run(
        mint('whole', grant('default'), { token }),
        mint('wider', grant('default', 'car'), { token }),
        mint('other', grant('sessions'), { token }),
        mint('admin-2', { type: 'admin' }, { token }),
        mint('child', grant('default', 'cart/'), { token }),
        mint('grandchild', grant('default', 'cart/1'), { token: 'child'.padEnd(43, '_') }),
      ),
    ).toEqual([denied, denied, denied, denied, { type: 'tokenMinted' }, { type: 'tokenMinted' }])
    expect(
      await machine.run(
        { type: 'revokeToken', token, name: 'cart' },
        { type: 'revokeToken', token, name: 'nobody' },
        { type: 'revokeToken', ...admin, name: 'minter' },
      ),
    ).toEqual([denied, denied, { type: 'tokenRevoked' }])
    expect(machine.state.tokens().map(({ name }) => name)).toEqual(['admin', 'cart', 'monitor'])
  })

  it('of an app opens the keys of its holder alone, and goes with the app', async () => {
    const holder = (id: string) => ({ type: 'app', app: 'poll', holder: { type: 'user', id } }) as const
    await machine.run(mint('one', holder('u')), mint('two', holder('u1')))
    const [one, two] = ['one', 'two'].map((name) => ({ token: name.padEnd(43, '_'), store: 'self' }))
    const outcomes = await machine.run(
      set('k', 'of one', one),
      set('k', 'of two', two),
      set('k', '', { store: 'app:poll' }),
      set('k', '', { ...one, store: 'default' }),
    )
    expect(outcomes).toMatchObject([
      { created: true },
      { created: true },
      { code: 'no-such-store' },
      { code: 'access-denied' },
    ])
    const own = placeOf(holder('u1'), 'self')
    const page = await machine.state.list({ store: own, limit: 10, maxBytes: 1000 })
    expect(
      page.items.map(({ key, value }) => [Buffer.from(key).toString(), Buffer.from(value).toString()]),
    ).toEqual([['k', 'of two']])
    expect(machine.state.apps()).toMatchObject([{ id: 'poll', keys: 2 }])
    expect(await machine.run({ type: 'removeApp', ...admin, app: 'poll' })).toEqual([{ type: 'appRemoved' }])
    expect(await machine.run(set('k', '', one))).toEqual([{ type: 'refused', code: 'unauthenticated' }])
    expect(machine.state.apps()).toEqual([])
    expect(machine.state.dropped()).toEqual([3])
  })
})

describe('what watchers are told', () => {
  it('is every change of a record, numbered within its revision', async () => {
    const told: Change[] = []
    const watched = await workshop.open(await memory(), { flushEveryMs: 60_000 })
    watched.state.follow({
      changed: (changes) => told.push(...changes.map(copied)),
      authorityChanged: () => {},
    })
    const write = (name: string) =>
      ({ type: 'set', store: 'default', key: bytes(name), value: bytes(''), contentType: 'a/b' }) as const
    await watched.run(
      set('a', ''),
      touch('a', 10),
      del('absent'),
      { ...transaction([], [write('b'), write('a'), write('b')]), ...admin },
      range(''),
    )
    expect(
      told.map(({ revision, n, type, key: name }) => `${revision}.${n} ${type} ${Buffer.from(name)}`),
    ).toEqual(['1.1 set a', '3.1 set b', '3.2 set a', '4.1 delete a', '4.2 delete b'])
    expect(await watched.state.recompute()).toBeDefined()
  })
})
