// What clients may send again: sessions and idempotency keys in the replicated state, on LevelDB and on its twin.

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { idempotencyBounds } from '../../src/store/state-idempotency.ts'
import { tableRange } from '../../src/store/state-rows.ts'
import { sessionBounds } from '../../src/store/state-sessions.ts'
import type { StateLevel } from '../../src/store/state-writer.ts'
import type { Command, Outcome } from '../../src/store/types.ts'
import {
  backends,
  batch,
  del,
  entry,
  founding,
  inSession,
  type Machine,
  openSession,
  set,
  tokens,
  underKey,
  Workshop,
} from './state-fixtures.ts'

const start = founding.foundedAt
const life = sessionBounds.lifeMs
const absent = { conditions: [{ type: 'absent' as const }] }
const written = (revision: number, created = true): Outcome => ({
  type: 'set',
  revision,
  created,
  changed: true,
})
const replayed = (outcome: Outcome): Outcome => ({ ...outcome, replayed: true })
const expired: Outcome = { type: 'refused', code: 'session-expired' }

function* range(count: number, from = 1): Generator<number> {
  for (let n = from; n < from + count; n++) yield n
}

async function rows(level: StateLevel, table: 'sessions' | 'idempotencyKeys'): Promise<number> {
  return (await level.keys(tableRange(table)).all()).length
}

describe.each(backends)('clients that repeat themselves, on $name', ({ name, make }) => {
  let workshop: Workshop
  let backend: { open(): Promise<StateLevel> }
  let level: StateLevel
  let machine: Machine

  beforeEach(async () => {
    workshop = new Workshop()
    backend = await make(workshop)
    level = await backend.open()
    machine = await workshop.open(level)
  })

  afterEach(async () => {
    // Whatever was taken away, the digest is that of the rows that are left.
    await machine.state.flush()
    await machine.state.recompute()
    await workshop[Symbol.asyncDispose]()
  })

  /** What the next process finds. Its client counts on from where the last one was. */
  async function restart(): Promise<void> {
    await machine.state.close()
    level = await backend.open()
    const { state } = await workshop.open(level)
    machine = machine.on(state)
  }

  describe('a session', () => {
    it('answers a repeat as it answered first, and does nothing again, after a restart too', async () => {
      expect(await machine.run(openSession(1), set('a', '1', inSession(1, 1)))).toEqual([
        { type: 'sessionOpened' },
        written(1),
      ])
      await machine.run(set('a', 'by another'))
      expect(await machine.run(set('a', '1', inSession(1, 1)))).toEqual([replayed(written(1))])
      await restart()
      expect(await machine.run(set('a', '1', inSession(1, 1)))).toEqual([replayed(written(1))])
      expect(await machine.text('a')).toBe('by another')
      expect(machine.state.revision).toBe(2)
    })

    it('remembers a condition that did not hold, though it would hold now', async () => {
      await machine.run(openSession(1), set('a', '1'))
      const failed = { type: 'refused', code: 'condition-failed', revision: 1 } as const
      expect(await machine.run(set('a', '2', { ...absent, ...inSession(1, 1) }))).toEqual([failed])
      await machine.run(del('a'))
      expect(await machine.run(set('a', '2', { ...absent, ...inSession(1, 1) }))).toEqual([replayed(failed)])
      expect(await machine.text('a')).toBeUndefined()
    })

    it('remembers every refusal that apply decided: a late first try must not come true', async () => {
      const late = set('other', 'x', { token: tokens.cart.hash, ...inSession(1, 1) })
      await machine.run(openSession(1, tokens.cart.hash))
      const denied = { type: 'refused', code: 'access-denied' } as const
      expect(await machine.run(late, late)).toEqual([denied, replayed(denied)])
    })

    it('takes writes in any order within its window', async () => {
      await machine.run(openSession(1))
      const write = (seq: number) => set('a', String(seq), inSession(1, seq))
      expect(await machine.run(write(3), write(1), write(3), write(2))).toEqual([
        written(1),
        written(2, false),
        replayed(written(1)),
        written(3, false),
      ])
    })

    it('forgets outcomes up to the number acknowledged, and takes no such write any more', async () => {
      await machine.run(openSession(1))
      await machine.run(...[...range(3)].map((seq) => set('a', String(seq), inSession(1, seq))))
      const past = { type: 'refused', code: 'invalid-request', field: 'trivet-session' } as const
      expect(
        await machine.run(
          set('a', '4', inSession(1, 4, 2)),
          set('a', '1', inSession(1, 1)),
          set('a', '2', inSession(1, 2)),
          set('a', '3', inSession(1, 3)),
        ),
      ).toEqual([written(4, false), past, past, replayed(written(3, false))])
      expect(await machine.text('a')).toBe('4')
      await restart()
      expect(await machine.run(set('a', '2', inSession(1, 2)))).toEqual([past])
    })

    it('keeps a row no longer than its open writes need', async () => {
      await machine.run(openSession(1))
      const size = async (): Promise<number> => {
        await machine.state.flush()
        const [row] = await level.values(tableRange('sessions')).all()
        return row?.length ?? 0
      }
      const empty = await size()
      await machine.run(...[...range(1000)].map((seq) => set('a', '', inSession(1, seq))))
      expect(await size()).toBeGreaterThan(9000)
      await machine.run(set('a', '', inSession(1, 1001, 1000)))
      expect(await size()).toBeLessThan(empty + 12)
    })

    it('has at most 1,024 open writes, and room again once some are acknowledged', async () => {
      await machine.run(openSession(1))
      const full = {
        type: 'refused',
        code: 'overloaded',
        limit: 1024,
        field: 'open writes of a session',
      } as const
      expect(await machine.run(del('a', inSession(1, 1025)), del('a', inSession(1, 1024)))).toEqual([
        full,
        { type: 'deleted', revision: 1, deleted: false },
      ])
      expect(await machine.run(del('a', inSession(1, 1025, 1)))).toEqual([
        { type: 'deleted', revision: 2, deleted: false },
      ])
    })

    it('ends when it was not used for ten minutes of log time, and its rows go', async () => {
      await machine.runAt(start + 1, openSession(1), openSession(2))
      await machine.runAt(start + life, set('a', '1', inSession(1, 1)))
      // The last moment of the second, which nobody used.
      await machine.runAt(start + life + 1, set('b', '1'))
      expect(
        await machine.runAt(
          start + life + 1,
          set('a', '2', inSession(2, 1)),
          set('a', '2', inSession(1, 1)),
          set('a', '2', inSession(1, 2)),
        ),
      ).toEqual([expired, replayed(written(1)), written(3, false)])
      await machine.state.flush()
      expect(await rows(level, 'sessions')).toBe(1)
      await restart()
      expect(await machine.runAt(start + life + 2, set('a', '3', inSession(1, 3)))).toEqual([
        written(4, false),
      ])
      expect(await machine.runAt(start + 3 * life, set('a', '4', inSession(1, 4)))).toEqual([expired])
      expect(await machine.text('a')).toBe('3')
      await machine.state.flush()
      expect(await rows(level, 'sessions')).toBe(0)
    })

    it('lives by the stamps of the log alone, whatever the clock of this node says', async () => {
      await machine.runAt(start + 1, openSession(1))
      await machine.runAt(start + life, set('a', '1', inSession(1, 1)))
      // A leader whose clock is behind stamps no earlier than the log; time stands still and so does the session.
      expect(await machine.runAt(1, set('a', '1', inSession(1, 1)))).toEqual([replayed(written(1))])
      expect(await machine.runAt(start + 2 * life - 1, set('a', '1', inSession(1, 1)))).toEqual([
        replayed(written(1)),
      ])
    })

    it("is unknown to another principal, and its owner's answers stay its own", async () => {
      const cart = { token: tokens.cart.hash }
      await machine.run(openSession(1, tokens.cart.hash), set('cart/1', 'x', { ...cart, ...inSession(1, 1) }))
      expect(
        await machine.run(
          set('cart/1', 'x', inSession(1, 1)),
          set('cart/1', 'x', inSession(1, 2, 1)),
          set('cart/1', 'x', { ...cart, ...inSession(1, 1) }),
          set('cart/1', 'x', { ...cart, ...inSession(7, 1) }),
        ),
      ).toEqual([expired, expired, replayed(written(1)), expired])
    })

    it('is opened by who may open stores, under an id that nobody has', async () => {
      const code = (outcome: Outcome) => (outcome.type === 'refused' ? outcome.code : outcome.type)
      const opened = await machine.run(
        openSession(1, tokens.monitor.hash),
        openSession(1, 'unknown'),
        openSession(1),
        openSession(1),
        { type: 'openSession', token: tokens.admin.hash, session: 'too short' },
      )
      expect(opened.map(code)).toEqual([
        'access-denied',
        'unauthenticated',
        'sessionOpened',
        'invalid-request',
        'invalid-request',
      ])
      expect(machine.state.revision).toBe(0)
    })

    it('is one of 10,000 at most of its principal; others open theirs', async () => {
      const { perPrincipal } = sessionBounds
      await machine.runAt(start + 1, ...[...range(perPrincipal)].map((n) => openSession(n)))
      const full = { type: 'refused', code: 'overloaded', limit: perPrincipal } as const
      expect(await machine.runAt(start + life, openSession(0), openSession(0, tokens.cart.hash))).toEqual([
        { ...full, field: 'sessions of a principal' },
        { type: 'sessionOpened' },
      ])
      await restart()
      expect((await machine.runAt(start + life, openSession(20_000)))[0]).toMatchObject(full)
      // All have ended at once: there is room at once, though their rows go by the thousand.
      expect(await machine.runAt(start + life + 1, openSession(20_000))).toEqual([{ type: 'sessionOpened' }])
      await machine.state.flush()
      expect(await rows(level, 'sessions')).toBe(perPrincipal + 2 - 1000)
      await restart()
      for (const _ of range(9)) await machine.runAt(start + life + 1)
      await machine.state.flush()
      expect(await rows(level, 'sessions')).toBe(2)
    })
  })

  describe('an idempotency key', () => {
    it('answers a repeat as it answered first, and does nothing again, after a restart too', async () => {
      expect(await machine.run(set('a', '1', underKey('k')), set('a', '1', underKey('k')))).toEqual([
        written(1),
        replayed(written(1)),
      ])
      await machine.run(set('a', 'by another'))
      expect(await machine.run(set('a', '1', underKey('k')))).toEqual([replayed(written(1))])
      await restart()
      expect(await machine.run(set('a', '1', underKey('k')))).toEqual([replayed(written(1))])
      expect(await machine.text('a')).toBe('by another')
    })

    it('is read from LevelDB once its batch is there', async () => {
      await machine.run(set('a', '1', underKey('k')))
      await machine.state.flush()
      expect(await machine.run(set('a', '1', underKey('k')))).toEqual([replayed(written(1))])
    })

    it('remembers a condition that did not hold, though it would hold now', async () => {
      await machine.run(set('a', '1'))
      const failed = { type: 'refused', code: 'condition-failed', revision: 1 } as const
      const write = set('a', '2', { ...absent, ...underKey('k') })
      expect(await machine.run(write)).toEqual([failed])
      expect(await machine.run(del('a'), write)).toEqual([
        { type: 'deleted', revision: 2, deleted: true },
        replayed(failed),
      ])
    })

    it('remembers no other refusal: once it is granted, the same request may pass', async () => {
      const large = set('a', 'x'.repeat(17), { store: 'sessions', ...underKey('k') })
      const small = set('a', 'x', { store: 'sessions', ...underKey('k', 1) })
      expect(await machine.run(large, small)).toEqual([
        { type: 'refused', code: 'value-too-large', limit: 16 },
        written(1),
      ])
    })

    it('refuses another request under the same key', async () => {
      expect(await machine.run(set('a', '1', underKey('k')), set('a', '2', underKey('k', 1)))).toEqual([
        written(1),
        { type: 'refused', code: 'idempotency-key-reused' },
      ])
      expect(await machine.text('a')).toBe('1')
    })

    it('is one thing for one principal and another for the next', async () => {
      const cart = set('cart/1', 'x', { token: tokens.cart.hash, ...underKey('k', 1) })
      expect(await machine.run(set('a', '1', underKey('k')), cart)).toEqual([written(1), written(2)])
      const unknown = set('a', '1', { token: 'unknown', ...underKey('k') })
      expect(await machine.run(unknown)).toEqual([{ type: 'refused', code: 'unauthenticated' }])
    })

    it('ends after ten minutes of log time, even before its row is taken away', async () => {
      await machine.runAt(start + 1, set('a', '1', underKey('k')))
      expect(await machine.runAt(start + life, set('a', '1', underKey('k')))).toEqual([replayed(written(1))])
      await restart()
      expect(await machine.runAt(start + life + 1, set('a', '1', underKey('k')))).toEqual([
        { type: 'set', revision: 2, created: false, changed: false },
      ])
      expect(await machine.runAt(start + 2 * life, set('a', '1', underKey('k')))).toEqual([
        { type: 'set', revision: 2, created: false, changed: false, replayed: true },
      ])
      await machine.runAt(start + 2 * life + 1)
      await machine.state.flush()
      expect(await rows(level, 'idempotencyKeys')).toBe(0)
    })

    it('used again while its old row still stands is not taken away with it', async () => {
      const old = [...range(1500)].map((n) => del('a', underKey(`k${n}`)))
      await machine.runAt(start + 1, ...old)
      // A thousand rows go with this entry, and this key is not among them.
      const outcome: Outcome = { type: 'deleted', revision: 1501, deleted: false }
      expect(await machine.runAt(start + life + 1, del('a', underKey('k1400')))).toEqual([outcome])
      await machine.runAt(start + life + 2)
      expect(await machine.runAt(start + life + 3, del('a', underKey('k1400')))).toEqual([replayed(outcome)])
      await machine.state.flush()
      expect(await rows(level, 'idempotencyKeys')).toBe(1)
    })

    it('goes by the thousand an entry, sessions and keys together, the earliest first', async () => {
      await machine.runAt(start + 1, ...[...range(600)].map((n) => openSession(n)))
      await machine.runAt(start + 2, ...[...range(600)].map((n) => del('a', underKey(`k${n}`))))
      await machine.runAt(start + life + 2)
      await machine.state.flush()
      expect([await rows(level, 'sessions'), await rows(level, 'idempotencyKeys')]).toEqual([0, 200])
    })
  })

  const keepsMany = 'keeps 100,000 keys of a principal, refuses one more, and forgets none of them early'
  it.runIf(name === 'LevelDB')(keepsMany, { timeout: 60_000 }, async () => {
    const { perPrincipal } = idempotencyBounds
    for (let first = 1; first <= perPrincipal; first += 10_000) {
      await machine.runAt(start + 1, ...[...range(10_000, first)].map((n) => del('a', underKey(`k${n}`))))
    }
    const full = { type: 'refused', code: 'overloaded', limit: perPrincipal } as const
    for (const _ of range(2)) {
      const [refused, first, last, other] = await machine.runAt(
        start + life,
        set('a', '1', underKey('one-more')),
        del('a', underKey('k1')),
        del('a', underKey(`k${perPrincipal}`)),
        set('cart/1', '', { token: tokens.cart.hash, ...underKey('k1') }),
      )
      expect(refused).toEqual({ ...full, field: 'idempotency keys of a principal' })
      expect(first).toEqual({ type: 'deleted', revision: 1, deleted: false, replayed: true })
      expect(last).toEqual({ type: 'deleted', revision: perPrincipal, deleted: false, replayed: true })
      expect(other).toMatchObject({ type: 'set' })
      await restart()
    }
    // What would not be remembered is refused for its own reason; what is known is answered.
    expect(await machine.runAt(start + life, set('', '', underKey('one-more')))).toMatchObject([
      { code: 'invalid-key' },
    ])
    expect(await machine.runAt(start + life + 1, set('a', '1', underKey('one-more')))).toMatchObject([
      { type: 'set', created: true },
    ])
  })

  it('is decided once, whichever node the repeat came through and whoever leads', async () => {
    await machine.run(openSession(1))
    const command: Command = set('a', '1', { ...absent, ...inSession(1, 1) })
    const outcomes: Outcome[] = []
    for (const [at, peer] of ['peer-1', 'peer-2', 'peer-3', 'peer-1'].entries()) {
      const boot = at === 3 ? 2 : 1
      const applied = await machine.apply({
        ...entry(machine.next, [batch([[at + 1, command]], { peer, boot })]),
        term: at + 1,
      })
      outcomes.push(...applied.map(({ outcome }) => outcome))
    }
    expect(outcomes).toEqual([written(1), ...new Array(3).fill(replayed(written(1)))])
  })
})
