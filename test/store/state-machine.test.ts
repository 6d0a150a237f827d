// The contract of the state machine, on LevelDB and on its twin in memory.

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { placeOf } from '../../src/store/places.ts'
import type { StateLevel } from '../../src/store/state-writer.ts'
import type { Condition, ListQuery } from '../../src/store/types.ts'
import {
  backends,
  batch,
  bytes,
  del,
  dump,
  entry,
  founding,
  type Machine,
  set,
  tokens,
  Workshop,
} from './state-fixtures.ts'

describe.each(backends)('the state machine on $name', ({ make }) => {
  let workshop: Workshop
  let backend: { open(): Promise<StateLevel> }
  let machine: Machine

  beforeEach(async () => {
    workshop = new Workshop()
    backend = await make(workshop)
    machine = await workshop.open(await backend.open())
  })

  afterEach(async () => {
    await workshop[Symbol.asyncDispose]()
  })

  async function reopen(): Promise<Machine> {
    await machine.state.close()
    return workshop.open(await backend.open())
  }

  async function keys(query: Partial<ListQuery> = {}): Promise<readonly string[]> {
    const page = await machine.state.list({ store: 'default', limit: 1000, maxBytes: 1 << 20, ...query })
    return page.items.map(({ key }) => Buffer.from(key).toString())
  }

  it('begins as the founding says, and the same after a restart', async () => {
    for (const { state } of [machine, await reopen()]) {
      expect(state.lastApplied).toBe(0)
      expect(state.revision).toBe(0)
      expect(state.time).toBe(founding.foundedAt)
      expect(state.clusterId).toBe(founding.clusterId)
      expect(state.configuration).toEqual(founding.configuration)
      expect(state.stores()).toEqual([
        { name: 'default', number: 1, keys: 0, bytes: 0 },
        { name: 'sessions', ttl: 60_000, maxValueBytes: 16, number: 2, keys: 0, bytes: 0 },
      ])
      for (const token of founding.tokens) expect(state.token(token.hash)).toEqual(token)
      expect(state.token('unknown')).toBeUndefined()
    }
  })

  it('has a store for every app that the founding has tokens of, and the same after a restart', async () => {
    const holders = [
      ['todo', 'user', 'ann'],
      ['polls', 'bot', 'b'],
      ['todo', 'bot', 'ann'],
    ] as const
    const apps = holders.map(([app, type, id], at) => ({
      name: `app-${at}`,
      hash: `${at}`.padStart(43, 'h'),
      principal: { type: 'app' as const, app, holder: { type, id } },
    }))
    const own = await make(workshop)
    const options = { founding: { ...founding, tokens: [...founding.tokens, ...apps] } }
    const first = await workshop.open(await own.open(), options)
    const writes = apps.map(({ hash, name }) => set('list', name, { token: hash, store: 'self' }))
    expect(await first.run(...writes)).toMatchObject([
      { created: true },
      { created: true },
      { created: true },
    ])
    await first.state.close()
    const again = await workshop.open(await own.open(), options)
    expect(again.state.apps()).toMatchObject([
      { id: 'polls', keys: 1 },
      { id: 'todo', keys: 2 },
    ])
    for (const { principal, name } of apps) {
      expect(await again.state.get(placeOf(principal, 'self'), bytes('list'))).toMatchObject({
        value: bytes(name),
      })
    }
  })

  it("refuses another cluster's state", async () => {
    await machine.state.close()
    const other = { ...founding, clusterId: 'f'.repeat(32) }
    await expect(workshop.open(await backend.open(), { founding: other })).rejects.toThrow(
      `belongs to cluster ${founding.clusterId}`,
    )
  })

  it('answers a set at once and reads it back with its revisions', async () => {
    expect(await machine.run(set('a', '1'), set('b', 'x'), set('a', '2'))).toEqual([
      { type: 'set', revision: 1, created: true, changed: true },
      { type: 'set', revision: 2, created: true, changed: true },
      { type: 'set', revision: 3, created: false, changed: true },
    ])
    const item = {
      key: bytes('a'),
      value: bytes('2'),
      contentType: 'text/plain',
      revision: 3,
      createdRevision: 1,
      expires: undefined,
    }
    expect(await machine.state.get('default', bytes('a'))).toEqual(item)
    await machine.state.flush()
    expect(await machine.state.get('default', bytes('a'))).toEqual(item)
  })

  it('calls a set of the same bytes and type unchanged, and gives it a revision all the same', async () => {
    await machine.run(set('a', '1'))
    expect(await machine.run(set('a', '1'), set('a', '1', { contentType: 'text/html' }))).toEqual([
      { type: 'set', revision: 2, created: false, changed: false },
      { type: 'set', revision: 3, created: false, changed: true },
    ])
  })

  it('counts a delete as a write even when there is nothing to delete', async () => {
    await machine.run(set('a', '1'))
    expect(await machine.run(del('a'), del('a'), set('a', '1'))).toEqual([
      { type: 'deleted', revision: 2, deleted: true },
      { type: 'deleted', revision: 3, deleted: false },
      { type: 'set', revision: 4, created: true, changed: true },
    ])
    expect(machine.state.revision).toBe(4)
    expect((await machine.state.get('default', bytes('a')))?.createdRevision).toBe(4)
  })

  it('has no key where the key or the store is missing', async () => {
    await machine.run(set('a', '1'))
    expect(await machine.state.get('default', bytes('b'))).toBeUndefined()
    expect(await machine.state.get('sessions', bytes('a'))).toBeUndefined()
    expect(await machine.state.get('none', bytes('a'))).toBeUndefined()
    await machine.run(del('a'))
    expect(await machine.state.get('default', bytes('a'))).toBeUndefined()
  })

  it('holds writes to their conditions and tells the present revision', async () => {
    await machine.run(set('a', '1'))
    const when = (...conditions: readonly Condition[]) => ({ conditions })
    expect(
      await machine.run(
        set('a', '2', when({ type: 'absent' })),
        set('b', '2', when({ type: 'exists' })),
        set('a', '2', when({ type: 'revision', revisions: [] })),
        set('b', '2', when({ type: 'revision', revisions: [0] })),
        set('a', '2', when({ type: 'exists' }, { type: 'revision', revisions: [9, 1] })),
        del('a', when({ type: 'revision', revisions: [1] })),
        del('a', when({ type: 'revision', revisions: [2] })),
        set('a', '3', when({ type: 'absent' })),
      ),
    ).toEqual([
      { type: 'refused', code: 'condition-failed', revision: 1 },
      { type: 'refused', code: 'condition-failed', revision: 0 },
      { type: 'refused', code: 'condition-failed', revision: 1 },
      { type: 'refused', code: 'condition-failed', revision: 0 },
      { type: 'set', revision: 2, created: false, changed: true },
      { type: 'refused', code: 'condition-failed', revision: 2 },
      { type: 'deleted', revision: 3, deleted: true },
      { type: 'set', revision: 4, created: true, changed: true },
    ])
  })

  it('judges token and grant again when it applies', async () => {
    const { monitor, cart } = tokens
    const outcomes = await machine.run(
      set('a', '1', { token: 'unknown' }),
      set('a', '1', { token: monitor.hash }),
      set('a', '1', { token: cart.hash }),
      set('cart', '1', { token: cart.hash }),
      set('cart/1', '1', { token: cart.hash }),
      del('cart/1', { token: cart.hash }),
      set('any', '1', { token: cart.hash, store: 'sessions' }),
      del('other', { token: cart.hash, store: 'other' }),
    )
    expect(outcomes.map((outcome) => (outcome.type === 'refused' ? outcome.code : outcome.type))).toEqual([
      'unauthenticated',
      'access-denied',
      'access-denied',
      'access-denied',
      'set',
      'deleted',
      'set',
      'access-denied',
    ])
    expect(machine.state.revision).toBe(3)
  })

  it('refuses in the order of the contract, and a refusal takes no revision', async () => {
    const wrong = { contentType: 'text/plän', conditions: [{ type: 'exists' as const }] }
    const large = 'x'.repeat(17)
    expect(
      await machine.run(
        set('', large, { ...wrong, store: 'gone', token: 'unknown' }),
        set('', large, { ...wrong, store: 'other', token: tokens.cart.hash }),
        set('', large, { ...wrong, store: 'gone', token: tokens.cart.hash }),
        set('', large, { ...wrong, store: 'sessions' }),
        set('k', large, { ...wrong, store: 'sessions' }),
        set('k', large, { ...wrong, store: 'sessions', contentType: 'a/b' }),
        set('k', 'small', { ...wrong, store: 'sessions', contentType: 'a/b' }),
        set('k', 'x'.repeat(1025)),
        set('k'.repeat(4097), ''),
      ),
    ).toEqual([
      { type: 'refused', code: 'unauthenticated' },
      { type: 'refused', code: 'access-denied' },
      { type: 'refused', code: 'no-such-store' },
      { type: 'refused', code: 'invalid-key', limit: 4096 },
      { type: 'refused', code: 'invalid-request' },
      { type: 'refused', code: 'value-too-large', limit: 16 },
      { type: 'refused', code: 'condition-failed', revision: 0 },
      { type: 'refused', code: 'value-too-large', limit: 1024 },
      { type: 'refused', code: 'invalid-key', limit: 4096 },
    ])
    expect(machine.state.revision).toBe(0)
  })

  it("gives keys their store's time to live, from the stamp of the entry", async () => {
    const command = set('a', '1', { store: 'sessions' })
    await machine.apply(entry(1, [batch([[1, command]])], 5_000_000))
    expect((await machine.state.get('sessions', bytes('a')))?.expires).toBe(5_060_000)
    await machine.apply(entry(2, [batch([[2, command]])], 4_000_000))
    expect(machine.state.time).toBe(5_000_000)
    expect((await machine.state.get('sessions', bytes('a')))?.expires).toBe(5_060_000)
  })

  it('counts keys and bytes of every store', async () => {
    await machine.run(
      set('a', '123'),
      set('bb', ''),
      set('a', '1'),
      set('x', 'y', { store: 'sessions' }),
      del('none'),
    )
    expect(machine.state.store('default')).toMatchObject({ keys: 2, bytes: 4 })
    expect(machine.state.store('sessions')).toMatchObject({ keys: 1, bytes: 2 })
    await machine.run(del('bb'))
    machine = await reopen()
    expect(machine.state.store('default')).toMatchObject({ keys: 1, bytes: 2 })
    expect(machine.state.store('sessions')).toMatchObject({ keys: 1, bytes: 2 })
  })

  it('applies a number of an origin once, whenever it comes again', async () => {
    const first = batch([[1, set('a', '1')]])
    const [before] = await machine.apply(entry(1, [first, first]))
    expect(await machine.apply(entry(2, [batch([[2, set('a', '2')]]), first]))).toHaveLength(2)
    expect(await machine.text('a')).toBe('2')
    machine = await reopen()
    const [again] = await machine.apply(entry(3, [first]))
    expect(again?.outcome).toEqual(before?.outcome)
    expect(again?.index).toBe(3)
    expect(await machine.text('a')).toBe('2')
    expect(machine.state.revision).toBe(2)
  })

  it('takes the numbers of a boot in any order', async () => {
    const applied = await machine.apply(
      entry(1, [
        batch([
          [200, set('a', '1')],
          [3, set('b', '1')],
          [70, set('c', '1')],
          [3, set('d', '1')],
        ]),
      ]),
    )
    expect(applied.map(({ id, outcome }) => [id.number, outcome.type === 'set' && outcome.revision])).toEqual(
      [
        [200, 1],
        [3, 2],
        [70, 3],
        [3, 2],
      ],
    )
    expect(await keys()).toEqual(['a', 'b', 'c'])
  })

  it('remembers a refusal as it remembers a success', async () => {
    const conditional = batch([[1, set('a', '1', { conditions: [{ type: 'exists' }] })]])
    const large = batch([[2, set('a', 'x'.repeat(17), { store: 'sessions' })]])
    const before = await machine.apply(entry(1, [conditional, large]))
    await machine.apply(entry(2, [batch([[3, set('a', '0')]])]))
    machine = await reopen()
    const again = await machine.apply(entry(3, [conditional, large]))
    expect(again.map(({ outcome }) => outcome)).toEqual(before.map(({ outcome }) => outcome))
    expect(before.map(({ outcome }) => outcome)).toEqual([
      { type: 'refused', code: 'condition-failed', revision: 0 },
      { type: 'refused', code: 'value-too-large', limit: 16 },
    ])
  })

  it('has no effect and no answer for what its origin acknowledged or left behind with a boot', async () => {
    const late = (number: number, boot: number) => batch([[number, set('late', '1')]], { boot })
    await machine.apply(
      entry(1, [batch([[1, set('a', '1')]], { boot: 2 }), batch([], { boot: 2, acked: 130 })]),
    )
    expect(await machine.apply(entry(2, [late(1, 2), late(130, 2), late(500, 1)]))).toEqual([])
    machine = await reopen()
    expect(await machine.apply(entry(3, [late(1, 2), late(130, 2), late(500, 1)]))).toEqual([])
    expect(machine.state.revision).toBe(1)
    expect(await machine.apply(entry(4, [late(131, 2)]))).toHaveLength(1)
    // A new boot counts from the start again, and forgets the old one's outcomes.
    expect(await machine.apply(entry(5, [late(1, 3), late(131, 2)]))).toHaveLength(1)
    expect(machine.state.revision).toBe(3)
  })

  it('keeps origins apart', async () => {
    const of = (peer: string) => batch([[1, set(peer, '1')]], { peer })
    expect(await machine.apply(entry(1, [of('peer-1'), of('peer-2'), of('peer-1')]))).toHaveLength(3)
    expect(machine.state.revision).toBe(2)
  })

  it('keeps no rows of origins that have all their answers', async () => {
    for (let index = 1; index <= 20; index++)
      await machine.run(...Array.from({ length: 20 }, () => del('none')))
    await machine.state.close()
    const reopened = await backend.open()
    const outcomes = (await dump(reopened)).filter((row) => row.startsWith('05'))
    expect(outcomes.length).toBeLessThanOrEqual(2)
    await reopened.close()
  })

  it('lists keys by their bytes, not by their UTF-16 code units', async () => {
    const ordered = ['Z', 'a', 'é', '\uff5e', '\u{10000}']
    await machine.run(...ordered.toReversed().map((key) => set(key, '')))
    expect(await keys()).toEqual(ordered)
    expect(ordered.toSorted()).not.toEqual(ordered)
    expect(await keys({ reverse: true })).toEqual(ordered.toReversed())
    expect(await keys({ prefix: bytes('é') })).toEqual(['é'])
  })

  it('lists within prefix, start, end and after, in both directions', async () => {
    await machine.run(...['a', 'b', 'b1', 'b2', 'b\u{10ffff}', 'c', 'd'].map((key) => set(key, '')))
    await machine.run(set('b1', '', { store: 'sessions' }))
    expect(await keys({ prefix: bytes('b') })).toEqual(['b', 'b1', 'b2', 'b\u{10ffff}'])
    expect(await keys({ start: bytes('b1'), end: bytes('c') })).toEqual(['b1', 'b2', 'b\u{10ffff}'])
    expect(await keys({ prefix: bytes('b'), start: bytes('b2'), end: bytes('z') })).toEqual([
      'b2',
      'b\u{10ffff}',
    ])
    expect(await keys({ after: bytes('b1') })).toEqual(['b2', 'b\u{10ffff}', 'c', 'd'])
    expect(await keys({ after: bytes('b1'), reverse: true })).toEqual(['b', 'a'])
    expect(await keys({ start: bytes('b'), after: bytes('b1'), reverse: true })).toEqual(['b'])
    expect(await keys({ start: bytes('d'), end: bytes('b') })).toEqual([])
    expect(await keys({ prefix: Buffer.from([255, 255]) })).toEqual([])
  })

  it('ends a page at its count or its bytes and says whether more follow', async () => {
    await machine.run(...['a', 'b', 'c', 'd'].map((key) => set(key, '123456789')))
    const page = (query: Partial<ListQuery>) =>
      machine.state.list({ store: 'default', limit: 1000, maxBytes: 1 << 20, ...query })
    expect(await page({ limit: 4 })).toMatchObject({ items: { length: 4 }, more: false, revision: 4 })
    expect(await page({ limit: 3 })).toMatchObject({ items: { length: 3 }, more: true })
    expect(await page({ maxBytes: 10 })).toMatchObject({ items: { length: 2 }, more: true })
    expect(await page({ maxBytes: 9 })).toMatchObject({ items: { length: 1 }, more: true })
    expect(await page({ after: bytes('c'), limit: 1 })).toMatchObject({ items: { length: 1 }, more: false })
  })

  it('lists what has been applied when it is called, at one revision', async () => {
    for (let round = 1; round <= 30; round++) {
      await machine.run(set('a', `${round}`), set('b', `${round}`))
      const listing = machine.state.list({ store: 'default', limit: 10, maxBytes: 1000 })
      const writing = machine.run(set('a', 'x'), set('b', 'x'))
      const { items, revision } = await listing
      await writing
      expect(revision).toBeGreaterThanOrEqual(round * 4 - 2)
      const newest = Math.max(...items.map((item) => item.revision))
      expect(newest).toBe(revision)
      expect(
        items.map((item) => Buffer.from(item.value).toString()).every((value, _, all) => value === all[0]),
      ).toBe(true)
    }
  })

  it('refuses to list a store that is not there, and stops when it is told to', async () => {
    const query = { store: 'default', limit: 10, maxBytes: 1000 }
    await expect(machine.state.list({ ...query, store: 'none' })).rejects.toMatchObject({
      code: 'no-such-store',
    })
    const reason = new Error('enough')
    await expect(machine.state.list(query, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    await machine.run(set('a', '1'))
    const stop = new AbortController()
    const listing = machine.state.list(query, { signal: stop.signal })
    stop.abort(reason)
    await expect(listing).rejects.toBe(reason)
    expect(await keys()).toEqual(['a'])
  })

  it('applies entries without commands, and remembers the configuration', async () => {
    const configuration = { members: founding.configuration.members.slice(0, 2) }
    const applied = await machine.apply(
      { type: 'noop', index: 1, term: 4 },
      { type: 'configuration', index: 2, term: 4, configuration },
      { type: 'noop', index: 3, term: 5 },
    )
    expect(applied).toEqual([])
    machine = await reopen()
    expect(machine.state.lastApplied).toBe(3)
    expect(machine.state.lastAppliedTerm).toBe(5)
    expect(machine.state.configuration).toEqual(configuration)
  })

  it('owns nothing of the entries it was given', async () => {
    const one = entry(1, [batch([[1, set('key', 'value')]])])
    await machine.apply(one)
    if (one.type === 'commands') one.data.fill(0)
    expect(await machine.text('key')).toBe('value')
    machine = await reopen()
    expect(await machine.text('key')).toBe('value')
  })

  it('brings durableIndex up to what is applied, by itself and on flush', async () => {
    await machine.run(set('a', '1'))
    expect(machine.state.durableIndex).toBe(0)
    await expect.poll(() => machine.state.durableIndex, { interval: 1, timeout: 5000 }).toBe(1)
    await machine.run(set('a', '2'))
    await machine.state.flush()
    expect(machine.state.durableIndex).toBe(2)
    machine = await reopen()
    expect(machine.state.durableIndex).toBe(2)
    expect(await machine.text('a')).toBe('2')
  })

  it('applies an entry of many more keys than it fetches at once', async () => {
    const commands = Array.from({ length: 3000 }, (_, n) => [n + 1, set(`k${n % 1500}`, `${n}`)] as const)
    const applied = await machine.apply(entry(1, [batch(commands)]), entry(2, [batch([[5000, del('k0')]])]))
    expect(applied).toHaveLength(3001)
    expect(applied.filter(({ outcome }) => outcome.type === 'set' && outcome.created)).toHaveLength(1500)
    machine = await reopen()
    expect(machine.state.store('default')?.keys).toBe(1499)
    expect(await machine.text('k1')).toBe('1501')
  })

  it('refuses what comes after it was closed', async () => {
    await machine.state.close()
    const closed = { code: 'shutting-down' }
    await expect(machine.run(set('a', '1'))).rejects.toMatchObject(closed)
    await expect(machine.state.get('default', bytes('a'))).rejects.toMatchObject(closed)
    await expect(machine.state.flush()).rejects.toMatchObject(closed)
    expect(workshop.failures).toEqual([])
  })
})
