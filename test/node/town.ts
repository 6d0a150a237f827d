// A cluster within one process, of real nodes on disks, states and a network that lose what real ones may.

import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { Node, type NodeParts } from '../../src/node/node.ts'
import type { RecoveryPlace } from '../../src/node/recovery.ts'
import type { NodeAddress, NodeSettings } from '../../src/node/settings.ts'
import type { Executed } from '../../src/node/surface.ts'
import type { Item } from '../../src/store/types.ts'
import { MemoryDisk, seeded } from '../store/memory-disk.ts'
import { MemoryState } from '../store/memory-state.ts'
import { type Change, changeThrough, readThrough } from './errands.ts'
import { MemoryNetwork } from './memory-network.ts'

export type TownOptions = {
  readonly seed: number
  readonly nodes?: number
  /** Bytes free on the disk of each machine, by its name; ample unless given. */
  readonly free?: Readonly<Record<string, number>>
  /** False makes every sync a lie, of log and state. */
  readonly syncs?: boolean
  /** How much of its log a node keeps, and in pieces of which size. */
  readonly parts?: Pick<NodeParts, 'segmentBytes' | 'keepBytes' | 'checkFiles'>
  /** What it is founded with, beside or instead of what every town has. */
  readonly founding?: Partial<Pick<NodeSettings, 'stores' | 'tokens' | 'valueBytes'>>
}

const token = createHash('sha256').update('the secret of the town').digest('base64url')
const data = '/data'

/** One run of a process. Who waits for it when it ends learns nothing but that. */
class Life {
  running = false
  readonly #over = Promise.withResolvers<never>()

  constructor() {
    this.#over.promise.catch(() => {})
  }

  end(): void {
    this.running = false
    this.#over.reject(new Error('the process has ended'))
  }

  /** Settles like `call`, or rejects when the process ends first. */
  during<T>(call: Promise<T>): Promise<T> {
    return Promise.race([call, this.#over.promise])
  }
}

/** One node's machine: what survives its process. */
class Machine {
  readonly id: string
  readonly peer: string
  readonly disk: MemoryDisk
  /** By the directory they are in. */
  states = new Map<object, MemoryState>()
  node: Node | undefined
  /** Ends with the process: nothing of an earlier life runs in a later one. */
  life = new Life()
  failure: Error | undefined

  /** The name its addresses are made of. */
  host: string

  constructor(id: string, disk: MemoryDisk, peer = `peer-${id}`) {
    this.id = id
    this.peer = peer
    this.disk = disk
    this.host = id
  }

  get address(): NodeAddress {
    const { id, peer, host } = this
    return { id, peer, http: `http://${host}`, p2p: `/dns4/${host}/tcp/1` }
  }
}

export class Town implements AsyncDisposable {
  readonly network: MemoryNetwork
  readonly #options: TownOptions
  readonly #random: () => number
  #machines: Machine[]
  readonly #settings: Omit<NodeSettings, 'id' | 'nodes'>
  readonly #free: Map<string, number>
  /** Machines put up so far, each with a seed of its own. */
  #built: number

  private constructor(options: TownOptions) {
    this.#options = options
    this.#random = seeded(options.seed)
    this.#free = new Map(Object.entries(options.free ?? {}))
    this.network = new MemoryNetwork({
      seed: options.seed,
      delay: { least: 0, most: 1 },
      reconnectDelay: 5,
    })
    this.#machines = Array.from({ length: options.nodes ?? 3 }, (_, at) => {
      const disk = new MemoryDisk({ seed: options.seed + at, syncs: options.syncs ?? true })
      return new Machine(`n${at + 1}`, disk)
    })
    this.#built = this.#machines.length
    this.#settings = {
      cluster: 'town',
      stores: [{ name: 'default' }],
      tokens: [{ name: 'admin', hash: token, principal: { type: 'admin' } }],
      valueBytes: 1024,
      heartbeatMs: 20,
      electionMs: 150,
      foundWithout: [],
      ...options.founding,
    }
  }

  /** All nodes running and ready. */
  static async start(options: TownOptions): Promise<Town> {
    const town = new Town(options)
    for (const { disk } of town.#machines) {
      await disk.makeDirectory(data)
      await disk.syncDirectory('/')
    }
    await town.startAll()
    return town
  }

  get ids(): readonly string[] {
    return this.#machines.map(({ id }) => id)
  }

  /** Puts up a machine with an empty disk, in the place of one with that name if there is one, which is gone then. */
  async build(id: string, peer = `peer-${id}`): Promise<void> {
    const seed = this.#options.seed + this.#built
    this.#built++
    const disk = new MemoryDisk({ seed, syncs: this.#options.syncs ?? true })
    await disk.makeDirectory(data)
    await disk.syncDirectory('/')
    this.#machines = [...this.#machines.filter((machine) => machine.id !== id), new Machine(id, disk, peer)]
  }

  /** From its next start on a machine is reached elsewhere. */
  move(id: string, host: string): void {
    this.#machine(id).host = host
  }

  /** The address and peer id of a machine, as an operator would name them. */
  address(id: string): NodeAddress {
    return this.#machine(id).address
  }

  node(id: string): Node {
    const { node } = this.#machine(id)
    if (node === undefined) throw new Error(`${id} does not run`)
    return node
  }

  failure(id: string): Error | undefined {
    return this.#machine(id).failure
  }

  disk(id: string): MemoryDisk {
    return this.#machine(id).disk
  }

  /** From now on so many bytes are free on the disk of a machine. */
  setFree(id: string, bytes: number): void {
    this.#free.set(id, bytes)
  }

  /** The LevelDB that a machine opened last. */
  level(id: string): MemoryState {
    const level = [...this.#machine(id).states.values()].at(-1)
    if (level === undefined) throw new Error(`${id} never opened a state`)
    return level
  }

  async startAll(): Promise<void> {
    await Promise.all(this.ids.map((id) => this.start(id)))
    await this.ready()
  }

  async start(id: string): Promise<void> {
    const machine = this.#machine(id)
    const life = new Life()
    life.running = true
    machine.life = life
    machine.failure = undefined
    const hello = { clusterId: undefined, id, boot: 0 }
    machine.node = await Node.start(
      { ...this.#settings, id, nodes: this.#machines.map(({ address }) => address) },
      {
        data,
        disk: machine.disk,
        openLevel: (directory) => this.#openLevel(machine, directory),
        transport: this.network.transport(machine.peer, hello),
        surroundings: {
          now: () => performance.now(),
          soon: (run) => {
            setImmediate(() => {
              if (life.running) run()
            })
          },
          random: this.#random,
          worked: () => performance.eventLoopUtilization().active,
        },
        clock: Date.now,
        every: (ms, run) => {
          const timer = setInterval(() => {
            if (life.running) setImmediate(run)
            else clearInterval(timer)
          }, ms)
          return () => clearInterval(timer)
        },
        sleep: (ms) => delay(Math.min(ms, 20)),
        freeBytes: async () => this.#free.get(id) ?? 2 ** 40,
        reserveBytes: 4096,
        ...this.#options.parts,
        logger: pino({ level: process.env['TRIVET_TEST_LOG'] ?? 'silent', base: { node: id } }),
        onFatal: (error) => {
          machine.failure = error
          life.end()
          this.network.kill(machine.peer)
        },
      },
    )
  }

  async #openLevel(machine: Machine, directory: string): Promise<MemoryState> {
    const place = machine.disk.directoryAt(directory)
    const state = machine.states.get(place) ?? new MemoryState({ syncs: this.#options.syncs ?? true })
    machine.states.set(place, state)
    await state.open()
    return state
  }

  /** The data directory of a machine whose node does not run, for who recovers from it. */
  place(id: string): RecoveryPlace {
    const machine = this.#machine(id)
    return {
      disk: machine.disk,
      directory: data,
      self: machine.peer,
      openLevel: (directory) => this.#openLevel(machine, directory),
      reserveBytes: 4096,
      now: Date.now,
      drawClusterId: () =>
        Array.from({ length: 32 }, () => Math.floor(this.#random() * 16).toString(16)).join(''),
    }
  }

  /** Resolves when these nodes, or all, are ready. */
  async ready(ids: readonly string[] = this.ids): Promise<void> {
    const deadline = performance.now() + 10_000
    for (const id of ids) {
      while (this.node(id).unreadiness().length > 0) {
        const { failure } = this.#machine(id)
        if (failure !== undefined) throw failure
        if (performance.now() > deadline) throw new Error(`${id}: ${this.node(id).unreadiness().join(', ')}`)
        await delay(2)
      }
    }
  }

  /** Properly. */
  async stop(id: string): Promise<void> {
    await this.node(id).stop()
    await this.#end([id], async () => {})
  }

  /** The process ends at once; what it wrote can be read, synced or not. */
  async crash(...ids: readonly string[]): Promise<void> {
    await this.#end(ids, async (machine) => {
      machine.disk.crash()
      for (const [place, state] of machine.states) machine.states.set(place, await state.restart())
    })
  }

  /** The machines lose their power at once: of what was not synced, anything may be missing. */
  async losePower(...ids: readonly string[]): Promise<void> {
    await this.#end(ids, async (machine) => {
      machine.disk.losePower()
      const seed = Math.floor(this.#random() * 2 ** 31)
      for (const [place, state] of machine.states) machine.states.set(place, await state.powerLoss(seed))
    })
  }

  async #end(ids: readonly string[], lose: (machine: Machine) => Promise<void>): Promise<void> {
    const machines = ids.map((id) => this.#machine(id))
    for (const machine of machines) {
      machine.life.end()
      machine.node = undefined
      this.network.kill(machine.peer)
    }
    await Promise.all(machines.map(lose))
  }

  /** Everything between the two groups vanishes, both ways, until `network.heal()`. */
  partition(left: readonly string[], right: readonly string[]): void {
    const peers = (ids: readonly string[]) => ids.map((id) => this.#machine(id).peer)
    this.network.partition(peers(left), peers(right))
  }

  /** Everything from one node to the other vanishes until `network.heal()`. */
  cutOneWay(from: string, to: string): void {
    this.network.cutOneWay(this.#machine(from).peer, this.#machine(to).peer)
  }

  /** The connection between two nodes breaks; they may make a new one. */
  breakConnection(one: string, other: string): void {
    this.network.breakConnection(this.#machine(one).peer, this.#machine(other).peer)
  }

  /** Sets a key through a node. */
  set(id: string, key: string, value: string, deadlineMs = 3000): Promise<Executed> {
    return this.change(id, { type: 'set', key, value }, deadlineMs)
  }

  /** Has a change decided through a node. */
  change(id: string, change: Change, deadlineMs = 3000): Promise<Executed> {
    const deadline = performance.now() + deadlineMs
    const call = changeThrough(this.node(id), change, { token, store: 'default', deadline })
    return this.#machine(id).life.during(call)
  }

  /** Opens a session of this id, 22 characters, through a node. */
  openSession(id: string, session: string, deadlineMs = 3000): Promise<Executed> {
    const deadline = performance.now() + deadlineMs
    const call = this.node(id).execute({ type: 'openSession', token, session }, { deadline })
    return this.#machine(id).life.during(call)
  }

  /** The value of a linearizable read through a node. */
  async get(id: string, key: string): Promise<string | undefined> {
    const item = await this.read(id, key)
    return item === undefined ? undefined : Buffer.from(item.value).toString()
  }

  /** A linearizable read through a node. */
  read(id: string, key: string, deadlineMs = 3000): Promise<Item | undefined> {
    const deadline = performance.now() + deadlineMs
    return this.#machine(id).life.during(readThrough(this.node(id), key, { store: 'default', deadline }))
  }

  /** What a node holds by now, and the revision at which it does. */
  async holds(id: string): Promise<{ readonly revision: number; readonly items: readonly Item[] }> {
    return await this.node(id).state.list({ store: 'default', limit: 1000, maxBytes: 2 ** 20 })
  }

  async leader(): Promise<string> {
    const deadline = performance.now() + 10_000
    while (performance.now() < deadline) {
      for (const { id, node, life } of this.#machines) {
        if (life.running && node?.status?.role === 'leader') return id
      }
      await delay(2)
    }
    throw new Error('no leader')
  }

  #machine(id: string): Machine {
    const machine = this.#machines.find((one) => one.id === id)
    if (machine === undefined) throw new Error(`no machine ${id}`)
    return machine
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#machines.map(async ({ life, node }) => {
        if (life.running) await node?.stop()
        life.end()
      }),
    )
  }
}
