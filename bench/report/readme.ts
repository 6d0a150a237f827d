// The few lines of a result that the README shows: ratios to etcd and nothing else.

import type { Measured } from './samples.ts'
import { type Figure, find } from './samples.ts'

type Line = {
  readonly what: string
  readonly group: string
  readonly scenario: string
  readonly figure: Figure
}

const lines: readonly Line[] = [
  ...['PUT', 'GET'].flatMap((verb) =>
    [64, 256].map((connections) => ({
      what: `HTTP ${verb}, ${connections} connections`,
      group: 'http',
      scenario: `${verb}, ${connections} connections, at the leader`,
      figure: 'perSecond' as const,
    })),
  ),
  ...['set', 'get'].map((operation) => ({
    what: `client, 256 concurrent ${operation}s (SDK, \`etcd3\`)`,
    group: 'clients',
    scenario: `${operation}, 256 at a time`,
    figure: 'perSecond' as const,
  })),
  {
    what: 'leader killed, until the next write',
    group: 'failover',
    scenario: 'the leader killed (SIGKILL)',
    figure: 'milliseconds',
  },
]

const marks = { begin: '<!-- speed: made by `node bench/readme.ts RESULT.json` -->', end: '<!-- /speed -->' }

/** The table of ratios; lines that were not measured are left out. */
export function speedTable(measured: readonly Measured[]): string {
  const rows = lines.flatMap(({ what, group, scenario, figure }) => {
    const at = (system: string, of: Figure) => find(measured, { group, scenario, system, figure: of })
    const ratio = (of: Figure): string => {
      const [ours, theirs] = [at('Trivet', of), at('etcd', of)]
      return ours === undefined || theirs === undefined ? '' : times(ours.median / theirs.median)
    }
    if (ratio(figure) === '') return []
    const isRate = figure === 'perSecond'
    const cells = isRate ? [ratio('perSecond'), ratio('p99'), ratio('cpu')] : ['', ratio(figure), '']
    return [`| ${[what, ...cells].join(' | ')} |`]
  })
  return [
    '| Trivet by etcd | throughput | time (p99; kills: median) | CPU of all nodes |',
    '| --- | ---: | ---: | ---: |',
    ...rows,
  ].join('\n')
}

/** A ratio as people read it: two digits that count. */
function times(ratio: number): string {
  return `${ratio >= 10 ? ratio.toFixed(0) : ratio >= 1 ? ratio.toFixed(1) : ratio.toFixed(2)} ×`
}

/** The text with the table between its marks replaced. Throws when the marks are not there. */
export function withSpeed(readme: string, table: string): string {
  const [before, rest] = cut(readme, marks.begin)
  const [, after] = cut(rest, marks.end)
  return `${before}${marks.begin}\n\n${table}\n\n${marks.end}${after}`
}

function cut(text: string, mark: string): readonly [string, string] {
  const at = text.indexOf(mark)
  if (at < 0) throw new Error(`The README has no line ${mark}.`)
  return [text.slice(0, at), text.slice(at + mark.length)]
}
