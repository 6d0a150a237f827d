// Makes a state the beginning of another cluster: the one copy that is left of one that is lost. What clients wrote stays.

import type { Configuration } from '../raft/types.ts'
import { StateDamagedError } from './record.ts'
import { levelFailure } from './state-failure.ts'
import { decodeMeta, encodeMeta, metaKey } from './state-rows.ts'
import { realTime, type StateTime } from './state-time.ts'
import { lastBatch, markOf, type StateLevel, writeBatch } from './state-writer.ts'

/** What is another in the state from now on. */
export type Refounding = {
  readonly clusterId: string
  readonly configuration: Configuration
  /** How many revisions are left out, so that none of the other cluster comes again. */
  readonly skippedRevisions: number
}

/**
 * Durable when it resolves, in one batch; what was done already is not done again. The state does not count as closed
 * properly afterwards: every row is held against the digest before it is served.
 */
export async function refound(
  level: StateLevel,
  { clusterId, configuration, skippedRevisions }: Refounding,
  time: StateTime = realTime,
): Promise<void> {
  const [batch, row] = await read(level)
  if (batch === undefined || row === undefined) {
    throw new StateDamagedError('The state on this disk is damaged: its first row is missing.')
  }
  const meta = decodeMeta(row)
  if (meta.clusterId === clusterId) return
  const mark = markOf({ number: batch.number + 1, lastApplied: batch.lastApplied })
  const revision = meta.revision + skippedRevisions
  // The checkpoint is a digest of the other cluster's state.
  const changed = encodeMeta({ ...meta, clusterId, configuration, revision, checkpoint: undefined })
  await writeBatch(level, [changed, mark], time)
}

async function read(level: StateLevel) {
  try {
    return [await lastBatch(level), await level.get(metaKey)] as const
  } catch (error) {
    throw levelFailure(error, 'read')
  }
}
