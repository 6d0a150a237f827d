// Trivet as an operator runs it: one process of the built command per node, from a cluster.yml.

import { readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { makeFiles } from '../../src/cli/dev-files.ts'
import { type DevOptions, environmentOf, planCluster } from '../../src/cli/dev-plan.ts'
import { version } from '../../src/version.ts'
import { freePorts } from '../../test/integration/real-cluster.ts'
import type { Engine, Exchange, Layout } from './engine.ts'
import { exchange } from './http.ts'
import { output } from './processes.ts'

const root = join(import.meta.dirname, '../..')
const host = '127.0.0.1'

/** This checkout, built first if anything in it is newer than what was built. */
export async function thisTrivet(): Promise<Engine> {
  const built = await newest(join(root, 'dist'))
  if (built === undefined || built < ((await newest(join(root, 'src'))) ?? 0)) {
    console.error('building dist/ first')
    await output({ command: 'npm', args: ['--prefix', root, 'run', 'build'] })
  }
  return trivetIn(root, 'Trivet', version)
}

/** Another checkout, whose `dist` must be there. */
export async function trivetAt(directory: string): Promise<Engine> {
  const path = resolve(directory)
  if ((await newest(join(path, 'dist/cli'))) === undefined) {
    throw new Error(`There is no dist/cli in ${path}: run "npm run build" there first.`)
  }
  return trivetIn(path, 'Trivet (other)', path)
}

/** When the newest file below was written; undefined where there is none. */
async function newest(directory: string): Promise<number | undefined> {
  const names = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = names.filter((entry) => entry.isFile())
  if (files.length === 0) return undefined
  const times = await Promise.all(files.map(({ parentPath, name }) => stat(join(parentPath, name))))
  return Math.max(...times.map(({ mtimeMs }) => mtimeMs))
}

function trivetIn(checkout: string, name: string, says: string): Engine {
  return {
    name,
    clientName: name.replace('Trivet', "Trivet's SDK"),
    version: says,
    layOut: (directory, nodes) => layOut(checkout, directory, nodes),
  }
}

async function layOut(checkout: string, directory: string, nodes: number): Promise<Layout> {
  const base = await freePorts(nodes * 2)
  const options: DevOptions = {
    nodes,
    data: directory,
    httpPort: base,
    p2pPort: base + nodes,
    host,
    given: new Set(),
  }
  const plan = planCluster(options)
  const token = await makeFiles(plan, false, options)
  const authorization = `Bearer ${token}`
  const get = (path: string): Exchange => ({ method: 'GET', path, headers: { authorization } })
  const bytes = { authorization, 'content-type': 'application/octet-stream' }
  const main = join(checkout, 'dist/cli/main.js')
  const config = join(directory, 'cluster.yml')
  return {
    nodes: plan.nodes.map((node) => ({
      id: node.id,
      url: node.http,
      start: {
        command: process.execPath,
        args: [main, 'start', '--config', config, '--node', node.id, '--data', node.data],
        environment: environmentOf(plan, node, host, token),
      },
    })),
    isReady: async (url) => (await exchange(url, get('/readyz'), { timeoutMs: 1000 })).status === 200,
    leader: async (url) => {
      const { leader }: { leader?: string } = JSON.parse((await exchange(url, get('/v1/cluster'))).body)
      return leader
    },
    snapshotsTaken: async (url) => {
      const { body } = await exchange(url, get('/metrics'))
      return Number(/^trivet_snapshots_installed_total(?:\{.*\})? (\d+)/m.exec(body)?.[1] ?? 0)
    },
    put: (key, value) => ({ method: 'PUT', path: keyPath(key), headers: bytes, body: value }),
    get: (key) => get(keyPath(key)),
    watch: (key) => get(`/v1/stores/default/watch?key=${key}`),
    putMany: (pairs) => ({
      method: 'POST',
      path: '/v1/batch',
      headers: { authorization, 'content-type': 'application/json' },
      body: Buffer.from(
        JSON.stringify({
          operations: pairs.map(([key, value]) => ({
            op: 'set',
            store: 'default',
            key,
            value: value.toString('base64'),
          })),
        }),
      ),
    }),
    // It counts bytes.
    togetherBeyondLog: 100,
    tookAll: (body) => {
      const { results }: { results: { status: number }[] } = JSON.parse(body)
      return results.every(({ status }) => status === 200 || status === 201)
    },
    client: (endpoints) => ({ type: 'trivet', sdk: join(checkout, 'dist/sdk/index.js'), endpoints, token }),
  }
}

function keyPath(key: string): string {
  return `/v1/stores/default/keys/${key}`
}
