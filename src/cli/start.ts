// `trivet start`: one node of a configured cluster as a process: its data, its peers, its HTTP.

import { unwatchFile, watchFile } from 'node:fs'
import type { Logger } from 'pino'
import { readTls } from '../api/listener.ts'
import { type Api, createApi } from '../api/server.ts'
import { type ClusterConfig, loadConfig, type NodeConfig } from '../node/config.ts'
import { openNode } from '../node/open.ts'
import { peerKeyPath, readPeerKey } from '../node/peer-key.ts'
import { type NodeSettings, settingsOf } from '../node/settings.ts'
import { collectGarbage, followLoad } from './heap.ts'
import { checkListening, tcpAddress } from './ports.ts'
import { refuseRunning, runService, type Service } from './service.ts'

export type StartOptions = {
  readonly config: string
  readonly node: string
  /** Instead of the data directory that the file names. */
  readonly data?: string
  readonly foundWithout: readonly string[]
}

/** Runs a node until it is told to stop; returns the exit status. Rejects with an operator's sentence. */
export async function start(options: StartOptions): Promise<number> {
  const config = loadConfig(options.config, process.env)
  const { own, settings } = settingsOf(config, { id: options.node, foundWithout: options.foundWithout })
  const data = options.data ?? own.data
  await checkSurroundings(config, own, { data, configPath: options.config })
  return runService({
    id: own.id,
    data,
    shutdownDelayMs: config.http.shutdownDelay,
    begin: (parts) => begin({ config, own, settings, data, ...parts }),
  })
}

/** Whatever would end a start half way is looked at before anything is touched. Rejects with a sentence. */
async function checkSurroundings(
  config: ClusterConfig,
  own: NodeConfig,
  { data, configPath }: { readonly data: string; readonly configPath: string },
): Promise<void> {
  // A running node holds its ports too, and its name is the better answer.
  await refuseRunning(own.id, data)
  const change = `change it in ${configPath}`
  const ways = { port: change, host: change }
  await checkListening(own.listen.http, `HTTP of ${own.id}`, ways)
  const p2p = tcpAddress(own.listen.p2p)
  if (p2p !== undefined) await checkListening(p2p, `libp2p of ${own.id}`, ways)
  if (config.tls !== undefined) await readTls(config.tls)
  const peer = (await readPeerKey(peerKeyPath(data)))?.peer
  if (peer === undefined) {
    throw new Error(
      `There is no peer key in ${data}, but ${configPath} names ${own.peer} as the peer of ${own.id}: put its data directory ` +
        `back, or make a key with "trivet keygen --data ${data}" and put the peer id it prints into the file of every node.`,
    )
  }
  if (peer !== own.peer) {
    throw new Error(
      `The key in ${data} is that of peer ${peer}, but ${configPath} says that ${own.id} is ${own.peer}. Is this the data ` +
        'directory of another node?',
    )
  }
}

async function begin(options: {
  readonly config: ClusterConfig
  readonly own: NodeConfig
  readonly settings: NodeSettings
  readonly data: string
  readonly logger: Logger
  readonly onFatal: (error: Error) => void
}): Promise<Service> {
  const { config, own, settings, data, logger, onFatal } = options
  const node = await openNode({
    settings,
    data,
    listen: own.listen.p2p,
    logger,
    onFatal,
  })
  let api: Api
  try {
    api = await createApi({
      node,
      limits: config.limits,
      mattermost: config.mattermost,
      tls: config.tls,
      trustProxy: config.http.trustProxy,
      origins: config.http.cors.origins,
      openToLoopback: config.http.openToLoopback,
      logger,
    })
    collectGarbage()
    followLoad()
    await api.listen(own.listen.http)
  } catch (error) {
    await node.stop()
    throw error
  }
  const { host, port } = own.listen.http
  logger.info({ http: `${host}:${port}`, p2p: own.listen.p2p, data }, `${own.id} listens`)
  const unwatch = config.tls === undefined ? () => {} : watchTls(config.tls, () => api.reloadTls(), logger)
  return {
    drain: () => api.drain(),
    stop: async () => {
      unwatch()
      await api.close()
      await node.stop()
    },
  }
}

/** Certificates are renewed while a node runs. Files that cannot be used leave the old ones in force, and are logged. */
function watchTls(
  files: { readonly cert: string; readonly key: string },
  reload: () => Promise<void>,
  logger: Logger,
): () => void {
  const changed = (): void => {
    reload().then(
      () => logger.info('the TLS files have changed and are in use'),
      (error: unknown) => logger.error({ err: error }, 'the TLS files have changed but cannot be used'),
    )
  }
  const paths = [files.cert, files.key]
  for (const path of paths) watchFile(path, { interval: 5000, persistent: false }, changed)
  return () => {
    for (const path of paths) unwatchFile(path, changed)
  }
}
