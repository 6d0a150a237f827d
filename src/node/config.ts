// The configuration file, `cluster.yml`: read whole, every mistake reported at once, and everything resolved before anything starts.

import { isUtf8 } from 'node:buffer'
import { accessSync, closeSync, constants, openSync, readSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

import type { StoreDefinition, Token } from '../store/types.ts'
import { type MattermostConfig, readMattermost } from './config-mattermost.ts'
import { readNodes } from './config-nodes.ts'
import { ConfigReader, type Place } from './config-reader.ts'
import { readStores, readTokens } from './config-stores.ts'
import { isTitle, maxKeyBytes, maxValueBytes } from './names.ts'

/** One node of the file, everything filled in. */
export type NodeConfig = {
  readonly id: string
  /** Where others reach it: `http://127.0.0.1:7001`, without a path. */
  readonly http: string
  /** Where peers reach it: a multiaddr. */
  readonly p2p: string
  /** Its peer id. */
  readonly peer: string
  /** Its data directory, absolute. */
  readonly data: string
  /** Where it listens. */
  readonly listen: { readonly http: { readonly host: string; readonly port: number }; readonly p2p: string }
}

/** What `cluster.yml` says, checked, with every default filled in. Times are milliseconds. Holds no secret. */
export type ClusterConfig = {
  /** The file this came from, absolute. */
  readonly path: string
  readonly cluster: string
  readonly nodes: readonly NodeConfig[]
  /** Absolute paths of PEM files. */
  readonly tls: { readonly cert: string; readonly key: string } | undefined
  readonly http: {
    readonly insecureBeyondLoopback: boolean
    readonly trustProxy: boolean
    /** How long a stopping node says so before it closes its door. */
    readonly shutdownDelay: number
    /** Of which origins pages in browsers may call: `https://app.example.com`. */
    readonly cors: { readonly origins: readonly string[] }
    /** Metrics and the page of the API need no token on this machine. */
    readonly openToLoopback: boolean
  }
  /** `default` is always among them. */
  readonly stores: readonly StoreDefinition[]
  readonly tokens: readonly Token[]
  readonly limits: {
    readonly keyBytes: number
    readonly valueBytes: number
    /** Of a batch or transaction. */
    readonly bodyBytes: number
  }
  readonly raft: { readonly heartbeat: number; readonly election: number }
  readonly mattermost: MattermostConfig
}

/** Everything that is wrong with the file. Its message is one line for each mistake. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly mistakes: readonly string[]

  constructor(mistakes: readonly string[]) {
    super(mistakes.join('\n'))
    this.mistakes = mistakes
  }
}

/** A file above this is no configuration. */
const maxFileBytes = 1_024 * 1_024

const defaults = {
  valueBytes: 4 * 1_024 * 1_024,
  bodyBytes: 8 * 1_024 * 1_024,
  heartbeat: 100,
  election: 1_000,
  shutdownDelay: 1_000,
} as const

/** The election timeout must leave room for this many heartbeats, or a lost packet or two ends a leadership. */
const heartbeatsPerElection = 5

/**
 * Reads and checks a `cluster.yml`. `${NAME}` in a value stands for that variable of `env`. Relative paths in the file
 * are relative to the file. Throws `ConfigError` with every mistake there is.
 */
export function loadConfig(path: string, env: Readonly<Record<string, string | undefined>>): ClusterConfig {
  const reader = new ConfigReader(path, readSource(path), env)
  if (!reader.isYaml) throw new ConfigError(reader.mistakes)
  if (!reader.isPresent(reader.root)) throw new ConfigError([`${path} is empty`])
  const config = readConfig(reader, resolve(path))
  if (config === undefined || reader.mistakes.length > 0) throw new ConfigError(reader.mistakes)
  return config
}

function readSource(path: string): string {
  try {
    const bytes = readAtMost(path, maxFileBytes + 1)
    if (bytes.length > maxFileBytes) throw new ConfigError([`${path} is larger than ${maxFileBytes} bytes`])
    if (!isUtf8(bytes)) throw new ConfigError([`${path} is no text in UTF-8`])
    return bytes.toString('utf8')
  } catch (error) {
    if (error instanceof ConfigError) throw error
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOENT') throw new ConfigError([`${path} does not exist`])
    throw new ConfigError([
      `${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
    ])
  }
}

/** Not by its size: a pipe, as shells make one for `<(command)`, has none. */
function readAtMost(path: string, most: number): Buffer {
  const file = openSync(path, 'r')
  try {
    const bytes = Buffer.alloc(most)
    let length = 0
    for (;;) {
      const read = readSync(file, bytes, length, most - length, null)
      length += read
      if (read === 0 || length === most) return bytes.subarray(0, length)
    }
  } finally {
    closeSync(file)
  }
}

function readConfig(reader: ConfigReader, path: string): ClusterConfig | undefined {
  const directory = dirname(path)
  const fields = reader.fields(reader.root, [
    'cluster',
    'nodes',
    'listen',
    'tls',
    'http',
    'stores',
    'tokens',
    'limits',
    'raft',
    'mattermost',
  ])
  if (fields === undefined) return undefined
  const cluster = reader.text(fields.cluster, {
    expected: 'a name of 1 to 63 printable characters',
    test: isTitle,
  })
  const tls = readTls(reader, fields.tls, directory)
  const http = readHttp(reader, fields.http)
  const nodes = readNodes(reader, {
    nodes: fields.nodes,
    listen: fields.listen,
    directory,
    hasTls: reader.isPresent(fields.tls),
    insecureBeyondLoopback: http.insecureBeyondLoopback,
  })
  const limits = readLimits(reader, fields.limits)
  const stores = readStores(reader, fields.stores, limits.valueBytes)
  const tokens = readTokens(reader, fields.tokens, stores)
  const raft = readRaft(reader, fields.raft)
  const mattermost = readMattermost(reader, fields.mattermost, limits.valueBytes)
  if (cluster === undefined) return undefined
  return { path, cluster, nodes, tls, http, stores, tokens, limits, raft, mattermost }
}

function readTls(reader: ConfigReader, place: Place, directory: string): ClusterConfig['tls'] {
  if (!reader.isPresent(place)) return undefined
  const fields = reader.fields(place, ['cert', 'key'])
  if (fields === undefined) return undefined
  const readPath = (at: Place) => {
    const text = reader.text(at, { expected: 'the path of a PEM file', test: (value) => value !== '' })
    if (text === undefined) return undefined
    const file = resolve(directory, text)
    if (!isReadableFile(file)) reader.mistake(at, `expected a file that can be read, found none at ${file}`)
    return file
  }
  const cert = readPath(fields.cert)
  const key = readPath(fields.key)
  return cert === undefined || key === undefined ? undefined : { cert, key }
}

function isReadableFile(path: string): boolean {
  try {
    accessSync(path, constants.R_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

function readHttp(reader: ConfigReader, place: Place): ClusterConfig['http'] {
  const fields = optionalFields(reader, place, [
    'insecureBeyondLoopback',
    'trustProxy',
    'shutdownDelay',
    'cors',
    'openToLoopback',
  ])
  if (fields === undefined) {
    return {
      insecureBeyondLoopback: false,
      trustProxy: false,
      shutdownDelay: defaults.shutdownDelay,
      cors: { origins: [] },
      openToLoopback: false,
    }
  }
  return {
    insecureBeyondLoopback: reader.flag(fields.insecureBeyondLoopback, false),
    trustProxy: reader.flag(fields.trustProxy, false),
    shutdownDelay: reader.duration(fields.shutdownDelay, { least: 0, most: 60_000 }, defaults.shutdownDelay),
    cors: { origins: readOrigins(reader, fields.cors) },
    openToLoopback: reader.flag(fields.openToLoopback, false),
  }
}

function readOrigins(reader: ConfigReader, place: Place): readonly string[] {
  const fields = optionalFields(reader, place, ['origins'])
  if (fields === undefined || !reader.isPresent(fields.origins)) return []
  const origins = reader.items(fields.origins) ?? []
  return origins.flatMap((at) => reader.text(at, originRule) ?? [])
}

/** As browsers send it: anything else would never match. */
const originRule = {
  expected: 'an origin as browsers send it, like https://app.example.com, without a path',
  test: (text: string) => /^https?:/.test(text) && URL.parse(text)?.origin === text,
}

function readLimits(reader: ConfigReader, place: Place): ClusterConfig['limits'] {
  const fields = optionalFields(reader, place, ['keyBytes', 'valueBytes', 'bodyBytes'])
  const { valueBytes, bodyBytes } = defaults
  if (fields === undefined) return { keyBytes: maxKeyBytes, valueBytes, bodyBytes }
  return {
    keyBytes: reader.whole(fields.keyBytes, { least: 1, most: maxKeyBytes }, maxKeyBytes),
    valueBytes: reader.whole(fields.valueBytes, { least: 1, most: maxValueBytes }, valueBytes),
    bodyBytes: reader.whole(fields.bodyBytes, { least: 65_536, most: maxValueBytes }, bodyBytes),
  }
}

function readRaft(reader: ConfigReader, place: Place): ClusterConfig['raft'] {
  const fields = optionalFields(reader, place, ['heartbeat', 'election'])
  if (fields === undefined) return { heartbeat: defaults.heartbeat, election: defaults.election }
  const heartbeat = reader.duration(fields.heartbeat, { least: 10, most: 10_000 }, defaults.heartbeat)
  const election = reader.duration(fields.election, { least: 50, most: 60_000 }, defaults.election)
  if (election < heartbeatsPerElection * heartbeat) {
    const at = reader.isPresent(fields.election) ? fields.election : fields.heartbeat
    reader.mistake(
      at,
      `expected an election timeout of at least ${heartbeatsPerElection} heartbeats, found ${election}ms with a heartbeat of ${heartbeat}ms`,
    )
  }
  return { heartbeat, election }
}

function optionalFields<K extends string>(
  reader: ConfigReader,
  place: Place,
  known: readonly K[],
): Readonly<Record<K, Place>> | undefined {
  return reader.isPresent(place) ? reader.fields(place, known) : undefined
}
