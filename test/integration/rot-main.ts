// `npm run rot -- --flips 50 --seed 7`: one flipped bit after another on one node of a real cluster, and what became of each.

import { parseArgs } from 'node:util'
import { seeded } from '../store/memory-disk.ts'
import { RealCluster } from './real-cluster.ts'
import { end, Gardener, inWords, type Outcome, rot } from './rot.ts'

const { values: options } = parseArgs({
  options: {
    flips: { type: 'string', default: '50' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
})
const flips = Number(options.flips)
const random = seeded(Number(options.seed))
const say = (text: string) => process.stdout.write(`${text}\n`)

await using cluster = await RealCluster.start({ seconds: 120 })
const client = cluster.client()
const gardener = await Gardener.start(await client.open('default'))
const outcomes: Outcome[] = []
say(
  `seed ${options.seed}\n\n| file | offset.bit | stopped | whole after | what became of it |\n|---|---|---|---:|---|`,
)
await end(cluster, 'n3', 'cleanly')
for (let at = 0; at < flips; at++) {
  const outcome = await rot(cluster, {
    id: 'n3',
    gardener,
    random,
    stopped: outcomes.at(-1)?.next ?? 'cleanly',
  })
  outcomes.push(outcome)
  say(inWords(outcome))
}
await gardener.stop()
await client.close()
const count = (holds: (outcome: Outcome) => boolean) => outcomes.filter(holds).length
const wrong = count((outcome) => outcome.wrong.length > 0)
say(
  `\n${flips} flips: ${count(({ repaired }) => repaired?.what === 'log')} logs repaired, ` +
    `${count(({ repaired }) => repaired?.what === 'state')} states repaired, ` +
    `${count(({ repaired }) => repaired === undefined)} without effect, ${wrong} with something wrong`,
)
process.exitCode = wrong === 0 ? 0 : 1
