// What a wish makes of a configuration: one voter more or less at most, nobody voting at once, and a reason for every no.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Correction, compose, type Wish } from '../../src/node/membership.ts'
import type { Newcomer } from '../../src/node/surface.ts'
import type { Configuration, Member } from '../../src/raft/types.ts'

function member(number: number, changes: Partial<Member> = {}): Member {
  const address = addressOf(number)
  return { ...address, voter: true, since: 0, commandVersion: 1, ...changes }
}

function addressOf(number: number): Newcomer {
  return {
    id: `n${number}`,
    peer: `peer-${number}`,
    http: `http://10.0.0.${number}:7001`,
    p2p: `/ip4/10.0.0.${number}/tcp/7101`,
  }
}

const three: Configuration = { members: [member(1), member(2), member(3)] }
const all: (peer: string) => boolean = () => true
const but =
  (...peers: string[]) =>
  (peer: string) =>
    !peers.includes(peer)

function changed(configuration: Configuration, change: Wish | Correction, isWell = all): Configuration {
  const composed = compose(configuration, change, isWell)
  if (composed.type !== 'changed') throw new Error(JSON.stringify(composed))
  return composed.configuration
}

describe('a new member', () => {
  it('begins as a learner that no quorum counts', () => {
    const { members } = changed(three, { type: 'add', newcomer: addressOf(4) })
    expect(members.slice(0, 3)).toEqual(three.members)
    expect(members[3]).toEqual({ ...addressOf(4), voter: false, since: 0, commandVersion: 1 })
  })

  it('is taken to understand what everybody does, until it says more itself', () => {
    const mixed = { members: [member(1, { commandVersion: 3 }), member(2, { commandVersion: 2 })] }
    const { members } = changed(mixed, { type: 'add', newcomer: addressOf(4) })
    expect(members[2]?.commandVersion).toBe(2)
  })

  it.each([
    ['an id that is taken', { id: 'n2' }, 'member-exists', 'id'],
    ['a peer id that is taken', { peer: 'peer-2' }, 'member-exists', 'peer'],
    ['an id that is no name', { id: 'N 4' }, 'invalid-request', 'id'],
    ['no HTTP address', { http: '10.0.0.4:7001' }, 'invalid-request', 'http'],
    ['an HTTP address with a path', { http: 'http://10.0.0.4:7001/kv' }, 'invalid-request', 'http'],
    ['another member’s HTTP address', { http: 'http://10.0.0.2:7001' }, 'invalid-request', 'http'],
    ['no multiaddr', { p2p: '10.0.0.4:7101' }, 'invalid-request', 'p2p'],
    ['another member’s multiaddr', { p2p: '/ip4/10.0.0.2/tcp/7101' }, 'invalid-request', 'p2p'],
    ['no peer id', { peer: '' }, 'invalid-request', 'peer'],
  ])('with %s is refused, and told which field is wrong', (_, wrong, code, field) => {
    const newcomer = { ...addressOf(4), ...wrong }
    expect(compose(three, { type: 'add', newcomer }, all)).toMatchObject({ type: 'refused', code, field })
  })
})

describe('a member that shall go', () => {
  it('goes, and the others stay as they are', () => {
    expect(changed(three, { type: 'remove', id: 'n2', force: false }).members.map(({ id }) => id)).toEqual([
      'n1',
      'n3',
    ])
  })

  it('is not found when it is none', () => {
    expect(compose(three, { type: 'remove', id: 'n9', force: false }, all)).toMatchObject({
      code: 'not-found',
    })
  })

  it('stays when the voters left could not commit, unless that is what the operator wants', () => {
    const wish = { type: 'remove', id: 'n1', force: false } as const
    expect(compose(three, wish, but('peer-2'))).toMatchObject({
      code: 'quorum-at-risk',
      detail: expect.stringContaining('n2'),
    })
    expect(changed(three, { ...wish, force: true }, but('peer-2')).members).toHaveLength(2)
  })

  it('goes when it is the one that is ailing', () => {
    expect(changed(three, { type: 'remove', id: 'n2', force: false }, but('peer-2')).members).toHaveLength(2)
  })

  it('goes whoever is ailing when it has no vote', () => {
    const members = [...three.members, member(4, { voter: false })]
    expect(
      changed({ members }, { type: 'remove', id: 'n4', force: false }, but('peer-1', 'peer-2')).members,
    ).toEqual(three.members)
  })

  it('stays when it is the last voter, whatever the operator wants', () => {
    const members = [member(1), member(2, { voter: false })]
    expect(compose({ members }, { type: 'remove', id: 'n1', force: true }, all)).toMatchObject({
      code: 'quorum-at-risk',
    })
  })
})

describe('a member that is replaced', () => {
  const newcomer = { ...addressOf(2), peer: 'peer-new' }

  it('goes and comes in one change, under the same name and at the same addresses, as a learner', () => {
    const { members } = changed(three, { type: 'replace', replaces: 'n2', newcomer, force: false })
    expect(members.map(({ id, peer, voter }) => [id, peer, voter])).toEqual([
      ['n1', 'peer-1', true],
      ['n3', 'peer-3', true],
      ['n2', 'peer-new', false],
    ])
  })

  it('does not come back under the key that voted', () => {
    const same = { ...newcomer, peer: 'peer-2' }
    expect(
      compose(three, { type: 'replace', replaces: 'n2', newcomer: same, force: false }, all),
    ).toMatchObject({
      code: 'member-exists',
      field: 'peer',
    })
  })

  it('stays when the voters left could not commit', () => {
    expect(
      compose(three, { type: 'replace', replaces: 'n2', newcomer, force: false }, but('peer-3')),
    ).toMatchObject({ code: 'quorum-at-risk' })
  })
})

describe('what a leader sees to by itself', () => {
  it('is a learner that becomes a voter, and a voter that lost its log', () => {
    const learning = { members: [...three.members, member(4, { voter: false })] }
    expect(changed(learning, { type: 'promote', peer: 'peer-4' }).members[3]?.voter).toBe(true)
    const demoted = changed(three, { type: 'demote', peer: 'peer-2', since: 77 }).members[1]
    expect(demoted).toMatchObject({ voter: false, since: 77 })
  })

  it('keeps from when a member counts, whatever else changes', () => {
    const members = [member(1), member(2, { voter: false, since: 77 })]
    const promoted = changed({ members }, { type: 'promote', peer: 'peer-2' }).members[1]
    expect(promoted).toMatchObject({ voter: true, since: 77 })
    expect(changed({ members }, { type: 'demote', peer: 'peer-2', since: 80 }).members[1]?.since).toBe(80)
    expect(compose({ members }, { type: 'demote', peer: 'peer-2', since: 70 }, all).type).toBe('unchanged')
  })

  it('does not take the vote of one whom the quorum needs', () => {
    expect(
      compose(three, { type: 'demote', peer: 'peer-2', since: 7 }, but('peer-2', 'peer-3')),
    ).toMatchObject({
      code: 'quorum-at-risk',
      detail: expect.stringContaining('n3'),
    })
    const alone = { members: [member(1)] }
    expect(compose(alone, { type: 'demote', peer: 'peer-1', since: 7 }, all).type).toBe('refused')
  })

  it('follows a member to its new addresses, and says when there is nothing to follow', () => {
    const update = {
      type: 'update',
      peer: 'peer-2',
      http: 'http://h:1',
      p2p: '/dns4/h/tcp/2',
      commandVersion: 4,
    }
    const next = changed(three, update as Correction)
    expect(next.members[1]).toMatchObject({ id: 'n2', http: 'http://h:1', commandVersion: 4, voter: true })
    expect(compose(next, update as Correction, all).type).toBe('unchanged')
  })
})

it('never makes two consecutive configurations whose majorities could miss each other', () => {
  const number = fc.integer({ min: 1, max: 6 })
  const peer = number.map((of) => `peer-${of}`)
  const id = number.map((of) => `n${of}`)
  const newcomer = fc.tuple(number, fc.boolean()).map(([of, renewed]) => ({
    ...addressOf(of),
    ...(renewed ? { peer: `peer-${of}-renewed` } : {}),
  }))
  const change: fc.Arbitrary<Wish | Correction> = fc.oneof(
    fc.record({ type: fc.constant('add' as const), newcomer }),
    fc.record({ type: fc.constant('remove' as const), id, force: fc.boolean() }),
    fc.record({ type: fc.constant('replace' as const), replaces: id, newcomer, force: fc.boolean() }),
    fc.record({ type: fc.constant('promote' as const), peer }),
    fc.record({ type: fc.constant('demote' as const), peer, since: number }),
  )
  fc.assert(
    fc.property(fc.array(fc.tuple(change, fc.uniqueArray(peer))), (changes) => {
      let configuration = three
      for (const [one, ailing] of changes) {
        const composed = compose(configuration, one, but(...ailing))
        if (composed.type !== 'changed') continue
        const before = new Set(configuration.members.filter(({ voter }) => voter).map((each) => each.peer))
        const { members } = composed.configuration
        const after = new Set(members.filter(({ voter }) => voter).map((each) => each.peer))
        expect(before.symmetricDifference(after).size).toBeLessThanOrEqual(1)
        expect(after.size).toBeGreaterThan(0)
        expect(new Set(members.map((each) => each.id)).size).toBe(members.length)
        expect(new Set(members.map((each) => each.peer)).size).toBe(members.length)
        for (const each of members) if (!known(configuration, each)) expect(each.voter).toBe(false)
        configuration = composed.configuration
      }
    }),
  )
})

function known({ members }: Configuration, { peer }: Member): boolean {
  return members.some((member) => member.peer === peer)
}
