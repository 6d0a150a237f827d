// The main job as a newcomer meets it: `trivet dev`, its lines of curl, a node that dies and comes back, Ctrl-C.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { mainFile } from '../../src/cli/node-process.ts'
import { eventually, freePorts } from './real-cluster.ts'

const run = promisify(execFile)

class Dev implements AsyncDisposable {
  output = ''
  readonly #child
  readonly #ended: Promise<unknown[]>

  constructor(data: string, http: number, p2p: number, ...more: readonly string[]) {
    const flags = ['--data', data, '--http-port', String(http), '--p2p-port', String(p2p), ...more]
    this.#child = spawn(process.execPath, [mainFile, 'dev', ...flags], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#ended = once(this.#child, 'exit')
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text
      })
    }
  }

  /** Resolves once this was printed, with the text from there on. */
  printed(text: string, from = 0): Promise<string> {
    return eventually(
      `dev to print ${JSON.stringify(text)}; it printed:\n${this.output}`,
      () => {
        const at = this.output.indexOf(text, from)
        return at === -1 ? undefined : this.output.slice(at)
      },
      30,
    )
  }

  async interrupt(): Promise<number | null> {
    this.#child.kill('SIGINT')
    await this.#ended
    return this.#child.exitCode
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null) await this.interrupt()
  }
}

it('brings up a cluster whose printed lines work, tells of a dead node and how to bring it back, and keeps everything', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'trivet-dev-'))
  const data = join(directory, 'data')
  const base = await freePorts(6)
  try {
    {
      const seeds = ['--key-value', 'motto=a=b', '--key-value', 'empty=', '--key-value', 'motto=a=b=c']
      await using dev = new Dev(data, base, base + 3, ...seeds)
      const greeting = await dev.printed('3 nodes are ready')
      await dev.printed('Ctrl-C stops')
      const token = join(data, 'admin.token')
      expect((await stat(token)).mode & 0o777).toBe(0o600)
      const secret = (await readFile(token, 'utf8')).trim()
      expect(dev.output).not.toContain(secret)

      const lines = (greeting + dev.output).split('\n').filter((line) => line.trim().startsWith('curl '))
      expect(lines.length).toBeGreaterThanOrEqual(3)
      const answers: string[] = []
      for (const line of lines) answers.push((await run('sh', ['-c', line])).stdout)
      expect(answers[0]).toContain('"created":true')
      expect(answers[1]).toBe('hello\n')
      expect(answers[2]).toContain('"leader":"n')

      // What it was told to put in is there when it says that it is ready: split at the first =, the last one stands.
      const seeded = (key: string) =>
        fetch(`http://127.0.0.1:${base}/v1/stores/default/keys/${key}`, {
          headers: { authorization: `Bearer ${secret}` },
        })
      expect(await (await seeded('motto')).text()).toBe('a=b=c')
      expect(await (await seeded('empty')).text()).toBe('')
      expect((await seeded('empty')).headers.get('content-type')).toBe('text/plain; charset=utf-8')

      // The examples, as their first lines say how to run them.
      const endpoints = [0, 1, 2].map((at) => `http://127.0.0.1:${base + at}`).join(',')
      const env = { ...process.env, TRIVET_ENDPOINTS: endpoints, TRIVET_TOKEN: secret }
      const hello = await run(process.execPath, ['examples/hello.ts'], { env })
      expect(hello.stdout).toContain('It says: Hello, world')
      const counter = await run(process.execPath, ['examples/counter.ts'], { env })
      expect(counter.stdout).not.toBe('')

      const pid = Number(await readFile(join(data, 'n2', 'trivet.pid'), 'utf8'))
      const before = dev.output.length
      process.kill(pid, 'SIGKILL')
      const told = await dev.printed('n2 was killed by SIGKILL', before)
      expect(told).toContain(join(data, 'n2', 'node.log'))
      await dev.printed('Bring it back with:\n', before)
      const comeback = await eventually(
        'the line that brings it back',
        () => /Bring it back with:\n\s+(.+)\n/.exec(dev.output.slice(before))?.[1],
      )
      const node = spawn('sh', ['-c', `exec env ${comeback}`], { stdio: 'ignore' })
      const ended = once(node, 'exit')
      await dev.printed('n2 is back and ready', before)
      node.kill('SIGTERM')
      await ended
      expect(await dev.interrupt()).toBe(0)
    }
    await using again = new Dev(data, base, base + 3)
    await again.printed('3 nodes are ready')
    const line = `curl -s -H "Authorization: Bearer $(cat ${join(data, 'admin.token')})" http://127.0.0.1:${base + 1}/v1/stores/default/keys/greeting`
    expect((await run('sh', ['-c', line])).stdout).toBe('hello')
    expect(await again.interrupt()).toBe(0)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})
