// What watchers of one node are told: every change once, in order, and at the end why it is over.

import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import type { Command } from '../../src/store/types.ts'
import { bytes, del, founding, set, tokens, Workshop } from '../store/state-fixtures.ts'
import { told, WatchBed } from './watch-bed.ts'

describe('a stream', () => {
  it('tells at once how far it is, so that one cut before its first event can go on', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    await bed.machine.run(set('a', '1'))
    const reader = bed.watch()
    await reader.read()
    expect(reader.events).toEqual([{ type: 'progress', id: { revision: 1 }, revision: 1 }])
  })

  it('tells of what happened between its opening and its first reading', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const reader = bed.watch()
    await bed.machine.run(set('a', '1'))
    await bed.machine.run(set('a', '2'), del('a'))
    await reader.upTo(3)
    expect(told(reader)).toEqual(['set a 1', 'set a 2', 'delete a', 'progress'])
  })

  it('tells nothing twice of what comes to the disk while it goes over from there', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop, { flushEveryMs: 0 })
    const release = bed.level.hang()
    const opened = bed.level.writes
    await bed.machine.run(set('a', '1'))
    // The first batch is on its way.
    await expect.poll(() => bed.level.writes, { interval: 1 }).toBeGreaterThan(opened)
    await turn(undefined)
    await bed.machine.run(set('a', '2'))
    const reader = bed.watch({ start: { type: 'after', position: { revision: 0 } } })
    const reading = reader.upTo(3)
    await bed.machine.run(set('a', '3'))
    release()
    await reading
    await bed.machine.run(set('a', '4'))
    await reader.until(({ types }) => types.filter((type) => type === 'set').length > 3)
    expect(told(reader)).toEqual(['set a 1', 'set a 2', 'set a 3', 'progress', 'set a 4'])
  })

  it('that cannot begin tells nothing of what happened meanwhile', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop, { history: { ageMs: 1, bytes: 1 }, flushEveryMs: 0 })
    for (let n = 1; n <= 3; n++) await bed.machine.run(set('a', `${n}`))
    const release = bed.level.hang()
    const reader = bed.watch({ start: { type: 'after', position: { revision: 1 } } })
    await bed.machine.run(set('a', '4'))
    const reading = reader.until(() => false)
    await turn(undefined)
    await bed.machine.run(set('a', '5'))
    release()
    await reading
    expect(reader.types).toEqual(['compacted'])
  })

  it('has values that no buffer of an entry is kept alive for', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const reader = bed.watch()
    await reader.read()
    const value = Buffer.alloc(900, 'v')
    await bed.machine.run(set('a', value), set('b', value))
    await reader.until(({ events }) => events.length >= 3)
    for (const event of reader.events) {
      if (event.type !== 'set') continue
      expect(event.record.value?.buffer.byteLength).toBeLessThan(1000 + Buffer.poolSize)
    }
  })

  it('tells how far it has come every five seconds, behind what it tells', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const reader = bed.watch({ prefixes: [bytes('mine/')] })
    await reader.read()
    await bed.machine.run(set('mine/a', '1'), set('other', '1'))
    for (let second = 0; second < 5; second++) {
      bed.now += 1000
      bed.hub.tick({ hasLeader: true })
    }
    await reader.until(({ events }) => events.length >= 3)
    expect(reader.events.slice(1)).toMatchObject([
      { type: 'set', revision: 1 },
      { type: 'progress', id: { revision: 2 } },
    ])
  })

  it('that waits for nothing any more leaves nothing behind', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const gone = new AbortController()
    const reader = bed.watch({}, gone.signal)
    await reader.read()
    expect(bed.hub.size).toBe(1)
    const reading = reader.read()
    gone.abort()
    await reading
    expect([reader.ended, bed.hub.size, reader.types]).toEqual([true, 0, ['progress']])
  })

  it('of one who reads too slowly ends with lagged, and others are told all the while', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop, { outboxBytes: 10_000 })
    const slow = bed.watch()
    const dead = bed.watch()
    const quick = bed.watch()
    for (const reader of [slow, dead, quick]) await reader.read()
    for (let n = 0; n < 20; n++) {
      await bed.machine.run(set('a', Buffer.alloc(1000, `${n}`)))
      await quick.read()
    }
    expect(quick.types.filter((type) => type === 'set')).toHaveLength(20)
    await slow.until(() => false)
    expect(slow.types).toEqual(['progress', 'lagged'])
    expect(bed.hub.size).toBe(2)
    expect(bed.hub.queues).toMatchObject([
      { queue: 'watchers', size: 2 },
      { queue: 'watch outbox', size: 0 },
    ])
  })

  it('ends when the state is gone, closed or replaced, and none begins without one', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const reader = bed.watch()
    const unread = bed.watch()
    await reader.read()
    await bed.machine.run(set('a', '1'))
    bed.hub.show(undefined)
    await reader.until(() => false)
    await unread.until(() => false)
    expect(told(reader)).toEqual(['progress', 'set a 1', 'closing'])
    expect(told(unread)).toEqual(['closing'])
    expect(() => bed.watch()).toThrow(expect.objectContaining({ code: 'not-ready' }))
    bed.hub.close()
    expect(() => bed.watch()).toThrow(expect.objectContaining({ code: 'shutting-down' }))
  })

  it('ends when its node has had no leader for ten seconds: nobody vouches for its token', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const reader = bed.watch()
    await reader.read()
    for (let second = 0; second < 10; second++) {
      bed.now += 1000
      bed.hub.tick({ hasLeader: second < 1 })
    }
    expect(reader.ended).toBe(false)
    bed.now += 1000
    bed.hub.tick({ hasLeader: false })
    await reader.until(() => false)
    expect(reader.types.at(-1)).toBe('closing')
  })

  it('keeps no snapshot of LevelDB open for a reader who takes more than ten minutes', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    await bed.machine.run(...Array.from({ length: 2500 }, (_, n) => set(`key-${n}`, '')))
    const reader = bed.watch({ start: { type: 'snapshot' } })
    await reader.read()
    bed.now += 600_000
    await reader.until(() => false)
    expect([reader.events.length, reader.types.at(-1)]).toEqual([1001, 'lagged'])
  })

  it('is one of a bounded number', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop, { maxWatchers: 1 })
    const reader = bed.watch()
    await reader.read()
    expect(() => bed.watch()).toThrow(expect.objectContaining({ code: 'overloaded', limit: 1 }))
    await reader.close()
    bed.watch()
  })

  it('is refused to a token without a grant for all of it', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const token = tokens.cart.hash
    const refused = (code: string) => expect.objectContaining({ code })
    expect(() => bed.watch({ token: 'nobody' })).toThrow(refused('unauthenticated'))
    expect(() => bed.watch({ token: tokens.monitor.hash })).toThrow(refused('access-denied'))
    expect(() => bed.watch({ token, store: 'gone' })).toThrow(refused('no-such-store'))
    expect(() => bed.watch({ start: { type: 'after', position: { revision: 1 } } })).toThrow(
      refused('invalid-request'),
    )
    bed.watch({ token, store: 'sessions' })
  })
})

describe('a revision of several changes', () => {
  const three: Command = {
    type: 'transaction',
    token: tokens.admin.hash,
    if: [],
    // biome-ignore lint/suspicious/noThenProperty: the contract's name for it; no array can be called.
    then: ['a', 'b', 'c'].map((key) => ({
      type: 'set',
      store: 'default',
      key: bytes(key),
      value: bytes(`new ${key}`),
      contentType: 'text/plain',
    })),
    else: [],
  }

  it('is told change by change, and gone on with in its middle', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    await bed.machine.run(set('b', 'old'))
    const live = bed.watch()
    await live.read()
    await bed.machine.run(three)
    await live.until(({ types }) => types.length > 3)
    const ids = live.events
      .slice(1)
      .map((event) => 'id' in event && [event.id, 'last' in event && event.last])
    expect(ids).toEqual([
      [{ revision: 2, n: 1 }, false],
      [{ revision: 2, n: 2 }, false],
      [{ revision: 2, n: 3 }, true],
    ])
    // A stream that was cut after its first event.
    const again = await bed.watch({ start: { type: 'after', position: { revision: 2, n: 1 } } }).upTo(2)
    expect(told(again)).toEqual(['set b new b', 'set c new c', 'progress'])
    const whole = await bed.watch({ start: { type: 'after', position: { revision: 1 } } }).upTo(2)
    expect(told(whole)).toEqual(['set a new a', 'set b new b', 'set c new c', 'progress'])
  })

  it('says what expired as such', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const reader = bed.watch({ store: 'sessions' })
    await reader.read()
    await bed.machine.run(set('x', '1', { store: 'sessions' }), set('y', '2', { store: 'sessions' }))
    const due = await bed.machine.state.due(founding.foundedAt + 1e6, 10)
    await bed.machine.runAt(founding.foundedAt + 1e6, { type: 'expire', ...due })
    await reader.until(({ types }) => types.filter((type) => type === 'expire').length === 2)
    expect(told(reader)).toEqual(['progress', 'set x 1', 'set y 2', 'expire x', 'expire y'])
    expect(reader.events.at(-1)).toMatchObject({ id: { revision: 3, n: 2 }, last: true })
  })
})

describe('a right to watch', () => {
  const admin = tokens.admin.hash

  it('ends at the moment that its token is revoked here', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const token = tokens.cart.hash
    const revoked = bed.watch({ token, store: 'default', prefixes: [bytes('cart/')] })
    const other = bed.watch()
    for (const reader of [revoked, other]) await reader.read()
    await bed.machine.run(set('cart/a', '1'))
    await revoked.read()
    await bed.machine.run(
      set('cart/a', '2'),
      { type: 'revokeToken', token: admin, name: tokens.cart.name },
      set('cart/a', '3'),
    )
    await revoked.until(() => false)
    await other.until(({ types }) => types.filter((type) => type === 'set').length === 3)
    // What was not taken yet is not told any more.
    expect(told(revoked)).toEqual(['progress', 'set cart/a 1', 'revoked'])
  })

  it('ends with its store, also where another takes its name', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const reader = bed.watch({ store: 'sessions' })
    await reader.read()
    await bed.machine.run(
      set('x', '1', { store: 'sessions' }),
      { type: 'dropStore', token: admin, name: 'sessions' },
      { type: 'createStore', token: admin, definition: { name: 'sessions' } },
      set('x', '2', { store: 'sessions' }),
    )
    await reader.until(() => false)
    expect(told(reader)).toEqual(['progress', 'set x 1', 'store-dropped'])
    const position = { revision: 0 }
    const again = await bed.watch({ store: 'sessions', start: { type: 'after', position } }).upTo(4)
    expect(told(again)).toEqual(['set x 2', 'progress'])
  })

  it("of an app's user covers that user's own keys, under their own names", async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const mint = (id: string): Command => {
      const principal = { type: 'app', app: 'todo', holder: { type: 'user', id } } as const
      return { type: 'mintToken', token: admin, minted: { name: id, hash: id.padEnd(43, '_'), principal } }
    }
    const one = 'one'.padEnd(43, '_')
    const two = 'two'.padEnd(43, '_')
    await bed.machine.run(mint('one'), mint('two'))
    const reader = bed.watch({ token: one, store: 'self', prefixes: [bytes('p/')] })
    await reader.read()
    await bed.machine.run(
      set('p/a', 'mine', { token: one, store: 'self' }),
      set('p/a', 'theirs', { token: two, store: 'self' }),
      set('q/a', 'mine', { token: one, store: 'self' }),
    )
    bed.tell()
    await reader.until(({ types }) => types.length > 2)
    expect(told(reader)).toEqual(['progress', 'set p/a mine', 'progress'])
    const query = { token: two, store: 'self' }
    const history = await bed.watch({ ...query, start: { type: 'after', position: { revision: 0 } } }).upTo(5)
    expect(told(history)).toEqual(['set p/a theirs', 'progress'])
    const snapshot = await bed.watch({ ...query, start: { type: 'snapshot' } }).upTo(5)
    expect(told(snapshot).slice(0, 2)).toEqual(['set p/a theirs', 'progress'])
    await bed.machine.run({ type: 'removeApp', token: admin, app: 'todo' })
    await reader.until(() => false)
    expect(reader.types.at(-1)).toBe('revoked')
  })
})

describe('ten thousand watchers', () => {
  it('cost an event no more than those whom it concerns', async () => {
    await using workshop = new Workshop()
    const bed = await WatchBed.make(workshop)
    const readers = Array.from({ length: 10_000 }, (_, n) => bed.watch({ keys: [bytes(`key-${n}`)] }))
    for (const reader of readers) await reader.read()
    expect(bed.hub.size).toBe(10_000)
    const begun = performance.now()
    for (let n = 0; n < 1000; n++) await bed.machine.run(set(`key-${n}`, 'x'))
    expect(performance.now() - begun).toBeLessThan(5000)
    for (const reader of readers.slice(0, 1000)) await reader.read()
    expect(readers.slice(0, 1000).every((reader, n) => told(reader).at(-1) === `set key-${n} x`)).toBe(true)
  })
})
