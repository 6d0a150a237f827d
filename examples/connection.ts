// Where the examples find their cluster: the environment, or what `npm start` left under ./data.

import { readFile } from 'node:fs/promises'

import { type Client, connect } from '../src/sdk/index.ts'

/** A client for TRIVET_ENDPOINTS and TRIVET_TOKEN; without them, for the cluster that `npm start` runs. */
export async function connectHere(): Promise<Client> {
  const { TRIVET_ENDPOINTS: endpoints, TRIVET_TOKEN: token } = process.env
  return connect({
    endpoints: endpoints?.split(',') ?? [
      'http://127.0.0.1:7001',
      'http://127.0.0.1:7002',
      'http://127.0.0.1:7003',
    ],
    token: token ?? (await readFile('data/admin.token', 'utf8')).trim(),
  })
}
