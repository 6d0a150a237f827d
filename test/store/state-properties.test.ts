import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { StateLoader } from '../../src/store/state-loader.ts'
import { MemoryState } from './memory-state.ts'
import { agrees, comesTo } from './state-agreement.ts'
import { backends, dump, transfer, Workshop } from './state-fixtures.ts'
import { log } from './state-logs.ts'

describe('a random log', () => {
  it.each(backends)('comes to what a plain model says, on $name', async ({ name, make }) => {
    await fc.assert(
      fc.asyncProperty(log, fc.boolean(), async (written, rowsWait) => {
        await using workshop = new Workshop()
        const { open } = await make(workshop)
        await comesTo(written, await open(), rowsWait)
      }),
      { numRuns: name === 'LevelDB' ? 25 : 150 },
    )
  })

  it('leaves the same bytes in every grouping, with restarts, kills and power losses in between', async () => {
    const cuts = fc.array(
      fc.tuple(fc.nat(14), fc.constantFrom('go on', 'restart', 'kill', 'power loss'), fc.nat()),
    )
    await fc.assert(
      fc.asyncProperty(log, cuts, async ({ entries, model }, plan) => {
        await using workshop = new Workshop()
        const straight = new MemoryState()
        await straight.open()
        const { state } = await workshop.open(straight, { flushEveryMs: 60_000 })
        const outcomes = await state.apply(entries)
        await state.flush()

        let level = new MemoryState()
        await level.open()
        let machine = await workshop.open(level, { flushEveryMs: 0 })
        for (const [upTo, event, seed] of plan) {
          const before = machine.state.lastApplied
          const applied = await machine.state.apply(entries.slice(before, Math.max(before, upTo)))
          expect(applied).toEqual(outcomes.filter(({ index }) => index > before && index <= upTo))
          if (event === 'go on') continue
          if (event === 'restart') await machine.state.close()
          level = event === 'power loss' ? await level.powerLoss(seed) : await level.restart()
          machine = await workshop.open(level, { flushEveryMs: 0 })
        }
        await machine.state.apply(entries.slice(machine.state.lastApplied))
        await machine.state.flush()
        expect(await dump(level)).toEqual(await dump(straight))
        expect(await machine.state.recompute()).toMatchObject(state.digest)
        await agrees(machine.state, model)
      }),
      { numRuns: 100 },
    )
  })
})

describe('a snapshot of a random log', () => {
  it.each(backends)('is the state at its index and goes on like it, on $name', async ({ name, make }) => {
    await fc.assert(
      fc.asyncProperty(
        log,
        fc.nat(12),
        fc.integer({ min: 300, max: 1500 }),
        async ({ entries }, cut, maxBytes) => {
          await using workshop = new Workshop()
          const senders = await (await make(workshop)).open()
          const { state: sender } = await workshop.open(senders, { flushEveryMs: 0 })
          await sender.apply(entries.slice(0, cut))
          const snapshot = await sender.snapshot()
          const atCut = await dump(senders)
          await sender.apply(entries.slice(cut))
          await sender.flush()

          const receivers = await (await make(workshop)).open()
          const loader = await StateLoader.open({ level: receivers, expected: snapshot })
          expect(await transfer(snapshot, loader, maxBytes)).toBeLessThanOrEqual(maxBytes)
          await loader.finish()
          expect(await dump(receivers)).toEqual(atCut)

          const { state: receiver } = await workshop.open(receivers, { flushEveryMs: 0 })
          expect(receiver.verified).toBe(true)
          expect(receiver.lastApplied).toBe(Math.min(cut, entries.length))
          expect(receiver.digest.digest).toBe(snapshot.digest)
          await receiver.apply(entries.slice(cut))
          await receiver.flush()
          expect(await dump(receivers)).toEqual(await dump(senders))
          expect(receiver.digest).toEqual(sender.digest)
          expect(await receiver.recompute()).toMatchObject(receiver.digest)
          await snapshot.close()
        },
      ),
      { numRuns: name === 'LevelDB' ? 15 : 60 },
    )
  })
})
