// What `trivet recover --force` has decided, and how it is carried out: a file, `recovering`, that is durable before anything is changed.
//
// A recovered node is the first of a new cluster with a new id, and everything else about it follows from that. The members of
// the old one, should they come back, are refused at every connection as those of another cluster, by this node and this node by
// them; none of their messages, votes, entries or snapshots can reach it. If enough of them come back they are still the old
// cluster, under its old id, and whoever looks can tell the two apart. With the old id kept, one of them that is added again with
// its old data would be heard, and the votes and entries that it brings from the old cluster would count in the new one.
//
// Each step can be repeated, so that a stop at any point is made up for at the next start of the node, or of the command.

import { join } from 'node:path'
import { assert } from '../raft/assert.ts'
import type { Position } from '../raft/types.ts'
import type { Disk } from '../store/disk.ts'
import { readSmallFile, removeSmallFile, writeSmallFile } from '../store/small-file.ts'
import { StateMachine } from '../store/state-machine.ts'
import { refound } from '../store/state-refound.ts'
import type { StateTime } from '../store/state-time.ts'
import type { StateLevel } from '../store/state-writer.ts'
import type { Founding } from '../store/types.ts'
import { LogError, Wal } from '../store/wal.ts'
import type { Start } from '../store/wal-options.ts'
import { listSegments } from '../store/wal-segment.ts'
import { forgetProof } from './state-proof.ts'

export type RecoveryPlan = {
  /** Of the new cluster: its configuration has this node alone. */
  readonly founding: Founding
  /** All that the node has: what the new log begins after, once the state in this directory has it all. */
  readonly base: Position & { readonly directory: string }
  /** The first of the new cluster. */
  readonly term: number
  /** The last boot of this node in the old one. */
  readonly boot: number
  /** Where the log of the old cluster goes. */
  readonly aside: string
}

const fileName = 'recovering'

/**
 * A client may hold revisions that were lost. None of them may come again with another meaning, so the new cluster counts from
 * far above: more than any cluster writes between its last copy and its recovery.
 */
const skippedRevisions = 1_000_000_000

/** Bytes of the log applied at a time. */
const applyBytes = 4 * 1024 * 1024

/** Logs of clusters that this node was recovered from are kept under these names. */
const prefix = 'log.before-recovery-'

export function writePlan(disk: Disk, directory: string, plan: RecoveryPlan): Promise<void> {
  return writeSmallFile(disk, join(directory, fileName), plan)
}

/** A name for a log that goes aside, which no directory has. */
export async function nextAside(disk: Disk, directory: string): Promise<string> {
  const names = await disk.list(directory)
  const numbers = names.flatMap((name) =>
    name.startsWith(prefix) ? [Number(name.slice(prefix.length))] : [],
  )
  return prefix + (Math.max(0, ...numbers) + 1)
}

export type FinishOptions = {
  /** The node's data directory; locked. */
  readonly directory: string
  readonly openLevel: (directory: string) => Promise<StateLevel>
  readonly stateTime?: StateTime | undefined
  /** Where the log is, and how it is kept. */
  readonly log: Start
}

/** Carries out a recovery that was decided and not finished, if there is one. */
export async function finishRecovery(options: FinishOptions): Promise<void> {
  const { directory, openLevel, stateTime, log } = options
  const { disk } = log
  const path = join(directory, fileName)
  const stored = await readSmallFile(disk, path)
  if (stored === 'absent') return
  if (!isPlan(stored)) {
    throw new Error(
      `${path} is damaged, so it is not known how a recovery that was begun is to be finished. Recover the cluster from another ` +
        'node, or from a copy of this directory.',
    )
  }
  const { founding, base, term, boot, aside } = stored
  await forgetProof(disk, directory)
  const { clusterId, configuration } = founding
  if (!(await isBegun(log, clusterId))) {
    if ((await listSegments(disk, log.directory)).segments.length > 0) {
      await applyAll(options, base)
      await disk.rename(log.directory, join(directory, aside))
      await disk.syncDirectory(directory)
    }
    const level = await openLevel(join(directory, base.directory))
    try {
      await refound(level, { clusterId, configuration, skippedRevisions }, stateTime)
    } finally {
      await level.close()
    }
    const wal = await Wal.create({
      ...log,
      base: { ...base, configuration, founding },
      hardState: { term, votedFor: undefined },
      previousBoot: boot,
    })
    await wal.close()
    await disk.syncDirectory(directory)
  }
  // What was promised to the old cluster binds nobody in the new one.
  for (const name of ['rebuilding', 'stateless']) await removeSmallFile(disk, join(directory, name))
  await removeSmallFile(disk, path)
}

/**
 * Every entry of the log counts as committed: what was acknowledged may be known to nobody else, and what was not may take
 * effect late, as any write of unknown outcome may. Not before the plan is durable, for in the old cluster it would be wrong.
 */
async function applyAll(
  { directory, openLevel, stateTime, log }: FinishOptions,
  base: RecoveryPlan['base'],
): Promise<void> {
  const founding = (await Wal.peek(log))?.base.founding
  assert(founding !== undefined, 'a log that goes aside is there')
  const level = await openLevel(join(directory, base.directory))
  // Whatever fails rejects what waits for it here.
  const machine = await StateMachine.open({ level, founding, time: stateTime, onFailure: () => {} })
  try {
    const { lastApplied, lastAppliedTerm } = machine
    const wal = await Wal.open({ ...log, applied: { index: lastApplied, term: lastAppliedTerm } })
    try {
      while (machine.lastApplied < base.index) {
        const from = machine.lastApplied + 1
        await machine.apply(await wal.read({ from, to: base.index, maxBytes: applyBytes }))
      }
      await machine.flush()
    } finally {
      await wal.close()
    }
  } finally {
    await machine.close()
  }
}

/** Whether the log of the new cluster is there. */
async function isBegun(log: Start, clusterId: string): Promise<boolean> {
  try {
    const peeked = await Wal.peek(log)
    return peeked?.base.founding.clusterId === clusterId
  } catch (error) {
    if (error instanceof LogError && error.code === 'damaged') return false
    throw error
  }
}

function isPlan(stored: object | string): stored is RecoveryPlan {
  return typeof stored === 'object' && 'founding' in stored && 'aside' in stored
}
