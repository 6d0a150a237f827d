// What a node shows of its state while that is lost, opened again, or not there yet.

import { describe, expect, it } from 'vitest'
import { NodeState } from '../../src/node/node-state.ts'
import { MemoryState } from '../store/memory-state.ts'
import { bytes, set, tokens, Workshop } from '../store/state-fixtures.ts'

const notReady = expect.objectContaining({ code: 'not-ready' })

/** Every answer that a state gives. */
async function answers(state: NodeState): Promise<readonly unknown[]> {
  const all = [
    async () => state.token(tokens.admin.hash)?.name,
    async () => state.store('default')?.name,
    async () => state.stores().length,
    async () => state.clusterId.length,
    async () => (await state.get('default', bytes('k')))?.revision,
    async () => (await state.list({ store: 'default', limit: 9, maxBytes: 999 })).items.length,
  ]
  const settled = await Promise.allSettled(all.map((ask) => ask()))
  return settled.map((one) => (one.status === 'fulfilled' ? one.value : one.reason))
}

describe('the state that a node shows', () => {
  it('calls neither a token nor a key missing while there is no state', async () => {
    await using workshop = new Workshop()
    const machine = await workshop.open(new MemoryState())
    await machine.run(set('k', 'v'))
    const state = new NodeState()
    expect(await answers(state)).toEqual(Array(6).fill(notReady))
    state.show(machine.state)
    expect(await answers(state)).toEqual(['admin', 'default', 2, 32, 1, 1])
    state.show(undefined)
    expect(await answers(state)).toEqual(Array(6).fill(notReady))
    expect(state.revision).toBe(0)
  })

  it('waits for a state that was opened again to come as far as it had been', async () => {
    await using workshop = new Workshop()
    const before = await workshop.open(new MemoryState())
    await before.run(set('k', 'v'))
    await before.run(set('k', 'w'))
    const state = new NodeState()
    state.show(before.state)
    state.show(undefined)
    const again = await workshop.open(new MemoryState())
    await again.run(set('k', 'v'))
    state.show(again.state)
    expect(await answers(state)).toEqual(Array(6).fill(notReady))
    await again.run(set('k', 'w'))
    expect(await answers(state)).toEqual(['admin', 'default', 2, 32, 2, 1])
  })
})
