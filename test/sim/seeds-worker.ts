// A thread of `runInThreads`: runs the seeds it is given and posts what they came to.

import { parentPort, workerData } from 'node:worker_threads'
import { runSeeds } from './seeds.ts'

for await (const report of runSeeds(workerData)) parentPort?.postMessage(report)
