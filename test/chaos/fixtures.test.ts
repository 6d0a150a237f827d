// What runs inside the nodes of a chaos run: the library before their disks, and the module before their code.

import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildDiskHook, DiskControl } from './disk-control.ts'

const run = promisify(execFile)
const preload = pathToFileURL(join(import.meta.dirname, 'fixtures/node-preload.ts')).href

const stack = new AsyncDisposableStack()
const hook = await buildDiskHook(stack)
let directory: string

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'trivet-fixtures-'))
})

afterAll(async () => {
  await stack.disposeAsync()
  await rm(directory, { recursive: true })
})

/** What a program prints, as JSON, with these variables set. */
async function print(program: string, env: Readonly<Record<string, string>>): Promise<unknown> {
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], {
    env: { ...process.env, ...env },
    cwd: directory,
  })
  return JSON.parse(stdout)
}

describe.skipIf(hook.path === undefined)('the library before a disk', () => {
  const disk = async (name: string) => {
    const control = await DiskControl.create(join(directory, `${name}.disk`))
    return { control, env: { LD_PRELOAD: hook.path ?? '', TRIVET_CHAOS_DISK: control.path } }
  }
  const write = (name: string, bytes: number) => `
    const file = await open('${name}', 'a')
    const ends = []
    for (let at = 0; at < 8; at++) ends.push(await file.write(Buffer.alloc(${bytes})).then(() => 'ok', ({ code }) => code))
    console.log(JSON.stringify(ends))`
  const imports = "import { open, statfs, writeFile } from 'node:fs/promises'\n"

  it('lets everything through until it is told otherwise', async () => {
    const { env } = await disk('calm')
    expect(await print(imports + write('calm', 4096), env)).toEqual(Array(8).fill('ok'))
  })

  it('refuses with ENOSPC what makes a file grow beyond the room there is', async () => {
    const { control, env } = await disk('full')
    await control.setRoom(3 * 4096)
    const ends = await print(imports + write('full', 4096), env)
    expect(ends).toEqual(['ok', 'ok', 'ok', ...Array(5).fill('ENOSPC')])
    await control.setRoom(undefined)
    expect(await print(imports + write('full', 4096), env)).toEqual(Array(8).fill('ok'))
  })

  it('lets what a file has be written over, though the disk is full', async () => {
    const { control, env } = await disk('over')
    await writeFile(join(directory, 'over'), Buffer.alloc(65_536, 1))
    await control.setRoom(0)
    const program = `${imports}
      const file = await open('over', 'r+')
      const inside = await file.write(Buffer.alloc(4096), 0, 4096, 0).then(() => 'ok', ({ code }) => code)
      const beyond = await file.write(Buffer.alloc(4096), 0, 4096, 65536).then(() => 'ok', ({ code }) => code)
      console.log(JSON.stringify([inside, beyond]))`
    expect(await print(program, env)).toEqual(['ok', 'ENOSPC'])
  })

  it('says how much room there is to whoever asks', async () => {
    const { control, env } = await disk('asked')
    await control.setRoom(1024 * 1024)
    const program = `${imports}
      const { bavail, bsize } = await statfs('.')
      console.log(JSON.stringify(bavail * bsize))`
    expect(await print(program, env)).toBe(1024 * 1024)
  })

  it('makes syncs take longer', async () => {
    const { control, env } = await disk('slow')
    await control.setSyncDelay(300)
    const program = `${imports}
      const file = await open('slow', 'w')
      await file.write('x')
      const begun = performance.now()
      await file.datasync()
      console.log(JSON.stringify(performance.now() - begun))`
    expect(await print(program, env)).toBeGreaterThan(290)
  })
})

describe('the module before a node', () => {
  it('has its connections come from the address that is its own', async () => {
    const server = createServer((socket) => socket.end(String(socket.remoteAddress))).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    const program = `import net from 'node:net'
      let heard = ''
      for await (const text of net.connect({ host: '127.0.0.1', port: ${address.port} }).setEncoding('utf8')) heard += text
      console.log(JSON.stringify(heard))`
    const env = { NODE_OPTIONS: `--import=${preload}`, TRIVET_CHAOS_SOURCE: '127.0.1.7' }
    expect(await print(program, env)).toBe('127.0.1.7')
    server.close()
  })

  it('makes its wall clock wrong by what the file says, while it runs, and leaves monotonic time alone', async () => {
    const file = join(directory, 'clock')
    await writeFile(file, '3600000')
    const program = `import { writeFile } from 'node:fs/promises'
      const begun = performance.now()
      const first = [Date.now(), new Date().getTime(), new Date(5).getTime()]
      await writeFile('${file}', '-60000')
      while (Date.now() > first[0]) await new Promise((done) => setTimeout(done, 10))
      console.log(JSON.stringify({ first, then: Date.now(), isDate: new Date() instanceof Date, took: performance.now() - begun }))`
    const before = Date.now()
    const answer = await print(program, { NODE_OPTIONS: `--import=${preload}`, TRIVET_CHAOS_CLOCK: file })
    const { first, then, isDate, took } = answer as {
      first: number[]
      then: number
      isDate: boolean
      took: number
    }
    const near = (time: number | undefined, error: number) =>
      expect(Math.abs((time ?? 0) - before - error)).toBeLessThan(10_000)
    near(first[0], 3_600_000)
    near(first[1], 3_600_000)
    expect(first[2]).toBe(5)
    near(then, -60_000)
    expect(isDate).toBe(true)
    expect(took).toBeLessThan(10_000)
  })
})
