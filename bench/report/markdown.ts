// The report of a run as Markdown: on what it ran, the targets, and a table for each group.

import type { Spread } from '../statistics.ts'
import { type Figure, figures, type Measured } from './samples.ts'
import type { Verdict } from './targets.ts'

/** On what, with what and how a run was made. */
export type Circumstances = {
  readonly date: string
  readonly command: string
  /** In the order in which they are shown. */
  readonly facts: readonly (readonly [name: string, value: string])[]
}

export type Report = {
  readonly circumstances: Circumstances
  readonly groups: readonly { readonly name: string; readonly title: string }[]
  readonly measured: readonly Measured[]
  readonly verdicts: readonly Verdict[]
  readonly notes: readonly string[]
  /** Names of the files of charts, by group. */
  readonly charts: readonly { readonly group: string; readonly title: string; readonly file: string }[]
}

/** The first system of a group; the ratios are its figures by those of each other. */
const ours = 'Trivet'

export function markdown({ circumstances, groups, measured, verdicts, notes, charts }: Report): string {
  const tables = groups.flatMap(({ name, title }) => {
    const own = measured.filter(({ group }) => group === name)
    if (own.length === 0) return []
    const shown = charts.filter(({ group }) => group === name)
    const pictures = shown.flatMap((chart) => [`![${chart.title}](${chart.file})`, ''])
    return [`## ${title}`, '', ...pictures, ...groupTables(own)]
  })
  return [
    `# Measured ${circumstances.date}`,
    '',
    ...table(['', ''], [...circumstances.facts, ['command', `\`${circumstances.command}\``]]),
    '',
    'Each figure is the median of all rounds, in brackets the least and the most. The systems took turns in one run, on the same machine and',
    'disk, with fsync on. Machines differ and are noisy: what carries over to others is the ratios.',
    '',
    ...notes.flatMap((note) => [`- ${note}`]),
    ...(notes.length > 0 ? [''] : []),
    ...targetTable(verdicts),
    ...tables,
  ].join('\n')
}

function targetTable(verdicts: readonly Verdict[]): readonly string[] {
  const measured = verdicts.filter(({ reached }) => reached !== undefined)
  if (measured.length === 0) return []
  const rows = measured.map(({ what, reach, reached = '', isMet }) => [
    what,
    reach,
    reached,
    isMet ? 'yes' : '**no**',
  ])
  return ['## Targets, as ratios to etcd', '', ...table(['what', 'reach', 'reached', 'met'], rows), '']
}

/** A table for each set of scenarios in which the same was measured. */
function groupTables(measured: readonly Measured[]): readonly string[] {
  const alike = Map.groupBy(measured, ({ figures: found }) => Object.keys(found).join())
  return [...alike.values()].flatMap((some) => [...groupTable(some), ''])
}

/** One row per scenario and system, and one for the ratio to each other system. */
export function groupTable(measured: readonly Measured[]): readonly string[] {
  const shown = (Object.keys(figures) as Figure[]).filter((figure) =>
    measured.some((one) => one.figures[figure] !== undefined),
  )
  const rows = [...Map.groupBy(measured, ({ scenario }) => scenario)].flatMap(([scenario, systems]) => {
    const own = systems.find(({ system }) => system === ours)
    const others = own === undefined ? [] : systems.filter(({ system }) => system !== ours)
    const lines = systems.map(({ system, figures: found }) => [
      system,
      ...shown.map((figure) => cell(figure, found[figure])),
    ])
    const ratios = others.map((other) => [
      `_${ours} ÷ ${other.system}_`,
      ...shown.map((figure) => ratioCell(figure, own?.figures[figure], other.figures[figure])),
    ])
    return [...lines, ...ratios].map((line, at) => [at === 0 ? scenario : '', ...line])
  })
  return table(['', '', ...shown.map((figure) => figures[figure].label)], rows)
}

function cell(figure: Figure, spread: Spread | undefined): string {
  if (spread === undefined) return ''
  const { digits } = figures[figure]
  const shown = (value: number) =>
    value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
  const [median, least, most] = [shown(spread.median), shown(spread.least), shown(spread.most)]
  // Failures are not to be overlooked.
  if (figure === 'failed') return spread.most > 0 ? `**up to ${most}**` : '0'
  return least === most ? median : `${median} (${least}–${most})`
}

function ratioCell(figure: Figure, own: Spread | undefined, other: Spread | undefined): string {
  if (figure === 'failed' || own === undefined || other === undefined) return ''
  return `_${(own.median / other.median).toFixed(2)}_`
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((text) => text.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map((_, at) => (at < 2 ? '---' : '---:'))), ...rows.map(line)]
}
