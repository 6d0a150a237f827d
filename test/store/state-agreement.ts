// A state machine held against the model, in everything that can be read of it.

import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import type { Change, ChangedRecord } from '../../src/store/state-changes.ts'
import type { StateMachine } from '../../src/store/state-machine.ts'
import type { StateLevel } from '../../src/store/state-writer.ts'
import type { Applied, Outcome } from '../../src/store/types.ts'
import { Workshop } from './state-fixtures.ts'
import type { Written } from './state-logs.ts'
import { type Model, type ModelChange, text } from './state-model.ts'

/** With bytes as text, so that it does not matter which kind of array holds them. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return text(value)
  if (typeof value === 'bigint') return `${value}n`
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]))
}

function same(found: unknown, expected: unknown, what: string): void {
  const [left, right] = [plain(found), plain(expected)]
  if (isDeepStrictEqual(left, right)) return
  assert.deepEqual(left, right, undefined)
  assert.fail(what)
}

/** What one entry came to. */
function sameAnswers(
  applied: readonly Applied[],
  expected: readonly { readonly id: unknown; readonly outcome: Outcome }[],
): void {
  same(
    applied.map(({ id, outcome }) => ({ id, outcome })),
    expected,
    'what an entry comes to',
  )
}

function toldValue({ value }: ChangedRecord): Uint8Array {
  assert(value !== undefined, 'Who follows is told the values')
  return value
}

/** A change outlives the entry it came with. */
export function copied({ key, record, ...change }: Change): Change {
  const own = record === undefined ? {} : { record: { ...record, value: Buffer.from(toldValue(record)) } }
  return { ...change, key: Buffer.from(key), ...own }
}

/** Revision by revision; within one, whatever their order, they are numbered from 1. */
function sameChanges(found: readonly Change[], expected: readonly ModelChange[]): void {
  const shape = found.map(({ record, key, n, ...change }) => ({
    ...change,
    key: text(key),
    ...(record === undefined ? {} : { value: text(toldValue(record)) }),
  }))
  const order = (left: { revision: number; store: number; key: string }, right: typeof left) =>
    left.revision - right.revision || left.store - right.store || (left.key < right.key ? -1 : 1)
  same(shape.sort(order), expected.map(({ n, ...change }) => change).sort(order), 'the changes')
  same(
    found.map(({ revision, n }) => [revision, n]),
    expected.map(({ revision, n }) => [revision, n]),
    'the numbers of the changes',
  )
}

/**
 * Applies a log entry by entry and holds it against what was written of it. With rows that wait for LevelDB, or rows that
 * are there: that must make no difference.
 */
export async function comesTo(
  { entries, answers, model }: Written,
  level: StateLevel,
  rowsWait: boolean,
): Promise<void> {
  await using workshop = new Workshop()
  const changes: Change[] = []
  const { state } = await workshop.open(level, {
    flushEveryMs: rowsWait ? 60_000 : 0,
  })
  state.follow({
    changed: (some) => changes.push(...some.map(({ last, ...change }) => copied(change))),
    authorityChanged: () => {},
  })
  for (const [at, one] of entries.entries()) sameAnswers(await state.apply([one]), answers[at] ?? [])
  await agrees(state, model)
  sameChanges(changes, model.changes)
  const { digest } = await state.recompute()
  same(digest, state.digest.digest, 'the digest')
}

/** All that can be read. */
export async function agrees(state: StateMachine, model: Model): Promise<void> {
  same(state.revision, model.revision, 'the revision')
  const contents = model.contents()
  const named = contents.filter(({ app }) => app === undefined)
  same(
    state.stores().map(({ name, number, keys, bytes }) => ({ name, number, keys, bytes })),
    named.map(({ name, number, keys, bytes }) => ({ name, number, keys, bytes })),
    'the stores and their counts',
  )
  const apps = contents.flatMap(({ app, keys, bytes }) =>
    app === undefined ? [] : [{ id: app, keys, bytes }],
  )
  same(
    state.apps(),
    apps.sort((left, right) => (left.id < right.id ? -1 : 1)),
    'the apps and their counts',
  )
  same(
    state.dropped(),
    [...model.dropped()].sort((left, right) => left - right),
    'the dropped stores',
  )
  const byHash = (left: { hash: string }, right: { hash: string }) => (left.hash < right.hash ? -1 : 1)
  same([...state.tokens()].sort(byHash), [...model.tokens].sort(byHash), 'the tokens')
  const far = Number.MAX_SAFE_INTEGER
  for (const now of [model.time, far]) {
    const [found, expected] = [await state.due(now, 1000), model.due(now, 1000)]
    same(found.records, expected.records, 'the records that are due')
    same([...found.tokens].sort(), [...expected.tokens].sort(), 'the tokens that are due')
  }
  const read = await state.openRead()
  same(read.revision, model.revision, 'the revision of a consistent read')
  for (const { app, name, records } of contents) {
    // The whole of an app's store: no holder's part begins with more than nothing.
    const store = app === undefined ? name : { app, prefix: new Uint8Array() }
    const query = { store, limit: 1000, maxBytes: 1 << 20 }
    const page = await state.list(query)
    same(
      page.items.map(({ key, ...rest }) => [key, rest]),
      records,
      `the records of ${name}`,
    )
    same((await read.list(query)).items, page.items, `the records of ${name}, read consistently`)
    const keys = [...page.items.map(({ key }) => key), Buffer.from('absent')]
    const each: unknown[] = []
    await state.getEach(store, keys, (item, at) => each.push([at, item]))
    same(each, [...[...page.items, undefined].entries()], `each record of ${name}`)
  }
  await read.close()
}
