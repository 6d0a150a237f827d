// A leader's hand on the members: one change at a time, learners promoted when they keep up, and the truth about every wish.

import { describe, expect, it } from 'vitest'
import { CatchUp, MembershipKeeper } from '../../src/node/membership-keeper.ts'
import type { PeerMessage } from '../../src/node/transport.ts'
import type { Changed } from '../../src/raft/raft.ts'
import type { Configuration, Member, MemberId, Role } from '../../src/raft/types.ts'

type Status = Extract<PeerMessage, { type: 'status' }>

function member(id: string, changes: Partial<Member> = {}): Member {
  return {
    id,
    peer: `peer-${id}`,
    http: `http://${id}`,
    p2p: `/dns4/${id}/tcp/1`,
    voter: true,
    since: 0,
    commandVersion: 1,
    ...changes,
  }
}

/** A leader's replica and what members say, as far as a keeper sees of them. Everything appended waits for `commit`. */
class Court {
  readonly raft = {
    role: 'leader' as Role,
    term: 3,
    progress: new Map<MemberId, { matchIndex: number }>(),
    log: {
      commitIndex: 10,
      lastIndex: 10,
      configuration: { index: 1, configuration: { members: [] } as Configuration },
      term: (index: number): number | undefined =>
        index <= this.raft.log.lastIndex ? this.terms.get(index) : undefined,
    },
  }
  readonly terms = new Map<number, number>()
  readonly statuses = new Map<MemberId, Partial<Status>>()
  readonly drained: string[] = []
  readonly notes: string[] = []
  now = 0
  refuses: 'transferring' | undefined
  readonly keeper: MembershipKeeper

  constructor(members: readonly Member[]) {
    this.#hold({ members })
    for (const { peer, http, p2p, commandVersion } of members) {
      this.statuses.set(peer, { http, p2p, commandVersion, lastApplied: 10, repairing: false })
    }
    this.keeper = new MembershipKeeper({
      self: 'peer-n1',
      replica: { raft: this.raft, changeConfiguration: (configuration) => this.#change(configuration) },
      now: () => this.now,
      electionMs: 100,
      status: (peer) => this.statuses.get(peer) as Status | undefined,
      drain: async ({ id }) => void this.drained.push(id),
      note: (sentence) => void this.notes.push(sentence),
    })
  }

  #hold(configuration: Configuration): void {
    const { log, progress } = this.raft
    log.configuration = { index: log.lastIndex, configuration }
    this.terms.set(log.lastIndex, this.raft.term)
    for (const { peer } of configuration.members) {
      if (peer !== 'peer-n1' && !progress.has(peer)) progress.set(peer, { matchIndex: 0 })
    }
  }

  #change(configuration: Configuration): Changed {
    const { log, term } = this.raft
    if (this.raft.role !== 'leader') return { type: 'refused', reason: 'not-leader' }
    if (this.refuses !== undefined) return { type: 'refused', reason: this.refuses }
    if (log.configuration.index > log.commitIndex) return { type: 'refused', reason: 'change-in-progress' }
    log.lastIndex++
    this.#hold(configuration)
    return { type: 'appended', index: log.lastIndex, term }
  }

  get members(): readonly Member[] {
    return this.raft.log.configuration.configuration.members
  }

  says(id: string, status: Partial<Status> | undefined): void {
    if (status === undefined) this.statuses.delete(`peer-${id}`)
    else this.statuses.set(`peer-${id}`, { ...this.statuses.get(`peer-${id}`), ...status })
  }

  commit(): void {
    this.raft.log.commitIndex = this.raft.log.lastIndex
  }

  /** Time goes by, tick by tick; what waits in promises runs in between. */
  async pass(ms: number): Promise<void> {
    const end = this.now + ms
    while (this.now < end) {
      this.now += 5
      this.keeper.tick()
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

const three = ['n1', 'n2', 'n3'].map((id) => member(id))
const newcomer = { id: 'n4', peer: 'peer-n4', http: 'http://n4', p2p: '/dns4/n4/tcp/1' }
const add = { type: 'add', newcomer } as const
const how = { again: false, deadline: 1000 }
const removeLast = { type: 'remove', id: 'n3', force: false } as const

describe('a wish', () => {
  it('is done once it is committed, and not before', async () => {
    const court = new Court(three)
    let answered = false
    const answer = court.keeper.change(add, how).finally(() => {
      answered = true
    })
    await court.pass(50)
    expect(court.members.at(-1)).toMatchObject({ id: 'n4', voter: false })
    expect(answered).toBe(false)
    court.commit()
    await court.pass(5)
    expect(await answer).toEqual({ type: 'changed', index: 11 })
  })

  it('waits for the leader’s own changes, and is refused while another wish is seen to', async () => {
    const court = new Court(three)
    court.says('n2', { http: 'http://moved' })
    await court.pass(60)
    expect(court.members[1]?.http).toBe('http://moved')
    const one = court.keeper.change(add, how)
    const two = court.keeper.change({ type: 'remove', id: 'n3', force: false }, how)
    expect(await two).toMatchObject({ code: 'change-in-progress', detail: expect.stringContaining('add n4') })
    court.commit()
    await court.pass(10)
    expect(court.members.at(-1)?.id).toBe('n4')
    court.commit()
    await court.pass(5)
    expect(await one).toMatchObject({ type: 'changed' })
  })

  it('is refused as one that comes too soon when what is before it does not end', async () => {
    const court = new Court(three)
    court.refuses = 'transferring'
    const answer = court.keeper.change(add, how)
    await court.pass(1100)
    expect(await answer).toMatchObject({ code: 'change-in-progress' })
  })

  it('is not begun by one who does not lead', async () => {
    const court = new Court(three)
    court.raft.role = 'follower'
    expect(await court.keeper.change(add, how)).toMatchObject({ code: 'no-leader' })
  })

  it('has an unknown outcome when leadership ends with its entry not committed', async () => {
    const court = new Court(three)
    const answer = court.keeper.change(add, how)
    await court.pass(10)
    court.raft.role = 'follower'
    await court.pass(5)
    expect(await answer).toMatchObject({ code: 'outcome-unknown' })
  })

  it('has an unknown outcome when the entry at its index came to be another one', async () => {
    const court = new Court(three)
    const answer = court.keeper.change(add, how)
    await court.pass(10)
    court.raft.role = 'follower'
    court.raft.term = 4
    court.terms.set(11, 4)
    court.commit()
    await court.pass(5)
    expect(await answer).toMatchObject({ code: 'outcome-unknown' })
  })

  it('that was asked for before is done when it stands, and refused as a mistake otherwise', async () => {
    const court = new Court([...three, member('n4', { voter: false })])
    expect(await court.keeper.change(add, how)).toMatchObject({ code: 'member-exists', field: 'id' })
    expect(await court.keeper.change(add, { ...how, again: true })).toMatchObject({ type: 'changed' })
    const remove = { type: 'remove', id: 'n9', force: false } as const
    expect(await court.keeper.change(remove, how)).toMatchObject({ code: 'not-found' })
    expect(await court.keeper.change(remove, { ...how, again: true })).toMatchObject({ type: 'changed' })
  })

  it('to remove a member has that one finish its requests first', async () => {
    const court = new Court(three)
    const answer = court.keeper.change({ type: 'remove', id: 'n3', force: false }, how)
    await court.pass(5)
    expect(court.drained).toEqual(['n3'])
    court.commit()
    await court.pass(5)
    expect(await answer).toMatchObject({ type: 'changed' })
    expect(court.members).toHaveLength(2)
  })

  it('to remove a voter counts one that is silent, or lost its log, as ailing', async () => {
    const silent = new Court(three)
    silent.says('n2', undefined)
    const refused = silent.keeper.change(removeLast, how)
    await silent.pass(1100)
    expect(await refused).toMatchObject({ code: 'quorum-at-risk' })
    const lost = new Court(three)
    lost.says('n2', { rebuilding: 9 })
    const alike = lost.keeper.change(removeLast, { ...how, deadline: 60_000 })
    await lost.pass(2100)
    expect(await alike).toMatchObject({ code: 'quorum-at-risk' })
    expect(silent.drained).toEqual([])
  })

  it('to remove a voter waits for the word of one that has just become well', async () => {
    const court = new Court(three)
    const well = court.statuses.get('peer-n2')
    court.says('n2', { rebuilding: 9 })
    const answer = court.keeper.change(removeLast, how)
    await court.pass(500)
    court.says('n2', undefined)
    court.says('n2', well)
    await court.pass(10)
    court.commit()
    await court.pass(5)
    expect(await answer).toMatchObject({ type: 'changed' })
  })
})

describe('a learner', () => {
  const four = [...three, member('n4', { voter: false })]

  it('is promoted once it keeps up with the log and its state has come there', async () => {
    const court = new Court(four)
    court.says('n4', { lastApplied: 3 })
    await court.pass(200)
    expect(court.members[3]?.voter).toBe(false)
    court.raft.progress.set('peer-n4', { matchIndex: 10 })
    await court.pass(100)
    expect(court.members[3]?.voter, 'its state lags').toBe(false)
    court.says('n4', { lastApplied: 10 })
    await court.pass(60)
    expect(court.members[3]?.voter).toBe(true)
  })

  it('is not promoted while it is silent or its state is repaired', async () => {
    const court = new Court(four)
    court.raft.progress.set('peer-n4', { matchIndex: 10 })
    court.says('n4', { repairing: true })
    await court.pass(200)
    expect(court.members[3]?.voter).toBe(false)
    const { statuses } = court
    const status = statuses.get('peer-n4')
    court.says('n4', undefined)
    await court.pass(200)
    expect(court.members[3]?.voter).toBe(false)
    court.says('n4', { ...status, repairing: false })
    await court.pass(60)
    expect(court.members[3]?.voter).toBe(true)
  })

  it('is promoted by the next leader when this one has gone', async () => {
    const court = new Court(four)
    court.raft.progress.set('peer-n4', { matchIndex: 10 })
    court.raft.role = 'follower'
    await court.pass(200)
    expect(court.members[3]?.voter).toBe(false)
    court.raft.role = 'leader'
    await court.pass(60)
    expect(court.members[3]?.voter).toBe(true)
  })
})

describe('rounds', () => {
  it('count once one is short; a long one begins the count anew', () => {
    const catchUp = new CatchUp(0, 100)
    catchUp.look({ now: 0, matchIndex: 0, lastIndex: 1000 })
    catchUp.look({ now: 500, matchIndex: 1000, lastIndex: 2000 })
    expect(catchUp.isCaughtUp(5000), 'the first round was long').toBe(false)
    catchUp.look({ now: 550, matchIndex: 2000, lastIndex: 2100 })
    expect(catchUp.isCaughtUp(1999)).toBe(false)
    expect(catchUp.isCaughtUp(2000)).toBe(true)
    catchUp.look({ now: 700, matchIndex: 2050, lastIndex: 9000 })
    expect(catchUp.isCaughtUp(5000), 'it fell behind').toBe(false)
  })
})

describe('a member that lost its log', () => {
  it('is demoted by the boot that it names, before anything else is seen to', async () => {
    const court = new Court(three)
    court.says('n2', { http: 'http://moved' })
    court.says('n3', { rebuilding: 77 })
    await court.pass(60)
    expect(court.members[2]).toMatchObject({ id: 'n3', voter: false, since: 77 })
    expect(court.members[1]?.http).toBe('http://n2')
  })

  it('is not demoted twice for one boot, and votes again once it has caught up', async () => {
    const court = new Court([member('n1'), member('n2'), member('n3', { voter: false, since: 77 })])
    court.says('n3', { rebuilding: 77 })
    court.raft.progress.set('peer-n3', { matchIndex: 10 })
    await court.pass(100)
    expect(court.members[2]).toMatchObject({ voter: true, since: 77 })
  })

  it('has to catch up anew, whatever it had before it lost its log', async () => {
    const court = new Court([...three, member('n4', { voter: false })])
    court.raft.progress.set('peer-n4', { matchIndex: 10 })
    court.says('n4', { rebuilding: 5 })
    await court.pass(60)
    expect(court.members[3]).toMatchObject({ voter: false, since: 5 })
    court.raft.progress.set('peer-n4', { matchIndex: 0 })
    court.commit()
    await court.pass(200)
    expect(court.members[3]?.voter).toBe(false)
  })

  it('keeps its vote when no quorum would be left, and the others are named once', async () => {
    const court = new Court(three)
    court.says('n3', { rebuilding: 77 })
    court.says('n2', undefined)
    await court.pass(500)
    expect(court.members[2]?.voter).toBe(true)
    expect(court.notes).toEqual([expect.stringMatching(/cannot demote n3: .*n2 cannot be counted on/)])
  })
})
