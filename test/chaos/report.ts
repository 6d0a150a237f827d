// The report of a run: one page that needs nothing but itself, for whoever has to decide whether to trust what ran.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { HistoryEvent } from '../linear/history.ts'
import { keyValue, type Operation, type Result } from '../linear/key-value.ts'
import { faultNamed } from './faults.ts'
import { chart, roleNames } from './report-chart.ts'
import { quantile, type Series, seriesOf } from './report-series.ts'
import { asScript, escapeText } from './report-text.ts'
import type { Outcome } from './run.ts'
import { countsOf, faultRows, inSeconds, unreached } from './summary.ts'
import { longestGap, type Violation } from './verdict.ts'

const read = (name: string) => readFileSync(join(import.meta.dirname, 'fixtures', name), 'utf8')

/** The whole page as text. */
export function reportPage(outcome: Outcome): string {
  const { options, violations } = outcome
  const series = seriesOf(outcome.events, outcome.lasted)
  const { svg, frame } = chart(outcome, series)
  const isWell = violations.length === 0
  const title = `Trivet chaos: ${isWell ? 'no violation' : `${violations.length} violations`}, seed ${options.seed}`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeText(title)}</title>
<style>${read('report.css')}</style>
</head>
<body>
<header class="${isWell ? 'well' : 'ill'}">
<h1>${isWell ? 'No violation' : `${violations.length} violation${violations.length === 1 ? '' : 's'}`}</h1>
<p>${escapeText(verdictInWords(outcome))}</p>
<p class="command"><code>${escapeText(commandOf(outcome))}</code> · ${outcome.startedAt.toISOString().replace('T', ' ').slice(0, 19)} UTC</p>
</header>
<main>
${tiles(outcome, series)}
${violations.length === 0 ? '' : violationSection(outcome)}
<section>
<h2>What happened</h2>
${legend()}
<div id="plot">${svg}<div id="tip" hidden></div></div>
</section>
${faultSection(outcome)}
${stepSection(outcome)}
${checksSection()}
</main>
<script>const frame = ${asScript(frame)}, series = ${asScript(series)};
${read('report.js')}</script>
</body>
</html>
`
}

function verdictInWords({ violations, nodes, steps, lasted, replicas }: Outcome): string {
  const what = `${nodes.length} nodes, ${Math.round(lasted / 1000)} s, ${steps.length} faults one after the other`
  if (violations.length > 0)
    return `${what}. What clients saw or nodes hold is not what was promised; see below.`
  return (
    `${what}. Every call is explained by one order, no acknowledged write is lost or was made twice, all nodes hold the same ` +
    `${replicas[0]?.keys.size ?? 0} keys, and all served again after every fault.`
  )
}

function commandOf({ options, faults }: Outcome): string {
  const { seconds, seed, nodes, rate, clients } = options
  const names = options.faults === 'all' ? 'all' : faults.join(',')
  return `npm run chaos -- --seconds ${seconds} --nodes ${nodes} --seed ${seed} --rate ${rate} --clients ${clients} --faults ${names}`
}

function tiles(outcome: Outcome, series: Series): string {
  const { calls, ok, failed, unknown, writes } = countsOf(outcome.events)
  const latencies = series.buckets.flatMap(({ p99 }) => p99 ?? []).toSorted((a, b) => a - b)
  const recoveries = outcome.steps.flatMap(({ recovered, healed }) =>
    recovered === undefined ? [] : [recovered - healed],
  )
  const gaps = outcome.steps.map((step) => longestGap(step, outcome.events))
  const all: readonly (readonly [string, string, string])[] = [
    [String(calls), 'calls', `${writes} acknowledged writes`],
    [percent(ok, calls), 'answered', `${failed} refused, ${unknown} of unknown outcome`],
    [
      `${Math.round(quantile(latencies, 0.5) ?? 0)} ms`,
      'p99 in a typical moment',
      `${Math.round(latencies.at(-1) ?? 0)} ms in the worst`,
    ],
    [inSeconds(Math.max(0, ...recoveries)), 'longest recovery', 'until all nodes served again'],
    [inSeconds(Math.max(0, ...gaps)), 'longest without a write', 'from a fault until all served'],
  ]
  const rendered = all.map(
    ([figure, name, more]) =>
      `<div><strong>${escapeText(figure)}</strong><span>${escapeText(name)}</span><small>${escapeText(more)}</small></div>`,
  )
  return `<section class="tiles">${rendered.join('')}</section>`
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '–' : `${((100 * part) / whole).toFixed(1)} %`
}

function legend(): string {
  const calls = [
    ['answered', 'answered'],
    ['refused', 'refused, without effect'],
    ['unknown', 'unknown outcome'],
    ['p50', 'p50'],
    ['p99', 'p99'],
  ]
  const entries = [...calls, ...Object.entries(roleNames).map(([role, name]) => [`role ${role}`, name])]
  return `<p class="legend">${entries.map(([kind, name]) => `<span><i class="${kind}"></i>${name}</span>`).join('')}</p>`
}

function faultSection(outcome: Outcome): string {
  const rows = faultRows(outcome)
  const missing = unreached(outcome)
  if (rows.length === 0) return ''
  const longest = Math.max(
    1,
    ...rows.flatMap(({ recovery, gap }) => [recovery.most, gap.most]).filter(Number.isFinite),
  )
  const bar = (ms: number, kind: string) =>
    Number.isNaN(ms) ? '' : `<b class="${kind}" style="width:${((100 * ms) / longest).toFixed(1)}%"></b>`
  const rendered = rows.map(
    ({
      fault,
      count,
      recovery,
      gap,
    }) => `<tr><th scope="row" title="${escapeText(faultNamed(fault).about)}">${escapeText(fault)}</th><td>${count}</td>
<td>${inSeconds(recovery.median)}</td><td>${inSeconds(recovery.most)}</td><td class="bar">${bar(recovery.most, 'recovery')}</td>
<td>${inSeconds(gap.median)}</td><td>${inSeconds(gap.most)}</td><td class="bar">${bar(gap.most, 'gap')}</td></tr>`,
  )
  return `<section><h2>Recovery by fault</h2>
<table><thead><tr><th>fault</th><th>times</th><th colspan="3">until all nodes served again: middle, longest</th><th colspan="3">without an acknowledged write: middle, longest</th></tr></thead>
<tbody>${rendered.join('\n')}</tbody></table>
${missing.length === 0 ? '' : `<p>There was no time for ${escapeText(missing.join(', '))}.</p>`}</section>`
}

function stepSection(outcome: Outcome): string {
  if (outcome.steps.length === 0) return ''
  const rows = outcome.steps.map((step) => {
    const { number, begun, healed, recovered, strikes, failure } = step
    const what = strikes
      .map(({ fault, what }) => `<b>${escapeText(fault)}</b> ${escapeText(what)}`)
      .join('<br>')
    const recovery = recovered === undefined ? 'never' : inSeconds(recovered - healed)
    return `<tr${failure === undefined ? '' : ' class="ill"'}><td>${number}</td><td>${inSeconds(begun)}</td><td class="wide">${what}${failure === undefined ? '' : `<br><em>${escapeText(failure)}</em>`}</td><td>${inSeconds(healed - begun)}</td><td>${recovery}</td><td>${inSeconds(longestGap(step, outcome.events))}</td></tr>`
  })
  return `<section><details${outcome.steps.length > 12 ? '' : ' open'}><summary><h2>All faults in order</h2></summary>
<table><thead><tr><th></th><th>at</th><th class="wide">what</th><th>lasted</th><th>recovery</th><th>without a write</th></tr></thead><tbody>${rows.join('\n')}</tbody></table></details></section>`
}

function violationSection({ violations, events, kept }: Outcome): string {
  const calls = callsByNumber(events)
  const rendered = violations.map(
    (violation) =>
      `<article><h3>${escapeText(violation.type)}</h3><pre>${escapeText(violation.text)}</pre>${offending(violation, calls)}</article>`,
  )
  const where =
    kept === undefined ? '' : `<p>Data and logs of the nodes: <code>${escapeText(kept)}</code></p>`
  return `<section class="violations"><h2>Violations</h2>${rendered.join('\n')}${where}</section>`
}

type Called = {
  readonly client: string
  readonly node: string
  readonly operation: Operation
  readonly invoked: number
  returned?: number
  result?: Result
  reason?: string
}

function callsByNumber(events: readonly HistoryEvent[]): ReadonlyMap<number, Called> {
  const calls = new Map<number, Called>()
  for (const event of events) {
    if (event.type === 'invoke') {
      const { client, node, operation, time } = event
      calls.set(event.call, { client, node, operation, invoked: time })
      continue
    }
    const call = calls.get(event.call)
    if (call === undefined) continue
    call.returned = event.time
    if (event.type === 'ok') call.result = event.result
    else call.reason = event.reason
  }
  return calls
}

/** The calls of a violation as bars over time, one below the other. */
function offending({ calls: numbers = [] }: Violation, calls: ReadonlyMap<number, Called>): string {
  const all = numbers.flatMap((number) => calls.get(number) ?? []).toSorted((a, b) => a.invoked - b.invoked)
  const [first] = all
  if (first === undefined) return ''
  const until = Math.max(...all.map(({ returned, invoked }) => returned ?? invoked)) + 1
  const at = (time: number) => (100 * (time - first.invoked)) / (until - first.invoked)
  const rows = all.map((call) => {
    const end = call.result === undefined ? until : (call.returned ?? until)
    const text = keyValue.describe(call.operation, call.result)
    return `<tr><td>${escapeText(call.client)}</td><td>${escapeText(call.node)}</td><td>${inSeconds(call.invoked)}</td><td class="wide">${escapeText(text)}${call.reason === undefined ? '' : ` (${escapeText(call.reason)})`}</td>
<td class="bar"><b class="${call.result === undefined ? 'unknown' : 'answered'}" style="margin-left:${at(call.invoked).toFixed(2)}%;width:${Math.max(0.5, at(end) - at(call.invoked)).toFixed(2)}%"></b></td></tr>`
  })
  return `<table><thead><tr><th>client</th><th>node</th><th>at</th><th class="wide">call and answer</th><th>from its begin to its end</th></tr></thead><tbody>${rows.join('\n')}</tbody></table>`
}

function checksSection(): string {
  return `<section class="checks"><h2>What was checked</h2><ul>
<li>Linearizability of all gets, sets, deletes and conditional sets, key by key; a call of unknown outcome may have happened or not.</li>
<li>Of every key, the last acknowledged write or a later one is there on every node; what was deleted is not back.</li>
<li>No value was written under two revisions, and no revision was given to two writes.</li>
<li>All nodes list the same keys, revisions and values at the same revision, with equal digests; every value is whole.</li>
<li>After every fault all nodes served again within a minute; where a majority worked on, writes went on.</li>
<li>No node ended unasked, none gave an answer that the contract does not know, and no two led one term.</li>
</ul></section>`
}
