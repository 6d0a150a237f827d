// What a run came to, in lines for a terminal.

import type { HistoryEvent } from '../linear/history.ts'
import type { Outcome } from './run.ts'
import { longestGap } from './verdict.ts'

export type Counts = {
  readonly calls: number
  readonly ok: number
  readonly failed: number
  readonly unknown: number
  readonly writes: number
  readonly increments: number
}

export function countsOf(events: readonly HistoryEvent[]): Counts {
  let [calls, ok, failed, writes, increments] = [0, 0, 0, 0, 0]
  for (const event of events) {
    if (event.type === 'invoke') calls += 1
    if (event.type === 'fail') failed += 1
    if (event.type !== 'ok') continue
    ok += 1
    const { type } = event.result
    if (type === 'written' || type === 'deleted' || type === 'counted' || type === 'done') writes += 1
    if (type === 'counted') increments += 1
  }
  return { calls, ok, failed, unknown: calls - ok - failed, writes, increments }
}

export type FaultRow = {
  readonly fault: string
  readonly count: number
  /** The middle and the longest, in milliseconds. */
  readonly recovery: Spread
  readonly gap: Spread
}

type Spread = { readonly median: number; readonly most: number }

/** For each fault how often it came, how long nodes took to serve again after it, and how long no write got through. */
export function faultRows({ steps, events }: Pick<Outcome, 'steps' | 'events'>): readonly FaultRow[] {
  const byFault = Map.groupBy(
    steps.flatMap((step) => step.strikes.map(({ fault }) => ({ fault, step }))),
    ({ fault }) => fault,
  )
  return [...byFault]
    .map(([fault, all]) => ({
      fault,
      count: all.length,
      recovery: spreadOf(
        all.flatMap(({ step }) => (step.recovered === undefined ? [] : [step.recovered - step.healed])),
      ),
      gap: spreadOf(all.map(({ step }) => longestGap(step, events))),
    }))
    .toSorted((a, b) => a.fault.localeCompare(b.fault, 'en'))
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  return { median: sorted[sorted.length >> 1] ?? Number.NaN, most: sorted.at(-1) ?? Number.NaN }
}

/** Which faults there was no time for. */
export function unreached({ faults, steps }: Pick<Outcome, 'faults' | 'steps'>): readonly string[] {
  const reached = new Set(steps.flatMap(({ strikes }) => strikes.map(({ fault }) => fault)))
  return faults.filter((fault) => !reached.has(fault))
}

export function inSeconds(ms: number): string {
  return Number.isNaN(ms) ? '–' : `${(ms / 1000).toFixed(1)} s`
}

export function summaryOf(outcome: Outcome): string {
  const { options, violations, steps, replicas, kept } = outcome
  const { calls, ok, failed, unknown, writes, increments } = countsOf(outcome.events)
  const rows = faultRows(outcome)
  const missing = unreached(outcome)
  const width = Math.max(5, ...rows.map(({ fault }) => fault.length))
  const keys = replicas[0]?.keys.size ?? 0
  const lines = [
    '',
    `${calls} calls: ${ok} answered (${writes} writes, ${increments} of them increments), ${failed} refused, ${unknown} of unknown outcome`,
    `${steps.length} steps on ${outcome.nodes.length} nodes in ${Math.round(outcome.lasted / 1000)} s, seed ${options.seed}; ${keys} keys at the end`,
    '',
    `${'fault'.padEnd(width)}  times  recovery (middle, longest)  without a write (middle, longest)`,
    ...rows.map(
      ({ fault, count, recovery, gap }) =>
        `${fault.padEnd(width)}  ${String(count).padStart(5)}  ${inSeconds(recovery.median).padStart(8)}  ${inSeconds(recovery.most).padStart(8)}          ${inSeconds(gap.median).padStart(8)}  ${inSeconds(gap.most).padStart(8)}`,
    ),
    ...(missing.length === 0 ? [] : [`no time for: ${missing.join(', ')}`]),
    '',
    violations.length === 0
      ? 'No violation: linearizable, no write lost or made twice, all counters right, all replicas equal, recovered after every fault.'
      : `VIOLATIONS: ${violations.length}`,
    ...violations.map(({ type, text }) => `  ${type}: ${text.replaceAll('\n', '\n    ')}`),
    ...(kept === undefined ? [] : [`data and logs of the nodes: ${kept}`]),
  ]
  return `${lines.join('\n')}\n`
}
