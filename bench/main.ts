// `npm run bench`: Trivet beside etcd, on this machine, taking turns in one run; `-- --help` says what it may be told.
//
// What it does is in `scenarios/`, one group each. Results lie in `bench/results/`, also when a group fails;
// docs/performance.md says how to read them.

import { join, resolve } from 'node:path'
import type { Bench, Group } from './bench.ts'
import { findLoadTool } from './loads/http-load.ts'
import { commitOf, load, machineFacts } from './machine.ts'
import { type Options, readOptions, usage } from './options.ts'
import { writeResults } from './report/files.ts'
import type { Sample } from './report/samples.ts'
import { catchUp } from './scenarios/catch-up.ts'
import { ceilings } from './scenarios/ceilings.ts'
import { clients } from './scenarios/clients.ts'
import { failover } from './scenarios/failover.ts'
import { http, mixed, nodes, values } from './scenarios/http.ts'
import { size } from './scenarios/size.ts'
import { watchers } from './scenarios/watchers.ts'
import type { Engine } from './systems/engine.ts'
import { installedEtcd } from './systems/etcd.ts'
import { thisTrivet, trivetAt } from './systems/trivet.ts'

const root = join(import.meta.dirname, '..')
const groups: readonly Group[] = [
  http,
  clients,
  mixed,
  values,
  failover,
  size,
  catchUp,
  nodes,
  watchers,
  ceilings,
]

/** Above this load of the last minute, somebody else is at work. */
const busyLoad = 1

/** Of what a program says when it fails, its beginning is enough. */
const longestNote = 600

async function findSystems({ trivet, withEtcd }: Options, note: (text: string) => void): Promise<Engine[]> {
  const systems = [await thisTrivet()]
  if (trivet !== undefined) systems.push(await trivetAt(trivet))
  if (!withEtcd) return systems
  const etcd = await installedEtcd()
  if (etcd === undefined) {
    note('There is no etcd on the PATH (Debian: etcd-server), so Trivet was measured alone, without ratios.')
  } else systems.push(etcd)
  return systems
}

/** One line of progress. */
function progress({ group, scenario, system, figures }: Sample): void {
  const shown = Object.entries(figures).map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
  console.error(`${group}: ${scenario}: ${system}: ${shown.join(', ')}`)
}

/** Runs the groups one after the other; returns how many failed. */
async function runAll(chosen: readonly Group[], bench: Bench): Promise<number> {
  let failures = 0
  for (const group of chosen) {
    console.error(`\n${group.name}: ${group.title}`)
    try {
      await group.run(bench)
    } catch (error) {
      // What the others measured is not lost with it.
      failures += 1
      const why = error instanceof Error ? error.message : String(error)
      bench.note(`The group "${group.name}" was not measured to its end: ${why}`)
    }
  }
  return failures
}

/** Sentences that belong to the results, each once: the same may be found in every round. */
function notebook(): { readonly notes: readonly string[]; readonly note: Bench['note'] } {
  const notes: string[] = []
  const note = (sentence: string) => {
    const text = sentence.replaceAll(/\s+/g, ' ').slice(0, longestNote)
    if (notes.includes(text)) return
    console.error(text)
    notes.push(text)
  }
  return { notes, note }
}

async function main(args: readonly string[]): Promise<number> {
  const names = groups.map(({ name }) => name)
  if (args.includes('--help')) {
    console.log(usage(names))
    return 0
  }
  if (process.platform !== 'linux') {
    throw new Error('Processor time and memory are read from /proc: this runs on Linux only.')
  }
  const options = readOptions(args, names)
  const { rounds, seconds, warmUpSeconds, quick, only } = options
  const begun = new Date()
  const loadBefore = load()
  const { notes, note } = notebook()
  if (loadBefore.lastMinute > busyLoad) {
    note(
      `The machine was busy with something else when this run began (${loadBefore.words}): do not believe it.`,
    )
  }
  const samples: Sample[] = []
  const record = (sample: Sample) => {
    progress(sample)
    samples.push(sample)
  }
  const systems = await findSystems(options, note)
  const tool = await findLoadTool()
  const chosen = groups.filter(({ name }) => only === undefined || only.includes(name))
  const bench = { systems, tool, rounds, seconds, warmUpSeconds, quick, record, note }
  const failures = await runAll(chosen, bench)

  const minutes = ((Date.now() - begun.getTime()) / 60_000).toFixed(0)
  const date = begun.toISOString().slice(0, 16).replace('T', ' ')
  const facts: [string, string][] = [
    ...machineFacts(),
    ...systems.map(({ name, version }): [string, string] => [name, version]),
    ['commit', (await commitOf(root)) ?? 'unknown'],
    ['load generator', `${tool.name}; clients: a process of Node`],
    [
      'rounds',
      `${rounds} of ${seconds} s for each load, after ${warmUpSeconds} s that do not count; the whole run took ${minutes} minutes`,
    ],
    ['load of the machine', `${loadBefore.words} before (1, 5, 15 minutes), ${load().words} after`],
  ]
  const command = `npm run bench${args.length > 0 ? ` -- ${args.join(' ')}` : ''}`
  const stamp = date.replace(' ', '-').replace(':', '')
  const path = await writeResults(
    resolve(options.out ?? join(root, 'bench/results')),
    quick ? `${stamp}-quick` : stamp,
    { circumstances: { date, command, facts }, groups: chosen, samples, notes },
  )
  console.log(path)
  return failures === 0 ? 0 : 1
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error))
  process.exitCode = 2
}
