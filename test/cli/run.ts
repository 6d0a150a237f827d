// Runs the real command in a process of its own, in an empty directory unless told otherwise.

import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { afterAll } from 'vitest'

const mainFile = resolve(import.meta.dirname, '../../src/cli/main.ts')

export type Finished = { readonly status: number | null; readonly stdout: Buffer; readonly stderr: string }

export type RunOptions = {
  readonly cwd?: string
  readonly input?: string | Uint8Array
  readonly env?: Readonly<Record<string, string>>
}

const made: string[] = []

afterAll(() => Promise.all(made.map((directory) => rm(directory, { recursive: true, force: true }))))

/** An empty directory that is removed after the tests of the file. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'trivet-cli-'))
  made.push(directory)
  return directory
}

/** Runs `trivet` with these arguments. Of this process's environment it gets nothing of Trivet's. */
export async function trivet(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('TRIVET_'))
  const child = spawn(process.execPath, [mainFile, ...args], {
    cwd: options.cwd ?? (await temporaryDirectory()),
    env: { ...Object.fromEntries(inherited), ...options.env },
  })
  child.stdin.end(options.input)
  const [stdout, stderr, status] = await Promise.all([
    buffer(child.stdout),
    buffer(child.stderr),
    new Promise<number | null>((done) => child.once('exit', done)),
  ])
  return { status, stdout, stderr: stderr.toString() }
}
