// Which charts a run's report has, and what each shows.

import { type Chart, chartSvg } from './chart.ts'
import { type Figure, figures, type Measured } from './samples.ts'

type Kind = {
  readonly name: string
  readonly group: string
  readonly title: string
  readonly figure: Figure
  /** Which scenarios; all of the group that have the figure unless said. */
  readonly only?: RegExp
}

const kinds: readonly Kind[] = [
  {
    name: 'put',
    group: 'http',
    title: 'PUT of 256 bytes over HTTP, per second',
    figure: 'perSecond',
    only: /^PUT/,
  },
  {
    name: 'get',
    group: 'http',
    title: 'Linearizable GET over HTTP, per second',
    figure: 'perSecond',
    only: /^GET/,
  },
  {
    name: 'latency',
    group: 'http',
    title: 'p99 over HTTP at the leader, ms',
    figure: 'p99',
    only: /the leader$/,
  },
  {
    name: 'cpu',
    group: 'http',
    title: 'CPU seconds of all nodes per 10,000 requests',
    figure: 'cpu',
    only: /the leader$/,
  },
  { name: 'clients', group: 'clients', title: 'Through clients, operations per second', figure: 'perSecond' },
  { name: 'mixed', group: 'mixed', title: '95 % GET, 5 % PUT over HTTP, per second', figure: 'perSecond' },
  {
    name: 'values',
    group: 'values',
    title: 'Values of many sizes over HTTP, per second',
    figure: 'perSecond',
  },
  {
    name: 'failover',
    group: 'failover',
    title: 'From the loss of the leader to the next write, ms',
    figure: 'milliseconds',
  },
  { name: 'size', group: 'size', title: 'PUT per second by the number of keys', figure: 'perSecond' },
  { name: 'memory', group: 'size', title: 'Resident memory per node, MB', figure: 'megabytes' },
  { name: 'restart', group: 'size', title: 'Restart until ready, s', figure: 'seconds' },
  {
    name: 'catch-up',
    group: 'catch-up',
    title: 'Catching up through a snapshot, MB/s',
    figure: 'megabytesPerSecond',
  },
  { name: 'nodes', group: 'nodes', title: 'PUT per second with three and five nodes', figure: 'perSecond' },
  { name: 'watchers', group: 'watchers', title: 'PUT per second beside watchers', figure: 'perSecond' },
  { name: 'ceilings', group: 'ceilings', title: 'The parts by themselves, per second', figure: 'perSecond' },
]

export type DrawnChart = {
  readonly name: string
  readonly group: string
  readonly title: string
  readonly svg: string
}

export function drawCharts(measured: readonly Measured[]): readonly DrawnChart[] {
  return kinds.flatMap(({ name, group, title, figure, only }) => {
    const bars = measured.flatMap((one) => {
      const spread = one.figures[figure]
      const isShown = one.group === group && (only === undefined || only.test(one.scenario))
      return isShown && spread !== undefined ? [{ label: one.scenario, system: one.system, spread }] : []
    })
    if (bars.length === 0) return []
    const { better, digits } = figures[figure]
    const chart: Chart = {
      title,
      subtitle: `median of all rounds, with least and most; ${better} is better`,
      digits,
      rows: [...Map.groupBy(bars, ({ label }) => label)].map(([label, own]) => ({ label, bars: own })),
    }
    return [{ name, group, title, svg: chartSvg(chart) }]
  })
}
