// The commands that change the members: what is asked for, what is shown meanwhile, and how it ends.

import { Writable } from 'node:stream'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { standing } from '../../src/cli/member.ts'
import { Progress } from '../../src/cli/progress.ts'
import { MemoryServer } from '../sdk/memory-server.ts'
import { trivet } from './run.ts'

let server: MemoryServer

beforeAll(async () => {
  server = await MemoryServer.start()
})
afterAll(() => server.stop())
beforeEach(() => {
  const { members, learners } = server.state
  members.clear()
  learners.clear()
  for (const id of ['n1', 'n2', 'n3']) members.set(id, {})
})

const address = [
  '--http',
  'http://10.0.0.4:7001',
  '--p2p',
  '/ip4/10.0.0.4/tcp/7101',
  '--peer',
  '12D3KooWfour',
]

async function run(...args: string[]) {
  const env = { TRIVET_ENDPOINTS: server.url, TRIVET_TOKEN: 'secret' }
  const { status, stdout, stderr } = await trivet(['member', ...args], { env })
  return { status, stdout: stdout.toString(), stderr }
}

describe('trivet member', () => {
  it('adds a learner, says how far it is, and ends when it votes', async () => {
    expect(await run('add', 'n4', ...address)).toEqual({
      status: 0,
      stdout: 'n4 is a voter\n',
      stderr: 'n4 is 4 entries behind, 95 %\n',
    })
    expect([...server.state.members.keys()]).toEqual(['n1', 'n2', 'n3', 'n4'])
  })

  it('does not wait where that is not wanted, and answers as REST does', async () => {
    expect(await run('add', 'n4', ...address, '--no-wait', '--json')).toEqual({
      status: 0,
      stdout: '{"id":"n4","peer":"12D3KooWfour"}\n',
      stderr: '',
    })
  })

  it('replaces a member under its name', async () => {
    expect(await run('replace', 'n2', ...address, '--no-wait')).toMatchObject({
      status: 0,
      stdout: 'n2 is a learner\n',
    })
    expect(server.state.members.get('n2')?.peer).toBe('12D3KooWfour')
  })

  it('removes a member', async () => {
    expect(await run('remove', 'n2')).toEqual({ status: 0, stdout: 'n2 is removed\n', stderr: '' })
    expect(server.seen.at(-1)?.path).toBe('/v1/cluster/members/n2')
  })

  it('is refused with the code and a sentence', async () => {
    expect(await run('remove', 'n9')).toEqual({
      status: 1,
      stdout: '',
      stderr: 'not-found: because not-found\n',
    })
    expect(await run('add', 'n3', ...address)).toMatchObject({
      status: 1,
      stderr: 'member-exists: because member-exists\n',
    })
  })

  it('says what is missing', async () => {
    const { status, stderr } = await run('add', 'n4')
    expect({ status, stderr }).toMatchObject({ status: 2, stderr: expect.stringContaining('--http') })
  })

  it.each(['add', 'replace', 'remove'])('has help for %s with an example', async (command) => {
    const { stdout } = await run(command, '--help')
    expect(stdout).toContain(`Example:\n  trivet member ${command} n`)
  })
})

describe('progress', () => {
  function stream(isTTY: boolean) {
    const written: string[] = []
    const writable = new Writable({
      decodeStrings: false,
      write(text, _encoding, done) {
        written.push(String(text))
        done()
      },
    })
    return Object.assign(writable, { written, isTTY, columns: 50 })
  }

  it('is a bar that moves on a terminal, and leaves nothing behind', () => {
    const to = stream(true)
    const progress = new Progress({ stream: to, now: () => 0 })
    progress.show('n4 is 10 entries behind', 0.5)
    expect(to.written.join('')).toContain(`[${'#'.repeat(15)}${'-'.repeat(15)}] 50 % n4 is 10 en`)
    progress.end()
    const after = to.written.join('')
    // Back to the beginning of the line, and nothing left on it.
    expect(after.endsWith('\u001b[1G\u001b[2K')).toBe(true)
    expect(after).not.toContain('\n')
  })

  it('is a line every few seconds elsewhere', () => {
    const to = stream(false)
    let now = 0
    const progress = new Progress({ stream: to, now: () => now })
    for (now = 0; now <= 6000; now += 500) progress.show(`at ${now}`, now / 10_000)
    expect(to.written).toEqual(['at 0, 0 %\n', 'at 3000, 30 %\n', 'at 6000, 60 %\n'])
  })

  it('tells a learner that is not heard from one that lags', () => {
    const members = [{ commitIndex: 200 }, { commitIndex: 150 }]
    expect(standing({ members }, { id: 'n4', role: 'unknown' })).toEqual({
      sentence: 'waiting for n4 to be heard: is it started?',
      share: undefined,
    })
    expect(standing({ members }, { id: 'n4', role: 'learner', lastApplied: 50 })).toEqual({
      sentence: 'n4 is 150 entries behind',
      share: 0.25,
    })
  })
})
