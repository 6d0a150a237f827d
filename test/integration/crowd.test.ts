// A crowd at the HTTP door: ten thousand clients that say nothing more, and some that never read, and whoever works beside them.

import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { expect, it } from 'vitest'
import { eventually, RealCluster } from './real-cluster.ts'

/** Megabytes that a node's process holds in memory. */
async function resident(cluster: RealCluster, id: string): Promise<number> {
  const [, pages] = (await readFile(`/proc/${cluster.pid(id)}/statm`, 'utf8')).split(' ')
  return (Number(pages) * 4096) / 1e6
}

async function figure(cluster: RealCluster, id: string, name: string): Promise<number> {
  const text = await (await cluster.fetch(id, '/metrics')).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}

/** Writes and reads keys one after the other; the milliseconds each took, in order of size. */
async function work(cluster: RealCluster, id: string, times: number): Promise<readonly number[]> {
  const took: number[] = []
  for (let at = 0; at < times; at++) {
    const path = `/v1/stores/default/keys/worked-${at}`
    const begun = performance.now()
    const put = await cluster.fetch(id, path, { method: 'PUT', body: `value ${at}` })
    expect(put.status).toBe(201)
    await put.arrayBuffer()
    const got = await cluster.fetch(id, path)
    expect(await got.text()).toBe(`value ${at}`)
    await (await cluster.fetch(id, path, { method: 'DELETE' })).arrayBuffer()
    took.push(performance.now() - begun)
  }
  return took.sort((a, b) => a - b)
}

function median(sorted: readonly number[]): number {
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

/** A client that has asked once, was answered, and keeps its connection. */
async function idler(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n')
  await once(socket, 'data')
  return socket
}

it('ten thousand idle connections cost those who work nothing they notice', async () => {
  await using cluster = await RealCluster.start({ nodes: 1 })
  const port = Number(new URL(cluster.url('n1')).port)
  await work(cluster, 'n1', 50)
  const alone = await work(cluster, 'n1', 100)
  const before = await resident(cluster, 'n1')
  const crowd: Socket[] = []
  try {
    while (crowd.length < 10_000) {
      crowd.push(...(await Promise.all(Array.from({ length: 250 }, () => idler(port)))))
    }
    expect(await figure(cluster, 'n1', 'trivet_http_connections')).toBeGreaterThanOrEqual(10_000)
    const crowded = await work(cluster, 'n1', 100)
    expect(await resident(cluster, 'n1')).toBeLessThan(before + 600)
    expect(median(crowded)).toBeLessThan(3 * median(alone) + 20)
    expect(crowded.at(-5)).toBeLessThan(1000)
    expect(await cluster.status(`${cluster.url('n1')}/readyz`)).toBe(200)
  } finally {
    for (const socket of crowd) socket.destroy()
  }
  await eventually('the node to have let go of them', async () =>
    (await figure(cluster, 'n1', 'trivet_http_connections')) < 100 ? true : undefined,
  )
})

it('clients that ask and never read hold a bounded memory, and nobody else waits for them', async () => {
  await using cluster = await RealCluster.start({ nodes: 1 })
  const port = Number(new URL(cluster.url('n1')).port)
  const large = '/v1/stores/default/keys/large'
  const put = await cluster.fetch('n1', large, { method: 'PUT', body: new Uint8Array(4_000_000) })
  expect(put.status).toBe(201)
  await work(cluster, 'n1', 50)
  const alone = await work(cluster, 'n1', 100)
  const before = await resident(cluster, 'n1')
  const asked = `GET ${large} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${cluster.token}\r\n\r\n`
  const deaf = Array.from({ length: 20 }, () => {
    const socket = connect(port, '127.0.0.1').pause()
    socket.on('error', () => {})
    // Four gigabytes, were they all answered at once.
    socket.write(asked.repeat(50))
    return socket
  })
  try {
    await Promise.all(deaf.map((socket) => once(socket, 'connect')))
    const beside = await work(cluster, 'n1', 200)
    expect(median(beside)).toBeLessThan(3 * median(alone) + 20)
    expect(await resident(cluster, 'n1')).toBeLessThan(before + 600)
    expect(await cluster.status(`${cluster.url('n1')}/livez`)).toBe(200)
  } finally {
    for (const socket of deaf) socket.destroy()
  }
  expect(cluster.exitCode('n1')).toBeNull()
  expect(await cluster.log('n1')).not.toMatch(/"level":[56]0/)
})
