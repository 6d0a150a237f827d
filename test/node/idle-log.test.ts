// A node whose log is idle proves what it appended last, so that damage to it is not taken for an append that a crash cut short.

import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { Town } from './town.ts'

const log = '/data/log'

/** The segment and the bit of a text in a node's log; its last place if it stands there twice. */
async function placeOf(town: Town, id: string, text: string): Promise<{ path: string; bit: number }> {
  const disk = town.disk(id)
  for (const name of [...(await disk.list(log))].sort().reverse()) {
    const path = `${log}/${name}`
    const at = Buffer.from(disk.contents(path)).lastIndexOf(text)
    if (at >= 0) return { path, bit: at * 8 }
  }
  throw new Error(`${text} is not in the log of ${id}`)
}

/** Resolves when the log takes nothing more though nobody asks for anything: its last syncs were proofs. */
async function untilProven(town: Town, id: string): Promise<void> {
  const deadline = performance.now() + 10_000
  const syncs = () => town.node(id).inside?.wal.counters().syncs ?? 0
  const before = syncs()
  while (syncs() === before) {
    if (performance.now() > deadline) throw new Error('the log was not proven')
    await delay(5)
  }
}

describe('the log of an idle node', () => {
  it('shows damage to the very last acknowledged append as damage', async () => {
    await using town = await Town.start({ seed: 3 })
    const victim = town.ids.find((id) => id !== town.node('n1').cluster().leader) ?? ''
    const rebuilding = () => town.node(victim).status?.rebuilding
    await town.set(victim, 'last', 'the very last one')
    await untilProven(town, victim)
    await town.losePower(victim)
    const { path, bit } = await placeOf(town, victim, 'the very last one')
    town.disk(victim).flip(path, bit)
    // What LevelDB holds would show the damage, too.
    await town.disk(victim).removeDirectory('/data/state-0')
    await town.start(victim)
    expect(rebuilding()).toBeTypeOf('number')
    await town.ready()
    expect(await town.get(victim, 'last')).toBe('the very last one')
  })
})
