// What every store does, wherever it is: over the network, in the same process, in a browser. Runs without a test library.

import {
  check,
  op,
  SchemaError,
  type Store,
  type TransactionBuilder,
  TrivetError,
  type WatchEvent,
} from '../../src/sdk/index.ts'

/** Where a scenario takes place: a store of its own in which it finds nothing. */
export type Ground = {
  readonly store: Store
  readonly transaction: () => TransactionBuilder
  /** The same store through another handle: of another node, where there are several. */
  readonly other: Store
}

/** Throws unless both say the same, as far as JSON, bytes, dates and bigints go. */
function same(actual: unknown, expected: unknown): void {
  const [one, other] = [plain(actual), plain(expected)]
  if (one !== other) throw new Error(`expected ${other}, got ${one}`)
}

function plain(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (part === undefined) return '(undefined)'
    if (typeof part === 'bigint') return `${part}n`
    if (part instanceof Uint8Array) return `(${Array.from(part).join()})`
    return part
  })
}

async function refused(call: Promise<unknown>, code: string): Promise<TrivetError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof TrivetError)) throw new Error(`expected ${code}, got ${String(error)}`)
  same(error.code, code)
  return error
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

export const scenarios: Readonly<Record<string, (ground: Ground) => Promise<void>>> = {
  'values come back as they were set, through every node': async ({ store, other }) => {
    const bytes = Uint8Array.of(0, 255, 10)
    const { revision, created, changed } = await store.set('k', bytes, { contentType: 'image/png' })
    same([created, changed], [true, true])
    const entry = await other.getEntry('k')
    same(entry, { key: 'k', value: bytes, revision, contentType: 'image/png' })
    same((await store.set('k', bytes, { contentType: 'image/png' })).changed, false)
    await store.setJson('j', null)
    same([await other.getJson('j'), await other.getJson('missing')], [null, undefined])
    await store.set('empty', '')
    same([await other.get('empty'), await other.get('missing')], [new Uint8Array(0), undefined])
    same([await other.exists('empty'), await other.exists('missing')], [true, false])
    same((await store.delete('k')).deleted, true)
    same((await store.delete('k')).deleted, false)
    same(await other.get('k'), undefined)
  },

  'conditions hold by revision': async ({ store }) => {
    const { revision } = await store.set('k', 'a', { ifAbsent: true })
    same((await refused(store.set('k', 'b', { ifAbsent: true }), 'condition-failed')).revision, revision)
    same((await refused(store.delete('none', { ifRevision: 1 }), 'condition-failed')).revision, 0)
    await store.set('k', 'b', { ifRevision: revision })
    await refused(store.increment('k', 1, { ifRevision: revision }), 'condition-failed')
  },

  'keys of every spelling are listed by their bytes, with their values, from one revision': async ({
    store,
    other,
  }) => {
    const keys = ['a', 'b/1', 'b/2', 'a/../b', '..', 'ü', '\uffee', '😀', 'a b?#%2F', 'n'.repeat(2000)]
    await Promise.all(keys.map((key) => store.set(key, key)))
    const sorted = ['..', 'a', 'a b?#%2F', 'a/../b', 'b/1', 'b/2', 'n'.repeat(2000), 'ü', '\uffee', '😀']
    same(await all(other.getKeys()), sorted)
    same(await all(store.getKeys({ reverse: true })), sorted.toReversed())
    same(await all(store.getKeys({ prefix: 'b/' })), ['b/1', 'b/2'])
    same(await all(store.getKeys({ start: 'b', end: 'n' })), ['b/1', 'b/2'])
    const entries = await all(other.entries({ prefix: 'b/' }))
    same(
      entries.map(({ key, value }) => [key, new TextDecoder().decode(value)]),
      [
        ['b/1', 'b/1'],
        ['b/2', 'b/2'],
      ],
    )
    for (const key of keys) same(await other.getText(key), key)
    same((await store.deleteRange({ prefix: 'b/' })).deleted, 2)
    same((await store.deleteRange({ all: true })).deleted, keys.length - 2)
    same(await all(other.getKeys()), [])
  },

  'counters count in 64 bits': async ({ store, other }) => {
    same(await store.increment('n'), 1n)
    same(await other.increment('n', 2n ** 62n), 2n ** 62n + 1n)
    await refused(store.increment('n', 2n ** 62n), 'overflow')
    await store.set('text', 'much')
    await refused(store.increment('text'), 'not-a-number')
    const sums = await Promise.all(
      Array.from({ length: 100 }, (_, index) => [store, other][index % 2]?.increment('m')),
    )
    same(new Set(sums).size, 100)
    same(await other.getText('m'), '100')
  },

  'lifetimes are set, renewed and cleared': async ({ store, other }) => {
    await store.set('k', 'v', { ttl: '1h' })
    const lasts = async (): Promise<number> =>
      ((await other.getEntry('k'))?.expires?.getTime() ?? 0) - Date.now()
    same(Math.round((await lasts()) / 600_000), 6)
    const revision = (await store.getEntry('k'))?.revision
    const touched = await store.touch('k', { ttl: '2h' })
    same(Math.round(((touched?.expires?.getTime() ?? 0) - Date.now()) / 600_000), 12)
    same(await store.touch('k', { ttl: 'none' }), {})
    same((await other.getEntry('k'))?.revision, revision)
    same((await lasts()) < 0, true)
    same(await store.touch('missing', { ttl: '1h' }), undefined)
    await refused(store.set('k', 'v', { ttl: '4000d' }), 'invalid-request')
  },

  'many keys are read and written together': async ({ store, other }) => {
    const { revision } = await store.setMany([
      ['a', '1'],
      { key: 'b', value: '2', contentType: 'a/b', ttl: '1h' },
    ])
    same((await other.getEntry('a'))?.revision, revision)
    same(
      (await other.getMany(['b', 'missing', 'a'])).map((value) => value && new TextDecoder().decode(value)),
      ['2', undefined, '1'],
    )
    same((await store.deleteMany(['a', 'missing', 'b'])).deleted, 2)
    same(await store.getMany([]), [])
  },

  'compare and swap goes by revision': async ({ store, other }) => {
    const cas = store.cas('k')
    same(await cas.current(), undefined)
    await other.set('k', 'theirs')
    const lost = await cas.swap('mine')
    same(lost.swapped, false)
    if (lost.swapped) return
    same(new TextDecoder().decode((await lost.cas.current())?.value), 'theirs')
    same((await lost.cas.swap('mine')).swapped, true)
    same(await other.getText('k'), 'mine')
  },

  'transactions do all or nothing': async ({ store, other, transaction }) => {
    const build = transaction()
      .if(check.absent(store, 'k'))
      .onSuccess(op.set(store, 'k', 'v'), op.increment(store, 'n', 5), op.get(store, 'n'))
      .onFailure(op.exists(store, 'k'), op.touch(store, 'k', { ttl: '1h' }), op.delete(store, 'k'))
    const first = await build.commit()
    same(first.succeeded, true)
    same(first.results[0], { op: 'set', created: true, changed: true })
    if (first.succeeded)
      same([first.results[1].value, first.results[2].entry?.value], [5n, new TextEncoder().encode('5')])
    same((await other.getEntry('k'))?.revision, first.revision)
    const second = await build.commit()
    same([second.succeeded, second.results.length], [false, 3])
    same(await other.exists('k'), false)
    await store.set('text', 'much')
    const failing = transaction()
      .onSuccess(op.set(store, 'x', ''), op.increment(store, 'text'))
      .commit()
    same((await refused(failing, 'not-a-number')).index, 1)
    same(await other.exists('x'), false)
  },

  'typed stores check what goes in and what comes out': async ({ store, other }) => {
    const numbers = store.typed({
      '~standard': {
        version: 1,
        vendor: 'scenario',
        validate: (value: unknown) =>
          typeof value === 'number' ? { value } : { issues: [{ message: 'not a number' }] },
      },
    } satisfies Parameters<Store['typed']>[0])
    await numbers.set('n', 1)
    same(await other.getText('n'), '1')
    await store.setJson('n', 'text')
    const error = await numbers.get('n').catch((reason: unknown) => reason)
    same(error instanceof SchemaError, true)
  },

  'a watch tells each change once, in order, and begins with what is there on demand': async ({
    store,
    other,
  }) => {
    await store.set('there', '0')
    const told: string[] = []
    const aborter = new AbortController()
    const started = Promise.withResolvers<void>()
    const end = (async () => {
      for await (const event of other.watch({ snapshot: true, signal: aborter.signal })) {
        if (event.type === 'progress') started.resolve()
        else told.push(line(event))
        if (event.type === 'delete' && event.key === 'last') return
      }
    })()
    await started.promise
    await store.set('a', '1')
    await store.setMany(['b', 'c'].map((key) => [key, '2']))
    await store.delete('a')
    await store.set('last', '')
    await store.delete('last')
    await end
    same(told, ['there=0', 'a=1', 'b=2', 'c=2', '-a', 'last=', '-last'])
    aborter.abort()
  },

  'a watch begins after an event it is given, and only tells what it was asked for': async ({
    store,
    other,
  }) => {
    const { revision } = await store.setMany(['x/1', 'x/2', 'y'].map((key) => [key, '']))
    await store.set('x/3', '')
    const told: string[] = []
    for await (const event of other.watch({ prefix: 'x/', from: `${revision}.1` })) {
      if (event.type !== 'progress') told.push(line(event))
      if (told.length === 2) break
    }
    same(told, ['x/2=', 'x/3='])
    const aborter = new AbortController()
    aborter.abort('enough')
    same(await all(store.watch({ signal: aborter.signal })).catch((reason: unknown) => reason), 'enough')
    await refused(all(store.watch({ from: 2 ** 40 })), 'invalid-request')
  },
}

function line(event: WatchEvent): string {
  if (event.type === 'set') return `${event.key}=${new TextDecoder().decode(event.value)}`
  return event.type === 'delete' || event.type === 'expire' ? `-${event.key}` : event.type
}
