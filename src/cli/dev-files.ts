// The files of `trivet dev`: made on the first start, found again on every other, and the ports looked at before.

import { randomBytes } from 'node:crypto'
import { mkdir, open, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { loadConfig } from '../node/config.ts'
import { loadPeerKey } from '../node/peer-key.ts'
import {
  adminVariable,
  clusterFile,
  type DevOptions,
  type DevPlan,
  listenVariable,
  planCluster,
  portsOf,
  readPlan,
} from './dev-plan.ts'
import { checkListening } from './ports.ts'
import { readIfThere } from './text-file.ts'

export type DevFiles = {
  readonly configPath: string
  readonly tokenPath: string
  /** Names the `trivet dev` that runs here. */
  readonly pidPath: string
}

export function filesIn(data: string): DevFiles {
  return {
    configPath: join(data, 'cluster.yml'),
    tokenPath: join(data, 'admin.token'),
    pidPath: join(data, 'dev.pid'),
  }
}

/** In the place of what the nodes will get in their environment. */
const stands = { [adminVariable]: '-'.repeat(43), [listenVariable]: '127.0.0.1:1' }

/** What shall run, and whether it has been made already. Touches nothing. Rejects with a sentence. */
export async function findPlan(
  options: DevOptions,
): Promise<{ readonly plan: DevPlan; readonly exists: boolean }> {
  const { configPath } = filesIn(options.data)
  const text = await readIfThere(configPath)
  if (text === undefined) return { plan: planCluster(options), exists: false }
  // Every mistake of somebody who edited the file is told here, once, and not by each node.
  loadConfig(configPath, { ...process.env, ...stands })
  return { plan: readPlan(text, configPath, options), exists: true }
}

/** Rejects with a sentence when one of the plan's ports cannot be listened on. Touches nothing. */
export async function checkPorts(plan: DevPlan, exists: boolean, options: DevOptions): Promise<void> {
  const { configPath } = filesIn(options.data)
  const there = `change it in ${configPath}`
  for (const { what, host, port, flag } of portsOf(plan, options.host)) {
    const ways = exists
      ? { port: there, host: there }
      : { port: `choose others with ${flag}`, host: 'choose another with --host' }
    await checkListening({ host, port }, what, ways)
  }
}

/**
 * Makes what is missing: the admin's token, the nodes' peer keys, and, last and all at once, cluster.yml, so that a first
 * start that was interrupted is simply done again. Returns the admin's secret.
 */
export async function makeFiles(plan: DevPlan, exists: boolean, options: DevOptions): Promise<string> {
  const { configPath, tokenPath } = filesIn(options.data)
  await mkdir(options.data, { recursive: true, mode: 0o700 })
  const present = (await readIfThere(tokenPath))?.trim()
  if (exists) {
    if (present !== undefined && present !== '') return present
    throw new Error(
      `${tokenPath} is missing, and with it the only copy of the admin's secret of this cluster: put it back, or choose another --data.`,
    )
  }
  const secret = present ?? `trv_${randomBytes(32).toString('base64url')}`
  if (present === undefined) await writeDurably(tokenPath, `${secret}\n`, 0o600)
  const peers: string[] = []
  for (const node of plan.nodes) peers.push((await loadPeerKey(node.data)).peer)
  await writeDurably(configPath, clusterFile(plan, options, peers), 0o644)
  return secret
}

async function writeDurably(path: string, text: string, mode: number): Promise<void> {
  const draft = `${path}.new`
  {
    await using file = await open(draft, 'w', mode)
    await file.writeFile(text)
    await file.sync()
  }
  await rename(draft, path)
  await using directory = await open(dirname(path), 'r')
  await directory.sync()
}
