// etcd as Debian packages it, with what it does by default, spoken to through its HTTP gateway.
//
// Two of its limits are raised, because they would end a measurement rather than slow it: the size of its database, which keeps
// every revision until somebody compacts it, and the size of a request, for values of a mebibyte.

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { freePorts } from '../../test/integration/real-cluster.ts'
import type { Engine, Exchange, Layout } from './engine.ts'
import { exchange } from './http.ts'
import { ifInstalled } from './processes.ts'

const raised = [`--quota-backend-bytes=${8 * 2 ** 30}`, `--max-request-bytes=${4 * 2 ** 20}`]

/** The etcd on the PATH; undefined where there is none. */
export async function installedEtcd(): Promise<Engine | undefined> {
  const said = await ifInstalled({ command: 'etcd', args: ['--version'] })
  if (said === undefined) return undefined
  const [, version] = /etcd Version: (\S+)/.exec(said) ?? []
  return { name: 'etcd', clientName: 'etcd3', version: `${version}, with ${raised.join(' ')}`, layOut }
}

async function layOut(directory: string, count: number): Promise<Layout> {
  const base = await freePorts(count * 2)
  const members = Array.from({ length: count }, (_, at) => ({
    id: `n${at + 1}`,
    url: `http://127.0.0.1:${base + at}`,
    peer: `http://127.0.0.1:${base + count + at}`,
  }))
  const initial = members.map(({ id, peer }) => `${id}=${peer}`).join(',')
  await mkdir(directory, { recursive: true })
  const leader = async (url: string): Promise<string | undefined> => {
    const { body } = await exchange(url, post('/v3/maintenance/status', {}))
    const { leader: leads }: { leader?: string } = JSON.parse(body)
    if (leads === undefined || leads === '0') return undefined
    const listed: { members?: { ID: string; name: string }[] } = JSON.parse(
      (await exchange(url, post('/v3/cluster/member/list', {}))).body,
    )
    return listed.members?.find(({ ID }) => ID === leads)?.name
  }
  return {
    nodes: members.map(({ id, url, peer }) => ({
      id,
      url,
      start: {
        command: 'etcd',
        args: [
          `--name=${id}`,
          `--data-dir=${join(directory, id)}`,
          `--listen-client-urls=${url}`,
          `--advertise-client-urls=${url}`,
          `--listen-peer-urls=${peer}`,
          `--initial-advertise-peer-urls=${peer}`,
          `--initial-cluster=${initial}`,
          '--initial-cluster-state=new',
          '--logger=zap',
          '--log-level=error',
          ...raised,
        ],
      },
    })),
    isReady: async (url) => {
      const { status, body } = await exchange(
        url,
        { method: 'GET', path: '/health', headers: {} },
        { timeoutMs: 1000 },
      )
      return status === 200 && String(Object(JSON.parse(body)).health) === 'true'
    },
    leader,
    snapshotsTaken: async (url) => {
      const { body } = await exchange(url, { method: 'GET', path: '/metrics', headers: {} })
      const found = body.matchAll(/^etcd_network_snapshot_receive_success\{.*\} (\d+)/gm)
      return [...found].reduce((sum, [, number]) => sum + Number(number), 0)
    },
    put: (key, value) => post('/v3/kv/put', { key: base64(key), value: value.toString('base64') }),
    get: (key) => post('/v3/kv/range', { key: base64(key) }),
    watch: (key) => post('/v3/watch', { create_request: { key: base64(key) } }),
    putMany: (pairs) =>
      post('/v3/kv/txn', {
        success: pairs.map(([key, value]) => ({
          request_put: { key: base64(key), value: value.toString('base64') },
        })),
      }),
    // It sends a snapshot to whom about 100,000 entries are missing, and a transaction is an entry.
    togetherBeyondLog: 4,
    tookAll: (body) => Object(JSON.parse(body)).succeeded === true,
    client: (endpoints) => ({ type: 'etcd3', endpoints }),
  }
}

function post(path: string, body: object): Exchange {
  return {
    method: 'POST',
    path,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify(body)),
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}
