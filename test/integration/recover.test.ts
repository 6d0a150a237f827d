// A cluster whose quorum is gone, with real processes: recovered from one node, and grown again from emptied ones.

import { readFile, rm, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { filesIn } from '../../src/cli/dev-files.ts'
import { loadPeerKey, peerKeyPath, readPeerKey } from '../../src/node/peer-key.ts'
import { trivet } from '../cli/run.ts'
import { eventually, RealCluster } from './real-cluster.ts'

test('one node of three goes on with all data and tokens, and emptied ones join it', async () => {
  await using cluster = await RealCluster.start()
  const put = (id: string, key: string, body: string) =>
    cluster.fetch(id, `/v1/stores/default/keys/${key}`, { method: 'PUT', body })
  const get = async (id: string, key: string) =>
    (await cluster.fetch(id, `/v1/stores/default/keys/${key}`)).text()
  for (let at = 0; at < 50; at++) expect((await put('n2', `k${at}`, `v${at}`)).status).toBe(201)
  const { id: former, revision } = await cluster.cluster('n1')
  expect(await get('n1', 'k49')).toBe('v49')

  const { data } = cluster.node('n1')
  const recover = (...flags: readonly string[]) => trivet(['recover', '--data', data, ...flags])
  expect((await recover('--force')).stderr).toContain('A node runs on')
  await cluster.kill('n1')
  await cluster.leader(['n2', 'n3'])
  await cluster.ready(['n2', 'n3'])
  expect((await recover('--force')).stderr).toContain('serves, so its cluster has a quorum')

  await cluster.kill('n2', 'n3')
  expect((await recover()).status).toBe(1)
  const recovered = await recover('--force')
  expect(recovered).toMatchObject({ status: 0, stderr: '' })
  cluster.spawn('n1')
  await cluster.ready(['n1'])
  const now = await cluster.cluster('n1')
  expect(now.id).not.toBe(former)
  expect(now.members.map(({ id }) => id)).toEqual(['n1'])
  expect(now.revision).toBeGreaterThan(revision + 999_999_999)
  for (let at = 0; at < 50; at++) expect(await get('n1', `k${at}`)).toBe(`v${at}`)
  expect((await put('n1', 'after', 'recovery')).status).toBe(201)

  // One of the old members as it was finds nobody who takes it, and does not serve.
  cluster.spawn('n2')
  await eventually('n2 to be refused', async () =>
    /refused/.test(await cluster.log('n2')) ? true : undefined,
  )
  expect(await cluster.status(`${cluster.url('n2')}/readyz`)).toBe(503)
  expect((await cluster.cluster('n1')).leader).toBe('n1')
  await cluster.kill('n2')

  // Emptied and with a key of its own it joins as a new one.
  const { data: second, http, p2p } = cluster.node('n2')
  const formerPeer = (await readPeerKey(peerKeyPath(second)))?.peer ?? ''
  await rm(second, { recursive: true })
  const { peer } = await loadPeerKey(second)
  const { configPath } = filesIn(cluster.directory)
  await writeFile(configPath, (await readFile(configPath, 'utf8')).replaceAll(formerPeer, peer))
  cluster.spawn('n2')
  const added = await cluster.fetch('n1', '/v1/cluster/members', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ id: 'n2', peer, http, p2p }),
  })
  expect(added.status, await added.text()).toBeLessThan(300)
  await cluster.ready(['n2'])
  expect(await get('n2', 'after')).toBe('recovery')
  expect((await cluster.cluster('n2')).id).toBe(now.id)
})
