// What is left: how fast the parts that a store of this kind is made of are by themselves, on the same machine in the same run.

import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { eventually, freePorts } from '../../test/integration/real-cluster.ts'
import type { Bench, Group } from '../bench.ts'
import { exchange } from '../systems/http.ts'
import { output, removeDirectory, Server, temporaryDirectory } from '../systems/processes.ts'

/** They compare with nothing but themselves, so that a few rounds will do. */
const mostRounds = 3

const script = (name: string) => join(import.meta.dirname, `../ceilings/${name}.ts`)

async function stop(server: Server): Promise<void> {
  server.signal('SIGKILL')
  await server.ended
}

async function measureServer(bench: Bench, directory: string, kind: 'node:http' | 'fastify'): Promise<void> {
  const port = await freePorts(1)
  const server = new Server(
    { command: process.execPath, args: [script('serve'), kind, String(port)] },
    join(directory, 'serve.output'),
  )
  const url = `http://127.0.0.1:${port}`
  const put = {
    method: 'PUT',
    path: '/keys/a',
    headers: { 'content-type': 'application/octet-stream' },
    body: randomBytes(256),
  } as const
  const get = { method: 'GET', path: '/keys/a', headers: {} } as const
  try {
    await eventually(`${kind} to answer`, () =>
      exchange(url, get).then(
        () => true,
        () => undefined,
      ),
    )
    for (const request of [put, get]) {
      for (const connections of [64, 256]) {
        const load = { urls: [url], exchanges: [request], connections, seconds: bench.seconds }
        const { requests, seconds, p50, p99, p999, failed } = await bench.tool.run(load)
        bench.record({
          group: 'ceilings',
          scenario: `HTTP, ${request.method}, ${connections} connections`,
          system: kind,
          figures: { perSecond: requests / seconds, p50, p99, p999, failed },
        })
      }
    }
  } finally {
    await stop(server)
  }
}

async function measureDisk(bench: Bench, directory: string): Promise<void> {
  const args = [script('disk'), directory, String(bench.seconds)]
  const found: Record<string, number> = JSON.parse(await output({ command: process.execPath, args }))
  for (const [scenario, perSecond] of Object.entries(found)) {
    bench.record({ group: 'ceilings', scenario, system: 'the disk', figures: { perSecond } })
  }
}

async function measureEcho(bench: Bench, directory: string): Promise<void> {
  const port = String(await freePorts(1))
  const path = join(directory, 'echo.output')
  const server = new Server({ command: process.execPath, args: [script('echo'), 'serve', port] }, path)
  try {
    const peer = await eventually('the echo to listen', async () => {
      if (server.death !== undefined) throw new Error(`the echo ended: ${await server.lastWords()}`)
      const [, id] = /^(12D\w+)\n/m.exec(await readFile(path, 'utf8')) ?? []
      return id
    })
    const args = [script('echo'), 'ask', port, peer, String(bench.seconds)]
    const found: { underWay: number; perSecond: number; p50: number; p99: number }[] = JSON.parse(
      await output({ command: process.execPath, args }),
    )
    for (const { underWay, ...figures } of found) {
      bench.record({
        group: 'ceilings',
        scenario: `echo of 256 bytes, ${underWay} under way`,
        system: 'libp2p (TCP, noise, yamux)',
        figures,
      })
    }
  } finally {
    await stop(server)
  }
}

export const ceilings: Group = {
  name: 'ceilings',
  title: 'The parts by themselves',
  run: async (bench) => {
    for (let round = 0; round < Math.min(mostRounds, bench.rounds); round++) {
      const directory = temporaryDirectory()
      await measureServer(bench, directory, 'node:http')
      await measureServer(bench, directory, 'fastify')
      await measureDisk(bench, directory)
      await measureEcho(bench, directory)
      removeDirectory(directory)
    }
  },
}
