// A backup of one state brought into another: whole and at once, or not at all.

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { decodeBackup, decodeRows } from '../../src/store/backup-format.ts'
import { restorePatienceMs } from '../../src/store/state-restore.ts'
import type { StateLevel } from '../../src/store/state-writer.ts'
import type { Command, Founding, Outcome, RestoreStep } from '../../src/store/types.ts'
import {
  backends,
  bytes,
  del,
  dump,
  founding,
  type Machine,
  memory,
  openSession,
  set,
  tokens,
  Workshop,
} from './state-fixtures.ts'

const token = tokens.admin.hash
/** The new cluster: it has an administrator of its own, of the same name. */
const ownAdmin = { ...tokens.admin, hash: 'o'.repeat(43) }
const other: Founding = {
  ...founding,
  clusterId: 'f'.repeat(32),
  name: 'other',
  stores: [{ name: 'default' }, { name: 'spare' }],
  tokens: [ownAdmin, { ...tokens.cart, name: 'minted', hash: 'm'.repeat(43), mintedBy: 'admin' }],
}

const app = { type: 'app', app: 'todo', holder: { type: 'user', id: 'u1' } } as const

describe.each(backends)('a restore on $name', ({ make }) => {
  let workshop: Workshop
  let backend: { open(): Promise<StateLevel> }
  let level: StateLevel
  let source: Machine
  let target: Machine
  let parts: { readonly header: Uint8Array; readonly rows: readonly Uint8Array[]; readonly end: RestoreStep }

  beforeEach(async () => {
    workshop = new Workshop()
    source = await workshop.open(await memory())
    await source.run(
      set('gone', 'x'),
      del('gone'),
      set('a', Uint8Array.of(0, 255, 10), { contentType: 'application/x-a' }),
      set('cart/1', 'one'),
      set('cart/1', 'two'),
      { ...set('lasting', 'y'), ttl: 5_000_000 } as Command,
      set('s', 'session', { store: 'sessions' }),
      { type: 'mintToken', token, minted: { name: 'bot', hash: 'b'.repeat(43), principal: app } },
    )
    await source.run(set('k', 'of the app', { store: 'self', token: 'b'.repeat(43) }))
    parts = await partsOf(source)
    backend = await make(workshop)
    level = await backend.open()
    target = await workshop.open(level, { founding: other })
  })

  afterEach(async () => {
    await workshop[Symbol.asyncDispose]()
  })

  function step(one: RestoreStep, restore = 'r1', by = ownAdmin.hash): Command {
    return { type: 'restore', token: by, restore, step: one }
  }

  /** Brings everything but the end in. */
  async function bringIn(restore = 'r1'): Promise<void> {
    expect(await target.run(step({ type: 'begin', header: parts.header }, restore))).toEqual([
      { type: 'done' },
    ])
    for (const [at, rows] of parts.rows.entries()) {
      expect(await target.run(step({ type: 'rows', number: at + 1, rows }, restore))).toEqual([
        { type: 'done' },
      ])
    }
  }

  async function link(restore = 'r1'): Promise<Outcome | undefined> {
    const [outcome] = await target.run(step(parts.end, restore))
    return outcome
  }

  async function reopen(): Promise<void> {
    await target.state.close()
    level = await backend.open()
    target = target.on((await workshop.open(level, { founding: other })).state)
  }

  /** Nothing but what the founding made. */
  function expectNothing(): void {
    expect(target.state.stores().map(({ name, keys }) => [name, keys])).toEqual([
      ['default', 0],
      ['spare', 0],
    ])
    expect(target.state.apps()).toEqual([])
    expect(target.state.tokens().map(({ name }) => name)).toEqual(['admin', 'minted'])
  }

  async function collectAll(): Promise<void> {
    for (let [store] = target.state.dropped(); store !== undefined; [store] = target.state.dropped()) {
      await target.run({ type: 'collect', store })
    }
  }

  it('shows nothing until it is linked, and then all at once', async () => {
    await bringIn()
    expectNothing()
    await reopen()
    expectNothing()
    expect(target.state.dropped()).toEqual([])
    expect(await link()).toEqual({ type: 'restored', revision: source.state.revision })
    await target.state.recompute()
    for (const again of [false, true]) {
      if (again) await reopen()
      expect(await listing(target)).toEqual(await listing(source))
      expect(target.state.revision).toBe(source.state.revision)
      expect(target.state.stores().map(({ name, ttl, keys }) => ({ name, ttl, keys }))).toEqual([
        { name: 'spare', ttl: undefined, keys: 0 },
        { name: 'default', ttl: undefined, keys: 3 },
        { name: 'sessions', ttl: 60_000, keys: 1 },
      ])
      expect(target.state.apps()).toEqual(source.state.apps())
    }
  })

  it('brings the tokens in, and keeps the own ones under other names where theirs are taken', async () => {
    await bringIn()
    await link()
    expect(target.state.token(token)).toEqual(tokens.admin)
    expect(target.state.token(tokens.cart.hash)).toEqual(tokens.cart)
    expect(target.state.token('b'.repeat(43))).toMatchObject({ name: 'bot', principal: app })
    expect(target.state.token(ownAdmin.hash)).toEqual({ ...ownAdmin, name: 'admin-2' })
    expect(target.state.token('m'.repeat(43))).toMatchObject({ name: 'minted', mintedBy: 'admin-2' })
  })

  it('tells watchers of nothing, and that what they were told leads nowhere', async () => {
    const by = { token: ownAdmin.hash }
    await target.run(set('k', 'v', by), del('k', by))
    const told: unknown[] = []
    let authority = 0
    target.state.follow({
      changed: (events) => told.push(...events),
      authorityChanged: () => (authority += 1),
    })
    await bringIn()
    await link()
    expect({ told, authority }).toEqual({ told: [], authority: 1 })
    const history = await target.state.openHistory()
    expect(history.since).toBe(source.state.revision)
    await history.close()
    await reopen()
    const again = await target.state.openHistory()
    expect(again.since).toBe(source.state.revision)
    await again.close()
  })

  it('lets what was restored expire, and goes on counting revisions', async () => {
    await bringIn()
    await link()
    const due = await target.state.due(Number.MAX_SAFE_INTEGER, 10)
    expect(due.records).toHaveLength(2)
    const revision = target.state.revision + 1
    expect(await target.run(set('new', 'n'))).toMatchObject([{ type: 'set', revision, created: true }])
  })

  it('takes each part once, in its order', async () => {
    await target.run(step({ type: 'begin', header: parts.header }))
    const [rows = new Uint8Array()] = parts.rows
    const lastSize = [...decodeRows(rows)].at(-1)?.bytes.length ?? 0
    expect(await target.run(step({ type: 'rows', number: 2, rows }))).toMatchObject([
      { code: 'invalid-request' },
    ])
    expect(await target.run(step({ type: 'begin', header: parts.header }))).toEqual([{ type: 'done' }])
    for (let n = 0; n < 3; n++) {
      expect(await target.run(step({ type: 'rows', number: 1, rows }))).toEqual([{ type: 'done' }])
    }
    const twice = Buffer.concat([
      rows.subarray(rows.length - lastSize),
      rows.subarray(rows.length - lastSize),
    ])
    expect(await target.run(step({ type: 'rows', number: 2, rows: twice }))).toMatchObject([
      { code: 'invalid-request' },
    ])
    expect(await link()).toMatchObject({ type: 'restored' })
    expect(await listing(target)).toEqual(await listing(source))
  })

  it('is dropped when it does not come to its digest or count, and leaves no row behind', async () => {
    await target.state.flush()
    const before = await dump(level)
    for (const wrong of [{ digest: '0'.repeat(32) }, { rows: 3 }]) {
      await bringIn()
      expect(await target.run(step({ ...parts.end, ...wrong } as RestoreStep))).toEqual([
        { type: 'refused', code: 'invalid-request' },
      ])
      expectNothing()
      await collectAll()
    }
    await target.state.flush()
    const tables = (all: readonly string[]) => all.filter((row) => !/^(01|04|05)/.test(row))
    expect(tables(await dump(level))).toEqual(tables(before))
  })

  it('is refused where there are keys, at its beginning and at its end', async () => {
    await bringIn()
    const by = { token: ownAdmin.hash }
    await target.run(set('k', 'v', by))
    expect(await link()).toEqual({ type: 'refused', code: 'condition-failed' })
    expect(await target.run(step({ type: 'begin', header: parts.header }, 'r2'))).toEqual([
      { type: 'refused', code: 'condition-failed' },
    ])
    await target.run(del('k', by))
    await collectAll()
    await bringIn('r3')
    expect(await link('r3')).toMatchObject({ type: 'restored' })
  })

  it('is one at a time, and over when it is dropped or nothing is heard of it for long', async () => {
    await bringIn()
    expect(await target.run(step({ type: 'begin', header: parts.header }, 'r2'))).toEqual([
      { type: 'refused', code: 'change-in-progress' },
    ])
    expect(await target.run(step({ type: 'drop' }))).toEqual([{ type: 'done' }])
    expect(await link()).toEqual({ type: 'refused', code: 'change-in-progress' })
    await bringIn('r2')
    await reopen()
    const over = target.state.restoreOverAt ?? 0
    expect(over).toBeGreaterThan(founding.foundedAt + restorePatienceMs)
    await target.runAt(over - 1, openSession(1, ownAdmin.hash))
    expect(target.state.restoreOverAt).toBe(over)
    await target.runAt(over, openSession(2, ownAdmin.hash))
    expect(target.state.restoreOverAt).toBeUndefined()
    expect(target.state.dropped().length).toBeGreaterThan(0)
    await collectAll()
    expectNothing()
  })

  it('keeps what expires meanwhile out of sight, and comes to its digest all the same', async () => {
    await bringIn()
    const { records } = await target.state.due(Number.MAX_SAFE_INTEGER, 10)
    await target.runAt(founding.foundedAt + 100_000, { type: 'expire', records, tokens: [] })
    expect(await link()).toMatchObject({ type: 'restored' })
    expect(await target.state.get('sessions', bytes('s'))).toBeUndefined()
    expect(await target.text('lasting')).toBe('y')
  })

  it('is for administrators', async () => {
    const begin: RestoreStep = { type: 'begin', header: parts.header }
    expect(await target.run(step(begin, 'r1', 'm'.repeat(43)))).toMatchObject([{ code: 'access-denied' }])
    expect(await target.run(step(begin, 'r1', 'nobody'))).toMatchObject([{ code: 'unauthenticated' }])
  })

  it('refuses bytes that no cluster can have written', async () => {
    expect(await target.run(step({ type: 'begin', header: bytes('{}') }))).toMatchObject([
      { code: 'invalid-request' },
    ])
    await target.run(step({ type: 'begin', header: parts.header }))
    const [rows = new Uint8Array()] = parts.rows
    for (const wrong of [rows.subarray(1), Buffer.concat([rows, rows]), Buffer.alloc(40, 1)]) {
      expect(await target.run(step({ type: 'rows', number: 1, rows: wrong }))).toMatchObject([
        { code: 'invalid-request' },
      ])
    }
    await target.run(step({ type: 'rows', number: 1, rows }))
    expect(await link()).toMatchObject({ type: 'restored' })
  })
})

async function partsOf(machine: Machine) {
  const rows: Uint8Array[] = []
  let header: Uint8Array = new Uint8Array()
  let end: RestoreStep = { type: 'drop' }
  for await (const part of decodeBackup(machine.state.backup())) {
    if (part.type === 'header') header = part.bytes
    else if (part.type === 'rows') rows.push(part.bytes)
    else end = { type: 'link', rows: part.rows, digest: part.digest }
  }
  return { header, rows, end }
}

async function listing(machine: Machine) {
  const places = ['default', 'sessions', { app: 'todo', prefix: new Uint8Array() }] as const
  const pages = places.map((store) => machine.state.list({ store, limit: 100, maxBytes: 1 << 20 }))
  return (await Promise.all(pages)).map(({ items }) => items)
}
