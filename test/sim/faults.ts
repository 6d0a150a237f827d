// What may happen to a cluster, as a list: each fault does something if it is possible now, and says what.

import type { Chance } from '../raft/chance.ts'
import type { Cluster } from './cluster.ts'
import { ageRow, flipLog, flipRow, loseBatch, misdirect } from './damage.ts'
import { failDisk, failLevel, fillDisk, hangDisk, slowDisk, wipe } from './disk-faults.ts'
import { addMember, removeMember, replaceMember } from './member-faults.ts'
import {
  breakConnection,
  bridge,
  changeWeather,
  cutOneWay,
  healLinks,
  isolate,
  split,
  stall,
} from './network-faults.ts'
import { ambush, freeze, jumpClock, lose, loseAll, restartCleanly, transfer } from './process-faults.ts'
import {
  answerLate,
  creepingDelay,
  depose,
  endInInstall,
  freezeInRound,
  hurriedChanges,
  restartInQuestion,
  slowControl,
  usurp,
} from './scripts.ts'

export type Fault = {
  readonly name: string
  /** How often it comes, against the others. */
  readonly weight: number
  /** Does it, if it is possible now. Returns what was done, for the transcript. */
  readonly act: (cluster: Cluster, chance: Chance) => Promise<string | undefined> | string | undefined
}

export const faults: readonly Fault[] = [
  // ── the network ────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'weather', weight: 6, act: changeWeather },
  { name: 'stall', weight: 3, act: stall },
  { name: 'heal links', weight: 8, act: healLinks },
  { name: 'isolate', weight: 4, act: isolate },
  { name: 'split', weight: 2, act: split },
  { name: 'bridge', weight: 2, act: bridge },
  { name: 'one-way cut', weight: 4, act: cutOneWay },
  { name: 'break connection', weight: 4, act: breakConnection },
  { name: 'depose', weight: 5, act: depose },
  { name: 'usurp', weight: 4, act: usurp },
  { name: 'late answers', weight: 4, act: answerLate },
  { name: 'slow control lane', weight: 4, act: slowControl },
  { name: 'creeping delay', weight: 4, act: creepingDelay },
  // ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'crash', weight: 8, act: (cluster, chance) => lose(cluster, chance, 'process') },
  { name: 'power loss', weight: 8, act: (cluster, chance) => lose(cluster, chance, 'power') },
  { name: 'crash within a disk call', weight: 6, act: ambush },
  { name: 'crash in an install', weight: 2, act: endInInstall },
  { name: 'crash of all', weight: 1, act: (cluster) => loseAll(cluster, 'process') },
  { name: 'power loss of all', weight: 2, act: (cluster) => loseAll(cluster, 'power') },
  { name: 'clean restart', weight: 3, act: restartCleanly },
  { name: 'freeze', weight: 4, act: freeze },
  { name: 'freeze in a round', weight: 5, act: freezeInRound },
  { name: 'restart in a question', weight: 4, act: restartInQuestion },
  { name: 'transfer', weight: 5, act: transfer },
  { name: 'clock jump', weight: 2, act: jumpClock },
  // ── members ────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'add member', weight: 5, act: addMember },
  { name: 'remove member', weight: 3, act: removeMember },
  { name: 'replace member', weight: 3, act: replaceMember },
  { name: 'changes in a hurry', weight: 4, act: hurriedChanges },
  // ── disks ──────────────────────────────────────────────────────────────────────────────────────────────────────
  { name: 'slow disk', weight: 3, act: slowDisk },
  { name: 'hung disk', weight: 3, act: hangDisk },
  { name: 'failed sync', weight: 3, act: (cluster, chance) => failDisk(cluster, chance, 'sync') },
  { name: 'failed write', weight: 2, act: (cluster, chance) => failDisk(cluster, chance, 'write') },
  { name: 'full disk', weight: 2, act: fillDisk },
  { name: 'failed LevelDB', weight: 2, act: failLevel },
  // ── damage, of a minority ──────────────────────────────────────────────────────────────────────────────────────
  { name: 'bit flip in log', weight: 3, act: flipLog },
  { name: 'misdirected write', weight: 2, act: misdirect },
  { name: 'bit flip in LevelDB', weight: 2, act: flipRow },
  { name: 'lost LevelDB batch', weight: 2, act: loseBatch },
  { name: 'lost or stale row', weight: 2, act: ageRow },
  { name: 'wiped disk', weight: 1, act: wipe },
]
