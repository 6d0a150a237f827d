// A node's machine: its disk, its LevelDBs and its clock outlive the processes that run on it.

import { pino } from 'pino'
import { Node } from '../../src/node/node.ts'
import type { NodeSettings } from '../../src/node/settings.ts'
import type { MemoryNetwork } from '../node/memory-network.ts'
import type { Chance } from '../raft/chance.ts'
import { type DiskCall, MemoryDisk } from '../store/memory-disk.ts'
import { MemoryState } from '../store/memory-state.ts'
import { Process } from './process.ts'
import type { World } from './world.ts'

export type MachineOptions = {
  readonly world: World
  readonly network: MemoryNetwork
  readonly id: string
  readonly settings: Omit<NodeSettings, 'id'>
  /** What its node says in its log. */
  readonly onSentence: (machine: Machine, sentence: string) => void
  /** A process ended or did not start, by itself. */
  readonly onEnd: (machine: Machine, error: Error) => void
}

/** Where a node keeps its data, on the machine's disk. */
const dataDirectory = '/data'

/** How long the calls of a healthy disk take, in milliseconds: drawn evenly, now and then ten times that. */
const syncTime = { least: 0.1, most: 1.5 }
const otherTime = { least: 0, most: 0.1 }

const syncing: ReadonlySet<DiskCall> = new Set(['write', 'sync', 'syncDirectory'])

/** Batches of LevelDB that can still be lost apart from each other: about what its log holds between two tables. */
const rememberedBatches = 64

/** So small that segments roll, and the log is compacted, within a run. */
const segmentBytes = 4096
const keepBytes = 1024
const reserveBytes = 4096

const checked = 'every row of the state is what was written'

function sentenceOf(line: string): string {
  const { msg } = JSON.parse(line) as { readonly msg?: string }
  return msg ?? ''
}

export class Machine {
  readonly id: string
  readonly peer: string
  readonly #options: MachineOptions
  readonly #chance: Chance
  #disk: MemoryDisk
  /** By the object that stands for their directory: one that is removed and made again holds nothing. */
  #states = new Map<object, MemoryState>()
  #node: Node | undefined
  #process: Process
  #running = false
  #isHeld = false
  /** Something happens within a call of the disk to come: after so many others. */
  #ambush: { calls: number; readonly run: () => void } | undefined
  /** A simple factor on the times of the disk: above 1 it is slow. */
  slowness = 1
  /** How far the wall clock is off, in milliseconds. */
  clockOffset = 0
  /** Errors of the disk were ordered since the last start: this process may end by them. */
  isTroubled = false
  /** What of its data was changed or taken away by its disk and not made whole again since. */
  harm: 'damaged log' | 'lost log' | 'state' | undefined
  /** It was harmed before: a second repair within an hour stops a node. */
  wasHarmed = false
  /** Its node has read back its whole state since the last start. */
  isChecked = false
  /** How many starts there were. */
  starts = 0

  constructor(options: MachineOptions) {
    this.#options = options
    this.id = options.id
    this.peer = `peer-${options.id}`
    this.#chance = options.world.chance()
    this.#process = new Process(options.world)
    this.#disk = this.#newDisk()
  }

  get isRunning(): boolean {
    return this.#running
  }

  /** Whether its process may be started: it does not run, and nobody is at work on its disk. */
  get mayStart(): boolean {
    return !this.#running && !this.#isHeld
  }

  /** The node, while its process runs and has come far enough to be asked. */
  get node(): Node | undefined {
    return this.#node
  }

  get process(): Process {
    return this.#process
  }

  get disk(): MemoryDisk {
    return this.#disk
  }

  /** The LevelDBs by their directories. */
  get states(): ReadonlyMap<object, MemoryState> {
    return this.#states
  }

  /** Formats the disk: an empty data directory is all there is. */
  async format(): Promise<void> {
    this.#isHeld = true
    this.#disk = this.#newDisk()
    this.#states = new Map()
    await this.#disk.makeDirectory(dataDirectory)
    await this.#disk.syncDirectory('/')
    this.#isHeld = false
  }

  /** False when the log of its node names a state that is not on the disk. */
  get hasState(): boolean {
    const name = this.#node?.inside?.wal.base.directory
    return name === undefined || this.#disk.hasDirectory(`${dataDirectory}/${name}`)
  }

  /** The LevelDB that the log names, and where it lies; undefined before the node takes part. */
  get liveState(): { readonly directory: object; readonly state: MemoryState } | undefined {
    const name = this.#node?.inside?.wal.base.directory
    if (name === undefined || !this.hasState) return undefined
    const directory = this.#disk.directoryAt(`${dataDirectory}/${name}`)
    const state = this.#states.get(directory)
    return state === undefined ? undefined : { directory, state }
  }

  start(): void {
    const { world, settings, onEnd } = this.#options
    this.starts += 1
    this.isChecked = false
    const own = new Process(world)
    this.#process = own
    this.#running = true
    this.#ambush = undefined
    this.isTroubled = this.#disk.capacity !== Number.POSITIVE_INFINITY
    Node.start({ ...settings, id: this.id }, this.#parts(own)).then(
      (node) => {
        if (own.isAlive) this.#node = node
      },
      (error: unknown) => {
        if (own.isAlive) onEnd(this, error instanceof Error ? error : new Error(String(error)))
      },
    )
  }

  #parts(own: Process): Parameters<typeof Node.start>[1] {
    const { world, network, id, onEnd } = this.#options
    const chance = this.#chance
    const hello = { clusterId: undefined, id, boot: 0 }
    const clock = () => world.wallClock + this.clockOffset
    return {
      data: dataDirectory,
      disk: own.disk(this.#disk),
      openLevel: (directory) => this.#openLevel(directory),
      transport: own.transport(network.transport(this.peer, hello)),
      surroundings: {
        now: () => world.now,
        soon: (run) => void own.after(0, run),
        random: chance.next,
        // Busy enough that whoever sends a snapshot rests.
        worked: () => world.now * 0.9,
      },
      clock,
      every: (ms, run) => own.every(ms, chance.next, run),
      sleep: (ms) => own.sleep(ms),
      freeBytes: async () => 2 ** 40,
      segmentBytes,
      keepBytes,
      reserveBytes,
      drawSalt: () => 1 + chance.below(2 ** 32 - 1),
      drawClusterId: () => Array.from({ length: 32 }, () => chance.below(16).toString(16)).join(''),
      stateTime: {
        now: () => world.now,
        after: (ms, run) => own.after(ms, run),
        turn: () => own.sleep(0),
      },
      timeout: (ms) => {
        const controller = new AbortController()
        own.after(ms, () => controller.abort(new Error(`no answer for ${ms} ms`)))
        return controller.signal
      },
      logger: pino(
        { level: 'info', base: null, timestamp: false },
        {
          write: (line) => {
            world.transcript.write(`${id} says ${line.trimEnd()}`)
            const sentence = sentenceOf(line)
            if (sentence === checked) this.isChecked = true
            this.#options.onSentence(this, sentence)
          },
        },
      ),
      onFatal: (error) => {
        // Its supervisor sees the end a moment later; until then it is a node that has failed.
        world.after(0, () => {
          if (own.isAlive) onEnd(this, error)
        })
      },
    }
  }

  async #openLevel(directory: string): Promise<MemoryState> {
    const place = this.#disk.directoryAt(directory)
    const known = this.#states.get(place)
    // A handle that was closed is of no use any more, and what poisoned it ended with it.
    const state =
      known?.status === 'closed'
        ? await known.restart()
        : (known ?? new MemoryState({ pause: () => this.#pause('write'), remembered: rememberedBatches }))
    this.#states.set(place, state)
    await state.open()
    return state
  }

  /** The process ends at once; what it wrote can be read, synced or not. */
  async crash(): Promise<void> {
    this.#end()
    this.#disk.crash()
    for (const [name, state] of this.#states) this.#states.set(name, await state.restart())
  }

  /** The machine loses its power: of what was not synced, anything may be missing. */
  async losePower(): Promise<void> {
    this.#end()
    this.#disk.losePower()
    for (const [name, state] of this.#states) {
      this.#states.set(name, await state.powerLoss(this.#chance.below(2 ** 31)))
    }
  }

  /** Runs while a call to the disk or to LevelDB is under way, after so many others. The next start forgets it. */
  ambush(calls: number, run: () => void): void {
    this.#ambush = { calls, run }
  }

  /** Nothing lies in wait any more. */
  disarm(): void {
    this.#ambush = undefined
  }

  /** Puts what a LevelDB has become in the place of what it was. The process must not run. */
  replaceState(directory: object, state: MemoryState): void {
    this.#states.set(directory, state)
  }

  #end(): void {
    this.#running = false
    this.#node = undefined
    this.#process.end()
    this.#options.network.kill(this.peer)
  }

  #newDisk(): MemoryDisk {
    return new MemoryDisk({ seed: this.#chance.below(2 ** 31), pause: (call) => this.#pause(call) })
  }

  #pause(call: DiskCall): Promise<void> {
    const { least, most } = syncing.has(call) ? syncTime : otherTime
    const even = least + this.#chance.next() * (most - least)
    const ms = even * this.slowness * (this.#chance.happens(0.02) ? 10 : 1)
    if (this.#ambush !== undefined && this.#ambush.calls-- <= 0) {
      this.#process.after(ms * this.#chance.next(), this.#ambush.run)
      this.#ambush = undefined
    }
    // Nobody's call but that of whoever formats the disk.
    return this.#running ? this.#process.sleep(ms) : this.#options.world.sleep(ms)
  }
}

export function peersOf(machines: readonly Machine[]): string[] {
  return machines.map(({ peer }) => peer)
}

export function idsOf(machines: readonly Machine[]): string {
  return machines.map(({ id }) => id).join(' ')
}
