// A node as a process: its pid file, its signals, its last words. Real processes around a service that does nothing.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'

import { lastError } from '../../src/cli/log.ts'
import { temporaryDirectory } from './run.ts'

const children: ChildProcess[] = []

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

type Running = {
  readonly child: ChildProcess
  readonly ended: Promise<{ status: unknown; stdout: string; stderr: string }>
}

function start(data: string, behaviour = 'well', stdio: 'pipe' | 'ipc' = 'pipe'): Running {
  const fixture = join(import.meta.dirname, 'fixtures/service.ts')
  const child = spawn(process.execPath, [fixture, data, behaviour], {
    stdio: ['ignore', 'pipe', 'pipe', ...(stdio === 'ipc' ? (['ipc'] as const) : [])],
  })
  children.push(child)
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
    })
  }
  // Not the child's own 'close', which does not come for a stream that a test has destroyed.
  const closed = [child.stdout, child.stderr].map((stream) => stream && once(stream, 'close'))
  const ended = Promise.all([once(child, 'exit'), ...closed]).then(([[code, signal]]) => ({
    status: code ?? signal,
    ...output,
  }))
  return { child, ended }
}

function pidIn(data: string): Promise<number | undefined> {
  return readFile(join(data, 'trivet.pid'), 'utf8').then(Number, () => undefined)
}

async function running(data: string, behaviour?: string, stdio?: 'pipe' | 'ipc'): Promise<Running> {
  const started = start(data, behaviour, stdio)
  await expect.poll(() => pidIn(data), { timeout: 10_000 }).toBe(started.child.pid)
  return started
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  it(`drains, stops and leaves no pid file on ${signal}`, async () => {
    const data = join(await temporaryDirectory(), 'n1')
    const { child, ended } = await running(data)
    child.kill(signal)
    const { status, stdout, stderr } = await ended
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout.replaceAll(/^\S+ info {2}/gm, '')).toBe(
      `stopping, because of ${signal}\ndraining\nended\nstopped\n`,
    )
    const log = (await readFile(join(data, 'node.log'), 'utf8')).trim().split('\n')
    expect(log.map((line) => (JSON.parse(line) as { msg: string }).msg).at(-1)).toBe('stopped')
    expect(await pidIn(data)).toBeUndefined()
  })
}

it('stops cleanly when the process that started it is gone, and who read its output too', async () => {
  const data = join(await temporaryDirectory(), 'n1')
  const { child, ended } = await running(data, 'well', 'ipc')
  child.stdout?.destroy()
  child.stderr?.destroy()
  child.disconnect()
  expect((await ended).status).toBe(0)
  const log = await readFile(join(data, 'node.log'), 'utf8')
  expect(log).toContain('stopping, because of the end of the parent process')
  expect(log).toContain('"stopped"')
  expect(await pidIn(data)).toBeUndefined()
})

it('counts a SIGINT that npm repeats once, and exits at once on a later one', async () => {
  const data = join(await temporaryDirectory(), 'n1')
  const patient = await running(data)
  patient.child.kill('SIGINT')
  patient.child.kill('SIGINT')
  expect((await patient.ended).status).toBe(0)
  const { child, ended } = await running(data, 'stuck')
  child.kill('SIGINT')
  // The second has to come later than an echo would: repeated until it does.
  const again = setInterval(() => child.kill('SIGINT'), 100)
  const { status, stdout } = await ended
  clearInterval(again)
  expect(status).toBe(1)
  expect(stdout).toContain('stopping at once')
})

it('refuses a data directory that a running process has', async () => {
  const data = join(await temporaryDirectory(), 'n1')
  const { child, ended } = await running(data)
  const before = await readFile(join(data, 'node.log'), 'utf8')
  const second = await start(data).ended
  expect(second).toMatchObject({ status: 1, stdout: '' })
  expect(second.stderr).toBe(
    `n1 runs on ${data} already, as process ${child.pid}; if it does not, remove ${data}/trivet.pid.\n`,
  )
  expect(await readFile(join(data, 'node.log'), 'utf8')).toBe(before)
  expect(await pidIn(data)).toBe(child.pid)
  child.kill('SIGKILL')
  expect((await ended).status).toBe('SIGKILL')
  // What a killed process leaves is no obstacle.
  const third = await running(data)
  third.child.kill('SIGTERM')
  expect((await third.ended).status).toBe(0)
})

it('says why it could not start, and leaves no pid file', async () => {
  const data = join(await temporaryDirectory(), 'n1')
  const { child, ended } = start(data, 'cannot', 'ipc')
  expect(await ended).toMatchObject({ status: 1, stderr: 'The port is taken.\n' })
  expect(await lastError(data, child.pid ?? 0)).toBe('the node could not start: The port is taken.')
  await expect(stat(join(data, 'trivet.pid'))).rejects.toThrow('ENOENT')
})

it('says in one sentence that its log cannot be opened', async () => {
  const data = join(await temporaryDirectory(), 'n1')
  await mkdir(join(data, 'node.log'), { recursive: true })
  const { status, stdout, stderr } = await start(data).ended
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(/^The log .*node\.log cannot be opened: EISDIR.*\n$/)
})

it('says its last words once, without their causes', async () => {
  const data = join(await temporaryDirectory(), 'n1')
  const { ended } = start(data, 'because')
  expect(await ended).toMatchObject({ status: 1, stdout: '', stderr: 'The disk failed.\n' })
  const log = JSON.parse(await readFile(join(data, 'node.log'), 'utf8')) as { err: { message: string } }
  expect(log.err).toMatchObject({ message: 'The disk failed.', cause: { message: 'EIO\nat the disk' } })
})

it('ends with a sentence when it cannot go on', async () => {
  const data = join(await temporaryDirectory(), 'n1')
  const { child, ended } = start(data, 'fatal')
  expect(await ended).toMatchObject({ status: 1, stderr: 'The disk failed.\n' })
  expect(await lastError(data, child.pid ?? 0)).toBe('the node cannot go on: The disk failed.')
})
