// Whole nodes under mischief: whatever clients saw, one order explains it, and in the end all nodes hold the same.
//
// TRIVET_SEEDS is how many seeds to try, TRIVET_SEED tries that one. Seeds fix what is done, not how it falls in time.

import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { check } from '../linear/checker.ts'
import { runClients, use } from '../linear/clients.ts'
import { callsOf, History, toLines } from '../linear/history.ts'
import { keyValue } from '../linear/key-value.ts'
import { Mischief } from '../linear/mischief.ts'
import { Town } from './town.ts'

const keys = ['a', 'b', 'c']

const one = process.env['TRIVET_SEED']
const count = Number(process.env['TRIVET_SEEDS'] ?? 8)
const seeds = one === undefined ? Array.from({ length: count }, (_, at) => at + 1) : [Number(one)]

/** What all nodes hold once they agree on the revision. */
async function agreed(town: Town): Promise<readonly unknown[]> {
  const deadline = performance.now() + 10_000
  for (;;) {
    const held = await Promise.all(town.ids.map((id) => town.holds(id)))
    const revisions = held.map(({ revision }) => revision)
    if (new Set(revisions).size === 1) return held
    if (performance.now() > deadline) throw new Error(`revisions ${revisions.join(', ')}`)
    await delay(2)
  }
}

function answered(history: History): number {
  return history.events.filter(({ type }) => type === 'ok').length
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 15_000
  while (!holds()) {
    if (performance.now() > deadline) throw new Error('waited in vain')
    await delay(2)
  }
}

function judge(history: History, seed: number, deeds: readonly string[]): void {
  const calls = callsOf(history.events)
  const verdict = check(keyValue, calls)
  if (verdict.type === 'linearizable') return
  const file = join(tmpdir(), `trivet-history-${seed}.jsonl`)
  writeFileSync(file, toLines(history.events))
  const what = verdict.type === 'violation' ? verdict.text : `undecided on ${verdict.keys.join(', ')}`
  throw new Error(`seed ${seed}: ${what}\nhistory: ${file}\n${deeds.join('; ')}`)
}

describe('nodes under mischief', () => {
  it.concurrent.each(seeds)(
    'stay linearizable and come to hold the same (seed %i)',
    { timeout: 90_000 },
    async (seed) => {
      await using town = await Town.start({ seed, nodes: seed % 4 === 0 ? 5 : 3 })
      const history = new History()
      const place = { town, history }
      const clients = runClients(place, { seed, clients: 6, keys })
      const mischief = new Mischief(town, seed)
      await mischief.run(14)
      await mischief.end()
      // Once all is well the clients get on; and a history of nothing would be linearizable too.
      const healed = answered(history)
      await until(() => answered(history) >= healed + 100)
      await clients.stop()
      for (const node of town.ids) {
        expect(town.failure(node)).toBeUndefined()
        for (const key of keys) {
          const operation = { type: 'get', key } as const
          const result = await use(place, { client: 'last', node, operation }, 8000)
          expect(result, `${node} answers`).toBeDefined()
        }
      }
      judge(history, seed, mischief.deeds)
      const [first, ...others] = await agreed(town)
      for (const other of others) expect(other).toEqual(first)
    },
  )
})
