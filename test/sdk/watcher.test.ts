// How watches share streams, event by event: what a test sends is all that a stream says.

import { expect, it } from 'vitest'
import type { WatchEvent, WatchOptions } from '../../src/sdk/index.ts'
import { type StreamOpener, Watcher } from '../../src/sdk/watcher.ts'

const patience = { timeout: 3000, interval: 1 }

/** One stream as the server has it. */
class Opened {
  readonly query: URLSearchParams
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>
  #controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>> | undefined
  cancelled = false

  constructor(path: string) {
    this.query = new URLSearchParams(path.slice(path.indexOf('?')))
    this.body = new ReadableStream({
      start: (controller) => {
        this.#controller = controller
      },
      cancel: () => {
        this.cancelled = true
      },
    })
  }

  set(id: string, key: string, value = ''): void {
    const data = { key, revision: Number.parseInt(id, 10), value: btoa(value), contentType: 'a/b' }
    this.say('set', id, data)
  }

  say(event: string, id?: string, data: object = {}): void {
    const text = `${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
    this.#controller?.enqueue(new TextEncoder().encode(text))
  }

  end(): void {
    this.#controller?.close()
  }
}

/** A server whose state is at `revision` when streams are opened. */
function serving(revision: number): { readonly streams: Opened[]; readonly watcher: Watcher } {
  const streams: Opened[] = []
  const opener: StreamOpener = {
    send: async ({ path, signal }) => {
      signal.throwIfAborted()
      const stream = new Opened(path)
      streams.push(stream)
      const headers = new Headers({ 'Trivet-Revision': String(revision) })
      return { status: 200, headers, body: new Uint8Array(0), endpoint: 'http://n1', stream: stream.body }
    },
    suspect: () => {},
  }
  return { streams, watcher: new Watcher('default', opener) }
}

/** The keys and ends that a watch tells, read one after another. */
function reading(
  watcher: Watcher,
  options: WatchOptions = {},
): { readonly told: string[]; readonly leave: () => void } {
  const told: string[] = []
  const aborter = new AbortController()
  const read = async (): Promise<void> => {
    for await (const event of watcher.watch({ ...options, signal: aborter.signal })) told.push(word(event))
  }
  read().catch((error: unknown) => told.push(String(error)))
  return { told, leave: () => aborter.abort('left') }
}

function word(event: WatchEvent): string {
  if (event.type === 'progress') return `progress ${event.id}`
  return event.type === 'reset' ? 'reset' : event.key
}

it('asks again from the revision that it began at when it broke before its first event', async () => {
  const { streams, watcher } = serving(17)
  const one = reading(watcher)
  await expect.poll(() => streams.length, patience).toBe(1)
  expect(streams[0]?.query.get('from')).toBeNull()
  streams[0]?.end()
  await expect.poll(() => streams.length, patience).toBe(2)
  expect(streams[1]?.query.get('from')).toBe('17')
  one.leave()
})

it('goes on within a revision of several events', async () => {
  const { streams, watcher } = serving(4)
  const one = reading(watcher)
  await expect.poll(() => streams.length, patience).toBe(1)
  streams[0]?.set('5.1', 'a')
  streams[0]?.set('5.2', 'b')
  await expect.poll(() => one.told, patience).toEqual(['a', 'b'])
  streams[0]?.end()
  await expect.poll(() => streams.length, patience).toBe(2)
  expect(streams[1]?.query.get('from')).toBe('5.2')
  // A server that repeats itself is not believed twice.
  for (const [n, key] of ['a', 'b', 'c'].entries()) streams[1]?.set(`5.${n + 1}`, key)
  await expect.poll(() => one.told, patience).toEqual(['a', 'b', 'c'])
  one.leave()
})

it('opens the shared stream anew for one that is behind it, and tells nobody anything twice', async () => {
  const { streams, watcher } = serving(4)
  const [one, other] = [reading(watcher), reading(watcher)]
  await expect.poll(() => streams.length, patience).toBe(2)
  streams[0]?.say('progress', '4')
  await expect.poll(() => one.told, patience).toEqual(['progress 4'])
  streams[0]?.set('5', 'a')
  await expect.poll(() => one.told.length, patience).toBe(2)
  // The second has caught up with what was when it began; the first is further on.
  streams[1]?.say('progress', '4')
  await expect.poll(() => streams.length, patience).toBe(3)
  expect(streams[2]?.query.get('from')).toBe('4')
  expect([streams[0]?.cancelled, streams[1]?.cancelled]).toEqual([true, true])
  streams[2]?.set('5', 'a')
  streams[2]?.set('6', 'b')
  await expect.poll(() => other.told, patience).toEqual(['progress 4', 'a', 'b'])
  expect(one.told).toEqual(['progress 4', 'a', 'b'])
  one.leave()
  other.leave()
  await expect.poll(() => streams[2]?.cancelled, patience).toBe(true)
})

it('does not open it anew for one that is covered and not behind', async () => {
  const { streams, watcher } = serving(4)
  const [one, other] = [reading(watcher), reading(watcher, { prefix: 'b' })]
  await expect.poll(() => streams.length, patience).toBe(2)
  streams[0]?.say('progress', '4')
  await expect.poll(() => one.told.length, patience).toBe(1)
  streams[1]?.say('progress', '4')
  await expect.poll(() => streams[1]?.cancelled, patience).toBe(true)
  streams[0]?.set('5', 'a')
  streams[0]?.set('6', 'b')
  await expect.poll(() => other.told, patience).toEqual(['progress 4', 'b'])
  expect(streams).toHaveLength(2)
  one.leave()
  other.leave()
})

it('puts one that is not read aside once 4 MiB wait for it, and brings it back where it was', async () => {
  const { streams, watcher } = serving(4)
  const quick = reading(watcher)
  const slow = watcher.watch({})[Symbol.asyncIterator]()
  const first = slow.next()
  await expect.poll(() => streams.length, patience).toBe(2)
  for (const stream of streams) stream.say('progress', '4')
  expect((await first).value).toMatchObject({ type: 'progress' })
  await expect.poll(() => streams.filter(({ cancelled }) => cancelled).length, patience).toBe(1)
  const shared = streams.find(({ cancelled }) => !cancelled)
  const value = 'v'.repeat(1024 * 1024)
  for (let revision = 5; revision < 15; revision += 1) shared?.set(String(revision), `k${revision}`, value)
  await expect.poll(() => quick.told.length, patience).toBe(11)
  // What waited, about 4 MiB, is still its own; then it asks for the rest by itself.
  const waiting: unknown[] = []
  for (let taken = 0; taken < 4; taken += 1) waiting.push((await slow.next()).value)
  expect(waiting).toMatchObject(['k5', 'k6', 'k7', 'k8'].map((key) => ({ key })))
  expect(streams).toHaveLength(2)
  const next = slow.next()
  await expect.poll(() => streams.length, patience).toBe(3)
  expect(streams[2]?.query.get('from')).toBe('8')
  streams[2]?.set('9', 'k9')
  expect((await next).value).toMatchObject({ key: 'k9' })
  quick.leave()
})

it('asks each for itself when history does not reach back for all of them', async () => {
  const { streams, watcher } = serving(4)
  const [one, other] = [reading(watcher), reading(watcher)]
  await expect.poll(() => streams.length, patience).toBe(2)
  for (const stream of streams) stream.say('progress', '4')
  await expect.poll(() => streams.filter(({ cancelled }) => cancelled).length, patience).toBe(1)
  const shared = streams.find(({ cancelled }) => !cancelled)
  shared?.say('compacted', undefined, { oldest: 9 })
  await expect.poll(() => streams.length, patience).toBe(4)
  for (const stream of streams.slice(2)) stream.say('compacted', undefined, { oldest: 9 })
  await expect
    .poll(() => streams.slice(4).map(({ query }) => query.get('snapshot')), patience)
    .toEqual(['true', 'true'])
  expect([one.told.at(-1), other.told.at(-1)]).toEqual(['reset', 'reset'])
  one.leave()
  other.leave()
})
