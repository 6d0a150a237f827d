// Watching a store: in order, each change once, across broken streams, other nodes and lost history.

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Client, connect, type Store, type WatchEvent, type WatchOptions } from '../../src/sdk/index.ts'
import { MemoryServer, MemoryState } from './memory-server.ts'

let state: MemoryState
let servers: MemoryServer[]
let client: Client
let store: Store
const others: Client[] = []

beforeEach(async () => {
  state = new MemoryState()
  servers = [await MemoryServer.start(state), await MemoryServer.start(state)]
  client = connect({ endpoints: servers.map(({ url }) => url), token: 'secret', timeout: '2s' })
  store = await client.open('default')
})

afterEach(async () => {
  await Promise.all([client, ...others.splice(0)].map((one) => one.close()))
  await Promise.all(servers.map((server) => server.stop()))
})

const patience = { timeout: 5000, interval: 2 }

/** A watch that is being read, with all it has told but how far it is. */
class Reading {
  readonly told: string[] = []
  readonly events: WatchEvent[] = []
  readonly aborter = new AbortController()
  readonly end: Promise<unknown>

  constructor(options: WatchOptions = {}, from: Store = store) {
    this.end = this.#read(from.watch({ ...options, signal: this.aborter.signal })).catch(
      (error: unknown) => error,
    )
  }

  async #read(events: AsyncIterable<WatchEvent>): Promise<void> {
    for await (const event of events) {
      this.events.push(event)
      if (event.type === 'progress') continue
      if (event.type === 'reset') this.told.push('reset')
      else
        this.told.push(
          event.type === 'set' ? `${event.key}=${new TextDecoder().decode(event.value)}` : `-${event.key}`,
        )
    }
  }

  /** Waits until it has been told that it has everything. */
  async caughtUp(): Promise<this> {
    await expect.poll(() => this.events.some(({ type }) => type === 'progress'), patience).toBe(true)
    return this
  }

  async tells(...told: readonly string[]): Promise<void> {
    await expect.poll(() => this.told, patience).toEqual(told)
  }
}

function cutAll(event?: string): void {
  for (const stream of [...state.watch.streams]) stream.end(event)
}

describe('a watch', () => {
  it('tells what happens from now on, of the keys it is about', async () => {
    await store.set('a/0', 'before')
    const [all, some, one] = [new Reading(), new Reading({ prefix: ['a/', 'b/'] }), new Reading({ key: 'c' })]
    for (const reading of [all, some, one]) await reading.caughtUp()
    await store.set('a/1', 'x', { contentType: 'image/png', ttl: '7s' })
    await store.set('c', 'y')
    await store.delete('a/1')
    await all.tells('a/1=x', 'c=y', '-a/1')
    await some.tells('a/1=x', '-a/1')
    await one.tells('c=y')
    expect(some.events.find(({ type }) => type === 'set')).toEqual({
      type: 'set',
      id: '2',
      key: 'a/1',
      value: new TextEncoder().encode('x'),
      revision: 2,
      contentType: 'image/png',
      expires: new Date('2030-01-01T00:00:07Z'),
    })
    const farthest = (): unknown => all.events.filter(({ type }) => type === 'progress').at(-1)
    await expect.poll(farthest, patience).toEqual({ type: 'progress', id: '4', revision: 4 })
  })

  it('begins after the revision or event it is given', async () => {
    await store.setMany(['a', 'b', 'c'].map((key) => [key, '1']))
    await store.set('d', '2')
    const [whole, part, later] = [
      new Reading({ from: 0 }),
      new Reading({ from: '1.2' }),
      new Reading({ from: 1 }),
    ]
    await whole.tells('a=1', 'b=1', 'c=1', 'd=2')
    await part.tells('c=1', 'd=2')
    await later.tells('d=2')
  })

  it('begins with what is there, on demand, and goes on without a gap', async () => {
    await store.set('a', '1')
    const mirror = await new Reading({ snapshot: true }).caughtUp()
    await store.set('a', '2')
    await mirror.tells('a=1', 'a=2')
    expect(mirror.events[0]).not.toHaveProperty('id')
  })

  it('goes on where it was after its stream broke, for whatever reason, at another node', async () => {
    const watch = await new Reading().caughtUp()
    let n = 0
    for (const end of [undefined, 'closing', 'lagged']) {
      await store.set('k', String(++n))
      await expect.poll(() => watch.told.length, patience).toBe(n * 2 - 1)
      const [stream] = state.watch.streams
      cutAll(end)
      await store.set('k', `${n} meanwhile`)
      await expect.poll(() => watch.told.length, patience).toBe(n * 2)
      expect([...state.watch.streams]).not.toContain(stream)
    }
    expect(watch.told).toEqual([1, 2, 3].flatMap((i) => [`k=${i}`, `k=${i} meanwhile`]))
  })

  it('misses nothing of what happened before its first event when it breaks before that', async () => {
    state.watch.progressMs = 60_000
    const on = ({ path }: { readonly path: string }): boolean => path.includes('/watch')
    const watch = new Reading()
    await expect.poll(() => state.watch.streams.size, patience).toBe(1)
    servers[0]?.faults.push({ type: 'refuse', status: 503, code: 'no-leader', on })
    cutAll()
    await store.set('k', 'meanwhile')
    await watch.tells('k=meanwhile')
  })

  it('outlasts a time in which no node answers', async () => {
    const watch = await new Reading().caughtUp()
    await Promise.all(servers.map((server) => server.stop()))
    await Promise.all(servers.map((server) => server.listen()))
    await store.set('k', 'v')
    await watch.tells('k=v')
  })

  it('says what is wrong when it cannot begin', async () => {
    expect(await new Reading({}, await connectedWith('narrow')).end).toMatchObject({ code: 'access-denied' })
    await Promise.all(servers.map((server) => server.stop()))
    expect(await new Reading().end).toMatchObject({ code: 'deadline-exceeded' })
    for (const options of [
      { from: -1 },
      { from: 'x' },
      { from: 3, snapshot: true },
      { key: new Array(65).fill('k') },
    ]) {
      expect(await new Reading(options).end).toMatchObject({ code: 'invalid-request' })
    }
  })

  it('takes a new snapshot when history does not reach back, and says so first', async () => {
    await store.set('a', '1')
    await store.set('b', '1')
    const watch = await new Reading({ snapshot: true }).caughtUp()
    await Promise.all(servers.map((server) => server.stop()))
    // What happens meanwhile is forgotten before anybody could tell it.
    state.single({ op: 'delete', store: 'default', key: 'a' })
    state.single({ op: 'set', store: 'default', key: 'b', value: Buffer.from('2') })
    state.history.length = 0
    state.watch.oldest = state.revision + 1
    await Promise.all(servers.map((server) => server.listen()))
    await watch.tells('a=1', 'b=1', 'reset', 'b=2')
    await store.set('c', '3')
    await watch.tells('a=1', 'b=1', 'reset', 'b=2', 'c=3')
  })

  it('begins a snapshot anew that broke half way, and says so', async () => {
    await store.setMany(['a', 'b', 'c'].map((key) => [key, '1']))
    state.watch.snapshotBreaksAfter = 2
    const watch = await new Reading({ snapshot: true }).caughtUp()
    await watch.tells('a=1', 'b=1', 'reset', 'a=1', 'b=1', 'c=1')
  })

  it('ends when its token is revoked or its store dropped', async () => {
    for (const [event, code] of [
      ['revoked', 'unauthenticated'],
      ['store-dropped', 'no-such-store'],
    ] as const) {
      const watch = await new Reading().caughtUp()
      cutAll(event)
      expect(await watch.end).toMatchObject({ code })
    }
  })

  it('ends its stream when it is left, aborted or closed', async () => {
    const idle = (): Promise<void> => expect.poll(() => state.watch.streams.size, patience).toBe(0)
    for await (const event of store.watch()) {
      expect(event.type).toBe('progress')
      break
    }
    await idle()
    const aborted = await new Reading().caughtUp()
    aborted.aborter.abort('enough')
    expect(await aborted.end).toBe('enough')
    await idle()
    const handle = await client.open('default')
    const closed = await new Reading({}, handle).caughtUp()
    await handle.close()
    expect(await closed.end).toMatchObject({ code: 'invalid-store' })
    await idle()
    const last = await new Reading().caughtUp()
    await client.close()
    expect(await last.end).toMatchObject({ code: 'invalid-store' })
    await idle()
  })
})

describe('several watches', () => {
  it('share one stream once they have caught up, and each is told its own', async () => {
    const readings = ['a', 'b', 'c', 'd'].map((key) => new Reading({ prefix: key }))
    await expect
      .poll(() => [...state.watch.streams].map(({ query }) => query.getAll('prefix').sort()), patience)
      .toEqual([['a', 'b', 'c', 'd']])
    for (const key of ['a', 'b', 'c', 'd', 'e']) await store.set(`${key}1`, key)
    for (const [index, reading] of readings.entries()) {
      const key = 'abcd'[index] ?? ''
      await reading.tells(`${key}1=${key}`)
    }
    cutAll()
    await store.set('b2', 'b')
    await readings[1]?.tells('b1=b', 'b2=b')
  })

  it('that begin late and far back are told all, and the others nothing twice', async () => {
    const early = await new Reading().caughtUp()
    for (let n = 1; n <= 20; n += 1) await store.set('k', String(n))
    const late = new Reading({ from: 10 })
    await expect.poll(() => late.told.length, patience).toBe(10)
    await expect.poll(() => state.watch.streams.size, patience).toBe(1)
    for (let n = 21; n <= 30; n += 1) await store.set('k', String(n))
    const numbers = (from: number, to: number): string[] =>
      Array.from({ length: to - from + 1 }, (_, index) => `k=${from + index}`)
    await early.tells(...numbers(1, 30))
    await late.tells(...numbers(11, 30))
  })

  it('see each change once, in order, however often streams are cut and readers come and go', async () => {
    const all = new Reading({ from: 0 })
    const readings: Reading[] = []
    for (let n = 0; n < 60; n += 1) {
      await store.setMany(['x', 'y'].map((key) => [`${key}${n}`, '']))
      if (n % 7 === 0) readings.push(new Reading({ prefix: n % 2 === 0 ? 'x' : 'y', from: 0 }))
      if (n % 11 === 0) cutAll(n % 2 === 0 ? undefined : 'lagged')
      if (n % 13 === 0) readings.shift()?.aborter.abort('enough')
    }
    const written = (...keys: readonly string[]): string[] =>
      Array.from({ length: 60 }, (_, n) => keys.map((key) => `${key}${n}=`)).flat()
    await all.tells(...written('x', 'y'))
    for (const reading of readings) {
      const key = reading.told[0]?.[0] ?? ''
      await reading.tells(...written(key))
    }
  })

  it('do not wait for one that is not read, which misses nothing either', async () => {
    const quick = await new Reading().caughtUp()
    const slow = store.watch({ from: 0 })[Symbol.asyncIterator]()
    await slow.next()
    await expect.poll(() => state.watch.streams.size, patience).toBe(1)
    const value = 'v'.repeat(1_000_000)
    for (let n = 0; n < 12; n += 1) await store.set(`k${n}`, value)
    await expect.poll(() => quick.told.length, patience).toBe(12)
    await store.set('last', '')
    const keys: string[] = []
    while (keys.at(-1) !== 'last') {
      const { value } = await slow.next()
      if (value?.type === 'set') keys.push(value.key)
    }
    expect(keys).toEqual([...Array.from({ length: 12 }, (_, n) => `k${n}`), 'last'])
    await slow.return?.()
  })
})

async function connectedWith(token: string): Promise<Store> {
  state.tokens.set(token, ['default'])
  const other = connect({ endpoints: servers.map(({ url }) => url), token, timeout: '1s' })
  others.push(other)
  const opened = await other.open('default')
  state.tokens.set(token, [])
  return opened
}
