// The files of a run: everything as JSON, the report as Markdown, and its charts.

import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Group } from '../bench.ts'
import { drawCharts } from './charts.ts'
import { type Circumstances, markdown } from './markdown.ts'
import { type Sample, summarize } from './samples.ts'
import { judge } from './targets.ts'

export type Run = {
  readonly circumstances: Circumstances
  readonly groups: readonly Group[]
  readonly samples: readonly Sample[]
  readonly notes: readonly string[]
}

/** Writes the files of a run, under its name, and returns the report's path. */
export async function writeResults(directory: string, name: string, run: Run): Promise<string> {
  const { circumstances, groups, samples, notes } = run
  const measured = summarize(samples)
  const drawn = drawCharts(measured)
  const charts = drawn.map((chart) => ({ ...chart, file: `${name}-${chart.name}.svg` }))
  await mkdir(directory, { recursive: true })
  for (const { file, svg } of charts) await writeFile(join(directory, file), svg)
  await writeFile(
    join(directory, `${name}.json`),
    `${JSON.stringify({ circumstances, notes, samples }, null, 1)}\n`,
  )
  const path = join(directory, `${name}.md`)
  const report = markdown({ circumstances, groups, measured, verdicts: judge(measured), notes, charts })
  await writeFile(path, `${report.trimEnd()}\n`)
  return path
}
