// The commands of administration, of counters and of whole files, against a cluster of three.

import { spawn } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { run as runHere } from '../../src/cli/program.ts'
import { hashOf } from '../api/memory-node.ts'
import { type Neighbourhood, startNeighbourhood } from '../api/neighbourhood.ts'
import { temporaryDirectory, trivet } from './run.ts'

const secret = 'admin-secret-of-the-tests-0123456789'

function start(seed: number): Promise<Neighbourhood> {
  return startNeighbourhood({
    seed,
    founding: {
      stores: [{ name: 'default' }, { name: 'short', ttl: 60_000 }],
      tokens: [{ name: 'admin', hash: hashOf(secret), principal: { type: 'admin' } }],
      valueBytes: 4096,
    },
  })
}

let place: Neighbourhood
let other: Neighbourhood
beforeAll(async () => {
  place = await start(6)
  other = await start(7)
})
afterAll(async () => {
  await place[Symbol.asyncDispose]()
  await other[Symbol.asyncDispose]()
})

async function runAt(at: Neighbourhood, args: readonly string[], options: Parameters<typeof trivet>[1] = {}) {
  const env = { TRIVET_ENDPOINTS: at.next(), TRIVET_TOKEN: secret, ...options.env }
  const { status, stdout, stderr } = await trivet(args, { ...options, env })
  return { status, stdout: stdout.toString(), stderr }
}

const run = (...args: readonly string[]) => runAt(place, args)

describe('trivet increment and touch', () => {
  it('add up, and say what the sum is', async () => {
    expect(await run('increment', 'visits')).toEqual({ status: 0, stdout: '1\n', stderr: '' })
    expect((await run('increment', 'visits', '9223372036854775806')).stdout).toBe('9223372036854775807\n')
    expect(await run('increment', 'visits')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^overflow: /),
    })
    const json = await run('increment', 'visits', '--json', '--', '-7')
    expect(JSON.parse(json.stdout)).toMatchObject({ value: '9223372036854775800' })
    expect(await run('increment', 'visits', '--if-revision', '1')).toMatchObject({ status: 4 })
    expect(await run('increment', 'visits', '1.5')).toMatchObject({ status: 2 })
  })

  it('set and clear a lifetime, and exit with 3 for a missing key', async () => {
    await run('set', 'session', 'x', '--ttl', '1h')
    expect((await run('get', 'session', '--json')).stdout).toContain('"expires"')
    expect((await run('touch', 'session', '--ttl', '2h')).stdout).toMatch(/^expires \d{4}-.*Z\n$/)
    expect((await run('touch', 'session', '--ttl', 'none')).stdout).toBe('does not expire\n')
    expect(await run('touch', 'nowhere', '--ttl', '2h')).toMatchObject({ status: 3 })
  })
})

describe('trivet watch', () => {
  it('writes an event a line, from a snapshot on', async () => {
    await run('set', 'watched/1', 'a')
    const main = resolve(import.meta.dirname, '../../src/cli/main.ts')
    const env = { ...process.env, TRIVET_ENDPOINTS: place.next(), TRIVET_TOKEN: secret }
    const child = spawn(process.execPath, [main, 'watch', '--prefix', 'watched/', '--snapshot'], { env })
    try {
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
      expect((await lines.next()).value).toMatch(/^set \d+ watched\/1$/)
      await run('set', 'elsewhere', 'b')
      await run('delete', 'watched/1')
      expect((await lines.next()).value).toMatch(/^delete \d+ watched\/1$/)
    } finally {
      child.kill('SIGKILL')
    }
  })
})

describe('trivet store', () => {
  it('lists, creates and drops', async () => {
    expect((await run('store', 'create', 'carts', '--ttl', '1h', '--max-value-bytes', '100')).stdout).toBe(
      'carts is created\n',
    )
    expect(await run('store', 'create', 'carts')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^store-exists: /),
    })
    expect((await run('store', 'list')).stdout).toMatch(/^carts +0 +0 bytes +1h +100 bytes$/m)
    expect((await run('store', 'drop', 'carts')).stdout).toBe('carts is dropped\n')
    expect(await run('store', 'drop', 'default')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^store-protected: /),
    })
  })
})

describe('trivet token and app', () => {
  it('create, list, rotate and revoke, and show a secret once', async () => {
    const { stdout } = await run(
      'token',
      'create',
      'cart',
      '--store',
      'default',
      '--store',
      'short:read',
      '--prefix',
      'c/',
    )
    expect(stdout).toMatch(/^trv_[\w-]{43}\n$/)
    const as = (token: string, ...args: string[]) => runAt(place, args, { env: { TRIVET_TOKEN: token } })
    expect(await as(stdout.trim(), 'set', 'c/1', 'x')).toMatchObject({ status: 0 })
    expect(await as(stdout.trim(), 'set', 'd', 'x')).toMatchObject({ status: 1 })
    const listed = await run('token', 'list')
    expect(listed.stdout).toMatch(/^cart +component +default "c\/" short:read "c\/" +-$/m)
    const rotated = await run('token', 'rotate', 'cart', '--overlap', '1h')
    expect(rotated.stdout).toMatch(/^trv_[\w-]{43}\n$/)
    for (const one of [stdout, rotated.stdout])
      expect(await as(one.trim(), 'keys', '--prefix', 'c/')).toMatchObject({ status: 0 })
    expect((await run('token', 'revoke', 'cart')).stdout).toBe('cart is revoked\n')
    for (const one of [stdout, rotated.stdout])
      expect(await as(one.trim(), 'keys', '--prefix', 'c/')).toMatchObject({ status: 1 })
  })

  it('take a secret from standard input, and tokens of apps, which go with them', async () => {
    const input = 'a-secret-that-stands-somewhere-else-already\n'
    const made = await runAt(place, ['token', 'create', 'metrics', '--monitor', '--secret-stdin'], { input })
    expect(made).toEqual({ status: 0, stdout: 'metrics is created\n', stderr: '' })
    const { stdout } = await run('token', 'create', 'bot', '--app', 'com.example.todo', '--bot', 'b1')
    expect(stdout).toMatch(/^trv_/)
    expect((await run('app', 'list')).stdout).toMatch(/^com\.example\.todo +0 +0 bytes$/m)
    expect((await run('app', 'remove', 'com.example.todo')).stdout).toBe('com.example.todo is removed\n')
    expect((await run('token', 'list')).stdout).not.toContain('com.example.todo')
  })

  it.each([
    [[], /one of --admin/],
    [['--admin', '--monitor'], /one of --admin/],
    [['--admin', '--mint'], /need --store/],
    [['--app', 'a'], /needs --user or --bot/],
    [['--store', 's', '--user', 'u'], /need --app/],
  ])('refuse flags that do not go together: %j', async (flags, sentence) => {
    const complaints: string[] = []
    const status = await runHere(['token', 'create', 'x', ...flags], (complaint) =>
      complaints.push(complaint),
    )
    expect({ status, complaints }).toEqual({ status: 2, complaints: [expect.stringMatching(sentence)] })
  })
})

describe('trivet export and import', () => {
  it('bring keys, values, types and expiries over as they are', async () => {
    const keys = ['a', 'ä/ö', '.', 'x/../y', 'nul\0l', 'late', '%2F']
    await run('store', 'create', 'from')
    const lines = keys.map((key, at) => ({
      key,
      value: Buffer.from(Uint8Array.of(0, 255, at, 10)).toString('base64'),
      contentType: `x/y${at}`,
      ...(key === 'late' ? { expires: '2031-05-06T07:08:09.123Z' } : {}),
    }))
    const input = lines.map((line) => `${JSON.stringify(line)}\n`).join('')
    expect(await runAt(place, ['import', '-', '--store', 'from'], { input })).toMatchObject({ status: 0 })
    const cwd = await temporaryDirectory()
    const exported = await runAt(place, ['export', 'f.ndjson', '--store', 'from'], { cwd })
    expect(exported).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^7 keys as of revision \d+\n$/),
    })
    const imported = await runAt(other, ['import', 'f.ndjson', '--store', 'short'], { cwd })
    expect(imported).toMatchObject({ status: 0, stdout: 'set 7 keys in short\n' })
    const [before, after] = await Promise.all([
      runAt(place, ['export', '-', '--store', 'from']),
      runAt(other, ['export', '-', '--store', 'short']),
    ])
    expect(contentOf(after.stdout)).toEqual(contentOf(before.stdout))
    expect(contentOf(before.stdout)).toEqual(
      lines
        .map((line) => expect.objectContaining(line))
        .sort((a, b) => Buffer.compare(Buffer.from(a.sample.key), Buffer.from(b.sample.key))),
    )
  })

  it('an interrupted import goes on where it was', async () => {
    const cwd = await temporaryDirectory()
    const line = (n: number) =>
      `{"key":"i${String(n).padStart(5, '0')}","text":"${n === 1500 ? 'x'.repeat(5000) : n}"}\n`
    await writeFile(join(cwd, 'f'), Array.from({ length: 2000 }, (_, n) => line(n + 1)).join(''))
    const begin = () => runAt(place, ['import', 'f'], { cwd })
    expect(await begin()).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/value-too-large: line 1500: /),
    })
    await run('delete', 'i00007')
    expect(await begin()).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^going on after line 1000\n/),
    })
    expect(await run('get', 'i00007')).toMatchObject({ status: 3 })
    // Another file of that name is another import.
    await writeFile(join(cwd, 'f'), line(7))
    expect(await begin()).toMatchObject({ status: 0, stdout: 'set 1 key in default\n' })
    expect(await run('get', 'i00007')).toMatchObject({ status: 0, stdout: '7' })
    await expect(readFile(join(cwd, 'f.import'))).rejects.toThrow('ENOENT')
  })

  it('says which line is wrong', async () => {
    const wrong = [
      'nonsense',
      '{"text":"x"}',
      '{"key":"a"}',
      '{"key":"a","text":"x","json":1}',
      '{"key":"a","text":"x","expires":"soon"}',
    ]
    const runs = wrong.map((input) => runAt(place, ['import', '-'], { input: `\n${input}` }))
    for (const { status, stderr } of await Promise.all(runs)) {
      expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(/^Line 2 [^\n]+\n$/) })
    }
  })

  it('an interrupted export goes on where it was', async () => {
    const cwd = await temporaryDirectory()
    for (const key of ['e/1', 'e/2', 'e/3']) await run('set', key, key)
    await runAt(place, ['export', 'f', '--prefix', 'e/'], { cwd })
    const whole = await readFile(join(cwd, 'f'), 'utf8')
    const [first = '', second = ''] = whole.split('\n')
    await writeFile(join(cwd, 'f.partial'), `${first}\n${second.slice(0, 9)}`)
    expect(await runAt(place, ['export', 'f', '--prefix', 'e/', '--continue'], { cwd })).toMatchObject({
      status: 0,
    })
    expect(contentOf(await readFile(join(cwd, 'f'), 'utf8'))).toEqual(contentOf(whole))
  })
})

describe('trivet backup and restore', () => {
  it('bring a cluster over, and check what they have', async () => {
    const cwd = await temporaryDirectory()
    const saved = await runAt(place, ['backup', 'b', '--json'], { cwd })
    expect(saved.status).toBe(0)
    const bytes = await readFile(join(cwd, 'b'))
    expect(await runAt(other, ['restore', 'b'], { cwd })).toMatchObject({
      status: 4,
      stderr: expect.stringMatching(/condition-failed: /),
    })
    const broken = Buffer.from(bytes)
    broken.writeUInt8(broken.readUInt8(bytes.length - 100) ^ 1, bytes.length - 100)
    await writeFile(join(cwd, 'broken'), broken)
    expect(await runAt(other, ['restore', 'broken'], { cwd })).toMatchObject({ status: 1 })
    await using fresh = await start(8)
    const restored = await runAt(fresh, ['restore', 'b', '--json'], { cwd })
    expect(restored.status).toBe(0)
    expect(JSON.parse(restored.stdout)).toMatchObject({ digest: JSON.parse(saved.stdout).digest })
    const listings = [place, fresh].map((at) => runAt(at, ['export', '-']))
    const [before, after] = await Promise.all(listings)
    expect(after?.stdout.split('\n').slice(0, -2)).toEqual(before?.stdout.split('\n').slice(0, -2))
  })
})

/** The lines of an export without what differs between clusters. */
function contentOf(text: string): readonly unknown[] {
  return text
    .trim()
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const { revision: _, ...rest } = JSON.parse(line) as Record<string, unknown>
      return rest
    })
}
