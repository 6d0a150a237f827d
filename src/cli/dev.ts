// `trivet dev`: a whole cluster on this machine from one command, real processes and all, until Ctrl-C.

import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

import { connect } from '../sdk/client.ts'
import { checkPorts, type DevFiles, filesIn, findPlan, makeFiles } from './dev-files.ts'
import {
  adminVariable,
  type DevNode,
  type DevOptions,
  type DevPlan,
  environmentOf,
  isLoopback,
} from './dev-plan.ts'
import { isRoutine, lastError, logPath } from './log.ts'
import { type Death, deathInWords, mainFile, NodeProcess, startArguments } from './node-process.ts'
import { nodePidPath, removePid, runningPid, writePid } from './pid-file.ts'
import { curlLines, shellWord, shortPath, tokenFrom } from './shell.ts'
import { outliveOutput, untilStopped } from './signals.ts'

/** How long a node may take to stop before it is killed. */
const stopMs = 20_000
const pollMs = 200
const complaintMs = 5000

type RunOptions = DevOptions & {
  /** What the default store shall hold before anybody is told where to find it: keys and texts, in this order. */
  readonly keyValue: readonly (readonly [key: string, value: string])[]
}

/** A node as this process follows it. */
type Followed = {
  readonly node: DevNode
  process: NodeProcess | undefined
  /** What it printed last on standard error. */
  lastWords: string
  /** `down` until it is seen ready again, whoever starts it; `elsewhere` once somebody has. */
  state: 'starting' | 'ready' | 'down' | 'elsewhere'
}

/** Runs a cluster until it is told to stop. Resolves with the exit status; rejects with a sentence when it cannot start. */
export async function dev(options: RunOptions): Promise<number> {
  const files = filesIn(options.data)
  const other = await runningPid(files.pidPath)
  if (other !== undefined) {
    throw new Error(
      `A trivet dev runs on ${options.data} already, as process ${other}; if it does not, remove ${files.pidPath}.`,
    )
  }
  const { plan, exists } = await findPlan(options)
  await checkPorts(plan, exists, options)
  const secret = await makeFiles(plan, exists, options)
  await writePid(files.pidPath)
  try {
    return await new DevCluster(plan, files, options, secret).run()
  } finally {
    await removePid(files.pidPath)
  }
}

class DevCluster {
  readonly #plan: DevPlan
  readonly #files: DevFiles
  readonly #options: RunOptions
  readonly #secret: string
  readonly #nodes: readonly Followed[]
  #stopping = false
  #greeted = false

  constructor(plan: DevPlan, files: DevFiles, options: RunOptions, secret: string) {
    this.#plan = plan
    this.#files = files
    this.#options = options
    this.#secret = secret
    this.#nodes = plan.nodes.map((node) => ({ node, process: undefined, lastWords: '', state: 'starting' }))
  }

  async run(): Promise<number> {
    outliveOutput()
    const stopped = untilStopped(() => {
      for (const { process } of this.#nodes) process?.kill()
    }).then(() => {
      this.#stopping = true
    })
    this.#warn()
    const ids = this.#nodes.map(({ node }) => node.id).join(', ')
    say(
      `Starting ${ids} under ${this.#options.data}; each logs to node.log in its directory there.`,
      'stdout',
    )
    for (const followed of this.#nodes) this.#start(followed)
    let status = 0
    try {
      const started = this.#untilReady().then((ready) => (ready ? this.#open() : undefined))
      await Promise.race([stopped, Promise.all([started, this.#follow()])])
    } catch (error) {
      await this.#stop()
      throw error
    }
    if (!this.#stopping) {
      say('No node could be started.', 'stderr')
      status = 1
    }
    return Math.max(status, await this.#stop())
  }

  #warn(): void {
    const { host } = this.#options
    if (isLoopback(host)) return
    say(
      `Warning: HTTP listens on ${host} without TLS, so that tokens and values can be read on the way. Only do this inside a container or a trusted network.`,
      'stderr',
    )
  }

  #start(followed: Followed): void {
    const { node } = followed
    const process = new NodeProcess(node, {
      configPath: this.#files.configPath,
      environment: environmentOf(this.#plan, node, this.#options.host, this.#secret),
      say: (line, to) => {
        if (to === 'stderr') followed.lastWords = line
        // Starting and stopping are told by us; in between, every line of a node is news.
        else if (isRoutine(line) && (this.#stopping || !this.#greeted)) return
        say(`${node.id} | ${line}`, to)
      },
    })
    followed.process = process
    void process.ended.then((death) => this.#onDeath(followed, process, death))
  }

  async #onDeath(followed: Followed, process: NodeProcess, death: Death): Promise<void> {
    if (this.#stopping) return
    followed.state = 'down'
    const { node } = followed
    const error = await lastError(node.data, process.pid)
    const isNew = error !== undefined && !(followed.lastWords !== '' && error.endsWith(followed.lastWords))
    const reason = isNew ? ` The last error there: ${error.replace(/\.$/, '')}.` : ''
    // What is wrong with the configuration is told before there is a log.
    const log = existsSync(logPath(node.data)) ? `; its log is ${logPath(node.data)}` : ''
    say(`${node.id} ${deathInWords(death)}${log}.${reason} Bring it back with:`, 'stderr')
    say(`  ${this.#comeback(node)}`, 'stderr')
    if (this.#greeted && this.#running().length === 0) say('No node is left running.', 'stderr')
  }

  /** The line that starts a node again, for any shell in this directory. */
  #comeback(node: DevNode): string {
    const { configPath, tokenPath } = this.#files
    const environment = environmentOf(this.#plan, node, this.#options.host, '')
    const assignments = Object.entries(environment).map(([name, value]) =>
      name === adminVariable ? `${name}="${tokenFrom(tokenPath)}"` : `${name}=${shellWord(value)}`,
    )
    const words = [shortPath(process.execPath), shortPath(mainFile), ...startArguments(node, configPath)]
    return [...assignments, ...words.map(shellWord)].join(' ')
  }

  #running(): readonly Followed[] {
    return this.#nodes.filter(({ process, state }) => process?.death === undefined || state === 'elsewhere')
  }

  /**
   * Resolves with true once every node that lives is ready, with false when none lives. Says now and then what they
   * wait for.
   */
  async #untilReady(): Promise<boolean> {
    let complaintAt = performance.now() + complaintMs
    const said = new Map<string, string>()
    while (!this.#stopping && this.#running().length > 0) {
      const complain = performance.now() > complaintAt
      if (complain) complaintAt = performance.now() + complaintMs
      const starting = this.#nodes.filter(({ state }) => state === 'starting')
      if (starting.length === 0) {
        this.#greeted = true
        return true
      }
      await Promise.all(
        starting.map(async (followed) => {
          const reason = await unreadiness(followed.node)
          if (followed.state !== 'starting') return
          if (reason === undefined) followed.state = 'ready'
          else if (complain && said.get(followed.node.id) !== reason) {
            said.set(followed.node.id, reason)
            say(`${followed.node.id} is not ready: ${reason}`, 'stdout')
          }
        }),
      )
      await sleep(pollMs)
    }
    return false
  }

  /** Puts in what is to be there from the beginning, and says that all is ready. */
  async #open(): Promise<void> {
    const ready = this.#nodes
      .filter(({ state }) => state === 'ready' || state === 'elsewhere')
      .map(({ node }) => node)
    const urls = ready.map((node) => node.http)
    await using client = connect({ endpoints: urls, token: this.#secret })
    const { keyValue } = this.#options
    if (keyValue.length > 0) {
      const store = await client.open('default')
      for (const [key, value] of keyValue) await store.set(key, value)
    }
    const { leader } = await client.cluster()
    this.#greet(ready, leader)
  }

  #greet(ready: readonly DevNode[], leader: string | undefined): void {
    const { tokenPath } = this.#files
    const urls = ready.map((node) => node.http)
    const width = Math.max(...ready.map(({ id }) => id.length))
    say('', 'stdout')
    say(
      `${ready.length === 1 ? 'One node is' : `${ready.length} nodes are`} ready, ${leader ?? 'nobody'} leads.`,
      'stdout',
    )
    say('', 'stdout')
    for (const { id, http, data } of ready)
      say(`  ${id.padEnd(width)}  ${http}  log: ${logPath(data)}`, 'stdout')
    say('', 'stdout')
    say(`The admin token lies in ${tokenPath}. To try it, in another shell in this directory:`, 'stdout')
    say('', 'stdout')
    for (const line of curlLines(urls, tokenPath)) say(`  ${line}`, 'stdout')
    say('', 'stdout')
    say('Ctrl-C stops the cluster; started again, everything is still there.', 'stdout')
  }

  /**
   * Notices when a node that was down is back, and when one that somebody else started goes. Ends when the cluster never
   * came up; one that did is waited for even with all nodes down, because each may be brought back.
   */
  async #follow(): Promise<void> {
    while (!this.#stopping && (this.#greeted || this.#running().length > 0)) {
      await sleep(pollMs)
      for (const followed of this.#nodes) {
        const { node, state } = followed
        if (state === 'down' && (await unreadiness(node)) === undefined) {
          followed.state = 'elsewhere'
          say(`${node.id} is back and ready.`, 'stdout')
        } else if (state === 'elsewhere' && (await runningPid(nodePidPath(node.data))) === undefined) {
          followed.state = 'down'
          say(
            `${node.id}, which was started by hand, has ended; its log is ${logPath(node.data)}. Bring it back with:`,
            'stderr',
          )
          say(`  ${this.#comeback(node)}`, 'stderr')
        }
      }
    }
  }

  async #stop(): Promise<number> {
    this.#stopping = true
    const own = this.#nodes.flatMap(({ node, process }) =>
      process === undefined || process.death !== undefined ? [] : [{ id: node.id, process }],
    )
    if (own.length > 0) say('Stopping.', 'stdout')
    const timer = setTimeout(() => {
      for (const { id, process } of own) {
        if (process.death === undefined)
          say(`${id} has not stopped within ${stopMs / 1000} s and is killed.`, 'stderr')
        process.kill()
      }
    }, stopMs)
    for (const { process } of own) process.stop()
    const deaths = await Promise.all(own.map(async ({ id, process }) => ({ id, death: await process.ended })))
    clearTimeout(timer)
    const bad = deaths.filter(({ death }) => death.code !== 0)
    for (const { id, death } of bad) say(`${id} ${deathInWords(death)} while stopping.`, 'stderr')
    for (const { node, state } of this.#nodes) {
      if (state === 'elsewhere') say(`${node.id} was started by hand and goes on.`, 'stdout')
    }
    if (own.length > 0 && bad.length === 0) say('Stopped.', 'stdout')
    return bad.length === 0 ? 0 : 1
  }
}

/** Why a node is not ready; undefined when it is. */
async function unreadiness(node: DevNode): Promise<string | undefined> {
  try {
    const response = await fetch(`${node.http}/readyz`, { signal: AbortSignal.timeout(1000) })
    if (response.ok) {
      await response.body?.cancel()
      return undefined
    }
    const { detail } = Object(await response.json()) as { detail?: unknown }
    return typeof detail === 'string' ? detail : `it answers ${response.status}`
  } catch (error) {
    // Not listening yet, or too slow: both are what is asked for here.
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
    return cause instanceof Error ? cause.message : String(cause)
  }
}

function say(line: string, to: 'stdout' | 'stderr'): void {
  process[to].write(`${line}\n`)
}
