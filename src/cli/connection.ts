// Which cluster a command talks to, and as whom: flags, environment, or the cluster that runs in this directory.

import { join } from 'node:path'
import { parse } from 'yaml'

import { nodePidPath, runningPid } from './pid-file.ts'
import { readIfThere } from './text-file.ts'

export type ConnectionOptions = {
  /** From `--endpoint`, in order. */
  readonly endpoint?: readonly string[]
  readonly tokenFile?: string
  readonly timeout: string
}

/** The data directory of `trivet dev`, where commands look when they are told nothing. */
export const defaultData = './data'

/** Where a command goes, and as whom. */
export type Connection = {
  readonly endpoints: readonly string[]
  readonly token: string
  /** A duration. */
  readonly timeout: string
}

/** Where what the command was told leads. Rejects with a sentence that says what is missing. */
export async function findConnection(
  options: ConnectionOptions,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Connection> {
  const named = options.endpoint ?? splitList(environment['TRIVET_ENDPOINTS'])
  const endpoints = named.length > 0 ? named : await runningEndpoints(defaultData)
  const token = await findToken(options, environment)
  return { endpoints, token, timeout: options.timeout }
}

function splitList(text: string | undefined): readonly string[] {
  return (text ?? '').split(/[\s,]+/).filter((item) => item !== '')
}

async function findToken(
  options: ConnectionOptions,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  const given = environment['TRIVET_TOKEN']
  if (given !== undefined && given !== '') return given
  const path = options.tokenFile ?? join(defaultData, 'admin.token')
  const text = await readIfThere(path)
  const token = text?.trim()
  if (token === undefined || token === '') {
    throw new Error(
      text === undefined && options.tokenFile === undefined
        ? `No token: set TRIVET_TOKEN, give --token-file, or run this where ${path} lies.`
        : `The token file ${path} ${text === undefined ? 'does not exist' : 'is empty'}.`,
    )
  }
  return token
}

/** The HTTP addresses of the cluster that `trivet dev` runs on this data directory. */
async function runningEndpoints(data: string): Promise<readonly string[]> {
  const path = join(data, 'cluster.yml')
  const text = await readIfThere(path)
  const nodes = text === undefined ? {} : nodesOf(text, path)
  const pids = await Promise.all(Object.keys(nodes).map((id) => runningPid(nodePidPath(join(data, id)))))
  if (pids.every((pid) => pid === undefined)) {
    throw new Error(
      `No cluster runs under ${data}: start one with "trivet dev", or give --endpoint or TRIVET_ENDPOINTS.`,
    )
  }
  return Object.values(nodes)
}

function nodesOf(text: string, path: string): Readonly<Record<string, string>> {
  const { nodes } = Object(parsed(text, path)) as { nodes?: unknown }
  const found: Record<string, string> = {}
  for (const [id, node] of Object.entries(Object(nodes))) {
    const { http } = Object(node) as { http?: unknown }
    if (typeof http === 'string') found[id] = http
  }
  return found
}

function parsed(text: string, path: string): unknown {
  try {
    return parse(text)
  } catch (cause) {
    throw new Error(`${path} is no YAML: mend it, or give --endpoint or TRIVET_ENDPOINTS.`, { cause })
  }
}
