// What a run has measured, one sample per system, scenario and round; and what is made of many samples.

import { type Spread, spreadOf } from '../statistics.ts'

/** What can be measured: how a column is headed, its digits, and whether more of it is better. */
export const figures = {
  perSecond: { label: 'per second', digits: 0, better: 'more' },
  p50: { label: 'p50 ms', digits: 2, better: 'less' },
  p99: { label: 'p99 ms', digits: 1, better: 'less' },
  p999: { label: 'p99.9 ms', digits: 1, better: 'less' },
  cpu: { label: 'CPU s per 10,000, all nodes', digits: 2, better: 'less' },
  clientCpu: { label: 'CPU s per 10,000, client', digits: 2, better: 'less' },
  milliseconds: { label: 'ms', digits: 0, better: 'less' },
  seconds: { label: 's', digits: 2, better: 'less' },
  megabytes: { label: 'MB per node', digits: 0, better: 'less' },
  megabytesPerSecond: { label: 'MB/s', digits: 1, better: 'more' },
  failed: { label: 'failed', digits: 0, better: 'less' },
} as const satisfies Record<string, { label: string; digits: number; better: 'more' | 'less' }>

export type Figure = keyof typeof figures

export type Sample = {
  readonly group: string
  readonly scenario: string
  /** The name of the engine; of a ceiling, of what stands in its place. */
  readonly system: string
  readonly figures: Readonly<Partial<Record<Figure, number>>>
}

export type Measured = {
  readonly group: string
  readonly scenario: string
  readonly system: string
  readonly figures: Readonly<Partial<Record<Figure, Spread>>>
}

/** The samples of all rounds put together, in the order in which each scenario was first seen. */
export function summarize(samples: readonly Sample[]): readonly Measured[] {
  const together = Map.groupBy(samples, ({ group, scenario, system }) =>
    JSON.stringify([group, scenario, system]),
  )
  return [...together.values()].flatMap((all) => {
    const [first] = all
    if (first === undefined) return []
    const names = Object.keys(figures) as Figure[]
    const spreads = names.flatMap((name) => {
      const values = all.flatMap((sample) => sample.figures[name] ?? [])
      return values.length === 0 ? [] : [[name, spreadOf(values)] as const]
    })
    const { group, scenario, system } = first
    return [{ group, scenario, system, figures: Object.fromEntries(spreads) }]
  })
}

/** Looks one spread up. */
export function find(
  measured: readonly Measured[],
  { group, scenario, system, figure }: { group: string; scenario: string; system: string; figure: Figure },
): Spread | undefined {
  return measured.find((one) => one.group === group && one.scenario === scenario && one.system === system)
    ?.figures[figure]
}
