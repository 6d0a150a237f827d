// What disks do behind everybody's back: bits that flip, writes that go astray, rows and batches that are lost.

import { localTable, tableOf } from '../../src/store/state-rows.ts'
import type { Chance } from '../raft/chance.ts'
import type { Cluster } from './cluster.ts'
import type { Machine } from './machine.ts'

/** A machine that runs and may be harmed, if a majority is left that never was. */
function victim(cluster: Cluster, chance: Chance): Machine | undefined {
  const machine = cluster.victim(chance)
  return machine !== undefined && cluster.mayHarm(machine) ? machine : undefined
}

/**
 * A bit of the log turns over, in bytes that a later write proves to have been durable. In the last write it could not be told
 * from one that was torn, and never acknowledged.
 */
export function flipLog(cluster: Cluster, chance: Chance): string | undefined {
  const machine = victim(cluster, chance)
  if (machine === undefined) return undefined
  const { disk } = machine
  const paths = disk
    .filesBelow('/data/log')
    .filter((path) => path.endsWith('.wal') && disk.lastDurable(path) > 0)
  if (paths.length === 0) return undefined
  // The newest holds what no other proves.
  const path = (chance.happens(0.5) ? paths.at(-1) : undefined) ?? chance.pick(paths)
  const end = disk.lastDurable(path)
  // What was written last is what nothing but the log itself can know of.
  const from = chance.happens(0.5) ? Math.max(0, end - 1024) : 0
  const bit = (from + chance.below(end - from)) * 8 + chance.below(8)
  cluster.harm(machine, 'damaged log')
  disk.flip(path, bit)
  if (chance.happens(0.5)) void cluster.crash(machine, chance.pick(['process', 'power']))
  return `${path} of ${machine.id} at ${bit >> 3}`
}

/** The next append is written over others, somewhere in the file. */
export function misdirect(cluster: Cluster, chance: Chance): string | undefined {
  const machine = victim(cluster, chance)
  if (machine === undefined) return undefined
  cluster.harm(machine, 'damaged log')
  machine.disk.misdirect('.wal')
  return machine.id
}

/** A bit of a row's value turns over. */
export async function flipRow(cluster: Cluster, chance: Chance): Promise<string | undefined> {
  const machine = victim(cluster, chance)
  const state = machine?.liveState?.state
  if (machine === undefined || state?.status !== 'open') return undefined
  const rows = await state.iterator().all()
  if (rows.length === 0) return undefined
  const [key, row] = chance.pick(rows)
  const value = Uint8Array.from(row)
  const at = chance.below(value.length)
  value[at] = (value[at] ?? 0) ^ (1 << chance.below(8))
  cluster.harm(machine, 'state')
  await state.damage([{ type: 'put', key, value }])
  return `${machine.id} in row ${Buffer.from(key).toString('hex')}`
}

/** The power goes, and LevelDB comes back without one of its last batches. */
export async function loseBatch(cluster: Cluster, chance: Chance): Promise<string | undefined> {
  const machine = victim(cluster, chance)
  const live = machine?.liveState
  if (machine === undefined || live === undefined) return undefined
  const { directory, state } = live
  if (state.remembered < 2) return undefined
  const lost = chance.below(state.remembered - 1)
  cluster.harm(machine, 'state')
  await machine.losePower()
  machine.replaceState(directory, await state.without((index) => index !== lost))
  cluster.startLater(machine)
  return `${machine.id} without the batch ${state.remembered - lost} before its last`
}

/** While the process is down a row vanishes, or is as it once was: every row that is left is one that was written. */
export async function ageRow(cluster: Cluster, chance: Chance): Promise<string | undefined> {
  const machine = victim(cluster, chance)
  const live = machine?.liveState
  if (machine === undefined || live === undefined) return undefined
  const { directory, state } = live
  const keys = (await state.keys().all()).filter((key) => key[0] !== localTable)
  const records = keys.filter((key) => tableOf(key) === 'records')
  // What clients read is what they may miss.
  const choices = records.length > 0 && chance.happens(0.7) ? records : keys
  if (choices.length === 0) return undefined
  const key = chance.pick(choices)
  const older = chance.happens(0.5) ? state.versions(key).slice(0, -1) : []
  const value = older[chance.below(older.length)]
  cluster.harm(machine, 'state')
  await (chance.happens(0.5) ? machine.crash() : machine.losePower())
  const found = machine.states.get(directory)
  if (found !== undefined) machine.replaceState(directory, await found.altered(key, value))
  cluster.startLater(machine)
  const what = value === undefined ? 'without' : 'with an old'
  return `${machine.id} ${what} row ${Buffer.from(key).toString('hex')}`
}
