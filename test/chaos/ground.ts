// The place where a run happens: node processes on disks of their own, their wires, and what can be done to them.

import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { mainFile } from '../../src/cli/node-process.ts'
import { loadPeerKey } from '../../src/node/peer-key.ts'
import { type ClusterAnswer, eventually, freePorts } from '../integration/real-cluster.ts'
import { Chance } from '../raft/chance.ts'
import { DiskControl } from './disk-control.ts'
import { Mesh } from './proxy.ts'

const host = '127.0.0.1'
const preload = pathToFileURL(join(import.meta.dirname, 'fixtures/node-preload.ts')).href
/** Of what a node printed, this much is kept. */
const outputBytes = 20_000

/** A node's place: its addresses and its files, whatever process runs there. */
export type Seat = {
  readonly id: string
  /** Where clients reach it. */
  readonly http: string
  readonly httpPort: number
  /** Where it listens for peers; the others are told `entryPort`. */
  readonly p2pPort: number
  readonly entryPort: number
  readonly source: string
  readonly data: string
  readonly clockFile: string
  readonly disk: DiskControl
  peer: string
}

export type NodeState = 'up' | 'paused' | 'down'

/** A process that ended though nobody had told it to. */
export type Death = { readonly node: string; readonly how: string; readonly output: string }

type Running = {
  readonly child: ChildProcess
  readonly ended: Promise<unknown>
  output: string
  /** Its end is our doing, or allowed. */
  isExpected: boolean
  isPaused: boolean
}

export class Ground implements AsyncDisposable {
  readonly directory: string
  readonly token = `trv_${randomBytes(32).toString('base64url')}`
  readonly mesh: Mesh
  /** Called with each end of a process that nobody wanted. */
  onDeath: (death: Death) => void = () => {}
  readonly #hook: string | undefined
  readonly #seats = new Map<string, Seat>()
  readonly #running = new Map<string, Running>()
  readonly #mayDie = new Set<string>()
  #made = 0

  private constructor(
    directory: string,
    options: { readonly seed: number; readonly hook: string | undefined },
  ) {
    this.directory = directory
    this.mesh = new Mesh(new Chance(options.seed))
    this.#hook = options.hook
  }

  /** `hook`: the library that stands between nodes and their disks, where there is one. Nothing runs yet. */
  static async create(options: {
    readonly nodes: number
    readonly seed: number
    readonly hook: string | undefined
  }): Promise<Ground> {
    const ground = new Ground(await mkdtemp(join(tmpdir(), 'trivet-chaos-')), options)
    try {
      for (let at = 0; at < options.nodes; at++) await ground.addSeat()
      await ground.writeConfiguration()
      return ground
    } catch (error) {
      await ground[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Makes room for one more node: its addresses, an empty data directory and a key. Returns its id. */
  async addSeat(): Promise<string> {
    this.#made += 1
    const id = `n${this.#made}`
    const base = await freePorts(3)
    const data = join(this.directory, id)
    const clockFile = join(this.directory, `${id}.clock`)
    await writeFile(clockFile, '0')
    const seat: Seat = {
      id,
      http: `http://${host}:${base}`,
      httpPort: base,
      p2pPort: base + 1,
      entryPort: base + 2,
      source: `127.0.1.${this.#made}`,
      data,
      clockFile,
      disk: await DiskControl.create(join(this.directory, `${id}.disk`)),
      peer: '',
    }
    this.#seats.set(id, seat)
    await this.mesh.add({ id, source: seat.source, entry: seat.entryPort, target: seat.p2pPort })
    await this.makeKey(id)
    return id
  }

  /** A new peer key where there is none: a node that comes with it is not the one that was there. */
  async makeKey(id: string): Promise<void> {
    const seat = this.seat(id)
    await mkdir(seat.data, { recursive: true, mode: 0o700 })
    seat.peer = (await loadPeerKey(seat.data)).peer
  }

  /** One file for all nodes. Whatever is started from now on reads it. */
  async writeConfiguration(ids: readonly string[] = this.ids): Promise<void> {
    const nodes = ids.map((id) => {
      const { http, entryPort, peer } = this.seat(id)
      return [id, { http, p2p: `/ip4/${host}/tcp/${entryPort}`, peer, data: `./${id}` }]
    })
    const configuration = {
      cluster: 'chaos',
      nodes: Object.fromEntries(nodes),
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the file's own variables
      listen: { http: '${TRIVET_CHAOS_HTTP}', p2p: '${TRIVET_CHAOS_P2P}' },
      http: { shutdownDelay: '200ms' },
      stores: { default: {} },
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the file's own variables
      tokens: [{ name: 'admin', admin: true, secret: '${TRIVET_CHAOS_TOKEN}' }],
    }
    await writeFile(this.#configurationPath, JSON.stringify(configuration, undefined, 2))
  }

  get #configurationPath(): string {
    return join(this.directory, 'cluster.yml')
  }

  /** The nodes of the cluster as the run has set it up, running or not. */
  get ids(): readonly string[] {
    return [...this.#seats.keys()]
  }

  /** Its place is given up: it is not looked at any more. */
  async forget(id: string): Promise<void> {
    await this.kill([id])
    this.#seats.delete(id)
    await this.writeConfiguration()
  }

  /** Of these, the nodes that were not removed meanwhile: what is undone when a fault ends is undone for them. */
  stillHere(ids: readonly string[]): readonly string[] {
    return ids.filter((id) => this.#seats.has(id))
  }

  seat(id: string): Seat {
    const seat = this.#seats.get(id)
    if (seat === undefined) throw new Error(`There is no node ${id}`)
    return seat
  }

  state(id: string): NodeState {
    const running = this.#running.get(id)
    if (running === undefined || hasEnded(running.child)) return 'down'
    return running.isPaused ? 'paused' : 'up'
  }

  pid(id: string): number | undefined {
    return this.state(id) === 'down' ? undefined : this.#running.get(id)?.child.pid
  }

  // ── processes ────────────────────────────────────────────────────────────────────────────────────────────────

  start(id: string): void {
    if (this.state(id) !== 'down') return
    const seat = this.seat(id)
    const inherited = Object.entries(process.env).filter(
      ([name]) => !/^(TRIVET_|VITEST|NODE_OPTIONS)/.test(name),
    )
    const hook = this.#hook === undefined ? {} : { LD_PRELOAD: this.#hook, TRIVET_CHAOS_DISK: seat.disk.path }
    // A group of its own, so that the terminal's Ctrl-C reaches us alone; the channel tells it when we are gone.
    const child = spawn(
      process.execPath,
      [mainFile, 'start', '--config', this.#configurationPath, '--node', id, '--data', seat.data],
      {
        env: {
          ...Object.fromEntries(inherited),
          ...hook,
          NODE_OPTIONS: `--import=${preload}`,
          TRIVET_CHAOS_SOURCE: seat.source,
          TRIVET_CHAOS_CLOCK: seat.clockFile,
          TRIVET_CHAOS_HTTP: `${host}:${seat.httpPort}`,
          TRIVET_CHAOS_P2P: `/ip4/${host}/tcp/${seat.p2pPort}`,
          TRIVET_CHAOS_TOKEN: this.token,
        },
        stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
        detached: true,
      },
    )
    const running: Running = {
      child,
      ended: once(child, 'exit'),
      output: '',
      isExpected: false,
      isPaused: false,
    }
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        running.output = (running.output + text).slice(-outputBytes)
      })
    }
    child.once('close', (code, signal) => {
      if (running.isExpected || this.#mayDie.has(id)) return
      const how = signal === null ? `ended with status ${code}` : `was killed by ${signal}`
      this.onDeath({ node: id, how, output: running.output })
    })
    this.#running.set(id, running)
  }

  /** While this is allowed the node may end by itself, as one does whose disk is full. */
  allowDeath(id: string, isAllowed: boolean): void {
    if (isAllowed) this.#mayDie.add(id)
    else this.#mayDie.delete(id)
  }

  /** Kills them in the same instant. Resolves when they have ended. */
  async kill(ids: readonly string[]): Promise<void> {
    await this.#end(ids, 'SIGKILL')
  }

  /** Asks it to stop and waits for that; one that does not within the time is an unwanted death. */
  async stop(id: string, seconds = 20): Promise<void> {
    const running = this.#running.get(id)
    if (running === undefined || this.state(id) === 'down') return
    const late = setTimeout(() => {
      this.onDeath({ node: id, how: `did not stop within ${seconds} s`, output: running.output })
      running.child.kill('SIGKILL')
    }, seconds * 1000)
    await this.#end([id], 'SIGTERM')
    clearTimeout(late)
  }

  async #end(ids: readonly string[], signal: NodeJS.Signals): Promise<void> {
    const ending = ids.flatMap((id) => this.#running.get(id) ?? []).filter(({ child }) => !hasEnded(child))
    for (const running of ending) {
      running.isExpected = true
      running.child.kill(signal)
    }
    await Promise.all(ending.map(({ ended }) => ended))
  }

  /** Freezes it (SIGSTOP), and lets it go on (SIGCONT). */
  pause(id: string, isPaused: boolean): void {
    const running = this.#running.get(id)
    if (running === undefined || hasEnded(running.child)) return
    running.isPaused = isPaused
    running.child.kill(isPaused ? 'SIGSTOP' : 'SIGCONT')
  }

  /** How wrong its wall clock is from now on. */
  async setClock(id: string, errorMs: number): Promise<void> {
    await writeFile(this.seat(id).clockFile, String(errorMs))
  }

  /** What its last process has printed. */
  output(id: string): string {
    return this.#running.get(id)?.output ?? ''
  }

  // ── what nodes say ───────────────────────────────────────────────────────────────────────────────────────────

  /** A request to a node, with the admin's token. */
  fetch(id: string, path: string, init: RequestInit & { readonly ms?: number } = {}): Promise<Response> {
    const { ms = 3000, ...rest } = init
    const headers = new Headers(rest.headers)
    headers.set('authorization', `Bearer ${this.token}`)
    return fetch(`${this.seat(id).http}${path}`, { ...rest, headers, signal: AbortSignal.timeout(ms) })
  }

  /** What a node says of the cluster; undefined when it does not answer. */
  async cluster(id: string): Promise<ClusterAnswer | undefined> {
    try {
      const answer = await this.fetch(id, '/v1/cluster', { ms: 1000 })
      return answer.ok ? ((await answer.json()) as ClusterAnswer) : void (await answer.arrayBuffer())
    } catch {
      // Down, frozen or slow: whoever asks looks at others, or again.
      return undefined
    }
  }

  /** The node that most nodes take for the leader; undefined when nobody knows one. */
  async leader(): Promise<string | undefined> {
    const heard = await Promise.all(this.ids.map((id) => this.cluster(id)))
    let best: ClusterAnswer | undefined
    for (const answer of heard) {
      if (answer?.leader !== undefined && (best === undefined || answer.term > best.term)) best = answer
    }
    return best?.leader
  }

  /** Whether a node serves: it is ready, and answers a linearizable read. */
  async serves(id: string): Promise<boolean> {
    try {
      const ready = await this.fetch(id, '/readyz')
      await ready.arrayBuffer()
      if (!ready.ok) return false
      const read = await this.fetch(id, '/v1/stores/default/keys?limit=1', {
        headers: { 'trivet-timeout': '2s' },
      })
      await read.arrayBuffer()
      return read.ok
    } catch {
      return false
    }
  }

  /** Resolves when all nodes serve. Rejects with who does not after this time. */
  async settled(seconds: number): Promise<void> {
    const late = new Set(this.ids)
    try {
      await eventually(
        'all nodes to serve',
        async () => {
          await Promise.all([...late].map(async (id) => ((await this.serves(id)) ? late.delete(id) : false)))
          return late.size === 0 ? true : undefined
        },
        seconds,
      )
    } catch {
      const reasons = await Promise.all([...late].map(async (id) => `${id}: ${await this.#unreadiness(id)}`))
      throw new Error(`not within ${seconds} s: ${reasons.join('; ')}`)
    }
  }

  async #unreadiness(id: string): Promise<string> {
    if (this.state(id) === 'down') return `not running; it said: ${this.output(id).trim().split('\n').at(-1)}`
    try {
      const answer = await this.fetch(id, '/readyz')
      return `${answer.status} ${await answer.text()}`
    } catch (error) {
      return String(error)
    }
  }

  /** Ends everything at once, for when this process itself ends. */
  killNow(): void {
    for (const running of this.#running.values()) {
      running.isExpected = true
      running.child.kill('SIGKILL')
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill([...this.#running.keys()])
    await this.mesh[Symbol.asyncDispose]()
  }

  /** Data and logs of all nodes. */
  async clear(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true })
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}
