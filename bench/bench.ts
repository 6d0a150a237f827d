// What every scenario is given: the systems, the load generator, how long and how often, and where figures go.

import type { LoadTool } from './loads/http-load.ts'
import type { Sample } from './report/samples.ts'
import type { Engine } from './systems/engine.ts'

export type Bench = {
  readonly systems: readonly Engine[]
  readonly tool: LoadTool
  readonly rounds: number
  /** How long each load lasts. */
  readonly seconds: number
  /** How long a new cluster is under load before anything counts. */
  readonly warmUpSeconds: number
  /** Only the heart of a group. */
  readonly quick: boolean
  readonly record: (sample: Sample) => void
  /** A sentence that belongs to the results. */
  readonly note: (text: string) => void
}

export type Group = {
  readonly name: string
  /** What its table shows, for the report. */
  readonly title: string
  readonly run: (bench: Bench) => Promise<void>
}
