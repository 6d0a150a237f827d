// A node that was away for longer than the log is kept comes back through a snapshot: real LevelDB, logs and libp2p, in one process.

import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, expect, it } from 'vitest'
import { Libp2pTransport } from '../../src/node/libp2p.ts'
import { Node } from '../../src/node/node.ts'
import { generatePeerKey, type PeerKey } from '../../src/node/peer-key.ts'
import { realDisk } from '../../src/store/real-disk.ts'
import { openLevel } from '../../src/store/state-open.ts'
import { changeThrough, readThrough } from '../node/errands.ts'
import { xorshift } from '../store/memory-state.ts'
import { eventually, freePorts } from './real-cluster.ts'

const MiB = 1024 * 1024
const token = createHash('sha256').update('the secret').digest('base64url')

type Line = { readonly msg: string; readonly [field: string]: unknown }

/** A node's place: what stays while the node comes and goes. */
type Place = { readonly id: string; readonly key: PeerKey; readonly p2p: string; readonly data: string }

class Village implements AsyncDisposable {
  readonly lines: Line[] = []
  readonly failures: Error[] = []
  readonly #directory: string
  readonly #places: readonly Place[]
  readonly #nodes = new Map<string, Node>()
  /** The clock of all nodes is ahead of the machine's by this: a minute of absence does not take one. */
  #ahead = 0

  private constructor(directory: string, places: readonly Place[]) {
    this.#directory = directory
    this.#places = places
  }

  static async start(): Promise<Village> {
    const directory = await mkdtemp(join(tmpdir(), 'trivet-village-'))
    const port = await freePorts(3)
    const places = await Promise.all(
      [0, 1, 2].map(async (at) => {
        const data = join(directory, `n${at + 1}`)
        await mkdir(data)
        const p2p = `/ip4/127.0.0.1/tcp/${port + at}`
        return { id: `n${at + 1}`, key: await generatePeerKey(), p2p, data }
      }),
    )
    const village = new Village(directory, places)
    await Promise.all(places.map(({ id }) => village.start(id)))
    await Promise.all(places.map(({ id }) => village.ready(id)))
    return village
  }

  node(id: string): Node {
    const node = this.#nodes.get(id)
    if (node === undefined) throw new Error(`${id} does not run`)
    return node
  }

  get running(): readonly Node[] {
    return [...this.#nodes.values()]
  }

  /** Lets so many milliseconds pass for all nodes. */
  pass(ms: number): void {
    this.#ahead += ms
  }

  async start(id: string): Promise<void> {
    const place = this.#places.find((one) => one.id === id)
    if (place === undefined) throw new Error(`There is no ${id}`)
    const { key, p2p, data } = place
    const line = (text: string) => this.lines.push(JSON.parse(text) as Line)
    const node = await Node.start(
      {
        id,
        cluster: 'village',
        nodes: this.#places.map((one) => ({ id: one.id, peer: one.key.peer, http: '', p2p: one.p2p })),
        stores: [{ name: 'default' }],
        tokens: [{ name: 'admin', hash: token, principal: { type: 'admin' } }],
        valueBytes: MiB,
        heartbeatMs: 50,
        electionMs: 500,
        foundWithout: [],
      },
      {
        data,
        disk: realDisk,
        openLevel,
        transport: new Libp2pTransport({ key, listen: p2p, hello: { clusterId: undefined, id, boot: 0 } }),
        surroundings: {
          now: () => performance.now() + this.#ahead,
          soon: (run) => void setImmediate(run),
          random: Math.random,
        },
        clock: Date.now,
        every: (ms, run) => {
          const timer = setInterval(run, ms)
          return () => clearInterval(timer)
        },
        sleep: (ms) => delay(ms),
        freeBytes: async () => 1024 * MiB,
        segmentBytes: MiB,
        keepBytes: MiB,
        reserveBytes: MiB,
        logger: pino({ base: { node: id } }, { write: line }),
        onFatal: (error) => this.failures.push(error),
      },
    )
    this.#nodes.set(id, node)
  }

  async stop(id: string): Promise<void> {
    await this.node(id).stop()
    this.#nodes.delete(id)
  }

  ready(id: string): Promise<true> {
    return eventually(`${id} to be ready`, () =>
      this.node(id).unreadiness().length === 0 ? true : undefined,
    )
  }

  async write(id: string, key: string, value: string): Promise<void> {
    const deadline = performance.now() + this.#ahead + 10_000
    const { outcome } = await changeThrough(
      this.node(id),
      { type: 'set', key, value },
      { token, store: 'default', deadline },
    )
    expect(outcome.type).toBe('set')
  }

  async read(id: string, key: string): Promise<string | undefined> {
    const deadline = performance.now() + this.#ahead + 10_000
    const item = await readThrough(this.node(id), key, { store: 'default', deadline })
    return item === undefined ? undefined : Buffer.from(item.value).toString()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.running.map((node) => node.stop()))
    await rm(this.#directory, { recursive: true })
  }
}

/** Other bytes for every key, so that neither LevelDB nor the wire makes them few. */
function valueOfKey(key: number): string {
  const random = xorshift(key + 1)
  return Array.from({ length: 256 }, () => random().toString(36).slice(2, 10)).join('')
}

let village: Village | undefined
afterEach(async () => {
  await village?.[Symbol.asyncDispose]()
  village = undefined
})

it('comes back through a snapshot while it is written to, and has every key', async () => {
  village = await Village.start()
  const { lines } = village
  const away = village.running.find(({ status }) => status?.role === 'follower')?.id ?? 'none'
  const [there = 'none'] = village.running.map(({ id }) => id).filter((id) => id !== away)
  await village.stop(away)

  const count = 2500
  const numbers = Array.from({ length: count }, (_, key) => key).values()
  const filling = village
  await Promise.all(
    Array.from({ length: 64 }, async () => {
      for (const key of numbers) await filling.write(there, `key-${key}`, valueOfKey(key))
    }),
  )
  // Nobody is waited for longer than a minute; then the log goes as soon as it may.
  village.pass(61_000)
  await eventually('the log to be compacted', async () => {
    for (const node of filling.running) {
      await filling.write(there, 'tick', 'tock')
      if ((node.inside?.wal.base.index ?? 0) === 0) return undefined
    }
    return true
  })

  await village.start(away)
  let turn = 0
  const coming = village.ready(away)
  let back = false
  const writing = (async () => {
    for (; !back; turn++) await filling.write(there, `turn-${turn}`, String(turn))
  })()
  await coming.finally(() => {
    back = true
  })
  await writing

  const of = (text: string) => lines.filter(({ msg, node }) => node === away && msg.includes(text))
  expect(of('took the place of the state')).toHaveLength(1)
  for (let key = 0; key < count; key++) {
    if (key % 40 === 0) expect(await village.read(away, `key-${key}`)).toBe(valueOfKey(key))
  }
  for (let at = 0; at < turn; at++) expect(await village.read(away, `turn-${at}`)).toBe(String(at))
  // Every row, by the digest.
  const states = await Promise.all(
    village.running.map(async (node) => (await node.inside?.machine?.recompute())?.rows ?? 0),
  )
  expect(Math.min(...states)).toBeGreaterThan(count)
  expect(village.failures).toEqual([])
})
