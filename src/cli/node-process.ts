// One node under `trivet dev`: a process of its own, whose lines are passed on and whose death is told.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { extname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

import type { DevNode } from './dev-plan.ts'

export type Death = { readonly code: number | null; readonly signal: NodeJS.Signals | null }

/** The file behind the `trivet` command, as source or as built. */
export const mainFile = join(import.meta.dirname, `main${extname(import.meta.filename)}`)

/** The arguments that start one node. */
export function startArguments(node: DevNode, configPath: string): readonly string[] {
  return ['start', '--config', configPath, '--node', node.id, '--data', node.data]
}

/** A running child. It stops by itself when this process ends without having stopped it. */
export class NodeProcess {
  readonly #child: ChildProcess
  /** How it ended, once it has. */
  readonly ended: Promise<Death>
  #death: Death | undefined
  #told = false

  constructor(
    node: DevNode,
    options: {
      readonly configPath: string
      readonly environment: Readonly<Record<string, string>>
      readonly say: (line: string, to: 'stdout' | 'stderr') => void
    },
  ) {
    // A process group of its own, so that the terminal's Ctrl-C reaches us alone and each node is told once, by us.
    // The channel tells it when we are gone.
    const child = spawn(process.execPath, [mainFile, ...startArguments(node, options.configPath)], {
      env: { ...process.env, ...options.environment },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      detached: true,
    })
    this.#child = child
    pass(child.stdout, (line) => options.say(line, 'stdout'))
    pass(child.stderr, (line) => options.say(line, 'stderr'))
    this.ended = this.#untilEnded()
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get death(): Death | undefined {
    return this.#death
  }

  /** Tells it to stop, once. */
  stop(): void {
    if (this.#told || this.#death !== undefined) return
    this.#told = true
    this.#child.kill('SIGTERM')
  }

  kill(): void {
    if (this.#death === undefined) this.#child.kill('SIGKILL')
  }

  async #untilEnded(): Promise<Death> {
    // 'close' comes after the last line of its output.
    const [code, signal] = (await once(this.#child, 'close')) as [number | null, NodeJS.Signals | null]
    this.#death = { code, signal }
    return this.#death
  }
}

/** In words: `was killed by SIGKILL`, `exited with status 1`. */
export function deathInWords({ code, signal }: Death): string {
  return signal === null ? `exited with status ${code}` : `was killed by ${signal}`
}

function pass(stream: Readable | null, say: (line: string) => void): void {
  if (stream !== null) createInterface({ input: stream }).on('line', say)
}
