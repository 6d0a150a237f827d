// Elections, section by section: terms and votes (5.1, 5.2, 5.4.1), check-quorum and stickiness (6.2), pre-vote (9.6).

import { describe, expect, it } from 'vitest'
import type { Entry, MemberId, Message } from '../../src/raft/types.ts'
import { Ensemble, type EnsembleOptions } from './ensemble.ts'

const abc = ['a', 'b', 'c'] as const

/** Members draw their timeouts by their place, so that `a` asks first. */
function ensembleOf(members: readonly MemberId[], options: Partial<EnsembleOptions> = {}): Ensemble {
  return new Ensemble({ members, random: (member) => members.indexOf(member) / members.length, ...options })
}

/** `a` leads term 2, and all have its no-op. */
function led(options: Partial<EnsembleOptions> = {}): Ensemble {
  const ensemble = ensembleOf(abc, options)
  ensemble.run(12)
  expect(ensemble.leader()).toBe('a')
  return ensemble
}

const requestVote = (
  from: MemberId,
  to: MemberId,
  term: number,
  more: { transfer?: boolean } = {},
): Message => ({
  type: 'requestVote',
  from,
  to,
  term,
  lastIndex: 100,
  lastTerm: 100,
  transfer: false,
  ...more,
})

/** The last answer to a vote under way from one member to another. */
function answer(ensemble: Ensemble, from: MemberId, to: MemberId): boolean | undefined {
  const last = ensemble.network.underWay(from, to).at(-1)
  return last?.type === 'vote' ? last.granted : undefined
}

/** Ticks without anything moving, until no leader is believed in any more. */
function forgetLeader(ensemble: Ensemble, id: MemberId): void {
  for (let tick = 0; tick < ensemble.tuning.electionTicks; tick++) ensemble.tick(id)
}

describe('terms (5.1)', () => {
  it('are raised by any answer of a later term, which ends a leadership', () => {
    const ensemble = led()
    ensemble.inject({ type: 'appended', from: 'b', to: 'a', term: 7, matchIndex: 1 })
    expect(ensemble.raft('a').status).toMatchObject({ role: 'follower', term: 7, leader: undefined })
  })

  it('tell a leader of the past that it is over, for its appends and its heartbeats alike', () => {
    const ensemble = led()
    const { length } = ensemble.network.underWay('b', 'a')
    ensemble.inject({
      type: 'append',
      since: 0,
      from: 'a',
      to: 'b',
      term: 1,
      prevIndex: 0,
      prevTerm: 0,
      commitIndex: 0,
      entries: [],
    })
    ensemble.inject({ type: 'heartbeat', since: 0, from: 'a', to: 'b', term: 1, round: 9, commitIndex: 0 })
    const answers = ensemble.network.underWay('b', 'a').slice(length)
    expect(answers).toMatchObject([
      { type: 'heartbeatAnswer', term: 2, round: 0 },
      { type: 'heartbeatAnswer', term: 2, round: 0 },
    ])
  })

  it('of the past are ignored with all they carry', () => {
    const ensemble = led()
    const late: Entry = { type: 'noop', index: 1, term: 1 }
    ensemble.inject({
      type: 'append',
      since: 0,
      from: 'c',
      to: 'b',
      term: 1,
      prevIndex: 0,
      prevTerm: 0,
      commitIndex: 1,
      entries: [late],
    })
    ensemble.inject({ type: 'commit', from: 'c', to: 'b', term: 1, commitIndex: 1 })
    ensemble.inject({ type: 'timeoutNow', from: 'c', to: 'b', term: 1 })
    expect(ensemble.raft('b').status).toMatchObject({ role: 'follower', term: 2, leader: 'a', lastIndex: 1 })
    expect(ensemble.raft('b').log.term(1)).toBe(2)
  })
})

describe('votes (5.2)', () => {
  it('go to one candidate in a term, first come first served, and to the same one again', () => {
    const ensemble = ensembleOf(abc)
    forgetLeader(ensemble, 'c')
    ensemble.inject(requestVote('a', 'c', 5))
    ensemble.finishSave('c')
    expect(answer(ensemble, 'c', 'a')).toBe(true)
    ensemble.inject(requestVote('b', 'c', 5))
    expect(answer(ensemble, 'c', 'b')).toBe(false)
    ensemble.inject(requestVote('a', 'c', 5))
    expect(answer(ensemble, 'c', 'a')).toBe(true)
  })

  it('leave only once they are durable', () => {
    const ensemble = ensembleOf(abc)
    forgetLeader(ensemble, 'c')
    ensemble.inject(requestVote('a', 'c', 5))
    expect(answer(ensemble, 'c', 'a')).toBeUndefined()
    ensemble.finishSave('c')
    expect(answer(ensemble, 'c', 'a')).toBe(true)
  })

  it('bind after a restart', () => {
    const ensemble = ensembleOf(abc)
    forgetLeader(ensemble, 'c')
    ensemble.inject(requestVote('a', 'c', 5))
    ensemble.crash('c', { kept: true })
    ensemble.restart('c')
    forgetLeader(ensemble, 'c')
    ensemble.inject(requestVote('b', 'c', 5))
    expect(answer(ensemble, 'c', 'b')).toBe(false)
  })

  it('are kept by a leader that steps down within its term', () => {
    const ensemble = led()
    ensemble.network.isolate('a')
    for (let tick = 0; tick < 10; tick++) ensemble.tick('a')
    expect(ensemble.raft('a').role).toBe('follower')
    ensemble.network.healAll()
    ensemble.inject(requestVote('c', 'a', 2))
    expect(answer(ensemble, 'a', 'c')).toBe(false)
  })

  it('of one election are not counted in another', () => {
    const ensemble = ensembleOf(abc)
    for (const peer of ['b', 'c']) ensemble.network.slow(peer, 'a')
    ensemble.run(10)
    // The pre-votes of both for term 2 arrive; then their votes for term 2 while a stands in term 3.
    ensemble.deliver('b', 'a')
    ensemble.settle()
    expect(ensemble.raft('a').status).toMatchObject({ role: 'candidate', term: 2 })
    ensemble.inject({
      type: 'vote',
      from: 'b',
      to: 'a',
      term: 1,
      preVote: false,
      askedTerm: 1,
      granted: true,
    })
    ensemble.inject({ type: 'vote', from: 'c', to: 'a', term: 1, preVote: true, askedTerm: 2, granted: true })
    ensemble.inject({ type: 'vote', from: 'c', to: 'a', term: 1, preVote: true, askedTerm: 3, granted: true })
    expect(ensemble.raft('a').status).toMatchObject({ role: 'candidate', term: 2 })
    ensemble.inject({
      type: 'vote',
      from: 'c',
      to: 'a',
      term: 2,
      preVote: false,
      askedTerm: 2,
      granted: true,
    })
    expect(ensemble.raft('a').role).toBe('leader')
  })

  it('elect a sole voter at once, but not before its own vote is durable', () => {
    const ensemble = ensembleOf(['a'])
    ensemble.tick('a')
    expect(ensemble.raft('a').role).toBe('candidate')
    ensemble.finishSave('a')
    expect(ensemble.raft('a').role).toBe('leader')
    expect(ensemble.raft('a').log.commitIndex).toBe(0)
    ensemble.finishSave('a')
    expect(ensemble.raft('a').log.commitIndex).toBe(1)
  })

  it('are asked of no learner, and a learner never campaigns', () => {
    const ensemble = ensembleOf(abc, { learners: ['c'] })
    ensemble.run(12)
    expect(ensemble.leader()).toBe('a')
    ensemble.crash('a')
    ensemble.run(60)
    expect(ensemble.leader()).toBeUndefined()
    expect(ensemble.raft('c').role).toBe('follower')
  })

  it('split between two end with the next timeout', () => {
    const ensemble = ensembleOf(['a', 'b'])
    // Each is asked by a leader of the past to stand at once.
    ensemble.inject({ type: 'timeoutNow', from: 'b', to: 'a', term: 1 })
    ensemble.inject({ type: 'timeoutNow', from: 'a', to: 'b', term: 1 })
    ensemble.settle()
    expect(ensemble.leader()).toBeUndefined()
    ensemble.run(12)
    expect(ensemble.leader()).toBe('a')
  })

  it('of a candidate end with the first word of the leader of its term', () => {
    const ensemble = ensembleOf(abc)
    ensemble.network.cut('a', 'b')
    ensemble.network.slow('a', 'c')
    ensemble.tick('a')
    ensemble.inject({ type: 'timeoutNow', from: 'b', to: 'a', term: 1 })
    expect(ensemble.raft('a').status).toMatchObject({ role: 'candidate', term: 2 })
    ensemble.inject({ type: 'heartbeat', since: 0, from: 'c', to: 'a', term: 2, round: 1, commitIndex: 0 })
    expect(ensemble.raft('a').status).toMatchObject({ role: 'follower', term: 2, leader: 'c' })
  })
})

describe('the log of a candidate (5.4.1)', () => {
  const cases = [
    { lastTerm: 2, lastIndex: 1, granted: false, why: 'an older last term, however short the own log' },
    { lastTerm: 2, lastIndex: 9, granted: false, why: 'an older last term, however long its log' },
    { lastTerm: 3, lastIndex: 2, granted: false, why: 'the same last term and a shorter log' },
    { lastTerm: 3, lastIndex: 3, granted: true, why: 'the same last position' },
    { lastTerm: 3, lastIndex: 4, granted: true, why: 'the same last term and a longer log' },
    { lastTerm: 4, lastIndex: 1, granted: true, why: 'a later last term, however short its log' },
  ]
  for (const { lastTerm, lastIndex, granted, why } of cases) {
    it(`${granted ? 'wins' : 'loses'} a vote and a pre-vote with ${why}`, () => {
      const entries = [1, 2, 3].map((term, at): Entry => ({ type: 'noop', index: at + 1, term }))
      const disks = new Map([['c', { hardState: { term: 4, votedFor: undefined }, entries }]])
      const ensemble = ensembleOf(abc, { disks })
      forgetLeader(ensemble, 'c')
      ensemble.inject({ type: 'preVote', from: 'a', to: 'c', term: 5, lastIndex, lastTerm })
      expect(answer(ensemble, 'c', 'a')).toBe(granted)
      ensemble.inject({ ...requestVote('a', 'c', 5), lastIndex, lastTerm } as Message)
      ensemble.finishSave('c')
      expect(answer(ensemble, 'c', 'a')).toBe(granted)
      // The term is taken over either way.
      expect(ensemble.raft('c').term).toBe(5)
    })
  }
})

describe('check-quorum and stickiness (6.2)', () => {
  it('make a leader step down when it has heard from no majority for an election timeout', () => {
    const ensemble = led()
    ensemble.network.isolate('a')
    for (let tick = 0; tick < 9; tick++) ensemble.tick('a')
    expect(ensemble.raft('a').role).toBe('leader')
    ensemble.tick('a')
    expect(ensemble.raft('a').status).toMatchObject({ role: 'follower', leader: undefined, term: 2 })
  })

  it('let a leader stay that hears from a majority, were it only bytes of a longer message', () => {
    const ensemble = led()
    ensemble.network.isolate('a')
    for (let tick = 0; tick < 40; tick++) {
      ensemble.tick('a')
      ensemble.heard('a', 'c')
    }
    expect(ensemble.raft('a').role).toBe('leader')
  })

  it('refuse votes and pre-votes while a leader is heard, and leave the term as it is', () => {
    const ensemble = led()
    for (const to of ['a', 'b']) {
      ensemble.inject({ type: 'preVote', from: 'c', to, term: 9, lastIndex: 100, lastTerm: 100 })
      expect(answer(ensemble, to, 'c')).toBe(false)
      ensemble.inject(requestVote('c', to, 9))
      expect(answer(ensemble, to, 'c')).toBe(false)
      expect(ensemble.raft(to).term).toBe(2)
    }
  })

  it('pass a vote that the leader itself has asked for', () => {
    const ensemble = led()
    for (const to of ['a', 'b']) {
      ensemble.inject(requestVote('c', to, 3, { transfer: true }))
      ensemble.finishSave(to)
      expect(answer(ensemble, to, 'c')).toBe(true)
    }
  })

  it('hold at a member that has just started, for the least timeout', () => {
    const ensemble = ensembleOf(abc)
    for (let tick = 0; tick < 9; tick++) ensemble.tick('b')
    ensemble.inject(requestVote('a', 'b', 5))
    expect(answer(ensemble, 'b', 'a')).toBe(false)
    ensemble.tick('b')
    ensemble.inject(requestVote('a', 'b', 5))
    ensemble.finishSave('b')
    expect(answer(ensemble, 'b', 'a')).toBe(true)
  })

  it('wait for nobody in a cluster that was founded just now', () => {
    const ensemble = ensembleOf(abc, { tuning: { fresh: true } })
    ensemble.run(ensemble.tuning.failoverTicks)
    expect(ensemble.leader()).toBe('a')
  })

  it('end at once for the leader whose connections ended, and hold for every other', () => {
    const ensemble = led()
    ensemble.disconnect('b', 'c')
    ensemble.inject({ type: 'preVote', from: 'c', to: 'b', term: 3, lastIndex: 100, lastTerm: 100 })
    expect(answer(ensemble, 'b', 'c')).toBe(false)
    ensemble.disconnect('b', 'a')
    ensemble.inject({ type: 'preVote', from: 'c', to: 'b', term: 3, lastIndex: 100, lastTerm: 100 })
    expect(answer(ensemble, 'b', 'c')).toBe(true)
  })
})

describe('pre-votes (9.6)', () => {
  it('change neither the term nor the vote of anybody, and nothing is saved for them', () => {
    const ensemble = ensembleOf(abc)
    ensemble.network.isolate('a')
    for (let tick = 0; tick < 60; tick++) ensemble.tick('a')
    expect(ensemble.raft('a').status).toMatchObject({ role: 'preCandidate', term: 1 })
    expect(ensemble.seat('a').saving).toBeUndefined()
    forgetLeader(ensemble, 'b')
    ensemble.network.healAll()
    ensemble.inject({ type: 'preVote', from: 'c', to: 'b', term: 9, lastIndex: 100, lastTerm: 100 })
    expect(answer(ensemble, 'b', 'c')).toBe(true)
    expect(ensemble.raft('b').term).toBe(1)
    expect(ensemble.seat('b').saving).toBeUndefined()
  })

  it('are granted to any number, each holding back the own question for a while', () => {
    const ensemble = ensembleOf(abc)
    forgetLeader(ensemble, 'c')
    for (const from of ['a', 'b']) {
      ensemble.inject({ type: 'preVote', from, to: 'c', term: 2, lastIndex: 0, lastTerm: 0 })
      expect(answer(ensemble, 'c', from)).toBe(true)
    }
    ensemble.disconnect('c', 'a')
    // c would ask after 13 ticks; it has granted at 10, and holds until 15.
    for (let tick = 0; tick < 4; tick++) ensemble.tick('c')
    expect(ensemble.raft('c').role).toBe('follower')
    ensemble.tick('c')
    expect(ensemble.raft('c').role).toBe('preCandidate')
  })

  it('of members that ask in the same moment go to the first in place, and split no vote', () => {
    const ensemble = ensembleOf(abc, { random: () => 0 })
    ensemble.run(10)
    expect(ensemble.raft('a').status).toMatchObject({ role: 'leader', term: 2 })
  })

  it('of members whose hold ends in the same moment go to the first in place too', () => {
    const members = ['a', 'b', 'c', 'd', 'e']
    const ensemble = ensembleOf(members, { random: (member) => (member === 'a' ? 0 : 0.3) })
    // a asks at 10; the others are due at 11, hold until 15, and then ask together.
    for (const peer of members.slice(1)) ensemble.network.cut(peer, 'a')
    ensemble.run(10 + ensemble.tuning.holdTicks)
    expect(ensemble.raft('b').status).toMatchObject({ role: 'leader', term: 2 })
  })

  it('of a term that is no later than the own are refused with that term', () => {
    const ensemble = ensembleOf(abc, {
      disks: new Map([['c', { hardState: { term: 5, votedFor: undefined }, entries: [] }]]),
    })
    forgetLeader(ensemble, 'c')
    ensemble.inject({ type: 'preVote', from: 'a', to: 'c', term: 5, lastIndex: 0, lastTerm: 0 })
    expect(ensemble.network.underWay('c', 'a').at(-1)).toMatchObject({
      type: 'vote',
      granted: false,
      term: 5,
      askedTerm: 5,
    })
  })
})
