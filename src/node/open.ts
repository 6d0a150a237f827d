// A node on this machine: real disk, LevelDB, libp2p and clocks, put under `Node`.

import { mkdir, statfs } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { checkLevelFiles } from '../store/level-files.ts'
import { realDisk } from '../store/real-disk.ts'
import { openLevel } from '../store/state-open.ts'
import { Libp2pTransport } from './libp2p.ts'
import { Node } from './node.ts'
import { loadPeerKey } from './peer-key.ts'
import type { NodeSettings } from './settings.ts'

export type OpenOptions = {
  readonly settings: NodeSettings
  /** The data directory; made if it is not there. */
  readonly data: string
  /** The multiaddr to listen on for peers. */
  readonly listen: string
  readonly logger: Logger
  /** The node cannot go on: the process is to end with this error's sentence. Called once. */
  readonly onFatal: (error: Error) => void
}

/** Starts a node. Rejects with an operator's sentence; see `Node.start`. */
export async function openNode(options: OpenOptions): Promise<Node> {
  const { settings, data, listen, logger, onFatal } = options
  await mkdir(data, { recursive: true, mode: 0o700 })
  const key = await loadPeerKey(data)
  const hello = { clusterId: undefined, id: settings.id, boot: 0 }
  return Node.start(settings, {
    data,
    disk: realDisk,
    openLevel,
    checkFiles: (directory) => checkLevelFiles(realDisk, directory),
    transport: new Libp2pTransport({ key, listen, hello }),
    surroundings: {
      now: () => performance.now(),
      soon: (run) => void setImmediate(run),
      random: Math.random,
      worked: () => performance.eventLoopUtilization().active,
    },
    clock: Date.now,
    every,
    sleep: (ms) => delay(ms),
    freeBytes: async () => {
      const { bavail, bsize } = await statfs(data)
      return bavail * bsize
    },
    logger,
    onFatal,
  })
}

/**
 * After a stall Node runs timers before it reads sockets; the detour lets the messages that wait be stepped first, so
 * that a leader heard in time is not given up (`safety.md`, rule 13). However late, it runs once.
 */
export function every(ms: number, run: () => void): () => void {
  let running = true
  const timer = setInterval(() => {
    setImmediate(() => {
      if (running) run()
    })
  }, ms)
  return () => {
    running = false
    clearInterval(timer)
  }
}
