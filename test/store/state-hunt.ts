// Looks for a random log that does not come to what the model says: run in a thread, on a copy of the program with an edit.

import { parentPort, workerData } from 'node:worker_threads'
import fc from 'fast-check'
import { comesTo } from './state-agreement.ts'
import { memory } from './state-fixtures.ts'
import { log } from './state-logs.ts'

/** What is asked of the thread. */
export type Hunt = { readonly seed: number; readonly most: number }

const { seed, most } = workerData as Hunt
const details = await fc.check(
  fc.asyncProperty(log, fc.boolean(), async (written, rowsWait) =>
    comesTo(written, await memory(), rowsWait),
  ),
  { seed, numRuns: most, endOnFailure: true },
)
parentPort?.postMessage(details.failed ? details.numRuns : undefined)
