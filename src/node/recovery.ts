// The way out when no quorum is left: what one stopped node still has, and how it becomes the first of a new cluster (rule 7).

import { join } from 'node:path'
import { assert } from '../raft/assert.ts'
import type { Configuration, MemberId, Position } from '../raft/types.ts'
import { StateDamagedError } from '../store/record.ts'
import { readSmallFile } from '../store/small-file.ts'
import { StateMachine } from '../store/state-machine.ts'
import { decodeMeta, type Meta, metaKey } from '../store/state-rows.ts'
import type { StateLevel } from '../store/state-writer.ts'
import type { Founding } from '../store/types.ts'
import { LogError } from '../store/wal.ts'
import { recover as readLog } from '../store/wal-recovery.ts'
import { type Salvaged, salvageLog } from '../store/wal-segment.ts'
import { nextAside, type RecoveryPlan, writePlan } from './recovery-plan.ts'
import { forgetProof } from './state-proof.ts'
import { Storage, type StorageOptions } from './storage.ts'

export type RecoveryPlace = Pick<
  StorageOptions,
  'disk' | 'directory' | 'self' | 'openLevel' | 'reserveBytes'
> & {
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly drawClusterId: () => string
}

/** The log, as far as it can be read. */
type FoundLog =
  | {
      readonly type: 'sound'
      readonly last: Position
      readonly term: number
      readonly configuration: Configuration
      /** Index it begins after. */
      readonly base: number
    }
  | { readonly type: 'lost'; readonly why: string }

type FoundState =
  | { readonly type: 'readable'; readonly name: string; readonly meta: Meta }
  | { readonly type: 'lost'; readonly why: string }

/** What a stopped node has. Every row of its state has still to be held against the digest. */
export type Findings = {
  readonly self: MemberId
  readonly cluster: string
  readonly clusterId: string
  readonly configuration: Configuration
  readonly log: FoundLog
  readonly state: FoundState
}

/** What became of it. */
export type Recovered = {
  readonly clusterId: string
  readonly formerId: string
  readonly last: Position
  readonly revision: number
}

/**
 * Looks at the data directory of a stopped node and changes nothing but what LevelDB does to its own files when it is opened.
 * Rejects with an operator's sentence when there is nothing to be recovered from, and when a node runs on it.
 */
export async function inspect(place: RecoveryPlace): Promise<Findings> {
  const { disk, directory } = place
  const names = await disk.list(directory)
  const states = names
    .filter((name) => /^state-\d+$/.test(name))
    .sort((one, other) => Number(other.slice(6)) - Number(one.slice(6)))
  if (!names.includes('log') && states.length === 0) {
    throw new Error(`There is nothing to recover in ${directory}: it holds neither a log nor a state.`)
  }
  const lock = names.includes('lock') ? await openLock(place) : undefined
  try {
    return await look(place, states)
  } finally {
    await lock?.close()
  }
}

async function look(place: RecoveryPlace, states: readonly string[]): Promise<Findings> {
  const { disk, directory, self } = place
  const salvaged = await salvageLog({ disk, directory: join(directory, 'log'), node: self })
  const named = salvaged?.header.base.directory
  const state = await readState(place, named === undefined ? states : [named])
  const meta = state.type === 'readable' ? state.meta : undefined
  const log = await findLog(place, meta)
  const known = log.type === 'sound' ? log.configuration : meta?.configuration
  const founding = salvaged?.header.base.founding
  const configuration = known ?? salvaged?.header.configuration.configuration
  const clusterId = meta?.clusterId ?? founding?.clusterId
  if (configuration === undefined || clusterId === undefined) {
    throw new Error(`There is nothing to recover in ${directory}: ${whyLost(log)} ${whyLost(state)}`)
  }
  const cluster = meta?.cluster ?? founding?.name ?? ''
  const findings = { self, cluster, clusterId, configuration, log, state }
  check(findings, { directory, salvaged })
  return findings
}

function whyLost(part: FoundLog | FoundState): string {
  return part.type === 'lost' ? part.why : ''
}

/** Refuses what a recovery would not help. */
function check(
  { self, configuration, log, state }: Findings,
  { directory, salvaged }: { readonly directory: string; readonly salvaged: Salvaged | undefined },
): void {
  const own = configuration.members.find(({ peer }) => peer === self)
  if (own === undefined) {
    throw new Error(
      `The node in ${directory} (${self}) was removed from its cluster, and what it has is from before that: recover a node that is a member.`,
    )
  }
  const voters = configuration.members.filter(({ voter }) => voter)
  if (log.type === 'sound' && state.type === 'readable' && voters.every(({ peer }) => peer === self)) {
    throw new Error(`${own.id} is the only voter of its cluster and needs nobody else: start it.`)
  }
  // A log that reaches back to the founding leads to the state again.
  const isReplayable = log.type === 'sound' && salvaged?.header.base.index === 0
  if (state.type === 'lost' && !isReplayable) {
    throw new Error(`There is no whole state in ${directory} to recover from: ${state.why} Try another node.`)
  }
  const last = log.type === 'sound' ? log.last.index : state.type === 'readable' ? state.meta.lastApplied : 0
  if (last === 0) {
    throw new Error(`Nothing was ever written to the cluster in ${directory}: empty it, and found another.`)
  }
}

/** The first of these states of which the first row can be read, unless it is known to be damaged. */
async function readState(place: RecoveryPlace, names: readonly string[]): Promise<FoundState> {
  const { disk, directory, openLevel } = place
  await forgetProof(disk, directory)
  const condemned = await readSmallFile(disk, join(directory, 'stateless'))
  let why = `There is no state in ${directory}.`
  for (const name of names) {
    const path = join(directory, name)
    try {
      if (typeof condemned === 'object' && 'directory' in condemned && condemned.directory === name) {
        throw new StateDamagedError(`The state in ${path} is damaged.`)
      }
      if (!(await disk.list(directory)).includes(name))
        throw new StateDamagedError(`There is no state in ${path}.`)
      const level = await openLevel(path)
      try {
        const row = await level.get(metaKey)
        if (row !== undefined) return { type: 'readable', name, meta: decodeMeta(row) }
        why = `The state in ${path} is empty.`
      } finally {
        await level.close()
      }
    } catch (error) {
      if (!(error instanceof StateDamagedError)) throw error
      why = error.message
    }
  }
  return { type: 'lost', why }
}

async function findLog(place: RecoveryPlace, meta: Meta | undefined): Promise<FoundLog> {
  const { disk, directory, self: node } = place
  const mark = await readSmallFile(disk, join(directory, 'rebuilding'))
  if (mark !== 'absent') {
    const why = typeof mark === 'object' && 'why' in mark ? String(mark.why) : ''
    return { type: 'lost', why: `The log was lost before: ${why}` }
  }
  const applied = meta === undefined ? undefined : { index: meta.lastApplied, term: meta.lastAppliedTerm }
  try {
    const { state, tail } = await readLog({ disk, directory: join(directory, 'log'), node, applied })
    const last = tail.entries.at(-1) ?? state.last
    const changed = tail.entries.findLast((entry) => entry.type === 'configuration')
    return {
      type: 'sound',
      last: { index: last.index, term: last.term },
      term: (tail.hardState ?? state.hardState).term,
      configuration: changed?.configuration ?? state.configuration.configuration,
      base: state.base.index,
    }
  } catch (error) {
    if (!(error instanceof LogError) || (error.code !== 'damaged' && error.code !== 'absent')) throw error
    return { type: 'lost', why: error.message }
  }
}

async function openLock({ directory, openLevel }: RecoveryPlace): Promise<StateLevel | undefined> {
  try {
    return await openLevel(join(directory, 'lock'))
  } catch (error) {
    // Nobody can have it open, then.
    if (error instanceof StateDamagedError) return undefined
    throw error
  }
}

/**
 * Makes the node the first of a new cluster with all that it has, durably, whatever stops it from here on. Rejects with a
 * sentence, and the node is still one of the old cluster, when its state turns out not to be whole.
 */
export async function recover(place: RecoveryPlace, findings: Findings): Promise<Recovered> {
  // Whatever fails rejects what waits for it here.
  const options: StorageOptions = { ...place, onNotice: () => {}, onFailure: () => {} }
  const storage = await Storage.open(options)
  try {
    await writePlan(place.disk, place.directory, await decide(storage, place, findings))
  } finally {
    await storage.close()
  }
  // Whoever opens it next carries out the plan.
  const recovered = await Storage.open(options)
  try {
    const { opened } = recovered
    assert(opened !== undefined, 'a node that was recovered has its log and its state')
    const { wal, machine } = opened
    return {
      clusterId: machine.clusterId,
      formerId: findings.clusterId,
      last: { index: wal.base.index, term: wal.base.term },
      revision: machine.revision,
    }
  } finally {
    await recovered.close()
  }
}

async function decide(storage: Storage, place: RecoveryPlace, findings: Findings): Promise<RecoveryPlan> {
  const { state } = findings
  if (storage.identity.type === 'rebuilding' && state.type === 'readable') {
    const founding = foundingOf(state.meta, place.now())
    // Before a log is made for it: one that begins at nothing would be no beginning for anybody.
    await checkWhole(place, state.name, founding)
    await storage.join({ founding, configuration: state.meta.configuration, boot: 0 })
  }
  const { opened } = storage
  if (opened === undefined) {
    throw new Error(
      `There is no whole state in ${place.directory} to recover from: ${storage.stateless?.why}`,
    )
  }
  const { wal, machine, hardState } = opened
  await machine.recompute()
  const { lastIndex: index, terms, configurations, boot, base } = wal.recovered
  const term = terms.at(-1)?.term ?? base.term
  const own = configurations.at(-1)?.configuration.members.find(({ peer }) => peer === place.self)
  if (own === undefined || index === 0) {
    throw new Error(`What is in ${place.directory} is not of a member: there is nothing to recover from.`)
  }
  const configuration = { members: [{ ...own, voter: true }] }
  const clusterId = place.drawClusterId()
  return {
    // Its stores and tokens are in the state. Who joins gets that, and none of what the old cluster was founded with.
    founding: { ...base.founding, clusterId, configuration, stores: [], tokens: [], foundedAt: place.now() },
    base: { index, term, directory: base.directory },
    term: Math.max(hardState.term, term) + 1,
    boot,
    aside: await nextAside(place.disk, place.directory),
  }
}

/** Rejects when rows of a state that no log names are damaged or missing. */
async function checkWhole(place: RecoveryPlace, name: string, founding: Founding): Promise<void> {
  const level = await place.openLevel(join(place.directory, name))
  const machine = await StateMachine.open({ level, founding, onFailure: () => {} })
  try {
    await machine.recompute()
  } finally {
    await machine.close()
  }
}

/** As much as a state tells of the founding of its cluster. */
function foundingOf(meta: Meta, now: number): Founding {
  const { clusterId, cluster: name, configuration, valueBytes, commandVersion } = meta
  return {
    clusterId,
    name,
    configuration,
    stores: [],
    tokens: [],
    valueBytes,
    foundedAt: now,
    commandVersion,
  }
}
