// The processes and files of a run: whatever it starts and writes is gone when it ends, however it ends.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, openSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export type Death = { readonly code: number | null; readonly signal: NodeJS.Signals | null }

const running = new Set<ChildProcess>()
const directories = new Set<string>()

/** Ends and removes what is left. Synchronous, because it runs while this process exits. */
function leaveNothing(): void {
  // A stopped process dies of SIGKILL too.
  for (const child of running) child.kill('SIGKILL')
  for (const directory of directories) rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
}

process.once('exit', leaveNothing)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    console.error(`ended by ${signal}; ending everything that was started`)
    process.exit(130)
  })
}

/** A directory of its own below the system's temporary one. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'trivet-bench-'))
  directories.add(directory)
  return directory
}

export function removeDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  directories.delete(directory)
}

/** Has a child that was started elsewhere end with the run. */
export function endsWithTheRun<T extends ChildProcess>(child: T): T {
  running.add(child)
  child.once('exit', () => running.delete(child))
  child.once('error', () => running.delete(child))
  return child
}

export type Command = {
  readonly command: string
  readonly args: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
}

/** A server: its output goes to a file, which is shown when it ends unasked. */
export class Server {
  readonly #child: ChildProcess
  readonly #logPath: string
  readonly ended: Promise<Death>
  #death: Death | undefined

  constructor({ command, args, environment }: Command, logPath: string) {
    this.#logPath = logPath
    const log = openSync(logPath, 'a')
    // In a process group of its own, so that Ctrl-C reaches the run alone, which then ends it.
    const child = spawn(command, args, {
      env: { ...process.env, ...environment },
      stdio: ['ignore', log, log],
      detached: true,
    })
    this.#child = endsWithTheRun(child)
    this.ended = new Promise((resolve) => {
      const end = (death: Death): void => {
        this.#death = death
        resolve(death)
      }
      child.once('exit', (code, signal) => end({ code, signal }))
      child.once('error', () => end({ code: null, signal: null }))
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get death(): Death | undefined {
    return this.#death
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** The end of what it printed. */
  async lastWords(): Promise<string> {
    const text = await readFile(this.#logPath, 'utf8')
    return text.slice(-2000)
  }
}

/** Runs a program to its end and returns what it printed. Rejects with the end of its complaints when it fails. */
export async function output({ command, args, environment }: Command): Promise<string> {
  const child = endsWithTheRun(
    spawn(command, args, { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] }),
  )
  let printed = ''
  let complaints = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints += text
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (code === 0) return printed
  throw new Error(`${command} ended with status ${code}: ${(complaints || printed).trim().slice(-1000)}`)
}

/** Whether a program is there: its output, or undefined. */
export async function ifInstalled(command: Command): Promise<string | undefined> {
  try {
    return await output(command)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
