// The commands for data and for the cluster, as a shell sees them: output, standard error, exit status.

import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'

import { run as runHere } from '../../src/cli/program.ts'
import { MemoryServer } from '../sdk/memory-server.ts'
import { type Finished, type RunOptions, temporaryDirectory, trivet } from './run.ts'

let server: MemoryServer

beforeAll(async () => {
  server = await MemoryServer.start()
})

beforeEach(() => {
  server.state.stores.set('default', new Map())
  server.faults.length = 0
})

afterAll(() => server.stop())

function run(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  return trivet(args, {
    ...options,
    env: { TRIVET_ENDPOINTS: server.url, TRIVET_TOKEN: 'secret', ...options.env },
  })
}

function put(key: string, value: string | Uint8Array, revision = 7): void {
  const stored = { value: Buffer.from(value), contentType: 'text/plain', revision }
  server.state.stores.get('default')?.set(key, stored)
}

async function stored(key: string): Promise<Buffer | undefined> {
  return server.state.stores.get('default')?.get(key)?.value
}

describe('trivet get', () => {
  it('writes the bytes and nothing else', async () => {
    put('k', Uint8Array.of(0, 255, 10))
    const { status, stdout, stderr } = await run(['get', 'k'])
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toEqual(Buffer.of(0, 255, 10))
  })

  it('exits with 3 for a missing key, with nothing on standard output', async () => {
    const { status, stdout, stderr } = await run(['get', 'k', '--json'])
    expect({ status, stderr }).toEqual({ status: 3, stderr: 'no-such-key: "k" is not in default\n' })
    expect(stdout).toHaveLength(0)
  })

  it('tells all there is as JSON', async () => {
    put('k', 'hi')
    const { stdout } = await run(['get', 'k', '--json'])
    expect(JSON.parse(stdout.toString())).toEqual({
      key: 'k',
      value: Buffer.from('hi').toString('base64'),
      revision: 7,
      contentType: 'text/plain',
      size: 2,
    })
  })
})

describe('trivet set', () => {
  it('takes an argument, a file, or standard input', async () => {
    const directory = await temporaryDirectory()
    await writeFile(join(directory, 'f'), Uint8Array.of(0, 1, 2))
    const [argument, file, input] = await Promise.all([
      run(['set', 'a', 'grüße']),
      run(['set', 'b', '--file', 'f'], { cwd: directory }),
      run(['set', 'c', '-', '--json'], { input: Uint8Array.of(9, 10) }),
    ])
    expect([argument.status, file.status, input.status]).toEqual([0, 0, 0])
    expect(argument.stdout.toString()).toMatch(/^created, revision \d+\n$/)
    expect(JSON.parse(input.stdout.toString())).toMatchObject({ created: true, changed: true })
    expect((await stored('a'))?.toString()).toBe('grüße')
    expect(await stored('b')).toEqual(Buffer.of(0, 1, 2))
    expect(await stored('c')).toEqual(Buffer.of(9, 10))
  })

  it('exits with 4 when a condition fails', async () => {
    put('k', 'old')
    const [absent, revision, good] = await Promise.all([
      run(['set', 'k', 'v', '--if-absent']),
      run(['delete', 'k', '--if-revision', '3']),
      run(['set', 'other', 'v', '--if-absent']),
    ])
    expect([absent.status, revision.status, good.status]).toEqual([4, 4, 0])
    expect(absent.stderr).toBe('condition-failed: because condition-failed\n')
    expect((await stored('k'))?.toString()).toBe('old')
  })

  it('is sent again when nobody can tell, under the same key, and takes effect once', async () => {
    const { writes } = server.state
    server.faults.push({ type: 'cutAfter' })
    expect(await run(['set', 'k', 'v'])).toMatchObject({ status: 0 })
    expect(server.state).toMatchObject({ writes: writes + 1, opened: 0 })
  })

  it('exits with 5 when nobody can tell whether it took effect', async () => {
    server.faults.push({ type: 'garbage' })
    const { status, stdout, stderr } = await run(['set', 'k', 'v'])
    expect(status).toBe(5)
    expect(stderr).toMatch(/^outcome-unknown: The write may or may not take effect: [^\n]+\n$/)
    expect(stdout).toHaveLength(0)
  })
})

describe('trivet delete', () => {
  it('says whether there was something to delete', async () => {
    put('k', 'v')
    expect((await run(['delete', 'k'])).stdout.toString()).toMatch(/^deleted, revision \d+\n$/)
    const again = await run(['delete', 'k', '--json'])
    expect(again.status).toBe(0)
    expect(JSON.parse(again.stdout.toString())).toMatchObject({ deleted: false })
  })
})

describe('trivet keys', () => {
  it('writes one key a line, by prefix and range', async () => {
    for (const key of ['b/2', 'b/1', 'a', 'c']) put(key, 'v')
    const [all, prefix, range] = await Promise.all([
      run(['keys']),
      run(['keys', '--prefix', 'b/', '--reverse']),
      run(['keys', '--start', 'b/2', '--end', 'd', '--json']),
    ])
    expect(all.stdout.toString()).toBe('a\nb/1\nb/2\nc\n')
    expect(prefix.stdout.toString()).toBe('b/2\nb/1\n')
    expect(JSON.parse(range.stdout.toString())).toMatchObject({
      keys: [{ key: 'b/2', revision: 7, size: 1, contentType: 'text/plain' }, { key: 'c' }],
    })
  })
})

describe('trivet status and leader', () => {
  it('show a table of members, and hand leadership over', async () => {
    server.state.leader = 'n1'
    const { status, stdout } = await run(['status'])
    expect(status).toBe(0)
    expect(stdout.toString().split('\n').slice(0, 6)).toEqual([
      expect.stringMatching(/^dev: n1 leads, term 4, revision \d+$/),
      '',
      'ID   ROLE      TERM  COMMIT  APPLIED  LAG  DIGEST       HEALTH  HTTP                   P2P',
      'n1*  leader    4     90      89       1    abcdef01@64  ok      http://127.0.0.1:7001  /ip4/127.0.0.1/tcp/7101',
      'n2   follower  4     90      88       2    -            ok      http://127.0.0.1:7002  /ip4/127.0.0.1/tcp/7102',
      'n3   unknown   -     -       -        -    -            silent  http://127.0.0.1:7003  /ip4/127.0.0.1/tcp/7103',
    ])
    expect((await run(['leader', 'n2'])).stdout.toString()).toBe('n2 leads\n')
    const json = await run(['status', '--json'])
    expect(JSON.parse(json.stdout.toString())).toMatchObject({
      leader: 'n2',
      members: [{ id: 'n1' }, {}, {}],
    })
    const wrong = await run(['leader', 'n9'])
    expect(wrong).toMatchObject({ status: 1, stderr: 'invalid-request: because invalid-request\n' })
  })
})

describe('a command that is refused', () => {
  it('exits with 1, the code and one sentence', async () => {
    const [token, store, key] = await Promise.all([
      run(['get', 'k'], { env: { TRIVET_TOKEN: 'wrong' } }),
      run(['keys', '--store', 'nowhere']),
      run(['set', '', 'v']),
    ])
    expect(token).toMatchObject({ status: 1, stderr: 'unauthenticated: because unauthenticated\n' })
    expect(store).toMatchObject({ status: 1, stderr: 'no-such-store: because no-such-store\n' })
    expect(key).toMatchObject({ status: 1, stderr: 'invalid-key: A key has at least one byte\n' })
  })

  it('says which endpoint could not be reached', async () => {
    const { status, stderr } = await run([
      'get',
      'k',
      '--endpoint',
      'http://127.0.0.1:1',
      '--timeout',
      '100ms',
    ])
    expect(status).toBe(1)
    expect(stderr).toMatch(/^deadline-exceeded: http:\/\/127\.0\.0\.1:1 could not be asked: [^\n]+\n$/)
  })
})

describe('where a command looks', () => {
  it('finds the cluster that runs under ./data, and its token', async () => {
    const cwd = await temporaryDirectory()
    await mkdir(join(cwd, 'data/n1'), { recursive: true })
    await writeFile(join(cwd, 'data/cluster.yml'), `nodes:\n  n1: { http: "${server.url}" }\n`)
    await writeFile(join(cwd, 'data/admin.token'), 'secret\n')
    const stopped = await trivet(['keys'], { cwd })
    expect(stopped.status).toBe(1)
    expect(stopped.stderr).toMatch(/^No cluster runs under \.\/data: [^\n]+\n$/)
    await writeFile(join(cwd, 'data/n1/trivet.pid'), `${process.pid}\n`)
    put('k', 'v')
    expect(await trivet(['keys'], { cwd })).toMatchObject({ status: 0, stdout: Buffer.from('k\n') })
  })

  it('takes several endpoints and a token file, and names what is missing', async () => {
    const cwd = await temporaryDirectory()
    await writeFile(join(cwd, 'token'), 'secret\n')
    put('k', 'v')
    const dead = 'http://127.0.0.1:1'
    const [several, flags, none, missing] = await Promise.all([
      run(['get', 'k'], { env: { TRIVET_ENDPOINTS: `${dead}, ${server.url}` } }),
      trivet(['get', 'k', '--endpoint', dead, '--endpoint', server.url, '--token-file', 'token'], { cwd }),
      trivet(['get', 'k', '--endpoint', server.url]),
      trivet(['get', 'k', '--endpoint', server.url, '--token-file', 'nowhere']),
    ])
    expect([several.stdout.toString(), flags.stdout.toString()]).toEqual(['v', 'v'])
    expect(none).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^No token: set TRIVET_TOKEN, [^\n]+\n$/),
    })
    expect(missing).toMatchObject({ status: 1, stderr: 'The token file nowhere does not exist.\n' })
  })
})

describe('a mistake in the arguments', () => {
  const mistakes: readonly (readonly [string, RegExp])[] = [
    ['get --foo k', /unknown option '--foo'/],
    ['nope', /unknown command 'nope'/],
    ['get', /missing required argument 'key'/],
    ['get a b', /too many arguments/],
    ['set k', /give the value/],
    ['set k v --file f', /give the value/],
    ['set k v --if-revision 0', /positive integer/],
    ['set k v --if-absent --if-revision 3', /exclude each other/],
    ['get k --consistency loose', /Allowed choices/],
    ['keys --token secret', /unknown option '--token'/],
    ['dev --nodes 0', /whole number from 1 to 9/],
    ['start --node n1', /--config/],
    ['start --config cluster.yml', /--node or TRIVET_NODE/],
  ]
  for (const [line, sentence] of mistakes) {
    it(`is one sentence and exit status 2: ${line}`, async () => {
      const complaints: string[] = []
      expect(await runHere(line.split(' '), (complaint) => complaints.push(complaint))).toBe(2)
      expect(complaints).toEqual([expect.stringMatching(sentence)])
      expect(complaints[0]).not.toContain('\n')
    })
  }

  it('goes to standard error', async () => {
    const [mistake, help] = await Promise.all([trivet(['get', '--foo']), trivet(['set', '--help'])])
    expect(mistake).toMatchObject({ status: 2, stdout: Buffer.of(), stderr: "unknown option '--foo'\n" })
    expect(help).toMatchObject({ status: 0, stderr: '' })
    expect(help.stdout.toString()).toContain('--if-absent')
  })
})
