// The load where wrk is not installed, a process of its own: one job from its argument, one line of JSON as its answer.

import { readFile } from 'node:fs/promises'
import autocannon from 'autocannon'
import { exchangesIn, type LoadFigures, type PlainJob } from './http-load.ts'

async function against(url: string, job: PlainJob, connections: number): Promise<autocannon.Result> {
  const exchanges = exchangesIn(await readFile(job.exchangesPath, 'utf8'))
  const drawn = () => exchanges[Math.floor(Math.random() * exchanges.length)] ?? {}
  return autocannon({
    url,
    connections,
    duration: job.seconds,
    requests: [{ setupRequest: (request) => ({ ...request, ...drawn() }) }],
  })
}

const job: PlainJob = JSON.parse(process.argv[2] ?? '')
const share = Math.max(1, Math.floor(job.connections / job.urls.length))
const results = await Promise.all(job.urls.map((url) => against(url, job, share)))
const most = (pick: (result: autocannon.Result) => number) => Math.max(...results.map(pick))
const sum = (pick: (result: autocannon.Result) => number) =>
  results.reduce((total, result) => total + pick(result), 0)
const figures: LoadFigures = {
  requests: sum((result) => result.requests.total),
  seconds: most((result) => result.duration),
  // Of several nodes the slowest: their histograms cannot be put together from percentiles.
  p50: most((result) => result.latency.p50),
  p99: most((result) => result.latency.p99),
  p999: most((result) => result.latency.p99_9),
  failed: sum((result) => result.errors + result.timeouts + result.non2xx),
}
console.log(JSON.stringify(figures))
