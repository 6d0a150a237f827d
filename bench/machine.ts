// On what a run was made, for its report.

import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os'
import { output } from './systems/processes.ts'

export function machineFacts(): readonly [name: string, value: string][] {
  const [cpu] = cpus()
  return [
    ['processor', `${cpu?.model ?? 'unknown'}, ${availableParallelism()} cores`],
    ['memory', `${(totalmem() / 1e9).toFixed(0)} GB`],
    ['system', `Linux ${release()}, ${distribution()}`],
    ['Node', process.version],
  ]
}

/** How many processes wanted a processor over the last minute, and in words over the last 1, 5 and 15. */
export function load(): { readonly lastMinute: number; readonly words: string } {
  const all = loadavg()
  return { lastMinute: all[0] ?? 0, words: all.map((value) => value.toFixed(1)).join(', ') }
}

function distribution(): string {
  const [, name] = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8')) ?? []
  return name ?? 'an unknown distribution'
}

/** The commit of a checkout, marked when files differ from it; undefined outside of git. */
export async function commitOf(directory: string): Promise<string | undefined> {
  const args = ['-C', directory, 'describe', '--always', '--dirty', '--exclude', '*']
  return (await output({ command: 'git', args }).catch(() => undefined))?.trim()
}
