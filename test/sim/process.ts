// One run of a node's process: everything that it waits for comes through here, so that it can stand still, and end.

import type { Transport } from '../../src/node/transport.ts'
import type { Disk, DiskFile } from '../../src/store/disk.ts'
import type { Chance } from '../raft/chance.ts'
import type { World } from './world.ts'

/** Nobody who waits for it goes on: what a process would have done after its end. */
const never = new Promise<never>(() => {})

/** A source of its own, served after all others. */
const timers = 'timers'

export class Process {
  readonly #world: World
  #alive = true
  readonly #chance: Chance
  /** While it stands still: what has come for it meanwhile, by where it came from. */
  #backlog: Map<string, (() => void)[]> | undefined
  readonly #waiting = new Set<(reason: Error) => void>()

  constructor(world: World) {
    this.#world = world
    this.#chance = world.chance()
  }

  get isAlive(): boolean {
    return this.#alive
  }

  get isFrozen(): boolean {
    return this.#backlog !== undefined
  }

  /** It stands still, with all its memory, until `thaw`. */
  freeze(): void {
    this.#backlog ??= new Map()
  }

  thaw(): void {
    const backlog = this.#backlog
    if (backlog === undefined) return
    this.#backlog = undefined
    // What waits in one socket keeps its order; which socket is read first is up to the machine, and timers come last (rule 13).
    const spread = 3
    for (const [source, runs] of backlog) {
      const begin = source === timers ? spread : this.#chance.next() * spread
      for (const run of runs) this.#world.after(begin, () => this.enter(run, source))
    }
  }

  /** Nothing of it runs any more; whoever waits for its answers learns that it has ended. */
  end(): void {
    this.#alive = false
    for (const reject of this.#waiting) reject(new Error('the process has ended'))
    this.#waiting.clear()
  }

  /** Something comes for it from somewhere: now, when it moves again, or never. */
  enter(run: () => void, source: string): void {
    if (!this.#alive) return
    if (this.#backlog === undefined) run()
    else this.#backlog.set(source, [...(this.#backlog.get(source) ?? []), run])
  }

  /** Calls `run` in so many milliseconds unless the returned function is called before. */
  after(ms: number, run: () => void): () => void {
    let wanted = true
    const due = () => {
      if (wanted) run()
    }
    this.#world.after(ms, () => this.enter(due, timers))
    return () => {
      wanted = false
    }
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve))
  }

  /** About every `ms` milliseconds, never twice at once, however late. */
  every(ms: number, jitter: () => number, run: () => void): () => void {
    let cancel = () => {}
    let running = true
    const next = () => {
      cancel = this.after(ms * (1 + jitter() / 20), () => {
        run()
        if (running) next()
      })
    }
    next()
    return () => {
      running = false
      cancel()
    }
  }

  /** What another asks of this process: it settles like the call, or rejects when the process ends first. */
  asked<T>(call: () => Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    if (!this.#alive) reject(new Error('the process has ended'))
    this.#waiting.add(reject)
    this.enter(() => void call().then(resolve, reject), 'clients')
    return promise.finally(() => this.#waiting.delete(reject))
  }

  /** What this process waits for: it settles like `call`, but not before the process moves, and never after its end. */
  awaits<T>(call: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      call.then(
        (value) => this.enter(() => resolve(value), 'answers'),
        (error: unknown) => this.enter(() => reject(error), 'answers'),
      )
    })
  }

  /** The disk as this process sees it: after its end nothing reaches it any more. */
  disk(disk: Disk): Disk {
    const call = <T>(run: () => Promise<T>): Promise<T> => (this.#alive ? run() : never)
    const handle = (file: DiskFile): DiskFile => ({
      size: () => call(() => file.size()),
      read: (position, into) => call(() => file.read(position, into)),
      write: (position, bytes) => call(() => file.write(position, bytes)),
      sync: () => call(() => file.sync()),
      close: () => call(() => file.close()),
    })
    return {
      list: (directory) => call(() => disk.list(directory)),
      makeDirectory: (directory) => call(() => disk.makeDirectory(directory)),
      open: (path, how) => call(async () => handle(await disk.open(path, how))),
      rename: (from, to) => call(() => disk.rename(from, to)),
      removeDirectory: (directory) => call(() => disk.removeDirectory(directory)),
      remove: (path) => call(() => disk.remove(path)),
      syncDirectory: (directory) => call(() => disk.syncDirectory(directory)),
    }
  }

  /** The network as this process sees it. */
  transport(transport: Transport): Transport {
    return {
      self: transport.self,
      start: (handlers) =>
        transport.start({
          message: (...told) => this.enter(() => handlers.message(...told), told[0]),
          progress: (...told) => this.enter(() => handlers.progress(...told), told[0]),
          connected: (...told) => this.enter(() => handlers.connected(...told), told[0]),
          disconnected: (...told) => this.enter(() => handlers.disconnected(...told), told[0]),
          question: (from, question) =>
            new Promise((resolve, reject) => {
              this.enter(() => void handlers.question(from, question).then(resolve, reject), `${from} asks`)
            }),
          refused: (...told) => this.enter(() => handlers.refused(...told), 'strangers'),
          turnedAway: (...told) => this.enter(() => handlers.turnedAway(...told), 'strangers'),
        }),
      introduce: (hello) => transport.introduce(hello),
      setPeers: (peers) => transport.setPeers(peers),
      send: (to, message) => transport.send(to, message),
      ask: (peer, question, options) => this.awaits(transport.ask(peer, question, options)),
      isConnected: (peer) => transport.isConnected(peer),
      counters: () => transport.counters(),
      close: () => transport.close(),
    }
  }
}
