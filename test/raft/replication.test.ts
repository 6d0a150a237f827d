// Replication, reads and handing over, section by section: 5.3, 5.4.2, 6.4, 10.2.1, 3.10, and disks that hang (rule 14).

import { describe, expect, it } from 'vitest'
import type { Entry, MemberId, Message } from '../../src/raft/types.ts'
import { Ensemble, type EnsembleOptions, type Happening } from './ensemble.ts'

const abc = ['a', 'b', 'c'] as const

/** `a` leads term 2, and all have its no-op, entry 1. */
function led(options: Partial<EnsembleOptions> = {}, members: readonly MemberId[] = abc): Ensemble {
  const random = (member: MemberId) => members.indexOf(member) / members.length
  const ensemble = new Ensemble({ members, random, ...options })
  ensemble.run(12)
  expect(ensemble.leader()).toBe('a')
  return ensemble
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

function types(messages: readonly Message[]): string[] {
  return messages.map(({ type }) => type)
}

describe('replication (5.3)', () => {
  it('commits what a majority has durably, tells the others, and all apply it in order', () => {
    const ensemble = led()
    for (const text of ['one', 'two', 'three']) ensemble.propose('a', bytes(text))
    ensemble.settle()
    for (const id of abc) {
      expect(ensemble.raft(id).status).toMatchObject({
        lastIndex: 4,
        commitIndex: 4,
        appliedIndex: 4,
      })
    }
  })

  it('tells of a commit at once where somebody waits, and elsewhere with what is said next, or with the next tick', () => {
    const ensemble = led()
    const told = () => ['b', 'c'].map((id) => ensemble.raft(id).status.commitIndex)
    ensemble.propose('a', bytes('one'), ['b'])
    ensemble.settle()
    expect(told()).toEqual([2, 1])
    ensemble.propose('a', bytes('two'), [])
    ensemble.settle()
    expect(told()).toEqual([2, 2])
    ensemble.tick('a')
    ensemble.settle()
    expect(told()).toEqual([3, 3])
    ensemble.propose('a', bytes('three'), [])
    ensemble.settle()
    expect(told()).toEqual([3, 3])
    // A read waits where it was asked until all is applied that was committed before.
    ensemble.read('c')
    ensemble.settle()
    expect(told()[1]).toBe(4)
  })

  it('refuses proposals where no leader is', () => {
    expect(led().propose('b', bytes('one'))).toEqual({ type: 'refused', reason: 'not-leader' })
  })

  it('commits at a follower no further than the entries it has matched', () => {
    const ensemble = led()
    const entry: Entry = { type: 'noop', index: 2, term: 2 }
    // b has an entry of its own beyond what the leader of term 3 knows to match.
    ensemble.inject({
      type: 'append',
      since: 0,
      from: 'a',
      to: 'b',
      term: 2,
      prevIndex: 1,
      prevTerm: 2,
      commitIndex: 1,
      entries: [entry],
    })
    ensemble.inject({
      type: 'append',
      since: 0,
      from: 'c',
      to: 'b',
      term: 3,
      prevIndex: 1,
      prevTerm: 2,
      commitIndex: 9,
      entries: [],
    })
    expect(ensemble.raft('b').log.commitIndex).toBe(1)
    expect(ensemble.raft('b').log.lastIndex).toBe(2)
  })

  it('acknowledges what a message has shown to match, not all that is in the log', () => {
    const ensemble = led()
    const entry: Entry = { type: 'noop', index: 2, term: 2 }
    ensemble.inject({
      type: 'append',
      since: 0,
      from: 'a',
      to: 'b',
      term: 2,
      prevIndex: 1,
      prevTerm: 2,
      commitIndex: 1,
      entries: [entry],
    })
    ensemble.finishSave('b')
    ensemble.inject({
      type: 'append',
      since: 0,
      from: 'a',
      to: 'b',
      term: 2,
      prevIndex: 1,
      prevTerm: 2,
      commitIndex: 1,
      entries: [],
    })
    expect(
      ensemble.network
        .underWay('b', 'a')
        .map((message) => (message.type === 'appended' ? message.matchIndex : message.type)),
    ).toEqual([2, 1])
  })

  it('takes a repeated or late append without losing what came after it', () => {
    const ensemble = led()
    ensemble.propose('a', bytes('one'))
    ensemble.network.duplicate('a', 'b')
    ensemble.settle()
    ensemble.propose('a', bytes('two'))
    ensemble.settle()
    const late: Message = {
      type: 'append',
      since: 0,
      from: 'a',
      to: 'b',
      term: 2,
      prevIndex: 0,
      prevTerm: 0,
      commitIndex: 0,
      entries: [],
    }
    ensemble.inject(late)
    expect(ensemble.raft('b').log.lastIndex).toBe(3)
  })

  it('learns nothing from an acknowledgement or a rejection that comes late or twice (etcd#20418)', () => {
    const ensemble = led()
    for (const text of ['one', 'two']) ensemble.propose('a', bytes(text))
    ensemble.settle()
    const progress = ensemble.raft('a').progress?.get('b')
    const before = { matchIndex: 3, nextIndex: 4, state: 'replicate' }
    expect(progress).toMatchObject(before)
    for (const matchIndex of [3, 1, 2]) {
      ensemble.inject({ type: 'appended', from: 'b', to: 'a', term: 2, matchIndex })
      expect(progress).toMatchObject(before)
    }
    const rejection = { type: 'appendRejected', from: 'b', to: 'a', term: 2 } as const
    ensemble.inject({ ...rejection, prevIndex: 2, hintIndex: 0, hintTerm: 0 })
    expect(progress).toMatchObject(before)
    expect(ensemble.network.underWay('a', 'b')).toEqual([])
  })

  it('drops an acknowledgement of more than the leader has', () => {
    const ensemble = led()
    ensemble.inject({ type: 'appended', from: 'b', to: 'a', term: 2, matchIndex: 50 })
    expect(ensemble.raft('a').progress?.get('b')?.matchIndex).toBe(1)
  })

  it('does not send the whole log again because an append of an earlier term of the same leader came late', () => {
    const ensemble = led()
    for (const text of ['one', 'two', 'three']) ensemble.propose('a', bytes(text))
    ensemble.settle()
    for (const [from, to] of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const) {
      ensemble.transfer(from, to)
      ensemble.settle()
    }
    expect(ensemble.raft('a').status).toMatchObject({ role: 'leader', term: 4 })
    ensemble.propose('a', bytes('four'))
    ensemble.lose('a', 'b')
    ensemble.inject({
      type: 'append',
      since: 0,
      from: 'a',
      to: 'b',
      term: 2,
      prevIndex: 7,
      prevTerm: 2,
      commitIndex: 1,
      entries: [],
    })
    const before = ensemble.raft('a').progress?.get('b')?.nextIndex
    ensemble.settle()
    expect(ensemble.raft('a').progress?.get('b')).toMatchObject({ state: 'replicate', nextIndex: before })
  })
})

describe('a leader that leads again', () => {
  it('counts nothing that answers its earlier term: no acknowledgement, no rejection, no round', () => {
    const ensemble = led()
    for (const [from, to] of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const) {
      ensemble.transfer(from, to)
      ensemble.settle()
    }
    ensemble.network.cut('a', 'b')
    ensemble.propose('a', bytes('one'))
    ensemble.settle()
    const before = { ...ensemble.raft('a').progress?.get('b') }
    const late = { from: 'b', to: 'a', term: 2 } as const
    ensemble.inject({ ...late, type: 'appended', matchIndex: 4 })
    ensemble.inject({ ...late, type: 'appendRejected', prevIndex: 4, hintIndex: 0, hintTerm: 0 })
    ensemble.inject({ ...late, type: 'heartbeatAnswer', round: 1 })
    expect(ensemble.raft('a').status).toMatchObject({ role: 'leader', term: 4, lastIndex: 4 })
    expect({ ...ensemble.raft('a').progress?.get('b') }).toEqual(before)
  })
})

describe('the commit rule (5.4.2, rule 5)', () => {
  it('counts the leader only when its own disk has the entry', () => {
    const ensemble = led()
    ensemble.seat('a').savesHeld = true
    ensemble.crash('c')
    ensemble.propose('a', bytes('one'))
    ensemble.settle()
    expect(ensemble.raft('b').log.savedIndex).toBe(2)
    expect(ensemble.raft('a').log.commitIndex).toBe(1)
    ensemble.finishSave('a')
    expect(ensemble.raft('a').log.commitIndex).toBe(2)
  })

  it('commits without the leader what the disks of a majority of others have, and the leader applies it later', () => {
    const ensemble = led()
    ensemble.seat('a').savesHeld = true
    ensemble.propose('a', bytes('one'))
    ensemble.settle()
    expect(ensemble.raft('a').status).toMatchObject({ commitIndex: 2, savedIndex: 1, appliedIndex: 1 })
    expect(ensemble.raft('b').status).toMatchObject({ commitIndex: 2, appliedIndex: 2 })
    ensemble.seat('a').savesHeld = false
    ensemble.settle()
    expect(ensemble.raft('a').log.appliedIndex).toBe(2)
  })

  it('does not count learners', () => {
    const ensemble = led({ learners: ['d', 'e'] }, ['a', 'b', 'c', 'd', 'e'])
    ensemble.crash('b')
    ensemble.crash('c')
    ensemble.propose('a', bytes('one'))
    ensemble.settle()
    expect(ensemble.raft('e').log.savedIndex).toBe(2)
    expect(ensemble.raft('a').log.commitIndex).toBe(1)
  })
})

describe('pipelining (10.2.1)', () => {
  it('sends entries to followers before they are on the own disk, and further ones before any answer', () => {
    const ensemble = led()
    for (const text of ['one', 'two', 'three']) ensemble.propose('a', bytes(text))
    expect(ensemble.raft('a').log.savedIndex).toBe(1)
    expect(types(ensemble.network.underWay('a', 'b'))).toEqual(['append', 'append', 'append'])
  })

  it('saves what gathers during a save in one write', () => {
    const ensemble = led()
    for (const text of ['one', 'two', 'three']) ensemble.propose('a', bytes(text))
    expect(ensemble.seat('a').saving?.entries).toHaveLength(1)
    ensemble.finishSave('a')
    expect(ensemble.seat('a').saving?.entries).toHaveLength(2)
  })

  it('stops at the window, and goes on as acknowledgements come', () => {
    const ensemble = led({ tuning: { windowBytes: 100, appendBytes: 50 } })
    for (let count = 0; count < 10; count++) ensemble.propose('a', new Uint8Array(18))
    expect(ensemble.network.underWay('a', 'b')).toHaveLength(2)
    ensemble.settle()
    expect(ensemble.raft('b').log.commitIndex).toBe(11)
  })

  it('begins again from what is certain when the connection ended', () => {
    const ensemble = led()
    for (const text of ['one', 'two', 'three']) ensemble.propose('a', bytes(text))
    ensemble.disconnect('a', 'b')
    expect(ensemble.network.underWay('a', 'b')).toMatchObject([{ type: 'append', prevIndex: 1 }])
    ensemble.settle()
    expect(ensemble.raft('b').log.commitIndex).toBe(4)
  })
})

describe('reads (6.4, rule 19)', () => {
  function watched(members: readonly MemberId[] = abc, tuning: EnsembleOptions['tuning'] = {}) {
    const answers = new Map<number, number | undefined>()
    const watch = (happening: Happening) => {
      if (happening.type === 'read') answers.set(happening.id, happening.index)
    }
    return { ensemble: led({ watch, tuning }, members), answers }
  }

  it('share one round, however many wait', () => {
    const { ensemble, answers } = watched()
    const rounds = () => ensemble.raft('a').progress?.get('b')?.answeredRound ?? 0
    const before = rounds()
    ensemble.read('a')
    for (let count = 0; count < 5; count++) ensemble.read('a')
    for (let count = 0; count < 3; count++) ensemble.read('b')
    ensemble.settle()
    expect(answers.size).toBe(9)
    // One for the first, one for all that came while it was under way, one for those that arrived from b meanwhile.
    expect(rounds() - before).toBeLessThanOrEqual(4)
  })

  it('of a sole voter need nobody', () => {
    const { ensemble, answers } = watched(['a'])
    const id = ensemble.read('a')
    expect(answers.get(id)).toBe(1)
  })

  it('are confirmed by no answer to an earlier round, nor by one to a round never sent', () => {
    const { ensemble, answers } = watched()
    ensemble.read('a')
    const second = ensemble.read('a')
    for (const round of [0, 1, 2, 50]) {
      ensemble.inject({ type: 'heartbeatAnswer', from: 'b', to: 'a', term: 2, round })
    }
    expect(answers.has(second)).toBe(false)
    ensemble.settle()
    expect(answers.get(second)).toBe(1)
  })

  it('are not answered by a leader that stood still while the others elected another', () => {
    const answers: (number | undefined)[] = []
    const watch = (happening: Happening): void => {
      if (happening.type === 'read' && happening.member === 'a') answers.push(happening.index)
    }
    const ensemble = led({ watch })
    for (const peer of ['b', 'c']) ensemble.network.slow(peer, 'a')
    ensemble.run(30, ['b', 'c'])
    const next = ensemble.leader() ?? 'nobody'
    expect(['b', 'c']).toContain(next)
    ensemble.propose(next, bytes('meanwhile'))
    ensemble.run(2, ['b', 'c'])
    // It wakes and believes what it believed: that it leads, with a majority heard from a moment ago.
    expect(ensemble.raft('a').role).toBe('leader')
    ensemble.read('a')
    expect(answers).toEqual([])
    ensemble.network.healAll()
    ensemble.run(2)
    expect(answers).toEqual([undefined])
  })

  it('end with "ask again" when leadership does, wherever they were asked', () => {
    const { ensemble, answers } = watched()
    ensemble.network.cut('c', 'a')
    ensemble.network.slow('a', 'b')
    const mine = ensemble.read('a')
    const theirs = ensemble.read('b')
    ensemble.deliver('b', 'a')
    ensemble.inject({
      type: 'vote',
      from: 'c',
      to: 'a',
      term: 5,
      preVote: true,
      askedTerm: 5,
      granted: false,
    })
    ensemble.network.healAll()
    ensemble.settle()
    expect([answers.has(mine), answers.get(mine)]).toEqual([true, undefined])
    expect([answers.has(theirs), answers.get(theirs)]).toEqual([true, undefined])
  })

  it('beyond the bound are answered "ask again" at once', () => {
    const { ensemble, answers } = watched(abc, { maxReads: 2 })
    const ids = [1, 2, 3].map(() => ensemble.read('a'))
    expect(ids.map((id) => answers.has(id))).toEqual([false, false, true])
    expect(answers.get(ids[2] ?? 0)).toBeUndefined()
    ensemble.settle()
    expect(answers.get(ids[1] ?? 0)).toBe(1)
  })
})

describe('handing over (3.10)', () => {
  it('tells the target once it has everything, and takes no proposals meanwhile', () => {
    const ensemble = led()
    ensemble.network.slow('a', 'b')
    ensemble.propose('a', bytes('one'))
    expect(ensemble.transfer('a', 'b')).toBe(true)
    expect(ensemble.propose('a', bytes('two'))).toEqual({ type: 'refused', reason: 'transferring' })
    expect(types(ensemble.network.underWay('a', 'b'))).not.toContain('timeoutNow')
    ensemble.network.healAll()
    ensemble.settle()
    expect(ensemble.raft('b').status).toMatchObject({ role: 'leader', commitIndex: 3 })
  })

  it('names as heir a voter that was heard from lately, is connected and has the longest log', () => {
    const ensemble = led()
    ensemble.network.cut('a', 'b')
    ensemble.propose('a', bytes('one'))
    ensemble.settle()
    expect(ensemble.raft('a').heir()).toBe('c')
    ensemble.disconnect('a', 'c')
    expect(ensemble.raft('a').heir()).toBe('b')
  })
})

describe('a disk that hangs (rule 14)', () => {
  it('makes a leader hand over while heartbeats go on, and nothing waits for the disk', () => {
    const ensemble = led()
    ensemble.seat('a').savesHeld = true
    ensemble.propose('a', bytes('one'))
    ensemble.run(9)
    expect(ensemble.leader()).toBe('a')
    ensemble.run(3)
    expect(ensemble.leader()).toBe('b')
    expect(ensemble.raft('a').leader).toBe('b')
  })

  it('makes a leader fall silent that nobody can take over from', () => {
    const ensemble = led()
    ensemble.seat('a').savesHeld = true
    ensemble.propose('a', bytes('one'))
    for (const peer of ['b', 'c']) ensemble.disconnect('a', peer)
    for (let tick = 0; tick < 10; tick++) {
      ensemble.tick('a')
      for (const peer of ['b', 'c']) ensemble.lose('a', peer)
    }
    expect(ensemble.raft('a').role).toBe('follower')
    for (let tick = 0; tick < 30; tick++) ensemble.tick('a')
    expect(ensemble.network.underWay('a', 'b')).toEqual([])
  })

  it('keeps a member from campaigning, told to or not, until a save has succeeded', () => {
    const ensemble = led()
    ensemble.seat('b').savesHeld = true
    ensemble.propose('a', bytes('one'))
    ensemble.run(11)
    expect(ensemble.raft('b').diskStalled).toBe(true)
    ensemble.inject({ type: 'timeoutNow', from: 'a', to: 'b', term: 2 })
    expect(ensemble.raft('b').role).toBe('follower')
    ensemble.network.isolate('b')
    for (let tick = 0; tick < 30; tick++) ensemble.tick('b')
    expect(ensemble.raft('b').role).toBe('follower')
    ensemble.finishSave('b')
    for (let tick = 0; tick < 15; tick++) ensemble.tick('b')
    expect(ensemble.raft('b').role).toBe('preCandidate')
  })
})
