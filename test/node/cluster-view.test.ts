// What a node shows of the others, and the cluster's time.

import { describe, expect, it } from 'vitest'
import { ClusterView } from '../../src/node/cluster-view.ts'
import type { PeerMessage } from '../../src/node/transport.ts'
import type { Member } from '../../src/raft/types.ts'

type Status = Extract<PeerMessage, { type: 'status' }>

const members: Member[] = ['a', 'b', 'c'].map((peer) => ({
  peer,
  id: `n-${peer}`,
  http: '',
  p2p: '',
  voter: true,
  since: 0,
  commandVersion: 1,
}))

function status(changes: Partial<Status> = {}): Status {
  return {
    type: 'status',
    version: '1.0.0',
    role: 'follower',
    term: 3,
    commitIndex: 10,
    lastApplied: 10,
    clock: 1_000_000,
    freeBytes: 1,
    alarms: [],
    http: '',
    p2p: '',
    commandVersion: 1,
    configurationIndex: 0,
    repairing: false,
    ...changes,
  }
}

function setUp() {
  const clock = { now: 0, wall: 1_000_000 }
  const view = new ClusterView({ self: 'a', now: () => clock.now, clock: () => clock.wall })
  const shown = () => view.members({ members, own: status({ role: 'leader' }), connected: () => true })
  return { clock, view, shown }
}

describe('the view of the cluster', () => {
  it('shows itself as it is and the unheard as unknown', () => {
    const { shown } = setUp()
    expect(shown()).toMatchObject([
      { id: 'n-a', role: 'leader', self: true, healthy: true, lag: 0 },
      { id: 'n-b', role: 'unknown', self: false, healthy: false, lag: undefined },
      { id: 'n-c', role: 'unknown', healthy: false },
    ])
  })

  it('does not know what has become of the leader of an earlier term', () => {
    const { view, shown } = setUp()
    view.heard('b', status({ role: 'leader', term: 2 }), 10)
    expect(shown()[1]).toMatchObject({ role: 'unknown', term: 2, lastApplied: 10 })
    view.heard('b', status({ role: 'follower', term: 2 }), 10)
    expect(shown()[1]).toMatchObject({ role: 'follower' })
  })

  it('remembers for a minute how far a member had come, though it is silent', () => {
    const { clock, view, shown } = setUp()
    view.heard('b', status({ lastApplied: 7 }), 10)
    clock.now += 59_999
    view.heard('c', status({ lastApplied: 9 }), 10)
    expect(shown()[1]).toMatchObject({ role: 'unknown' })
    expect(view.lastApplied).toEqual([7, 9])
    clock.now += 2
    expect(view.lastApplied).toEqual([9])
  })

  it('measures lag against what was committed when the member said where it was', () => {
    const { view, shown } = setUp()
    view.heard('b', status({ commitIndex: 8, lastApplied: 7 }), 9)
    expect(shown()[1]).toMatchObject({ lag: 2, lastApplied: 7 })
  })

  it('forgets what it heard too long ago', () => {
    const { clock, view, shown } = setUp()
    view.heard('b', status(), 10)
    clock.now = 3001
    expect(shown()[1]).toMatchObject({ role: 'unknown', healthy: false })
  })

  it('shows alarms as ill health', () => {
    const { view, shown } = setUp()
    view.heard('c', status({ alarms: ['disk'] }), 10)
    expect(shown()[2]).toMatchObject({ healthy: false, alarms: ['disk'] })
  })

  it.each([5_000_000, -5_000_000])(
    'takes the median of the clocks, so that one off by %i ms changes little',
    (off) => {
      const { clock, view } = setUp()
      view.heard('b', status({ clock: 1_000_000 + off }), 10)
      view.heard('c', status({ clock: 1_000_010 }), 10)
      clock.now = 500
      clock.wall += 500
      expect(Math.abs((view.time(members) ?? 0) - 1_000_505)).toBeLessThanOrEqual(5)
    },
  )

  it('knows no time by its own clock alone, nor by what it heard too long ago', () => {
    const { clock, view } = setUp()
    expect(view.time(members)).toBeUndefined()
    view.heard('b', status({ clock: 1_000_000 }), 10)
    expect(view.time(members)).toBe(1_000_000)
    clock.now = 3001
    expect(view.time(members)).toBeUndefined()
  })
})
