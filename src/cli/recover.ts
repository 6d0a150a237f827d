// `trivet recover`: what a stopped node still has when no quorum is left, and with --force a new cluster that begins with it.

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { peerKeyPath, readPeerKey } from '../node/peer-key.ts'
import { type Findings, inspect, type Recovered, type RecoveryPlace, recover } from '../node/recovery.ts'
import { majority } from '../raft/quorum.ts'
import type { Member } from '../raft/types.ts'
import { realDisk } from '../store/real-disk.ts'
import { openLevel } from '../store/state-open.ts'
import { refuseRunning } from './service.ts'
import { shellWord } from './shell.ts'

export type RecoverOptions = { readonly data: string; readonly force: boolean }

/** What a member's address says of it. `running`: it answers, and does not serve. */
type Sign = 'silent' | 'running' | 'ready'

/** How long a member may take to say how it is, and how often those that could elect a leader are asked, a second apart. */
const askMs = 2000
const tries = 3

/** Says what there is; recovers if told to. Returns the exit status: 1 when nothing was done. Rejects with a sentence. */
export async function recoverNode({ data, force }: RecoverOptions): Promise<number> {
  await refuseRunning('A node', data)
  const place = await placeOf(data)
  const findings = await inspect(place)
  const signs = await askOthers(findings)
  process.stdout.write(`${report(findings, signs).join('\n')}\n`)
  refuseLiving(findings, signs)
  if (!force) {
    process.stdout.write(
      `\nNothing was changed. To do this: trivet recover --data ${shellWord(data)} --force\n`,
    )
    return 1
  }
  const recovered = await recover(place, findings)
  process.stdout.write(`\n${outcome(findings, recovered, data)}\n`)
  return 0
}

async function placeOf(data: string): Promise<RecoveryPlace> {
  if (!existsSync(data)) throw new Error(`There is no directory ${data}.`)
  const key = await readPeerKey(peerKeyPath(data))
  if (key === undefined) {
    throw new Error(
      `There is no peer key in ${data}, so it is no node's data directory, or its key was lost.`,
    )
  }
  return {
    disk: realDisk,
    directory: data,
    self: key.peer,
    openLevel,
    now: Date.now,
    drawClusterId: () => randomBytes(16).toString('hex'),
  }
}

// ── the others ───────────────────────────────────────────────────────────────────────────────────────────────────

/** A cluster that only looks for a leader at this moment is asked again. */
async function askOthers(findings: Findings): Promise<ReadonlyMap<Member, Sign>> {
  const others = findings.configuration.members.filter(({ peer }) => peer !== findings.self)
  for (let left = tries; ; left--) {
    const signs = new Map(
      await Promise.all(others.map(async (member) => [member, await askOne(member)] as const)),
    )
    if (left === 1 || isReady(signs) || !mayElect(findings, signs)) return signs
    await sleep(1000)
  }
}

async function askOne({ http }: Member): Promise<Sign> {
  try {
    const answer = await fetch(new URL('/readyz', http), { signal: AbortSignal.timeout(askMs) })
    await answer.body?.cancel()
    return answer.ok ? 'ready' : 'running'
  } catch {
    // Not there, or not to be understood from here.
    return 'silent'
  }
}

function isReady(signs: ReadonlyMap<Member, Sign>): boolean {
  return [...signs.values()].includes('ready')
}

/** Whether those that run are enough for a leader, without this node. */
function mayElect({ configuration }: Findings, signs: ReadonlyMap<Member, Sign>): boolean {
  const running = [...signs].filter(([{ voter }, sign]) => voter && sign !== 'silent')
  return running.length >= majority(configuration.members.filter(({ voter }) => voter).length)
}

/** Two clusters of the same data is what must not come of this. */
function refuseLiving(findings: Findings, signs: ReadonlyMap<Member, Sign>): void {
  const having = (...wanted: Sign[]) =>
    [...signs].flatMap(([{ id, http }, sign]) => (wanted.includes(sign) ? [`${id} at ${http}`] : []))
  if (isReady(signs)) {
    throw new Error(
      `${having('ready').join(', ')} serves, so its cluster has a quorum: start this node, or replace it with "trivet member replace". ` +
        'If what answers there belongs to another cluster, stop it first.',
    )
  }
  if (mayElect(findings, signs)) {
    throw new Error(
      `${having('running').join(', ')} run and are a quorum without this node: see what they wait for, or stop them if they are given up.`,
    )
  }
}

// ── what is said ─────────────────────────────────────────────────────────────────────────────────────────────────

function report(findings: Findings, signs: ReadonlyMap<Member, Sign>): readonly string[] {
  const { self, cluster, clusterId, configuration, log, state } = findings
  const own = configuration.members.find(({ peer }) => peer === self)
  const meta = state.type === 'readable' ? state.meta : undefined
  const words = { silent: 'does not answer', running: 'runs, and does not serve', ready: 'serves' } as const
  return [
    `${own?.id} of cluster ${cluster}, id ${clusterId}:`,
    log.type === 'sound'
      ? `  log      whole, up to entry ${log.last.index} of term ${log.last.term}; the last term it knows is ${log.term}`
      : `  log      lost. ${log.why}`,
    meta === undefined
      ? `  state    lost, to be made again from the log. ${state.type === 'lost' ? state.why : ''}`
      : `  state    up to entry ${meta.lastApplied} of term ${meta.lastAppliedTerm}, revision ${meta.revision}`,
    ...configuration.members.map((member) => {
      const sign = signs.get(member)
      const kind = member.voter ? 'voter' : 'learner'
      return `  member   ${member.id}, ${kind}, ${member.http}: ${sign === undefined ? 'this node' : words[sign]}`
    }),
    '',
    ...loss(findings),
    `It would be the only voter of a new cluster with a new id, with the stores, keys, tokens and sessions that it has.`,
  ]
}

function loss({ log, state }: Findings): readonly string[] {
  const applied = state.type === 'readable' ? state.meta.lastApplied : 0
  if (log.type === 'lost') {
    return [
      `What was acknowledged after entry ${applied} is lost, and perhaps some of it was known to this node alone.`,
    ]
  }
  const { index } = log.last
  const unapplied = index - applied
  return [
    `What was acknowledged after entry ${index} is lost, if anything was.`,
    ...(unapplied === 0
      ? []
      : [
          `${unapplied} ${unapplied === 1 ? 'entry' : 'entries'} before that may not have been acknowledged, and will take effect.`,
        ]),
  ]
}

function outcome(findings: Findings, recovered: Recovered, data: string): string {
  const { clusterId, formerId, last, revision } = recovered
  const own = findings.configuration.members.find(({ peer }) => peer === findings.self)
  return (
    `${own?.id} begins cluster ${clusterId} with everything up to entry ${last.index}; it counts revisions from ${revision} on, and ` +
    `accepts nobody of ${formerId}.\nNow start it on ${data}, empty the data directories of all other members, never starting them with ` +
    'what they have, and add each as a new member with "trivet member add".'
  )
}
