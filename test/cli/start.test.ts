// `trivet start` on surroundings that cannot hold a node: one sentence, exit status 1, nothing touched.

import { once } from 'node:events'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { generatePeerKey, loadPeerKey } from '../../src/node/peer-key.ts'
import { freePort } from '../node/free-port.ts'
import { type Finished, temporaryDirectory, trivet } from './run.ts'

type Place = {
  readonly directory: string
  readonly data: string
  readonly http: number
  readonly p2p: number
}

/** A configuration of one node, and its data directory with its key in it. */
async function place(options: { readonly scheme?: string; readonly more?: string } = {}): Promise<Place> {
  const { scheme = 'http', more = '' } = options
  const directory = await temporaryDirectory()
  const data = join(directory, 'n1')
  const { peer } = await loadPeerKey(data)
  const [http, p2p] = [await freePort(), await freePort()]
  await writeFile(
    join(directory, 'cluster.yml'),
    `cluster: test\nnodes:\n  n1:\n    http: ${scheme}://127.0.0.1:${http}\n    p2p: /ip4/127.0.0.1/tcp/${p2p}\n    peer: ${peer}\n    data: ./n1\n${more}`,
  )
  return { directory, data, http, p2p }
}

function start({ directory }: Place, ...more: readonly string[]): Promise<Finished> {
  return trivet(['start', '--config', 'cluster.yml', '--node', 'n1', ...more], { cwd: directory })
}

/** One sentence on standard error, and nothing else anywhere. */
function expectRefusal(finished: Finished, sentence: RegExp): void {
  expect(finished).toMatchObject({ status: 1, stdout: Buffer.alloc(0) })
  expect(finished.stderr).toMatch(sentence)
  expect(finished.stderr.trim()).not.toContain('\n')
}

describe('a start is refused before anything is touched', () => {
  it('when one of its ports is taken', async () => {
    for (const name of ['http', 'p2p'] as const) {
      const at = await place()
      const holder = createServer().listen(at[name], '127.0.0.1')
      await once(holder, 'listening')
      const what = name === 'http' ? 'HTTP' : 'libp2p'
      expectRefusal(
        await start(at),
        new RegExp(
          `^Port ${at[name]} on 127.0.0.1 is in use, and the ${what} of n1 needs it: .* in cluster.yml\\.`,
        ),
      )
      expect(await readdir(at.data)).toEqual(['peer.key'])
      holder.close()
    }
  })

  it('when its data directory has no key, or another node’s', async () => {
    const at = await place()
    expectRefusal(await start(at, '--data', 'empty'), /^There is no peer key in empty, but cluster.yml names/)
    expect(await readdir(at.directory)).not.toContain('empty')
    await loadPeerKey(join(at.directory, 'n2'))
    expectRefusal(await start(at, '--data', 'n2'), /Is this the data directory of another node\?$/m)
    expect(await readdir(join(at.directory, 'n2'))).toEqual(['peer.key'])
  })

  it('when its data directory is a file', async () => {
    const at = await place()
    await writeFile(join(at.directory, 'file'), '')
    expectRefusal(
      await start(at, '--data', 'file'),
      /^file\/trivet\.pid cannot be used: a part of its path is a file, not a directory/,
    )
  })

  it('when certificate and key do not fit together', async () => {
    const tls = join(import.meta.dirname, '../api/tls')
    const more = `tls: { cert: ${join(tls, 'first.crt')}, key: ${join(tls, 'second.key')} }\n`
    const at = await place({ scheme: 'https', more })
    expectRefusal(await start(at), /^The TLS files .*first\.crt and .*second\.key do not fit together: /)
    expect(await readdir(at.data)).toEqual(['peer.key'])
  })

  it('when it is to found the cluster without itself, or without a node that is none', async () => {
    const at = await place()
    expectRefusal(
      await start(at, '--found-without', 'n1'),
      /^The cluster cannot be founded without n1: that is this very node\.$/m,
    )
    expectRefusal(
      await start(at, '--found-without', 'n9'),
      /^The cluster cannot be founded without n9: \/.*\/cluster\.yml has no such node; its nodes are n1\.$/m,
    )
    expect(await readdir(at.data)).toEqual(['peer.key'])
  })

  it('when the configuration has no such node, or is none', async () => {
    const at = await place()
    const other = await trivet(['start', '--config', 'cluster.yml', '--node', 'n7'], { cwd: at.directory })
    expectRefusal(other, /^\/.*\/cluster\.yml has no node n7; its nodes are n1\.$/m)
    const peer = await generatePeerKey()
    const text = await readFile(join(at.directory, 'cluster.yml'), 'utf8')
    await writeFile(
      join(at.directory, 'cluster.yml'),
      `${text.replace(/peer: .*/, `peer: ${peer.peer}`)}limit: {}\nraft: { heartbeat: 1s }\n`,
    )
    const { status, stderr } = await start(at)
    expect(status).toBe(1)
    expect(stderr.trim().split('\n')).toEqual([
      'limit: unknown; did you mean limits? (cluster.yml:8)',
      'raft.heartbeat: expected an election timeout of at least 5 heartbeats, found 1000ms with a heartbeat of 1000ms (cluster.yml:9)',
    ])
    expect(await readdir(at.data)).toEqual(['peer.key'])
  })
})
