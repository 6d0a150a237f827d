// Three nodes become five and then three others, under load, and no client whose first endpoints all vanish notices.

import { expect, it } from 'vitest'
import { TrivetError } from '../../src/errors.ts'
import { readPeerKey } from '../../src/node/peer-key.ts'
import { eventually, RealCluster } from './real-cluster.ts'

/** For each step: a machine that does much else starts a process in more than a few. */
const seconds = 60

it('replaces every member of a cluster, one change after another, and fails no request through the SDK', async () => {
  await using cluster = await RealCluster.create({ nodes: 6 })
  const [n1, n2, n3, n4, n5, n6] = ['n1', 'n2', 'n3', 'n4', 'n5', 'n6'] as const
  for (const id of [n1, n2, n3])
    cluster.spawn(id, ...[n4, n5, n6].flatMap((other) => ['--found-without', other]))
  await cluster.ready([n1, n2, n3], seconds)
  await using admin = cluster.client({ endpoints: [cluster.url(n1)], discover: true })

  const stop = new AbortController()
  const failures: string[] = []
  let increments = 0
  let others = 0
  const watched = async (what: string, run: () => Promise<void>): Promise<void> => {
    while (!stop.signal.aborted) {
      try {
        await run()
      } catch (error) {
        failures.push(
          `${what}: ${error instanceof TrivetError ? `${error.code}: ${error.detail}` : String(error)}`,
        )
      }
    }
  }
  // Each begins at another of the nodes that will all be gone, two of them killed before.
  const clients = [n1, n2, n3].map((id) => cluster.client({ endpoints: [cluster.url(id)], discover: true }))
  const running: Promise<void>[] = []
  for (const [at, client] of clients.entries()) {
    const store = await client.open('default')
    running.push(
      watched('count', async () => {
        const entry = await store.getEntry('counter')
        const next = String(Number(entry === undefined ? 0 : new TextDecoder().decode(entry.value)) + 1)
        try {
          await store.set(
            'counter',
            next,
            entry === undefined ? { ifAbsent: true } : { ifRevision: entry.revision },
          )
          increments++
        } catch (error) {
          if (!(error instanceof TrivetError && error.code === 'condition-failed')) throw error
        }
      }),
      watched('set', async () => {
        await store.set(`key-${at}`, 'x'.repeat(256))
        others++
      }),
      watched('get', async () => {
        await store.get(`key-${at}`)
        others++
      }),
    )
  }
  const moving = async () => {
    const before = increments
    await eventually('the counter to move', () => (increments > before + 20 ? true : undefined), seconds)
  }

  const grow = async (id: string) => {
    cluster.spawn(id)
    await eventually(
      `${id} to say what helps`,
      () => (cluster.output(id).includes(`trivet member add ${id} --http`) ? true : undefined),
      seconds,
    )
    const { http, p2p, data } = cluster.node(id)
    const peer = (await readPeerKey(`${data}/peer.key`))?.peer ?? ''
    await admin.addMember({ id, http, p2p, peer })
    await eventually(
      `${id} to vote`,
      async () => {
        const { members } = await admin.cluster()
        return members.find((member) => member.id === id)?.voter === true ? true : undefined
      },
      seconds,
    )
    await cluster.ready([id], seconds)
  }
  const shrink = async (id: string) => {
    await admin.removeMember(id)
    expect((await admin.cluster()).members.map((member) => member.id)).not.toContain(id)
    cluster.signal(id, 'SIGTERM')
    await cluster.ended(id)
    expect(cluster.exitCode(id), cluster.output(id)).toBe(0)
  }

  await moving()
  await grow(n4)
  await cluster.kill(n2)
  await grow(n5)
  await shrink(n3)
  cluster.spawn(n2)
  await cluster.ready([n2], seconds)
  await moving()
  await grow(n6)
  await shrink(n2)
  const leader = await cluster.leader([n1, n4, n5, n6])
  if (leader !== n1) {
    await cluster.kill(leader)
    await moving()
    cluster.spawn(leader)
    await cluster.ready([leader], seconds)
  }
  await shrink(n1)
  await moving()
  stop.abort()
  await Promise.all(running)
  process.stdout.write(`new members: ${increments} increments, ${others} sets and gets\n`)

  expect(failures).toEqual([])
  const { members } = await admin.cluster()
  expect(members.map(({ id, voter }) => [id, voter])).toEqual([
    [n4, true],
    [n5, true],
    [n6, true],
  ])
  const store = await admin.open('default')
  expect(Number(await store.getText('counter'))).toBe(increments)
  for (const client of clients) await client.close()
}, 300_000)
