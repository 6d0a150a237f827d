// Judges a run: what clients saw, what the replicas hold in the end, and how long every fault was felt.

import { check } from '../linear/checker.ts'
import { callsOf, type HistoryEvent } from '../linear/history.ts'
import { type KeyWrite, keyValue, type Operation, partsOf, type Result } from '../linear/key-value.ts'
import { miscount, talliesOf } from '../linear/tally.ts'
import type { Death } from './ground.ts'
import type { Rivals } from './observer.ts'
import { differencesOf, type Replica } from './replicas.ts'
import type { Surprise } from './workload.ts'

/** What one step of the schedule came to. Times in milliseconds since the run began. */
export type StepRecord = {
  readonly number: number
  readonly begun: number
  /** When it ended, or a repair began. */
  readonly healed: number
  /** When all nodes served again; undefined when they did not within the bound. */
  readonly recovered: number | undefined
  readonly strikes: readonly {
    readonly fault: string
    readonly what: string
    readonly nodes: readonly string[]
    readonly writesGoOn: boolean
  }[]
  /** What could not be done, or did not recover. */
  readonly failure?: string
}

export type Findings = {
  readonly events: readonly HistoryEvent[]
  readonly steps: readonly StepRecord[]
  readonly surprises: readonly Surprise[]
  readonly deaths: readonly (Death & { readonly time: number })[]
  readonly rivals: readonly Rivals[]
  readonly replicas: readonly Replica[]
  /** Why the end could not be looked at. */
  readonly unfinished?: string
}

export type Violation = {
  readonly type:
    | 'not-linearizable'
    | 'undecided'
    | 'lost-write'
    | 'duplicate'
    | 'miscount'
    | 'diverged'
    | 'not-recovered'
    | 'unavailable'
    | 'death'
    | 'surprise'
    | 'two-leaders'
  /** One sentence, or the offending calls a line each. */
  readonly text: string
  /** The calls of the history it is about. */
  readonly calls?: readonly number[]
}

/** The longest time without an acknowledged write that a fault which leaves a majority at work may cause. */
const longestGapMs = 10_000
/** Of one kind, so many are told. */
const toldOfEach = 20

/** Empty when all is well. */
export function judge(findings: Findings): readonly Violation[] {
  const writes = writesOf(findings.events)
  return [
    ...linearizable(findings.events),
    ...lost(writes, findings.replicas),
    ...duplicates(findings.events, writes),
    ...miscounts(findings.events, findings.replicas),
    ...differencesOf(findings.replicas).map((text) => ({ type: 'diverged', text }) as const),
    ...(findings.unfinished === undefined
      ? []
      : [{ type: 'not-recovered', text: findings.unfinished } as const]),
    ...findings.steps.flatMap((step) => felt(step, findings.events)),
    ...findings.deaths.map(
      ({ node, how, output }) => ({ type: 'death', text: `${node} ${how}: ${lastLines(output)}` }) as const,
    ),
    ...findings.surprises.map(
      ({ client, text }) => ({ type: 'surprise', text: `${client}: ${text}` }) as const,
    ),
    ...findings.rivals.map(
      ({ term, nodes }) =>
        ({ type: 'two-leaders', text: `${nodes.join(' and ')} both led term ${term}` }) as const,
    ),
  ].filter(fewOfEach())
}

function fewOfEach(): (violation: Violation) => boolean {
  const told = new Map<string, number>()
  return ({ type }) => {
    const count = (told.get(type) ?? 0) + 1
    told.set(type, count)
    return count <= toldOfEach
  }
}

function linearizable(events: readonly HistoryEvent[]): readonly Violation[] {
  const calls = callsOf(events)
  const verdict = check(keyValue, calls, { maxSteps: 200_000_000 })
  switch (verdict.type) {
    case 'linearizable':
      return []
    case 'undecided':
      return [{ type: 'undecided', text: `The search was given up for ${verdict.keys.join(', ')}` }]
    case 'violation': {
      const offending = verdict.calls.flatMap(({ invoked }) => events[invoked]?.call ?? [])
      return [{ type: 'not-linearizable', text: verdict.text, calls: offending }]
    }
    default:
      return verdict satisfies never
  }
}

/** A write that may have happened: `version` when it was acknowledged. */
type Write = {
  readonly call: number
  readonly operation: KeyWrite
  readonly version: number | undefined
  /** What it left under its key, as far as anybody knows. */
  readonly left?: string
}

function writesOf(events: readonly HistoryEvent[]): readonly Write[] {
  const ends = new Map<number, HistoryEvent>()
  for (const event of events) if (event.type !== 'invoke') ends.set(event.call, event)
  return events.flatMap((event): Write[] => {
    if (event.type !== 'invoke') return []
    const { call, operation } = event
    const end = ends.get(call)
    if (end?.type === 'fail') return []
    return partsOf(operation, end?.type === 'ok' ? end.result : undefined).flatMap(
      ([part, came]): Write[] => {
        if (part.type === 'get' || part.type === 'expire') return []
        if (end?.type !== 'ok') return [{ call, operation: part, version: undefined }]
        if (came?.type === 'counted') {
          return [{ call, operation: part, version: came.version, left: `${came.value}` }]
        }
        if (came?.type !== 'written' && came?.type !== 'deleted') return []
        const left = part.type === 'set' ? { left: part.value } : {}
        return [{ call, operation: part, version: came.version, ...left }]
      },
    )
  })
}

/**
 * Acknowledged writes of which the end shows no trace: of each key, the last one acknowledged must be there, or a later one, or
 * one whose outcome nobody knows.
 */
function lost(writes: readonly Write[], replicas: readonly Replica[]): readonly Violation[] {
  const byKey = Map.groupBy(writes, ({ operation }) => operation.key)
  return replicas.flatMap(({ node, keys }) =>
    [...byKey].flatMap(([key, all]): Violation[] => {
      const last = all.reduce<Write | undefined>(
        (best, write) => ((write.version ?? 0) > (best?.version ?? 0) ? write : best),
        undefined,
      )
      if (last?.version === undefined) return []
      const held = keys.get(key)
      const isUnknown = (type: 'set' | 'delete') =>
        all.some(({ operation, version }) => version === undefined && operation.type === type)
      const sentence = `${last.operation.type} of ${key} was acknowledged as revision ${last.version}, but ${node} has`
      const calls = [last.call]
      if (held === undefined) {
        if (last.operation.type === 'delete' || isUnknown('delete')) return []
        return [{ type: 'lost-write', text: `${sentence} nothing there`, calls }]
      }
      const isLost =
        held.revision < last.version || (held.revision === last.version && last.left !== held.value)
      return isLost
        ? [{ type: 'lost-write', text: `${sentence} ${held.value} of revision ${held.revision}`, calls }]
        : []
    }),
  )
}

/** Every node has each counter at the increments that were acknowledged, and at most those of unknown outcome. */
function miscounts(events: readonly HistoryEvent[], replicas: readonly Replica[]): readonly Violation[] {
  const tallies = [...talliesOf(events)]
  return replicas.flatMap(({ node, keys }) =>
    tallies.flatMap(([key, tally]): Violation[] => {
      const wrong = miscount(tally, keys.get(key)?.value)
      return wrong === undefined ? [] : [{ type: 'miscount', text: `${key} at ${node} ${wrong}` }]
    }),
  )
}

/** Every write has a value of its own and a revision of its own: seeing either twice means that one took effect twice. */
function duplicates(events: readonly HistoryEvent[], writes: readonly Write[]): readonly Violation[] {
  const found: Violation[] = []
  /** By key and value: counters may well stand at the same number. */
  const values = new Map<string, number>()
  const operations = new Map<number, Operation>()
  const seen = (value: string, version: number | undefined, call: number) => {
    if (version === undefined) return
    const before = values.get(value) ?? version
    values.set(value, before)
    if (before === version) return
    // Told once.
    values.set(value, version)
    found.push({
      type: 'duplicate',
      text: `${value} was written as revision ${before} and as ${version}`,
      calls: [call],
    })
  }
  for (const event of events) {
    if (event.type === 'invoke') operations.set(event.call, event.operation)
    if (event.type !== 'ok') continue
    const operation = operations.get(event.call)
    if (operation === undefined) continue
    for (const [part, came] of partsOf(operation, event.result)) {
      if (part.type === 'set' && came?.type === 'written') {
        seen(`${part.key} = ${part.value}`, came.version, event.call)
      }
      if (came?.type === 'found' || came?.type === 'counted') {
        seen(`${part.key} = ${came.value}`, came.version, event.call)
      }
    }
  }
  const revisions = new Map<number, Write>()
  for (const write of writes) {
    if (write.version === undefined) continue
    const other = revisions.get(write.version)
    revisions.set(write.version, write)
    // Those of one transaction share theirs.
    if (other === undefined || other.call === write.call) continue
    const text = `revision ${write.version} was given to two writes, of ${other.operation.key} and ${write.operation.key}`
    found.push({ type: 'duplicate', text, calls: [other.call, write.call] })
  }
  return found
}

function felt(step: StepRecord, events: readonly HistoryEvent[]): readonly Violation[] {
  const name = `Step ${step.number}, ${step.strikes.map(({ what }) => what).join(' with ')}`
  if (step.failure !== undefined) return [{ type: 'not-recovered', text: `${name}: ${step.failure}` }]
  if (!step.strikes.every(({ writesGoOn }) => writesGoOn) || step.strikes.length > 1) return []
  const gap = longestGap(step, events)
  if (gap <= longestGapMs) return []
  return [
    { type: 'unavailable', text: `${name}: no write was acknowledged for ${(gap / 1000).toFixed(1)} s` },
  ]
}

/** The longest time without an acknowledged write from the begin of a step until all had recovered, in milliseconds. */
export function longestGap(
  { begun, healed, recovered }: Pick<StepRecord, 'begun' | 'healed' | 'recovered'>,
  events: readonly HistoryEvent[],
): number {
  const until = recovered ?? healed
  let last = begun
  let longest = 0
  for (const event of events) {
    if (event.type !== 'ok' || event.time < begun || event.time > until) continue
    if (!isWritten(event.result)) continue
    longest = Math.max(longest, event.time - last)
    last = event.time
  }
  return Math.max(longest, until - last)
}

function isWritten({ type }: Result): boolean {
  return type === 'written' || type === 'deleted' || type === 'counted' || type === 'done'
}

function lastLines(output: string): string {
  return output.trim().split('\n').slice(-5).join(' ⏎ ')
}
