// Compaction, and snapshots for those who fell behind it (thesis 5; `safety.md`, rules 6 and 26).

import { describe, expect, it } from 'vitest'
import type { MemberId } from '../../src/raft/types.ts'
import type { Ensemble, Happening } from './ensemble.ts'
import { bytes, led, proposeSome } from './led.ts'
import { configurationOf } from './seat.ts'

/** `c` was away while `a` and `b` came to index 6 and `a` forgot what was before 4; it is back, and knows nothing of it yet. */
function behind(watch?: (happening: Happening) => void): Ensemble {
  const ensemble = led(watch === undefined ? {} : { watch })
  ensemble.network.isolate('c')
  proposeSome(ensemble, 5)
  ensemble.run(4)
  ensemble.compact('a', 4)
  ensemble.network.healAll()
  return ensemble
}

const sentTo = (ensemble: Ensemble, from: MemberId, to: MemberId): string[] =>
  ensemble.network.underWay(from, to).map(({ type }) => type)

/** One heartbeat of `a` reaches `c`, and what `c` answers reaches `a`; nothing else moves. Returns what `a` then says. */
function heartbeatOf(ensemble: Ensemble): string[] {
  ensemble.network.slow('a', 'c')
  ensemble.network.slow('c', 'a')
  for (let tick = 0; tick < ensemble.tuning.heartbeatTicks; tick++) ensemble.tick('a')
  for (const [from, to] of [
    ['a', 'c'],
    ['c', 'a'],
  ] as const) {
    while (ensemble.network.underWay(from, to).length > 0) ensemble.deliver(from, to)
  }
  return sentTo(ensemble, 'a', 'c')
}

describe('compaction', () => {
  it('keeps the position and the configuration that the log now begins with', () => {
    const ensemble = led({ spares: ['d'] })
    ensemble.change('a', configurationOf(['a', 'b', 'c', 'd'], ['d']))
    proposeSome(ensemble, 4)
    ensemble.run(4)
    ensemble.compact('a', 5)
    for (let starts = 0; starts < 2; starts++) {
      const { log } = ensemble.raft('a')
      expect(log.base).toEqual({ index: 5, term: 2 })
      expect(log.term(5)).toBe(2)
      expect(log.term(4)).toBeUndefined()
      expect(log.configuration.configuration.members).toHaveLength(4)
      expect(log.lastIndex).toBe(6)
      ensemble.crash('a')
      ensemble.restart('a')
    }
  })

  it('never reaches beyond what is applied', () => {
    const ensemble = led()
    ensemble.seat('a').appliesHeld = true
    proposeSome(ensemble, 2)
    ensemble.settle()
    expect(ensemble.raft('a').status).toMatchObject({ commitIndex: 3, appliedIndex: 1 })
    expect(() => ensemble.raft('a').compact(2)).toThrow(/only what is applied/)
  })

  it('matches whatever a leader sends from below it', () => {
    const ensemble = led()
    proposeSome(ensemble, 3)
    ensemble.run(4)
    const entries = ensemble.raft('a').log.slice(3, 1000) ?? []
    ensemble.compact('b', 4)
    ensemble.network.slow('b', 'a')
    const append = { type: 'append', from: 'a', to: 'b', term: 2, since: 0, commitIndex: 4 } as const
    const next = { type: 'noop', index: 5, term: 2 } as const
    ensemble.inject({ ...append, prevIndex: 1, prevTerm: 2, entries: [] })
    ensemble.inject({ ...append, prevIndex: 2, prevTerm: 2, entries: [...entries, next] })
    ensemble.settle()
    expect(ensemble.raft('b').log.lastIndex).toBe(5)
    expect(ensemble.network.underWay('b', 'a')).toMatchObject([
      { type: 'appended', matchIndex: 1 },
      { type: 'appended', matchIndex: 5 },
    ])
  })
})

describe('a follower behind the log', () => {
  it('is told so, gets a snapshot, and then the entries after it', () => {
    const wanted: number[] = []
    const ensemble = behind((happening) => {
      if (happening.type === 'snapshot' && happening.member === 'c') wanted.push(happening.index)
    })
    ensemble.run(4)
    expect(wanted).toContain(4)
    const { status } = ensemble.raft('c')
    expect(status).toMatchObject({ lastIndex: 6, commitIndex: 6, appliedIndex: 6 })
    expect(status.baseIndex).toBeGreaterThanOrEqual(4)
    proposeSome(ensemble, 1)
    ensemble.settle()
    expect(ensemble.raft('c').log.appliedIndex).toBe(7)
    expect(ensemble.raft('a').progress?.get('c')).toMatchObject({ state: 'replicate', matchIndex: 7 })
  })

  it('is sent no entries meanwhile, and is told again with every heartbeat', () => {
    const ensemble = behind()
    ensemble.seat('c').snapshotsHeld = true
    ensemble.run(6)
    expect(ensemble.raft('a').progress?.get('c')?.state).toBe('snapshot')
    proposeSome(ensemble, 3)
    expect(heartbeatOf(ensemble)).toEqual(['snapshotNeeded'])
    expect(heartbeatOf(ensemble)).toEqual(['snapshotNeeded'])
    expect(ensemble.raft('c').log.lastIndex).toBe(1)
    expect(ensemble.raft('a').log.commitIndex).toBeGreaterThan(1)
  })

  it('acknowledges without one when it has what the log begins with', () => {
    const ensemble = led()
    proposeSome(ensemble, 3)
    ensemble.run(4)
    ensemble.network.slow('c', 'a')
    const question = { type: 'snapshotNeeded', from: 'a', to: 'c', term: 2, since: 0 } as const
    ensemble.inject({ ...question, index: 3 })
    expect(ensemble.network.underWay('c', 'a').at(-1)).toMatchObject({ type: 'appended', matchIndex: 3 })
    expect(ensemble.seat('c').wanted).toBeUndefined()
    ensemble.inject({ ...question, index: 9 })
    expect(ensemble.seat('c').wanted).toBe(9)
  })

  it('that joins gets the members with the snapshot', () => {
    const ensemble = led({ spares: ['d'] })
    proposeSome(ensemble, 3)
    ensemble.run(4)
    ensemble.change('a', configurationOf(['a', 'b', 'c', 'd'], ['d']))
    ensemble.network.isolate('d')
    ensemble.run(4)
    for (const id of ['a', 'b', 'c']) ensemble.compact(id, ensemble.raft(id).log.appliedIndex)
    ensemble.network.healAll()
    ensemble.run(6)
    const { log } = ensemble.raft('d')
    expect(log.base.index).toBe(5)
    expect(log.configuration.configuration.members.map(({ peer, voter }) => [peer, voter])).toEqual([
      ['a', true],
      ['b', true],
      ['c', true],
      ['d', false],
    ])
  })
})

describe('an install', () => {
  it('keeps what the log has after the snapshot', () => {
    const ensemble = led()
    ensemble.seat('c').appliesHeld = true
    proposeSome(ensemble, 3)
    ensemble.run(4)
    proposeSome(ensemble, 2)
    ensemble.network.slow('b', 'a')
    ensemble.network.slow('c', 'a')
    ensemble.settle()
    // Of what c has, entries 5 and 6 are not committed: a snapshot at 4 must not cost them.
    ensemble.loseState('c')
    ensemble.seat('c').savesHeld = true
    expect(ensemble.offerSnapshot('c', 'a')).toBe(true)
    expect(ensemble.seat('c').installing).toMatchObject({ base: { index: 4 }, keeps: true })
    ensemble.finishInstall('c')
    expect(ensemble.raft('c').status).toMatchObject({ baseIndex: 4, appliedIndex: 4, lastIndex: 6 })
    expect(ensemble.seat('c').disk.entries.map(({ index }) => index)).toEqual([5, 6])
  })

  it('empties a log that has another entry there', () => {
    const ensemble = led()
    ensemble.network.isolate('a')
    proposeSome(ensemble, 6)
    ensemble.settle()
    ensemble.run(30, ['b', 'c'])
    const leader = ensemble.leader() ?? 'nobody'
    expect(leader).not.toBe('a')
    proposeSome(ensemble, 2, leader)
    ensemble.run(4, ['b', 'c'])
    ensemble.compact(leader, 4)
    ensemble.seat('a').snapshotsHeld = true
    ensemble.network.healAll()
    ensemble.run(6)
    ensemble.seat('a').savesHeld = true
    expect(ensemble.raft('a').log.lastIndex).toBe(7)
    expect(ensemble.offerSnapshot('a', leader)).toBe(true)
    expect(ensemble.seat('a').installing).toMatchObject({ base: { index: 4 }, keeps: false })
    ensemble.finishInstall('a')
    expect(ensemble.raft('a').status).toMatchObject({ baseIndex: 4, lastIndex: 4, commitIndex: 4 })
    expect(ensemble.raft('a').log.base.term).toBe(ensemble.raft(leader).log.term(4))
    expect(ensemble.seat('a').disk.entries).toEqual([])
  })

  it('is refused where the state has come as far by itself', () => {
    const ensemble = led()
    proposeSome(ensemble, 3)
    ensemble.run(4)
    expect(ensemble.raft('c').log.appliedIndex).toBe(4)
    expect(ensemble.offerSnapshot('c', 'a')).toBe(false)
    expect(ensemble.seat('c').installing).toBeUndefined()
  })

  it('is dropped when what was being applied meanwhile comes as far', () => {
    const ensemble = led()
    ensemble.seat('c').appliesHeld = true
    proposeSome(ensemble, 1)
    ensemble.run(4)
    expect(ensemble.seat('c').applying?.entries.at(-1)?.index).toBe(2)
    expect(ensemble.offerSnapshot('c', 'a')).toBe(true)
    expect(ensemble.raft('c').status.installing).toBe(true)
    ensemble.finishApply('c')
    expect(ensemble.seat('c').installing).toBeUndefined()
    expect(ensemble.raft('c').status).toMatchObject({ installing: false, appliedIndex: 2, baseIndex: 0 })
  })

  it('waits for the save under way, and until it is done nothing is appended or saved', () => {
    const ensemble = behind()
    ensemble.seat('c').snapshotsHeld = true
    ensemble.run(4)
    ensemble.seat('c').savesHeld = true
    // A higher term is to be saved when the snapshot comes.
    ensemble.inject({
      type: 'vote',
      from: 'b',
      to: 'c',
      term: 3,
      preVote: false,
      askedTerm: 2,
      granted: false,
    })
    expect(ensemble.seat('c').saving).toBeDefined()
    expect(ensemble.offerSnapshot('c', 'a')).toBe(true)
    expect(ensemble.seat('c').installing).toBeUndefined()
    ensemble.finishSave('c')
    expect(ensemble.seat('c').installing).toMatchObject({ base: { index: 6 } })
    const append = { type: 'append', from: 'b', to: 'c', term: 4, since: 0, commitIndex: 6 } as const
    ensemble.inject({ ...append, prevIndex: 1, prevTerm: 2, entries: [{ type: 'noop', index: 2, term: 4 }] })
    expect(ensemble.raft('c').status).toMatchObject({ term: 4, lastIndex: 1 })
    expect(ensemble.seat('c').saving).toBeUndefined()
    ensemble.finishInstall('c')
    expect(ensemble.raft('c').log.lastIndex).toBe(6)
    expect(ensemble.seat('c').saving?.hardState).toMatchObject({ term: 4 })
  })

  it('is acknowledged once it is done', () => {
    const ensemble = behind()
    ensemble.seat('c').snapshotsHeld = true
    ensemble.run(6)
    ensemble.seat('c').savesHeld = true
    ensemble.network.slow('c', 'a')
    ensemble.offerSnapshot('c', 'a')
    const acknowledged = (): boolean => sentTo(ensemble, 'c', 'a').includes('appended')
    expect(acknowledged()).toBe(false)
    ensemble.finishInstall('c')
    expect(ensemble.network.underWay('c', 'a').at(-1)).toMatchObject({ type: 'appended', matchIndex: 6 })
  })

  it('raises the term to that of the snapshot', () => {
    const ensemble = behind()
    ensemble.seat('c').snapshotsHeld = true
    ensemble.network.isolate('c')
    ensemble.transfer('a', 'b')
    ensemble.run(4, ['a', 'b'])
    expect(ensemble.leader()).toBe('b')
    expect(ensemble.propose('b', bytes('of the next term'))).toMatchObject({ type: 'appended' })
    ensemble.run(4, ['a', 'b'])
    for (let tick = 0; tick < 20 && ensemble.raft('c').role === 'follower'; tick++) ensemble.tick('c')
    expect(ensemble.raft('c').status).toMatchObject({ role: 'preCandidate', term: 2 })
    expect(ensemble.offerSnapshot('c', 'b')).toBe(true)
    expect(ensemble.raft('c').status).toMatchObject({ role: 'follower', term: 3 })
    ensemble.settle()
    expect(ensemble.raft('c').log.base).toEqual({ index: 8, term: 3 })
    expect(ensemble.seat('c').disk.hardState.term).toBe(3)
  })

  it('is not kept waiting by a candidacy', () => {
    const ensemble = behind()
    ensemble.network.isolate('c')
    for (let tick = 0; tick < 20 && ensemble.raft('c').role === 'follower'; tick++) ensemble.tick('c')
    expect(ensemble.raft('c').status).toMatchObject({ role: 'preCandidate', term: 2 })
    expect(ensemble.offerSnapshot('c', 'a')).toBe(true)
    expect(ensemble.raft('c').status).toMatchObject({ role: 'follower', term: 2 })
    expect(ensemble.seat('c').installing).toMatchObject({ base: { index: 6 } })
  })

  it('that a crash interrupts leaves log and state as they were', () => {
    const ensemble = behind()
    ensemble.seat('c').snapshotsHeld = true
    ensemble.run(4)
    ensemble.seat('c').savesHeld = true
    ensemble.offerSnapshot('c', 'a')
    expect(ensemble.seat('c').installing).toBeDefined()
    ensemble.crash('c')
    ensemble.restart('c')
    expect(ensemble.raft('c').status).toMatchObject({ baseIndex: 0, lastIndex: 1, installing: false })
    ensemble.seat('c').savesHeld = false
    ensemble.seat('c').snapshotsHeld = false
    ensemble.run(12)
    expect(ensemble.raft('c').log.appliedIndex).toBe(6)
  })
})
