// A chart of bars as SVG, by hand: one row per scenario, one bar per system, a whisker from the least to the most.

import type { Spread } from '../statistics.ts'

type ChartRow = {
  readonly label: string
  readonly bars: readonly { readonly system: string; readonly spread: Spread }[]
}

export type Chart = {
  readonly title: string
  /** What the bars measure, and which way is better. */
  readonly subtitle: string
  readonly digits: number
  readonly rows: readonly ChartRow[]
}

const width = 860
const left = 300
const right = 90
const barHeight = 15
const rowGap = 12
const top = 76

/** All readable on white and on black alike, because nobody knows on which a reader has them. */
const colours = ['#2f81f7', '#8b949e', '#d29922', '#3fb950', '#a371f7']

const style = `
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #76808c }
  .title { font-size: 17px; font-weight: 600 }
  .whisker { stroke: #76808c; stroke-width: 1.5 }`

export function chartSvg({ title, subtitle, digits, rows }: Chart): string {
  const systems = [...new Set(rows.flatMap(({ bars }) => bars.map(({ system }) => system)))]
  const most = Math.max(...rows.flatMap(({ bars }) => bars.map(({ spread }) => spread.most)))
  const x = (value: number) => left + ((width - left - right) * value) / (most > 0 ? most : 1)
  const colour = (system: string) => colours[systems.indexOf(system) % colours.length]
  let y = top
  const drawn: string[] = []
  for (const { label, bars } of rows) {
    const middle = y + (bars.length * barHeight) / 2 + 4.5
    drawn.push(`<text x="${left - 12}" y="${middle}" text-anchor="end">${escaped(label)}</text>`)
    for (const { system, spread } of bars) {
      const at = y + barHeight / 2
      const end = x(spread.median)
      const shown = spread.median.toLocaleString('en', { maximumFractionDigits: digits })
      drawn.push(
        `<rect x="${left}" y="${y + 1}" width="${(end - left).toFixed(1)}" height="${barHeight - 2}" rx="2" fill="${colour(system)}"/>`,
        `<line class="whisker" x1="${x(spread.least).toFixed(1)}" x2="${x(spread.most).toFixed(1)}" y1="${at}" y2="${at}"/>`,
        `<text x="${(x(spread.most) + 7).toFixed(1)}" y="${at + 4.5}">${shown}</text>`,
      )
      y += barHeight
    }
    y += rowGap
  }
  const legend = systems.map(
    (system, at) =>
      `<rect x="${left + at * 160}" y="50" width="12" height="12" rx="2" fill="${colour(system)}"/>` +
      `<text x="${left + at * 160 + 18}" y="60.5">${escaped(system)}</text>`,
  )
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y + 8}" viewBox="0 0 ${width} ${y + 8}" role="img" aria-label="${escaped(title)}">`,
    `<style>${style}</style>`,
    `<text class="title" x="16" y="24">${escaped(title)}</text>`,
    `<text x="16" y="43">${escaped(subtitle)}</text>`,
    ...legend,
    ...drawn,
    '</svg>',
    '',
  ].join('\n')
}

function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}
