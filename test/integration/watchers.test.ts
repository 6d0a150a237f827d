// A thousand watchers over three nodes, and the leader killed under them: each sees every event once, in order.

import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { EventStream } from '../api/event-stream.ts'
import { eventually, RealCluster } from './real-cluster.ts'

const watch = '/v1/stores/default/watch?prefix=watched/'

/** Comes again, at the next node, with the id of the last event that it heard, whatever ends its stream. */
class Follower {
  readonly ids: string[] = []
  readonly #urls: readonly string[]
  readonly #token: string
  #at: number
  #lastId: string
  #stream: EventStream | undefined
  #taken = 0
  streams = 0
  stopped = false

  constructor(urls: readonly string[], options: { at: number; from: number; token: string }) {
    this.#urls = urls
    this.#token = options.token
    this.#at = options.at
    this.#lastId = String(options.from)
    void this.#run()
  }

  /** Takes what was heard since the last time. */
  take(): void {
    const events = this.#stream?.events ?? []
    for (const { id, type } of events.slice(this.#taken)) {
      if (id === undefined) continue
      this.#lastId = id
      if (type !== 'progress') this.ids.push(id)
    }
    this.#taken = events.length
  }

  stop(): void {
    this.stopped = true
    this.#stream?.cut()
  }

  async #run(): Promise<void> {
    while (!this.stopped) {
      const url = this.#urls[this.#at % this.#urls.length] ?? ''
      try {
        this.#stream = await EventStream.open(url, watch, {
          token: this.#token,
          headers: { 'last-event-id': this.#lastId },
        })
        this.#taken = 0
        this.streams += 1
        await this.#stream.until(({ ended }) => ended, 600)
      } catch {
        // The node is down, or knows no leader yet: another one may.
        await delay(50)
      }
      this.take()
      this.#stream = undefined
      this.#taken = 0
      this.#at += 1
    }
  }
}

it('tells a thousand watchers every event once, in order, through a kill of the leader', async () => {
  await using cluster = await RealCluster.start({ seconds: 60 })
  const client = cluster.client()
  const store = await client.open('default')
  const { revision: from } = await store.set('before', 'x')
  const followers = Array.from(
    { length: 1000 },
    (_, at) => new Follower(cluster.urls, { at, from, token: cluster.token }),
  )
  await eventually(
    'all to watch',
    () => (followers.every(({ streams }) => streams > 0) ? true : undefined),
    60,
  )

  const acknowledged: number[] = []
  const write = async (writer: number, count: number): Promise<void> => {
    for (let n = 0; n < count; n++) {
      const { revision } = await store.set(`watched/${writer}`, `${n}`)
      acknowledged.push(revision)
    }
  }
  const writers = (count: number) => Promise.all([0, 1, 2, 3].map((writer) => write(writer, count)))
  await writers(15)
  const leader = await cluster.leader()
  const during = writers(20)
  cluster.signal(leader, 'SIGKILL')
  await during
  await cluster.ended(leader)
  cluster.spawn(leader)
  await cluster.ready([leader])
  await writers(15)

  // Each write was acknowledged once, and took effect once: these are all events there are.
  const expected = acknowledged.toSorted((one, other) => one - other).map(String)
  expect(new Set(expected).size).toBe(200)
  await eventually(
    'all to have heard everything',
    () => {
      for (const follower of followers) follower.take()
      return followers.every(({ ids }) => ids.length >= expected.length) ? true : undefined
    },
    60,
  ).finally(() => {
    for (const follower of followers) follower.stop()
  })
  const wrong = followers.filter(({ ids }) => ids.join() !== expected.join())
  expect(wrong.length).toBe(0)
  expect(followers.filter(({ streams }) => streams > 1).length).toBeGreaterThan(300)
  await client.close()
}, 300_000)
