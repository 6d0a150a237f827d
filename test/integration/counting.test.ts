// Clients that count and watch through the SDK while leaders are killed and cut off: each increment once, each event once, in order.

import { expect, it } from 'vitest'
import { type Client, connect, type Fetch, type Store } from '../../src/sdk/index.ts'
import { Aim } from '../chaos/fault.ts'
import { faultNamed } from '../chaos/faults.ts'
import { Ground } from '../chaos/ground.ts'
import { eventually, RealCluster } from './real-cluster.ts'

const clients = 64
const watchers = 12
const kills = 3

/** Loses every twentieth answer to a write after the node has given it. */
function losing(): Fetch {
  let count = 0
  return async (url, init) => {
    const answer = await fetch(url, init)
    count += 1
    if (count % 20 !== 0 || init.method === 'GET') return answer
    await answer.arrayBuffer()
    throw new TypeError('the answer was lost')
  }
}

/** Counts until it is told to stop; resolves with how often it did. */
async function count(store: Store, stopping: { readonly now: boolean }): Promise<number> {
  let counted = 0
  while (!stopping.now) {
    await Promise.all([store.increment('n'), store.increment('n')])
    counted += 2
  }
  return counted
}

it('ends at exactly the increments asked for, each seen once by every watcher', {
  timeout: 180_000,
}, async () => {
  await using cluster = await RealCluster.start()
  const open: Client[] = []
  const opened = (at: number, own?: Fetch): Promise<Store> => {
    const first = cluster.urls[at % cluster.urls.length] ?? ''
    const endpoints = [first, ...cluster.urls.filter((url) => url !== first)]
    const client = connect({ endpoints, token: cluster.token, timeout: '30s', fetch: own })
    open.push(client)
    return client.open('default')
  }
  const seen = Array.from({ length: watchers }, (): string[] => [])
  const over = new AbortController()
  const watching = seen.map(async (values, at) => {
    const store = await opened(at)
    try {
      for await (const event of store.watch({ key: 'n', from: 0, signal: over.signal })) {
        if (event.type === 'set') values.push(new TextDecoder().decode(event.value))
        else if (event.type !== 'progress') values.push(event.type)
      }
    } catch (error) {
      if (!over.signal.aborted) throw error
    }
  })
  const stopping = { now: false }
  const counting = Array.from({ length: clients }, async (_, at) =>
    count(await opened(at, losing()), stopping),
  )
  const furthest = (): number => Math.max(...seen.map((values) => values.length))
  for (let kill = 0; kill < kills; kill += 1) {
    const before = furthest()
    await eventually('the counter to rise', () => (furthest() > before + 200 ? true : undefined))
    await cluster.crashLeader()
  }
  stopping.now = true
  const asked = (await Promise.all(counting)).reduce((sum, one) => sum + one, 0)
  expect(await (await opened(0)).getText('n')).toBe(String(asked))
  const all = Array.from({ length: asked }, (_, index) => String(index + 1))
  await eventually('every watcher to have seen all', () =>
    seen.every((values) => values.length >= asked) ? true : undefined,
  )
  for (const values of seen) expect(values).toEqual(all)
  over.abort()
  await Promise.all(watching)
  process.stdout.write(
    `${asked} increments by ${clients} clients across ${kills} kills, each seen by ${watchers} watchers\n`,
  )
  await Promise.all(open.map((client) => client.close()))
})

/** What strikes, one after the other, each time the leader of that moment. */
const strikes = ['partition', 'one-way', 'kill', 'partition', 'pause', 'one-way', 'kill']

it('ends at exactly the increments asked for, through partitions of the leader and kills', {
  timeout: 240_000,
}, async () => {
  const seed = 7
  await using ground = await Ground.create({ nodes: 3, seed, hook: undefined })
  ground.onDeath = ({ node, how }) => {
    throw new Error(`${node} ${how}`)
  }
  for (const id of ground.ids) ground.start(id)
  await ground.settled(30)
  const urls = ground.ids.map((id) => ground.seat(id).http)
  const stopping = { now: false }
  const opened = Array.from({ length: clients }, (_, at) => {
    const endpoints = [...urls.slice(at % urls.length), ...urls.slice(0, at % urls.length)]
    return connect({ endpoints, token: ground.token, timeout: '60s', fetch: losing() })
  })
  const counting = opened.map(async (client) => count(await client.open('default'), stopping))
  const reader = connect({ endpoints: urls, token: ground.token, timeout: '60s' })
  const store = await reader.open('default')
  const value = async () => Number((await store.getText('n')) ?? 0)
  const rises = async (by: number) => {
    const before = await value()
    await eventually(
      'the counter to rise',
      async () => ((await value()) > before + by ? true : undefined),
      30,
    )
  }
  for (const [at, fault] of strikes.entries()) {
    await rises(100)
    const effect = await faultNamed(fault).begin(
      await Aim.take(ground, { fault, seed: seed + at, onLeader: true }),
    )
    // The others have a leader, and count on.
    await rises(300)
    await effect.heal()
    await ground.settled(60)
  }
  stopping.now = true
  const asked = (await Promise.all(counting)).reduce((sum, one) => sum + one, 0)
  expect(await value()).toBe(asked)
  for (const id of ground.ids) {
    const own = await ground.fetch(id, '/v1/stores/default/keys/n')
    expect(await own.text()).toBe(String(asked))
  }
  process.stdout.write(`${asked} increments by ${clients} clients through ${strikes.join(', ')}\n`)
  await Promise.all([reader, ...opened].map((client) => client.close()))
  await ground[Symbol.asyncDispose]()
  await ground.clear()
})
