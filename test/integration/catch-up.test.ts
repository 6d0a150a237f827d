// A node that was away for longer than the log is kept comes back through a snapshot.

import { expect, it } from 'vitest'
import { xorshift } from '../store/memory-state.ts'
import { eventually } from './real-cluster.ts'
import { Village } from './village.ts'

const MiB = 1024 * 1024

/** Other bytes for every key, so that neither LevelDB nor the wire makes them few. */
function valueOfKey(key: number): string {
  const random = xorshift(key + 1)
  return Array.from({ length: 256 }, () => random().toString(36).slice(2, 10)).join('')
}

it('comes back through a snapshot while it is written to, and has every key', async () => {
  await using village = await Village.start()
  const away = village.running.find(({ status }) => status?.role === 'follower')?.id ?? 'none'
  const [there = 'none'] = village.running.map(({ id }) => id).filter((id) => id !== away)
  await village.stop(away)

  const count = 2000
  const numbers = Array.from({ length: count }, (_, key) => key).values()
  await Promise.all(
    Array.from({ length: 64 }, async () => {
      for (const key of numbers) await village.write(there, `key-${key}`, valueOfKey(key))
    }),
  )
  // Nobody is waited for longer than a minute; then the log goes as soon as it may.
  village.pass(61_000)
  await eventually('the log to be compacted', async () => {
    for (const node of village.running) {
      // A log is compacted where a segment begins.
      await village.write(there, 'bulk', 'x'.repeat(MiB / 8))
      if ((node.inside?.wal.base.index ?? 0) === 0) return undefined
    }
    return true
  })

  await village.start(away)
  let turn = 0
  const coming = village.ready(away)
  let back = false
  const writing = (async () => {
    for (; !back; turn++) await village.write(there, `turn-${turn}`, String(turn))
  })()
  await coming.finally(() => {
    back = true
  })
  await writing

  expect(village.said(away, 'took the place of the state')).toHaveLength(1)
  for (let key = 0; key < count; key++) {
    if (key % 40 === 0) expect(await village.read(away, `key-${key}`)).toBe(valueOfKey(key))
  }
  for (let at = 0; at < turn; at++) expect(await village.read(away, `turn-${at}`)).toBe(String(at))
  // Every row, by the digest.
  const states = await Promise.all(
    village.running.map(async (node) => (await node.inside?.machine?.recompute())?.rows ?? 0),
  )
  expect(Math.min(...states)).toBeGreaterThan(count)
  expect(village.failures).toEqual([])
})
