// Many runs, one after another or in several threads, and what they came to together.

import { readFileSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { type Report, run } from './run.ts'

export type Totals = {
  readonly counts: Map<string, number>
  runs: number
  events: number
  virtualMs: number
}

export function noTotals(): Totals {
  return { counts: new Map(), runs: 0, events: 0, virtualMs: 0 }
}

export function add(totals: Totals, report: Report): void {
  totals.runs += 1
  totals.events += report.events
  totals.virtualMs += report.virtualMs
  for (const [what, count] of report.counts) totals.counts.set(what, (totals.counts.get(what) ?? 0) + count)
}

/** So many seeds, from this one on. */
export function seedsFrom(first: number, count: number): readonly number[] {
  return Array.from({ length: count }, (_, at) => first + at)
}

/** The seeds that failed once: they run before all others. */
export function failedSeeds(): readonly number[] {
  const lines = readFileSync(new URL('./seeds.txt', import.meta.url), 'utf8').split('\n')
  return lines.filter((line) => /^\d/.test(line)).map((line) => Number.parseInt(line, 10))
}

/** Runs them in this thread, each from a fresh turn of its event loop. */
export async function* runSeeds(seeds: readonly number[]): AsyncGenerator<Report> {
  for (const seed of seeds) yield await runSeed(seed)
}

/** Runs one seed. `trace` is told every line. */
export async function runSeed(seed: number, trace?: (line: string) => void): Promise<Report> {
  await turn()
  const { promise, resolve, reject } = Promise.withResolvers<Report>()
  // Not in the continuation of a promise: there those of the run would not run.
  setImmediate(() => {
    try {
      resolve(run({ seed, trace }))
    } catch (error) {
      reject(error)
    }
  })
  return promise
}

/** Runs them in so many threads; the reports come as they are made. `home`: the simulator's folder, should it be a copy. */
export async function* runInThreads(
  seeds: readonly number[],
  threads: number,
  home: URL = new URL('./', import.meta.url),
): AsyncGenerator<Report> {
  const reports: Report[] = []
  let wake = Promise.withResolvers<void>()
  let open = 0
  let failure: unknown
  const workers = Array.from({ length: Math.min(threads, seeds.length) }, (_, thread) => {
    const own = seeds.filter((_, at) => at % threads === thread)
    const worker = new Worker(new URL('seeds-worker.ts', home), { workerData: own })
    open += 1
    worker.on('message', (report: Report) => {
      reports.push(report)
      wake.resolve()
    })
    worker.on('error', (error) => {
      failure ??= error
      wake.resolve()
    })
    worker.on('exit', () => {
      open -= 1
      wake.resolve()
    })
    return worker
  })
  try {
    for (;;) {
      if (failure !== undefined) throw failure
      const report = reports.shift()
      if (report !== undefined) yield report
      else if (open === 0) return
      else {
        await wake.promise
        wake = Promise.withResolvers()
      }
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()))
  }
}
