// Shows what users feel while a node that was away comes back through a snapshot.
//
// `npm run bench:catch-up`, or `npm run bench:catch-up -- --keys 500000 --bytes 256 --rate 2000 --seconds 20`. Three real nodes; one is
// stopped, the keys are written as fast as it goes, then a constant load is measured before the node is started again,
// until it is ready, and afterwards. Machines are noisy: read the latencies as ratios within one run.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { eventually, RealCluster } from '../test/integration/real-cluster.ts'
import type { OpenJob, Report, Window, Word } from './open-load.ts'

const { values: options } = parseArgs({
  options: {
    keys: { type: 'string', default: '500000' },
    bytes: { type: 'string', default: '256' },
    rate: { type: 'string', default: '2000' },
    /** How long the load is measured before and after, each. */
    seconds: { type: 'string', default: '20' },
  },
})
const keys = Number(options.keys)
const perSecond = Number(options.rate)
const seconds = Number(options.seconds)
const valueBytes = Number(options.bytes)

/** A member that was silent for a minute is not waited for with the log. */
const absenceMs = 65_000

function startLoad(job: OpenJob): ChildProcess {
  return fork(join(import.meta.dirname, 'open-load.ts'), [JSON.stringify(job)])
}

async function report<T extends Report['type']>(
  load: ChildProcess,
  type: T,
): Promise<Extract<Report, { type: T }>> {
  const [said] = (await Promise.race([
    once(load, 'message'),
    once(load, 'exit').then(() => Promise.reject(new Error('the load ended'))),
  ])) as [Report]
  if (said.type !== type) throw new Error(`the load said ${said.type} instead of ${type}`)
  return said as Extract<Report, { type: T }>
}

function cut(load: ChildProcess, word: Word = 'cut'): Promise<Window> {
  const window = report(load, 'window')
  load.send(word)
  return window
}

type Line = { readonly time: string | number; readonly msg: string; readonly [field: string]: unknown }

async function linesOf(cluster: RealCluster, id: string): Promise<readonly Line[]> {
  const lines = (await cluster.log(id)).split('\n').filter((line) => line.startsWith('{'))
  return lines.map((line) => JSON.parse(line) as Line)
}

/** Resident memory now and at its highest, in MiB. */
async function memory(pid: number): Promise<string> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  const of = (name: string) => Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024)
  return `${of('VmRSS')} MiB, at most ${of('VmHWM')} MiB`
}

async function run(cluster: RealCluster): Promise<void> {
  const leader = await cluster.leader()
  const away = cluster.ids.find((id) => id !== leader) ?? ''
  const common = { url: cluster.url(leader), token: cluster.token, valueBytes, connections: 256 }
  const say = (text: string) => console.log(text)

  // The load alone, with all three there, so that the machine's own limit is known.
  const rest = startLoad({ ...common, type: 'rate', perSecond, keys: 10_000 })
  await delay(5000)
  await cut(rest)
  await delay(seconds * 1000)
  const whole = await cut(rest, 'stop')
  say(`three nodes at rest: ${inWords(whole)}`)

  cluster.signal(away, 'SIGTERM')
  await cluster.ended(away)
  const left = performance.now()
  // In two halves: the log is kept for a member that was heard of within the last minute, and a machine may be fast.
  for (const from of [0, keys / 2]) {
    const filler = startLoad({ ...common, type: 'fill', from, keys: keys / 2 })
    const { seconds: took, failed } = await report(filler, 'filled')
    filler.disconnect()
    say(
      `${keys / 2} keys of ${valueBytes} bytes were written in ${took.toFixed(0)} s (${(keys / 2 / took).toFixed(0)}/s, ` +
        `${failed} tried again) while ${away} was away`,
    )
    await delay(Math.max(0, absenceMs - (performance.now() - left)))
  }

  const load = startLoad({ ...common, type: 'rate', perSecond, keys: 10_000 })
  await delay(5000)
  await cut(load)
  await delay(seconds * 1000)
  const before = await cut(load)
  say(`before, with ${away} away: ${inWords(before)}`)
  const started = performance.now()
  cluster.spawn(away)
  await cluster.ready([away], 900)
  const during = await cut(load)
  const back = (performance.now() - started) / 1000
  say(`during the ${back.toFixed(1)} s until ${away} was ready: ${inWords(during)}`)
  await delay(seconds * 1000)
  const after = await cut(load, 'stop')
  say(`after: ${inWords(after)}`)

  const lines = (await linesOf(cluster, away)).filter(
    (line) => new Date(line.time).getTime() > Date.now() - 600_000,
  )
  const find = (text: string) => lines.findLast((line) => line.msg.includes(text))
  const [begun, ended] = [find('receiving a snapshot'), find('took the place of the state')]
  const received = find('the snapshot is whole and durable')
  if (begun === undefined || ended === undefined || received === undefined) {
    throw new Error(`${away} did not come back through a snapshot`)
  }
  const took = (new Date(ended.time).getTime() - new Date(begun.time).getTime()) / 1000
  const megabytes = Number(received['bytes']) / 1e6
  say(
    `snapshot at entry ${received['index']}: ${megabytes.toFixed(0)} MB in ${took.toFixed(1)} s, ${(megabytes / took).toFixed(1)} MB/s`,
  )
  for (const id of cluster.ids) say(`memory of ${id}: ${await memory(cluster.pid(id))}`)
  const digests = await eventually('the digests of all members to agree', async () => {
    const { members } = await cluster.cluster(leader)
    const found = new Set(members.map(({ digest }) => JSON.stringify(digest)))
    return found.size === 1 && !found.has('undefined') ? [...found][0] : undefined
  })
  say(`digest of all: ${digests}`)
  const sizes = [before, during, after].map(({ p99 }) => (p99 / before.p99).toFixed(2))
  say(`p99 before : during : after = ${sizes.join(' : ')}`)
}

function inWords({ writes, seconds: lasted, failed, p50, p99, most, lateP99, waiting }: Window): string {
  return (
    `${(writes / lasted).toFixed(0)}/s, p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, most ${most.toFixed(0)} ms, ` +
    `${failed} failed, ${waiting} waiting, the load itself late by ${lateP99.toFixed(1)} ms (p99)`
  )
}

await using cluster = await RealCluster.start({ seconds: 60 })
await run(cluster)
