// Changes of the membership, by thesis 4: when one may begin, when it holds, who is counted, and how a member leaves.

import { describe, expect, it } from 'vitest'
import type { Configuration, MemberId } from '../../src/raft/types.ts'
import { Ensemble, type Happening } from './ensemble.ts'
import { led, proposeSome } from './led.ts'
import { configurationOf } from './seat.ts'

const inProgress = { type: 'refused', reason: 'change-in-progress' }

const peers = (ensemble: Ensemble, id: MemberId): string =>
  ensemble
    .configurationOf(id)
    .members.map(({ peer, voter }) => (voter ? peer : `(${peer})`))
    .join('')

const withLearners = (voters: string, learners: string): Configuration =>
  configurationOf([...voters, ...learners], [...learners])

describe('a change (thesis 4.1)', () => {
  it('begins at a leader only, and not while that hands over', () => {
    const ensemble = led({ spares: ['d'] })
    const wanted = withLearners('abc', 'd')
    expect(ensemble.change('b', wanted)).toEqual({ type: 'refused', reason: 'not-leader' })
    ensemble.network.isolate('b')
    ensemble.transfer('a', 'b')
    expect(ensemble.change('a', wanted)).toEqual({ type: 'refused', reason: 'transferring' })
  })

  it('is refused until the leader has committed an entry of its own term', () => {
    const ensemble = new Ensemble({ members: ['a', 'b', 'c'], spares: ['d'], random: () => 0 })
    while (ensemble.raft('a').role === 'follower') ensemble.tick('a')
    for (let tick = 0; tick < ensemble.tuning.electionTicks; tick++) ensemble.tick('b')
    ensemble.deliver('a', 'b')
    ensemble.deliver('b', 'a', ensemble.network.underWay('b', 'a').length - 1)
    ensemble.finishSave('a')
    ensemble.deliver('a', 'b')
    ensemble.finishSave('b')
    ensemble.deliver('b', 'a', ensemble.network.underWay('b', 'a').length - 1)
    expect(ensemble.raft('a').status).toMatchObject({ role: 'leader', lastIndex: 1, commitIndex: 0 })
    expect(ensemble.change('a', withLearners('abc', 'd'))).toEqual(inProgress)
    ensemble.settle()
    expect(ensemble.change('a', withLearners('abc', 'd'))).toMatchObject({ type: 'appended', index: 2 })
  })

  it('waits until the one before it is committed', () => {
    const ensemble = led({ spares: ['d', 'e'] })
    ensemble.network.isolate('a')
    expect(ensemble.change('a', withLearners('abc', 'd'))).toMatchObject({ type: 'appended', index: 2 })
    expect(ensemble.change('a', withLearners('abc', 'de'))).toEqual(inProgress)
    ensemble.network.healAll()
    ensemble.run(4)
    expect(ensemble.change('a', withLearners('abc', 'de'))).toMatchObject({ type: 'appended', index: 3 })
  })

  it('adds or takes away one voter at most', () => {
    const ensemble = led({ spares: ['d', 'e'] })
    expect(() => ensemble.change('a', configurationOf(['a', 'b', 'c', 'd', 'e']))).toThrow(/majorities/)
    expect(() => led().change('a', withLearners('a', 'bc'))).toThrow(/majorities/)
  })

  it('counts a new voter as soon as it is appended', () => {
    const ensemble = led({ spares: ['d'] })
    ensemble.network.isolate('c')
    ensemble.network.isolate('d')
    ensemble.change('a', configurationOf(['a', 'b', 'c', 'd']))
    ensemble.settle()
    // Two of the three before, but not three of four.
    expect(ensemble.raft('b').log.savedIndex).toBe(2)
    expect(ensemble.raft('a').log.commitIndex).toBe(1)
    ensemble.network.healAll()
    ensemble.run(4)
    expect(ensemble.raft('a').log.commitIndex).toBe(2)
  })

  it('counts one that it removes no longer, though it still answers', () => {
    const ensemble = led()
    ensemble.network.isolate('b')
    ensemble.change('a', configurationOf(['a', 'b']))
    ensemble.settle()
    expect(ensemble.raft('c').log.savedIndex).toBe(2)
    expect(ensemble.raft('a').log.commitIndex).toBe(1)
  })

  it('is rolled back when the entry of another leader takes its place', () => {
    const ensemble = led({ spares: ['d'] })
    ensemble.network.isolate('a')
    ensemble.change('a', withLearners('abc', 'd'))
    ensemble.settle()
    expect(peers(ensemble, 'a')).toBe('abc(d)')
    ensemble.run(30, ['b', 'c'])
    ensemble.network.healAll()
    ensemble.run(4)
    expect(ensemble.leader()).not.toBe('a')
    expect(peers(ensemble, 'a')).toBe('abc')
    expect(ensemble.raft('a').log.configurations).toHaveLength(1)
  })

  it('is still there after a restart, committed or not', () => {
    const ensemble = led({ spares: ['d'] })
    ensemble.network.isolate('a')
    ensemble.change('a', withLearners('abc', 'd'))
    ensemble.finishSave('a')
    ensemble.crash('a')
    ensemble.restart('a')
    expect(peers(ensemble, 'a')).toBe('abc(d)')
    expect(ensemble.raft('a').log.commitIndex).toBeLessThan(2)
  })
})

describe('a learner', () => {
  it('makes no majority for a leader to stay, nor for a read', () => {
    const answers: (number | undefined)[] = []
    const watch = (happening: Happening): void => {
      if (happening.type === 'read') answers.push(happening.index)
    }
    const ensemble = led({ learners: ['d', 'e'], watch }, ['a', 'b', 'c', 'd', 'e'])
    ensemble.crash('b')
    ensemble.crash('c')
    const raft = ensemble.raft('a')
    ensemble.read('a')
    ensemble.run(8)
    expect(raft.progress?.get('d')?.answeredRound).toBeGreaterThan(0)
    expect(answers).toEqual([])
    ensemble.run(4)
    expect(raft.role).toBe('follower')
    expect(answers).toEqual([undefined])
  })

  it('becomes a voter by a change, and is counted from then on', () => {
    const ensemble = led({ spares: ['d'] })
    ensemble.change('a', withLearners('abc', 'd'))
    ensemble.run(4)
    ensemble.change('a', configurationOf(['a', 'b', 'c', 'd']))
    ensemble.run(4)
    expect(peers(ensemble, 'd')).toBe('abcd')
    ensemble.crash('b')
    proposeSome(ensemble, 1)
    ensemble.settle()
    expect(ensemble.raft('a').log.commitIndex).toBe(4)
    ensemble.crash('c')
    proposeSome(ensemble, 1)
    ensemble.settle()
    // Two of four are no majority.
    expect(ensemble.raft('a').log.commitIndex).toBe(4)
  })
})

describe('a member that leaves', () => {
  it('is told that its removal is committed, and then forgotten', () => {
    const ensemble = led()
    ensemble.change('a', configurationOf(['a', 'b']))
    ensemble.run(4)
    expect(ensemble.raft('c').log.commitIndex).toBe(2)
    expect(ensemble.raft('a').progress?.has('c')).toBe(false)
    proposeSome(ensemble, 1)
    ensemble.run(4)
    expect(ensemble.raft('c').log.lastIndex).toBe(2)
  })

  it('disturbs nobody when it was away and does not know (thesis 4.2.3)', () => {
    const ensemble = led()
    ensemble.network.isolate('c')
    ensemble.change('a', configurationOf(['a', 'b']))
    ensemble.run(30)
    expect(ensemble.raft('a').progress?.has('c')).toBe(false)
    ensemble.network.healAll()
    ensemble.run(60)
    for (const id of ['a', 'b']) {
      expect(ensemble.raft(id).status).toMatchObject({ term: 2, leader: 'a' })
    }
  })

  it('leads without counting itself until its own removal is committed, and hands over then (thesis 4.2.2)', () => {
    const ensemble = led()
    ensemble.network.isolate('c')
    ensemble.change('a', configurationOf(['b', 'c']))
    ensemble.run(2)
    expect(ensemble.raft('b').log.savedIndex).toBe(2)
    expect(ensemble.raft('a').status).toMatchObject({ role: 'leader', savedIndex: 2, commitIndex: 1 })
    ensemble.network.healAll()
    ensemble.run(30)
    expect(['b', 'c']).toContain(ensemble.leader())
    expect(ensemble.raft('a').status).toMatchObject({ role: 'follower', commitIndex: 2 })
    proposeSome(ensemble, 1, ensemble.leader())
    ensemble.run(60)
    expect(ensemble.raft('a').role).toBe('follower')
    expect(['b', 'c']).toContain(ensemble.leader())
  })

  it('stands once more if only it has the entry that removes it (thesis 4.2.2)', () => {
    const ensemble = led({}, ['a', 'b'])
    ensemble.network.isolate('a')
    ensemble.change('a', configurationOf(['b']))
    ensemble.run(12)
    // b goes by two voters and lacks an entry: without a, which has no vote any more, nobody could lead.
    expect(ensemble.leader()).toBeUndefined()
    ensemble.network.healAll()
    ensemble.run(60)
    expect(ensemble.leader()).toBe('b')
    expect(peers(ensemble, 'b')).toBe('b')
    expect(ensemble.raft('a').role).toBe('follower')
  })
})
