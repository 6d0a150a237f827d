// The picture of a run: load, latency, roles and faults over one axis of time, as SVG that stands by itself.

import type { RoleChange, SeenRole } from './observer.ts'
import type { Series } from './report-series.ts'
import { escapeText } from './report-text.ts'
import type { Outcome } from './run.ts'
import type { StepRecord } from './verdict.ts'

const width = 1200
const left = 64
const right = 12
const gap = 30
const heights = { load: 120, latency: 120, role: 18, fault: 18 } as const

/** Where a moment lies, in the units of the picture. */
type Scale = (time: number) => number

/** A lane's part of the picture, and how high it is. */
type Drawn = { readonly svg: string; readonly height: number }

/** What the page's script has to know to point at a moment. */
export type ChartFrame = {
  readonly left: number
  readonly right: number
  readonly width: number
  readonly lasted: number
}

export function chart(
  outcome: Outcome,
  series: Series,
): { readonly svg: string; readonly frame: ChartFrame } {
  const { lasted } = outcome
  const span = Math.max(lasted, ...outcome.steps.map(({ healed, recovered }) => recovered ?? healed))
  const at: Scale = (time) => round(left + (Math.min(time, span) / span) * (width - left - right))
  const lanes: readonly { readonly title: string; readonly drawn: Drawn }[] = [
    { title: 'calls a second', drawn: loadLane(series, at) },
    { title: 'latency of answered calls', drawn: latencyLane(series, at) },
    { title: 'roles, as each node says itself', drawn: roleLane(outcome, span, at) },
    { title: 'faults, and the time until all nodes served again', drawn: faultLane(outcome.steps, at) },
  ]
  let top = 0
  const parts: string[] = []
  for (const { title, drawn } of lanes) {
    top += gap
    parts.push(`<text class="lane" x="${left}" y="${top - 9}">${title}</text>`)
    parts.push(`<g transform="translate(0 ${top})">${drawn.svg}</g>`)
    top += drawn.height
  }
  const bands = outcome.steps.map(({ begun, healed }) => {
    const from = at(begun)
    return `<rect class="band" x="${from}" y="0" width="${round(Math.max(1, at(healed) - from))}" height="${top}"/>`
  })
  const offences = offenceTimes(outcome).map((time) => {
    const x = at(time)
    return `<line class="offence" x1="${x}" x2="${x}" y1="0" y2="${top}"/>`
  })
  const height = top + 28
  const svg = `<svg id="chart" viewBox="0 0 ${width} ${height}" role="img" aria-label="Load, latency, roles and faults over time">
${bands.join('')}
${parts.join('\n')}
${timeAxis(span, top, at)}
${offences.join('')}
<line id="cursor" x1="0" x2="0" y1="0" y2="${top}" visibility="hidden"/>
</svg>`
  return { svg, frame: { left, right, width, lasted: span } }
}

/** When the calls of violations began. */
function offenceTimes({ violations, events }: Outcome): readonly number[] {
  const offending = new Set(violations.flatMap(({ calls = [] }) => calls))
  return events.flatMap((event) => (event.type === 'invoke' && offending.has(event.call) ? [event.time] : []))
}

function loadLane({ buckets, bucketMs }: Series, at: Scale): Drawn {
  const height = heights.load
  const rate = (calls: number) => (calls * 1000) / bucketMs
  const most = Math.max(
    1,
    ...buckets.map(({ answered, refused, unknown }) => rate(answered + refused + unknown)),
  )
  const top = niceCeiling(most)
  const y = (value: number) => round(height - (value / top) * height)
  const bars = buckets.flatMap(({ time, answered, refused, unknown }) => {
    const x = at(time)
    const wide = round(Math.max(0.6, at(time + bucketMs) - x - 0.4))
    let below = 0
    return (
      [
        ['answered', answered],
        ['refused', refused],
        ['unknown', unknown],
      ] as const
    ).flatMap(([kind, calls]) => {
      if (calls === 0) return []
      const [low, high] = [below, below + rate(calls)]
      below = high
      return [
        `<rect class="${kind}" x="${x}" y="${y(high)}" width="${wide}" height="${round(y(low) - y(high))}"/>`,
      ]
    })
  })
  return { svg: rules([0, top / 2, top].map((value) => [y(value), String(value)])) + bars.join(''), height }
}

/** On a logarithmic scale: a healthy answer takes milliseconds, one that waits for an election a thousand times as long. */
function latencyLane({ buckets, bucketMs }: Series, at: Scale): Drawn {
  const height = heights.latency
  const [least, most] = [1, 10_000]
  const y = (ms: number) => {
    const part = Math.log10(Math.min(most, Math.max(least, ms)) / least) / Math.log10(most / least)
    return round(height - part * height)
  }
  const line = (kind: 'p50' | 'p99') => {
    let path = ''
    let isDrawing = false
    for (const bucket of buckets) {
      const value = bucket[kind]
      if (value !== undefined)
        path += `${isDrawing ? 'L' : 'M'}${round(at(bucket.time + bucketMs / 2))} ${y(value)}`
      isDrawing = value !== undefined
    }
    return `<path class="${kind}" d="${path}"/>`
  }
  const marks = [1, 10, 100, 1000, 10_000].map(
    (ms) => [y(ms), ms < 1000 ? `${ms} ms` : `${ms / 1000} s`] as const,
  )
  return { svg: rules(marks) + line('p99') + line('p50'), height }
}

function roleLane(outcome: Outcome, span: number, at: Scale): Drawn {
  const rows = outcome.nodes.map((node, row) => {
    const changes = outcome.roles.filter((change) => change.node === node)
    const y = row * heights.role
    const strips = changes.map((change, index) => roleStrip(change, changes[index + 1]?.time ?? span, y, at))
    return `<text class="tick" x="${left - 8}" y="${y + 12}" text-anchor="end">${escapeText(node)}</text>${strips.join('')}`
  })
  return { svg: rows.join(''), height: outcome.nodes.length * heights.role }
}

function roleStrip(change: RoleChange, until: number, y: number, at: Scale): string {
  const { role, term, time } = change
  const x = at(time)
  const title = `${change.node}: ${roleNames[role]}${term === undefined ? '' : ` in term ${term}`}, ${seconds(time)} – ${seconds(until)}`
  return `<rect class="role ${role}" x="${x}" y="${y + 2}" width="${round(Math.max(0.5, at(until) - x))}" height="${heights.role - 4}"><title>${escapeText(title)}</title></rect>`
}

export const roleNames: Readonly<Record<SeenRole, string>> = {
  leader: 'leader',
  follower: 'follower',
  candidate: 'candidate',
  learner: 'learner',
  silent: 'no answer',
  paused: 'frozen',
  down: 'not running',
  gone: 'no member any more',
}

function faultLane(steps: readonly StepRecord[], at: Scale): Drawn {
  /** Until where each row is taken. */
  const rows: number[] = []
  const bars = steps.flatMap((step) => {
    const { begun, healed, recovered, number } = step
    const strikes =
      step.strikes.length > 0 ? step.strikes : [{ fault: 'failed', what: step.failure ?? '', nodes: [] }]
    return strikes.map(({ fault, what }) => {
      const x = at(begun)
      const label = `${number} ${fault}`
      const end = Math.max(at(recovered ?? healed), x + 8 + label.length * 6.2)
      let row = rows.findIndex((taken) => taken < x)
      if (row === -1) row = rows.length
      rows[row] = end
      const y = row * heights.fault
      const outcome =
        recovered === undefined ? 'not recovered' : `recovered after ${seconds(recovered - healed)}`
      const title = `${number}. ${fault}: ${what}\n${seconds(begun)} – ${seconds(healed)}, ${outcome}`
      const wide = round(Math.max(2, at(healed) - x))
      const tail = recovered === undefined ? 0 : round(Math.max(0, at(recovered) - at(healed)))
      const kind = step.failure === undefined ? 'fault' : 'fault failed'
      return `<g class="${kind}"><title>${escapeText(title)}</title><rect class="held" x="${x}" y="${y + 2}" width="${wide}" height="${heights.fault - 4}" rx="2"/><rect class="recovery" x="${round(x + wide)}" y="${y + heights.fault - 5}" width="${tail}" height="3"/><text x="${round(x + 4)}" y="${y + 13}">${escapeText(label)}</text></g>`
    })
  })
  return { svg: bars.join(''), height: Math.max(1, rows.length) * heights.fault }
}

function timeAxis(span: number, top: number, at: Scale): string {
  const step =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600].find((one) => span / 1000 / one <= 16) ?? 7200
  const ticks: string[] = []
  for (let time = 0; time <= span; time += step * 1000) {
    const x = at(time)
    ticks.push(
      `<line class="rule" x1="${x}" x2="${x}" y1="${top}" y2="${top + 5}"/><text class="tick" x="${x}" y="${top + 18}" text-anchor="middle">${clock(time)}</text>`,
    )
  }
  return ticks.join('')
}

function rules(marks: readonly (readonly [number, string])[]): string {
  return marks
    .map(
      ([y, text]) =>
        `<line class="rule" x1="${left}" x2="${width - right}" y1="${y}" y2="${y}"/><text class="tick" x="${left - 8}" y="${y + 4}" text-anchor="end">${text}</text>`,
    )
    .join('')
}

/** The next of 1, 2, 5, 10, 20, … */
export function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value))
  return ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10) * power
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

/** Minutes and seconds since the begin. */
function clock(ms: number): string {
  const all = Math.round(ms / 1000)
  return `${Math.floor(all / 60)}:${String(all % 60).padStart(2, '0')}`
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
