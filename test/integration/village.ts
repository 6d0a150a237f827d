// A cluster of real nodes in one process: real LevelDB, logs and libp2p, with a short log and a clock that can be moved on.

import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { expect } from 'vitest'
import { Libp2pTransport } from '../../src/node/libp2p.ts'
import { Node } from '../../src/node/node.ts'
import { generatePeerKey, type PeerKey } from '../../src/node/peer-key.ts'
import { checkLevelFiles } from '../../src/store/level-files.ts'
import { realDisk } from '../../src/store/real-disk.ts'
import { openLevel } from '../../src/store/state-open.ts'
import { changeThrough, readThrough } from '../node/errands.ts'
import { eventually, freePorts } from './real-cluster.ts'

const MiB = 1024 * 1024
const token = createHash('sha256').update('the secret').digest('base64url')

type Line = { readonly msg: string; readonly [field: string]: unknown }

/** A node's place: what stays while the node comes and goes. */
type Place = { readonly id: string; readonly key: PeerKey; readonly p2p: string; readonly data: string }

export class Village implements AsyncDisposable {
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

  /** Where a node keeps its files. */
  data(id: string): string {
    return join(this.#directory, id)
  }

  /** What a node has said since it was started first, with these words in it. */
  said(id: string, words: string): readonly Line[] {
    return this.lines.filter(({ msg, node }) => node === id && msg.includes(words))
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
        checkFiles: (directory) => checkLevelFiles(realDisk, directory),
        transport: new Libp2pTransport({ key, listen: p2p, hello: { clusterId: undefined, id, boot: 0 } }),
        surroundings: {
          now: () => performance.now() + this.#ahead,
          soon: (run) => void setImmediate(run),
          random: Math.random,
          worked: () => performance.eventLoopUtilization().active,
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
