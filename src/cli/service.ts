// A node as a process: its log, its pid file, and how it goes down when it is told to or has to.

import { mkdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'

import { createLog } from './log.ts'
import { nodePidPath, removePid, runningPid, writePid } from './pid-file.ts'
import { outliveOutput, untilStopped } from './signals.ts'

/** What runs in the process. */
export type Service = {
  /** From now on says that it is about to go, and still serves. */
  readonly drain: () => void
  /** Ends what is in flight, hands over what it leads, and stops. */
  readonly stop: () => Promise<void>
}

export type ServiceOptions = {
  readonly id: string
  readonly data: string
  /** How long it drains before it stops, so that load balancers and clients have turned away. */
  readonly shutdownDelayMs: number
  /** Starts it. `onFatal` ends the process with this error's sentence, because going on would break a promise. */
  readonly begin: (parts: {
    readonly logger: Logger
    readonly onFatal: (error: Error) => void
  }) => Promise<Service>
}

/**
 * Runs a service until the process is told to stop, and returns its exit status. Rejects with a sentence when it cannot
 * start. Does what the first process of a container must: it handles its signals itself.
 */
export async function runService({ id, data, shutdownDelayMs, begin }: ServiceOptions): Promise<number> {
  await refuseRunning(id, data)
  await mkdir(data, { recursive: true, mode: 0o700 })
  const { logger, flush } = await createLog(data, id)
  process.once('exit', flush)
  outliveOutput()
  // A broken invariant ends the process as Node would end it; the log only has to know why.
  process.on('uncaughtExceptionMonitor', (error) => logger.fatal({ err: error }, 'the node failed'))
  const stopped = untilStopped(() => {
    logger.warn('asked twice: stopping at once')
    process.exit(1)
  })
  const onFatal = (error: Error): void => {
    logger.fatal({ err: error }, 'the node cannot go on')
    process.stderr.write(`${error.message}\n`)
    process.exit(1)
  }
  const service = await starting(logger, () => begin({ logger, onFatal }))
  await writePid(nodePidPath(data))
  const why = await stopped
  logger.info(`stopping, because of ${why}`)
  service.drain()
  await sleep(shutdownDelayMs)
  await service.stop()
  await removePid(nodePidPath(data))
  logger.info('stopped')
  return 0
}

/** Rejects with a sentence when a process runs on this data directory, as its pid file says. */
export async function refuseRunning(id: string, data: string): Promise<void> {
  const other = await runningPid(nodePidPath(data))
  if (other === undefined) return
  throw new Error(
    `${id} runs on ${data} already, as process ${other}; if it does not, remove ${nodePidPath(data)}.`,
  )
}

async function starting<T>(logger: Logger, begin: () => Promise<T>): Promise<T> {
  try {
    return await begin()
  } catch (error) {
    logger.fatal({ err: error }, 'the node could not start')
    throw error
  }
}
