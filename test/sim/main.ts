// The simulator's command line: `npm run sim -- --seeds 1000`, `npm run sim -- --seed 17 --trace`, `npm run sim -- --variants`.

import { parseArgs } from 'node:util'
import { faults } from './faults.ts'
import { type Report, unjudged } from './run.ts'
import {
  add,
  failedSeeds,
  noTotals,
  runInThreads,
  runSeed,
  runSeeds,
  seedsFrom,
  type Totals,
} from './seeds.ts'
import { hunt } from './variant-run.ts'
import { variants } from './variants.ts'

const usage = `Usage: npm run sim -- [options]

  --seeds N     run N seeds (1 with --seed, else 100)
  --seed S      begin at this seed; without it, at 1, after the seeds that failed once
  --jobs J      run in J threads
  --trace       print everything that happens, every message too
  --all         go on after a failure
  --variants    run the programs that are broken on purpose until each is caught, from seed S on; at most N seeds each
  --only NAME   only those whose name contains this`

/** Counts that say nothing about whether a run looked into the corners. */
const uncounted: ReadonlySet<string> = new Set(['operations'])

/** From so many seeds on, a fault or event that never came is a failure of its own. */
const enoughSeeds = 1000

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    seed: { type: 'string' },
    jobs: { type: 'string', default: '1' },
    trace: { type: 'boolean', default: false },
    all: { type: 'boolean', default: false },
    variants: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
})

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

function wholeNumber(text: string, option: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  print(`--${option} takes a whole number, not ${text}`)
  process.exit(2)
}

function printFailure(report: Report): void {
  print(`\nSeed ${report.seed} breaks a promise: ${report.violation}\n`)
  print(report.lastLines.join('\n'))
  print(`\nTo see it again: npm run sim -- --seed ${report.seed} --trace`)
}

function printTotals(totals: Totals, seconds: number): void {
  const lines = [...totals.counts].sort(([one], [other]) => (one < other ? -1 : 1))
  for (const [what, count] of lines) print(`${String(count).padStart(10)}  ${what}`)
  const hours = (totals.virtualMs / 3_600_000).toFixed(2)
  const speed = (totals.runs / seconds).toFixed(1)
  print(`${totals.runs} seeds, ${totals.events} events, ${hours} simulated hours, ${speed} seeds a second`)
}

/** What may happen and never did. */
function missing({ counts }: Totals): readonly string[] {
  const wanted = [...faults.map(({ name }) => name), ...counts.keys()]
  return [...new Set(wanted)].filter((what) => !uncounted.has(what) && (counts.get(what) ?? 0) === 0)
}

async function simulate(): Promise<boolean> {
  const first = values.seed === undefined ? 1 : wholeNumber(values.seed, 'seed')
  const count = wholeNumber(values.seeds ?? (values.seed === undefined ? '100' : '1'), 'seeds')
  const seeds = [...(values.seed === undefined ? failedSeeds() : []), ...seedsFrom(first, count)]
  const jobs = Math.max(1, wholeNumber(values.jobs, 'jobs'))
  const begun = performance.now()
  const totals = noTotals()
  let failures = 0
  for await (const report of jobs === 1 ? runSeeds(seeds) : runInThreads(seeds, jobs)) {
    add(totals, report)
    if (seeds.length === 1) print(`seed ${report.seed}: transcript ${report.hash}`)
    if (report.violation === undefined) continue
    failures += 1
    printFailure(report)
    if (!values.all) break
  }
  printTotals(totals, (performance.now() - begun) / 1000)
  const tooHard = totals.counts.get(unjudged) ?? 0
  const isJudged = tooHard <= Math.ceil(totals.runs / 100)
  if (!isJudged) print(`${tooHard} histories could not be judged: more than one in a hundred`)
  const never = totals.runs >= enoughSeeds ? missing(totals) : []
  if (never.length > 0) print(`never happened: ${never.join(', ')}`)
  print(failures === 0 ? 'no violation' : `${failures} of ${totals.runs} seeds broke a promise`)
  return failures === 0 && never.length === 0 && isJudged
}

async function trace(): Promise<boolean> {
  const report = await runSeed(wholeNumber(values.seed ?? '1', 'seed'), print)
  if (report.violation !== undefined) print(`\nSeed ${report.seed} breaks a promise: ${report.violation}`)
  print(`transcript ${report.hash}`)
  return report.violation === undefined
}

/** Whether every variant was caught. */
async function huntVariants(): Promise<boolean> {
  const first = wholeNumber(values.seed ?? '1', 'seed')
  const most = wholeNumber(values.seeds ?? '1000', 'seeds')
  const wanted = variants.filter(({ name }) => name.includes(values.only))
  let missed = 0
  for (const variant of wanted) {
    const begun = performance.now()
    const caught = await hunt(variant, { first, most })
    const seconds = ((performance.now() - begun) / 1000).toFixed(1)
    const seeds = `${String(caught.seeds).padStart(5)} seeds, ${seconds.padStart(6)} s`
    if (caught.type === 'missed') missed += 1
    const how =
      caught.type === 'missed' ? 'MISSED' : `seed ${caught.seed}: ${caught.by.split('\n')[0]?.slice(0, 110)}`
    print(`${seeds}  ${variant.name}: ${how}`)
  }
  print(
    missed === 0 ? `all ${wanted.length} variants caught` : `${missed} of ${wanted.length} variants missed`,
  )
  return missed === 0 && wanted.length > 0
}

if (values.help) print(usage)
else {
  const well = values.variants ? huntVariants() : values.trace ? trace() : simulate()
  process.exitCode = (await well) ? 0 : 1
}
