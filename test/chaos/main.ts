// `npm run chaos`: real nodes under real faults, judged; the command line around `run.ts`.

import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { toLines } from '../linear/history.ts'
import { faultNamed, faults } from './faults.ts'
import { Progress } from './progress.ts'
import { reportPage } from './report.ts'
import { type Outcome, type RunOptions, runChaos } from './run.ts'
import { summaryOf } from './summary.ts'

const usage = `Usage: npm run chaos -- [options]

  --seconds S     how long clients run (default 60)
  --nodes K       how many nodes, 3 to 9 (default 5)
  --seed N        decides which faults, on whom, for how long (default: drawn)
  --faults LIST   names with commas between, or all (default)
  --rate R        calls a second, all clients together (default 150)
  --clients C     how many clients (default 16)
  --report FILE   the report (default ${join(tmpdir(), 'chaos-report.html')})
  --history FILE  what clients did and saw, as JSON lines

Faults:
${faults.map(({ name, about }) => `  ${name.padEnd(11)} ${about}`).join('\n')}

TRIVET_TEST_KEEP=1 leaves the nodes' data and logs, as a violation does.
`

type Arguments = {
  readonly run: Omit<RunOptions, 'signal'>
  readonly report: string
  readonly history: string | undefined
}

/** Undefined when help was asked for. Throws a sentence for what cannot be meant. */
function readArguments(): Arguments | undefined {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      nodes: { type: 'string', default: '5' },
      seed: { type: 'string', default: String(1 + Math.floor(Math.random() * 1_000_000)) },
      faults: { type: 'string', default: 'all' },
      rate: { type: 'string', default: '150' },
      clients: { type: 'string', default: '16' },
      report: { type: 'string', default: join(tmpdir(), 'chaos-report.html') },
      history: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) return undefined
  const names = values.faults.split(',').map((name) => name.trim())
  if (values.faults !== 'all') for (const name of names) faultNamed(name)
  return {
    run: {
      seconds: whole('--seconds', values.seconds, [5, 86_400]),
      nodes: whole('--nodes', values.nodes, [3, 9]),
      seed: whole('--seed', values.seed, [0, 2 ** 31]),
      faults: values.faults === 'all' ? 'all' : names,
      rate: whole('--rate', values.rate, [1, 10_000]),
      clients: whole('--clients', values.clients, [1, 500]),
    },
    report: values.report,
    history: values.history,
  }
}

function whole(flag: string, text: string, [least, most]: readonly [number, number]): number {
  const number = Number(text)
  if (/^\d+$/.test(text) && number >= least && number <= most) return number
  throw new Error(`${flag} is a whole number from ${least} to ${most}, not ${JSON.stringify(text)}.`)
}

/** Returns the exit status: 0 all well, 1 a violation, 2 usage. */
async function main(): Promise<number> {
  let given: Arguments | undefined
  try {
    given = readArguments()
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n(--help says more)\n`)
    return 2
  }
  if (given === undefined) {
    process.stdout.write(usage)
    return 0
  }
  const { run, report, history } = given
  const stopping = new AbortController()
  const progress = new Progress(run)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      // Asked twice: at once. Leaving takes the nodes along.
      if (stopping.signal.aborted) process.exit(130)
      progress.say('stopping: no more faults, then the verdict; once more to end at once')
      stopping.abort()
    })
  }
  let outcome: Outcome
  try {
    outcome = await runChaos({ ...run, signal: stopping.signal }, progress)
  } catch (error) {
    progress.end()
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    return 1
  }
  progress.end()
  await writeFile(report, reportPage(outcome))
  if (history !== undefined) await writeFile(history, toLines(outcome.events))
  process.stdout.write(summaryOf(outcome))
  process.stdout.write(`report: ${report}\n`)
  if (history !== undefined) process.stdout.write(`history: ${history}\n`)
  return outcome.violations.length === 0 ? 0 : 1
}

process.exit(await main())
