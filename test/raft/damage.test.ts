// What a replica may do whose disk has lost something: its state (`safety.md`, rule 8), or its log and vote (rule 7).

import { describe, expect, it } from 'vitest'
import type { Configuration, MemberId, Message } from '../../src/raft/types.ts'
import type { Ensemble, EnsembleOptions, Happening } from './ensemble.ts'
import { led, proposeSome } from './led.ts'
import { demote, promote } from './mischief.ts'

const questionsTo = (to: MemberId, term: number): readonly Message[] => [
  { type: 'preVote', from: 'b', to, term, lastIndex: 100, lastTerm: 100 },
  { type: 'requestVote', from: 'b', to, term, lastIndex: 100, lastTerm: 100, transfer: false },
]

/** What one member says to another, of all that is under way. */
function said(ensemble: Ensemble, from: MemberId, to: MemberId): readonly Message[] {
  return ensemble.network.underWay(from, to)
}

function member(configuration: Configuration, id: MemberId) {
  return configuration.members.find(({ peer }) => peer === id)
}

describe('a replica that lost its state (rule 8)', () => {
  /** `c` has the log of all and no state, and gets none. */
  function stateless(options: Partial<EnsembleOptions> = {}): Ensemble {
    const ensemble = led(options)
    ensemble.seat('c').snapshotsHeld = true
    ensemble.loseState('c')
    return ensemble
  }

  it('acknowledges and is counted, and applies nothing', () => {
    const ensemble = stateless()
    ensemble.crash('b')
    proposeSome(ensemble, 2)
    ensemble.run(4)
    expect(ensemble.raft('a').log.commitIndex).toBe(3)
    expect(ensemble.raft('c').status).toMatchObject({ commitIndex: 3, appliedIndex: 1, stateless: true })
  })

  it('votes', () => {
    const ensemble = stateless()
    ensemble.crash('a')
    ensemble.run(40)
    expect(ensemble.leader()).toBe('b')
  })

  it('hands over what is being applied to nobody', () => {
    const ensemble = led()
    ensemble.seat('c').snapshotsHeld = true
    ensemble.seat('c').appliesHeld = true
    proposeSome(ensemble, 2)
    ensemble.run(4)
    expect(ensemble.seat('c').applying).toBeDefined()
    ensemble.loseState('c')
    ensemble.seat('c').appliesHeld = false
    ensemble.run(4)
    expect(ensemble.raft('c').log.appliedIndex).toBe(1)
  })

  it('hands leadership over when it leads', () => {
    const ensemble = led()
    ensemble.seat('a').snapshotsHeld = true
    ensemble.loseState('a')
    ensemble.run(10)
    expect(ensemble.raft('a').role).toBe('follower')
    expect(['b', 'c']).toContain(ensemble.leader())
  })

  it('leaves elections to others for three timeouts, and then leads if nobody else can, until one can', () => {
    const ensemble = led()
    ensemble.seat('a').snapshotsHeld = true
    ensemble.crash('c')
    ensemble.network.isolate('b')
    // Only a has this entry on its disk, so that b cannot win without what a has.
    proposeSome(ensemble, 1)
    ensemble.settle()
    ensemble.loseState('a')
    ensemble.run(12)
    ensemble.network.healAll()
    expect(ensemble.leader()).toBeUndefined()
    ensemble.run(15)
    expect(ensemble.raft('a').role).toBe('follower')
    expect(ensemble.leader()).toBeUndefined()
    ensemble.run(60)
    expect(ensemble.leader()).toBe('b')
    expect(ensemble.raft('b').log.term(2)).toBe(2)
    expect(ensemble.raft('a').status).toMatchObject({ stateless: true, role: 'follower' })
  })

  it('goes on where its state turns out to be whole', () => {
    const applied: number[] = []
    const watch = (happening: Happening): void => {
      if (happening.type !== 'applied' || happening.member !== 'c') return
      applied.push(...happening.entries.map(({ index }) => index))
    }
    const ensemble = stateless({ watch })
    ensemble.seat('c').disk.appliedIndex = 1
    applied.length = 0
    proposeSome(ensemble, 3)
    ensemble.run(4)
    expect(ensemble.raft('c').log.appliedIndex).toBe(1)
    ensemble.regainState('c')
    ensemble.settle()
    expect(ensemble.raft('c').status).toMatchObject({ stateless: false, appliedIndex: 4 })
    expect(applied).toEqual([2, 3, 4])
  })

  it('takes a snapshot of what it had applied before', () => {
    const ensemble = stateless()
    ensemble.seat('c').snapshotsHeld = false
    ensemble.run(2)
    expect(ensemble.raft('c').status).toMatchObject({ stateless: false, appliedIndex: 1, baseIndex: 1 })
  })

  it('is without it after a restart too', () => {
    const ensemble = stateless()
    ensemble.crash('c')
    ensemble.restart('c')
    proposeSome(ensemble, 1)
    ensemble.run(4)
    expect(ensemble.raft('c').status).toMatchObject({ stateless: true, commitIndex: 2, appliedIndex: 0 })
  })
})

describe('a replica that lost its log and vote (rule 7)', () => {
  /** `c` had acknowledged entries up to 4 in term 2; now it is up again with nothing of it. */
  function rebuilding(options: { keepsState: boolean } = { keepsState: false }): Ensemble {
    const ensemble = led()
    proposeSome(ensemble, 3)
    ensemble.run(4)
    expect(ensemble.raft('a').progress?.get('c')?.matchIndex).toBe(4)
    ensemble.crash('c')
    ensemble.loseLog('c', options)
    ensemble.restart('c')
    return ensemble
  }

  it('votes for nobody, answers no leader and does not campaign, however long it takes', () => {
    const ensemble = rebuilding()
    for (const to of ['a', 'b']) ensemble.network.slow('c', to)
    ensemble.run(60)
    proposeSome(ensemble, 1)
    ensemble.run(4)
    // Nobody leads for all that c can tell, and the candidate's log is longer than any.
    ensemble.network.isolate('a')
    for (let tick = 0; tick < ensemble.tuning.electionTicks; tick++) ensemble.tick('c')
    for (const question of questionsTo('c', 9)) ensemble.inject(question)
    ensemble.settle()
    expect(said(ensemble, 'c', 'a')).toEqual([])
    expect(said(ensemble, 'c', 'b')).toEqual([
      expect.objectContaining({ type: 'vote', preVote: true, granted: false }),
      expect.objectContaining({ type: 'vote', preVote: false, granted: false }),
    ])
    ensemble.network.isolate('c')
    ensemble.run(80, ['c'])
    expect(ensemble.raft('c').status).toMatchObject({ role: 'follower', lastIndex: 0 })
  })

  it('is still so after another restart', () => {
    const ensemble = rebuilding()
    const { rebuilding: lost } = ensemble.raft('c').status
    ensemble.crash('c')
    ensemble.restart('c')
    expect(ensemble.raft('c').status.rebuilding).toBe(lost)
    ensemble.network.slow('c', 'a')
    ensemble.run(6)
    expect(said(ensemble, 'c', 'a')).toEqual([])
  })

  it('counts for what it promised until it is demoted, and for nothing of it from then on', () => {
    const ensemble = rebuilding()
    ensemble.network.slow('c', 'a')
    const progress = () => ensemble.raft('a').progress?.get('c')
    ensemble.run(6)
    expect(progress()?.matchIndex).toBe(4)
    expect(demote(ensemble, 'a')).toMatch(/appended/)
    expect(progress()).toMatchObject({ matchIndex: 0, state: 'probe' })
    ensemble.inject({
      type: 'append',
      from: 'a',
      to: 'c',
      term: 2,
      since: 0,
      prevIndex: 0,
      prevTerm: 0,
      commitIndex: 4,
      entries: [],
    })
    expect(said(ensemble, 'c', 'a')).toEqual([])
  })

  it('answers who demoted it, and votes only once that is committed and on its own disk', () => {
    const ensemble = rebuilding()
    ensemble.run(2)
    ensemble.network.isolate('b')
    expect(demote(ensemble, 'a')).toMatch(/appended/)
    ensemble.run(4)
    // a and b are the voters now: what c answers is counted in nothing.
    expect(ensemble.raft('a').progress?.get('c')?.matchIndex).toBe(5)
    expect(ensemble.raft('a').log.commitIndex).toBe(4)
    expect(ensemble.raft('c').status.rebuilding).toBeDefined()
    ensemble.network.healAll()
    ensemble.seat('c').savesHeld = true
    ensemble.run(6)
    expect(ensemble.raft('a').log.commitIndex).toBe(5)
    ensemble.seat('c').savesHeld = false
    ensemble.run(4)
    expect(ensemble.raft('c').status).toMatchObject({ rebuilding: undefined, commitIndex: 5 })
  })

  it('is promoted when it has caught up, and votes and leads like any other', () => {
    const ensemble = rebuilding({ keepsState: true })
    ensemble.run(2)
    demote(ensemble, 'a')
    ensemble.run(6)
    const { configuration } = ensemble.raft('c').log.configuration
    expect(member(configuration, 'c')).toMatchObject({ voter: false, since: 2 })
    expect(promote(ensemble, 'a')).toMatch(/appended/)
    ensemble.run(6)
    ensemble.crash('b')
    expect(ensemble.transfer('a', 'c')).toBe(true)
    ensemble.run(6)
    expect(ensemble.leader()).toBe('c')
    proposeSome(ensemble, 1, 'c')
    ensemble.run(4)
    expect(ensemble.raft('a').log.commitIndex).toBe(ensemble.raft('c').log.lastIndex)
  })

  it('keeps the first leader of a term that it hears, and votes for no other in that term', () => {
    const ensemble = rebuilding()
    ensemble.run(4)
    expect(ensemble.seat('c').disk.hardState).toEqual({ term: 2, votedFor: 'a' })
  })

  it('does not count for an acknowledgement of an earlier boot that comes late', () => {
    const ensemble = led()
    ensemble.network.slow('c', 'a')
    proposeSome(ensemble, 3)
    ensemble.settle()
    expect(said(ensemble, 'c', 'a').at(-1)).toMatchObject({ type: 'appended', matchIndex: 4 })
    ensemble.crash('c')
    ensemble.loseLog('c', { keepsState: false })
    ensemble.restart('c')
    ensemble.run(2, ['b'])
    demote(ensemble, 'a')
    while (said(ensemble, 'c', 'a').length > 0) ensemble.deliver('c', 'a')
    expect(ensemble.raft('a').progress?.get('c')?.matchIndex).toBe(0)
  })
})

describe('a member that was started anew', () => {
  it('is asked where it stands, and counts for nothing until it has answered', () => {
    const ensemble = led()
    ensemble.network.isolate('b')
    ensemble.network.slow('c', 'a')
    const raft = ensemble.raft('a')
    proposeSome(ensemble, 1)
    raft.restarted('c')
    expect(raft.progress?.get('c')).toMatchObject({ state: 'probe', matchIndex: 0 })
    ensemble.network.heal('c', 'a')
    ensemble.run(4)
    expect(raft.progress?.get('c')).toMatchObject({ state: 'replicate', matchIndex: 2 })
    expect(raft.log.commitIndex).toBe(2)
  })

  it('that was removed stays one that leaves', () => {
    const ensemble = led()
    ensemble.network.isolate('c')
    const { members } = ensemble.founding
    ensemble.change('a', { members: members.filter(({ peer }) => peer !== 'c') })
    const raft = ensemble.raft('a')
    raft.restarted('c')
    expect(raft.progress?.get('c')?.leavingAt).toBe(2)
    ensemble.run(20)
    expect(raft.progress?.has('c')).toBe(false)
  })
})
