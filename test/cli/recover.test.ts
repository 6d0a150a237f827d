// `trivet recover` as a command: what it refuses, what it says, and what a directory is after it. Real storage, real processes.

import { readdir, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadPeerKey } from '../../src/node/peer-key.ts'
import { Storage } from '../../src/node/storage.ts'
import { realDisk } from '../../src/store/real-disk.ts'
import { openLevel } from '../../src/store/state-open.ts'
import { freePort } from '../node/free-port.ts'
import { founding } from '../store/wal-harness.ts'
import { type Finished, temporaryDirectory, trivet } from './run.ts'

function open(data: string, self: string): Promise<Storage> {
  const quiet = { onNotice: () => {}, onFailure: () => {} }
  return Storage.open({ disk: realDisk, directory: data, self, openLevel, now: Date.now, ...quiet })
}

/** The data directory of n1, a member of three that was stopped with three entries; the others answer at `http`. */
async function stopped(http: readonly [string, string]): Promise<{ data: string; peer: string }> {
  const data = await temporaryDirectory()
  const { peer } = await loadPeerKey(data)
  const members = founding.configuration.members.map((member, at) =>
    at === 0 ? { ...member, peer } : { ...member, http: http[at - 1] ?? '' },
  )
  const storage = await open(data, peer)
  await storage.found({ ...founding, configuration: { members } })
  await storage.begin()
  const entries = [1, 2, 3].map((index) => ({ type: 'noop', index, term: 2 }) as const)
  await storage.opened?.wal.append({ hardState: { term: 2, votedFor: peer }, entries })
  await storage.close()
  return { data, peer }
}

async function silent(): Promise<readonly [string, string]> {
  return [`http://127.0.0.1:${await freePort()}`, `http://127.0.0.1:${await freePort()}`]
}

function recover(data: string, ...flags: readonly string[]): Promise<Finished> {
  return trivet(['recover', '--data', data, ...flags])
}

/** Of a refusal, on standard error alone. */
async function sentenceOf(data: string): Promise<string> {
  const { status, stderr, stdout } = await recover(data, '--force')
  expect({ status, stdout: stdout.toString() }).toEqual({ status: 1, stdout: '' })
  expect(stderr.trim()).not.toContain('\n')
  return stderr
}

describe('trivet recover', () => {
  it('without --force says what there is, what may be lost and what it would do, and changes nothing', async () => {
    const http = await silent()
    const { data, peer } = await stopped(http)
    const before = await readdir(data)
    const { status, stdout, stderr } = await recover(data)
    expect({ status, stderr }).toEqual({ status: 1, stderr: '' })
    expect(stdout.toString().split('\n')).toEqual([
      `n1 of cluster test, id ${founding.clusterId}:`,
      '  log      whole, up to entry 3 of term 2; the last term it knows is 2',
      '  state    up to entry 0 of term 0, revision 0',
      '  member   n1, voter, http://n1:7001: this node',
      `  member   n2, voter, ${http[0]}: does not answer`,
      `  member   n3, voter, ${http[1]}: does not answer`,
      '',
      'What was acknowledged after entry 3 is lost, if anything was.',
      '3 entries before that may not have been acknowledged, and will take effect.',
      'It would be the only voter of a new cluster with a new id, with the stores, keys, tokens and sessions that it has.',
      '',
      `Nothing was changed. To do this: trivet recover --data ${data} --force`,
      '',
    ])
    expect(await readdir(data)).toEqual(before)
    const storage = await open(data, peer)
    expect(storage.identity).toMatchObject({ founding: { clusterId: founding.clusterId } })
    await storage.close()
  })

  it('with --force makes it the only voter of a new cluster, once, and says how to go on', async () => {
    const { data, peer } = await stopped(await silent())
    const { status, stdout, stderr } = await recover(data, '--force')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout.toString()).toMatch(
      /n1 begins cluster [0-9a-f]{32} with everything up to entry 3; it counts revisions from 1000000000 on, and accepts nobody of 0123456789abcdef/,
    )
    expect(stdout.toString()).toContain(
      `Now start it on ${data}, empty the data directories of all other members`,
    )
    const storage = await open(data, peer)
    expect(storage.opened?.wal.base.configuration.members.map(({ id }) => id)).toEqual(['n1'])
    expect(storage.opened?.machine.clusterId).not.toBe(founding.clusterId)
    expect(storage.opened?.machine.store('default')).toBeDefined()
    await storage.close()
    const again = await recover(data, '--force')
    expect(again).toMatchObject({ status: 1 })
    expect(again.stderr).toContain('n1 is the only voter of its cluster and needs nobody else: start it.')
  })

  it('refuses what is no stopped node’s directory', async () => {
    const empty = await temporaryDirectory()
    expect(await sentenceOf(join(empty, 'gone'))).toMatch(/^There is no directory .*gone\.$/m)
    expect(await sentenceOf(empty)).toMatch(/^There is no peer key in/)
    await loadPeerKey(empty)
    expect(await sentenceOf(empty)).toMatch(/^There is nothing to recover in .*neither a log nor a state/)
    expect(await readdir(empty)).toEqual(['peer.key'])

    expect((await trivet(['recover'])).status).toBe(2)
  })

  it('refuses the directory of a running node, and of another', async () => {
    const { data, peer } = await stopped(await silent())
    const running = await open(data, peer)
    expect(await sentenceOf(data)).toMatch(/in use by another process/)
    await running.close()
    await writeFile(join(data, 'trivet.pid'), `${process.pid}\n`)
    expect(await sentenceOf(data)).toMatch(/^A node runs on .* already, as process/)
    await rm(join(data, 'trivet.pid'))
    await rm(join(data, 'peer.key'))
    await loadPeerKey(data)
    expect(await sentenceOf(data)).toMatch(/belongs to node .*, not to/)
  })

  it('refuses while another member serves, or enough of them run to elect a leader', async () => {
    for (const ready of [true, false]) {
      const server = createServer((_, answer) => answer.writeHead(ready ? 200 : 503).end('{}'))
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      const [other] = await silent()
      const { data, peer } = await stopped([url, ready ? other : url])
      const { status, stderr } = await recover(data, '--force')
      expect(status).toBe(1)
      expect(stderr).toContain(
        ready
          ? `n2 at ${url} serves, so its cluster has a quorum: start this node`
          : `n2 at ${url}, n3 at ${url} run and are a quorum without this node`,
      )
      server.close()
      const storage = await open(data, peer)
      expect(storage.identity).toMatchObject({ founding: { clusterId: founding.clusterId } })
      await storage.close()
    }
  })
})
