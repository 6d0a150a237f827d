// Sessions under mischief: a write sent again through other nodes, across crashes and leaders, takes effect once.
//
// TRIVET_SEEDS is how many seeds to try, TRIVET_SEED tries that one. Seeds fix what is done, not how it falls in time.

import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, describe, expect, it } from 'vitest'
import { check } from '../linear/checker.ts'
import { callsOf, History, toLines } from '../linear/history.ts'
import { keyValue } from '../linear/key-value.ts'
import { Mischief } from '../linear/mischief.ts'
import { runStubborn } from '../linear/stubborn.ts'
import { Town } from './town.ts'

const one = process.env['TRIVET_SEED']
const count = Number(process.env['TRIVET_SEEDS'] ?? 4)
const seeds = one === undefined ? Array.from({ length: count }, (_, at) => at + 1) : [Number(one)]

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

describe('clients that never give up', () => {
  let replays = 0

  it.concurrent.each(seeds)(
    'learn what every write of theirs came to, and each took effect once (seed %i)',
    { timeout: 90_000 },
    async (seed) => {
      await using town = await Town.start({ seed: 500 + seed })
      const history = new History()
      const clients = runStubborn({ town, history }, { seed, clients: 6, keys: ['a', 'b', 'c'] })
      const mischief = new Mischief(town, 500 + seed)
      await mischief.run(12)
      await mischief.end()
      const healed = answered(history)
      await until(() => answered(history) >= healed + 100)
      await clients.stop()
      replays += clients.replays()
      for (const node of town.ids) expect(town.failure(node)).toBeUndefined()
      expect(history.events.filter(({ type }) => type === 'info')).toEqual([])
      const verdict = check(keyValue, callsOf(history.events))
      if (verdict.type === 'linearizable') return
      const file = join(tmpdir(), `trivet-once-${seed}.jsonl`)
      writeFileSync(file, toLines(history.events))
      throw new Error(
        `seed ${seed}: ${JSON.stringify(verdict)}\nhistory: ${file}\n${mischief.deeds.join('; ')}`,
      )
    },
  )

  afterAll(() => {
    // Without these nothing was tried.
    expect(replays).toBeGreaterThan(0)
  })
})
