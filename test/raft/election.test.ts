// The timers and the count of an election, without terms, votes or messages.

import { expect, it } from 'vitest'
import { Election, type ElectionOptions } from '../../src/raft/election.ts'
import { Log } from '../../src/raft/log.ts'
import type { MemberId, Message } from '../../src/raft/types.ts'
import { configurationOf, SeatDisk } from './seat.ts'

function electionOf(members: readonly MemberId[], options: Partial<ElectionOptions> = {}): Election {
  const disk = new SeatDisk(configurationOf(members), [], { term: 1, votedFor: undefined })
  const log = new Log(disk.recover(), { cacheBytes: 1000 })
  const times = { electionTicks: 10, failoverTicks: 4, holdTicks: 5, random: () => 0 }
  return new Election({ self: 'a', ...times, ...options }, log)
}

const vote = (
  from: MemberId,
  askedTerm: number,
  how: { preVote: boolean; granted?: boolean },
): Extract<Message, { type: 'vote' }> => ({
  type: 'vote',
  from,
  to: 'a',
  term: 1,
  askedTerm,
  granted: true,
  ...how,
})

/** The ticks after `from` and up to `to` at which it is time to ask. */
function asks(election: Election, from: number, to: number): number[] {
  const at: number[] = []
  for (let now = from + 1; now <= to; now++) if (election.tick(now) === 'ask') at.push(now)
  return at
}

it('asks once per timeout, which a word of the leader and a granted vote begin anew', () => {
  const election = electionOf(['a', 'b', 'c'])
  expect(asks(election, 0, 25)).toEqual([10, 20])
  election.heardLeader(25)
  expect(asks(election, 25, 36)).toEqual([35])
  election.grantedVote(44)
  expect(asks(election, 44, 54)).toEqual([54])
})

it('holds its own question back after a granted pre-vote, and then asks at once if it is due', () => {
  const election = electionOf(['a', 'b', 'c'])
  election.grantedPreVote('b', 9)
  expect(asks(election, 9, 20)).toEqual([14])
})

it('asks three times within milliseconds after the leader is lost, whatever was held, then by the timeout', () => {
  const election = electionOf(['a', 'b', 'c'])
  election.heardLeader(1)
  election.grantedPreVote('b', 2)
  election.lostLeader('b', 2)
  expect(election.believesInLeader(2)).toBe(false)
  // Delays of 1, 2 and 4 ticks; the timeout counts from the last of them.
  expect(asks(election, 2, 25)).toEqual([3, 5, 9, 19])
})

it('gives the replacement of a lost leader up when one is heard', () => {
  const election = electionOf(['a', 'b', 'c'])
  election.lostLeader('b', 2)
  election.heardLeader(2)
  expect(asks(election, 2, 11)).toEqual([])
})

it('lets a candidacy that is open win or lose before a lost leader counts', () => {
  const election = electionOf(['a', 'b', 'c'])
  election.lostLeader('b', 2)
  election.stand(2, 2)
  expect(asks(election, 2, 12)).toEqual([12])
})

it('goes from pre-votes over votes to a win, counting answers of its own attempt only', () => {
  const election = electionOf(['a', 'b', 'c'])
  expect(election.ask(2)).toBe('open')
  expect(election.role).toBe('preCandidate')
  expect(election.answered(vote('b', 3, { preVote: true }))).toBe('open')
  expect(election.answered(vote('b', 2, { preVote: false }))).toBe('open')
  expect(election.answered(vote('b', 2, { preVote: true }))).toBe('stand')
  election.stand(2, 10)
  expect(election.role).toBe('candidate')
  expect(election.answered(vote('b', 2, { preVote: true }))).toBe('open')
  expect(election.answered(vote('b', 2, { preVote: false }))).toBe('open')
  // The own vote is one of the two, once it is durable.
  expect(election.answered(vote('a', 2, { preVote: false }))).toBe('won')
})

it('is lost when a majority refuses, and counts nothing once it follows', () => {
  const election = electionOf(['a', 'b', 'c'])
  election.ask(2)
  expect(election.answered(vote('b', 2, { preVote: true, granted: false }))).toBe('open')
  expect(election.answered(vote('c', 2, { preVote: true, granted: false }))).toBe('lost')
  election.follow(3)
  expect(election.role).toBe('follower')
  expect(election.answered(vote('b', 2, { preVote: true }))).toBe('open')
})

it('asks nobody else in a cluster of one, and stands at the first tick', () => {
  const election = electionOf(['a'])
  expect(asks(election, 0, 1)).toEqual([1])
  expect(election.ask(2)).toBe('stand')
})

it('ends an attempt that the other voters refused without waiting for the lost leader, and tries again', () => {
  const election = electionOf(['a', 'b', 'c'])
  election.lostLeader('c', 1)
  election.stand(3, 2)
  expect(election.answered(vote('a', 3, { preVote: false }))).toBe('open')
  expect(election.answered(vote('b', 3, { preVote: false, granted: false }))).toBe('lost')
})

it('counts the lost leader again once a timeout has passed: it may be back, and needed', () => {
  const election = electionOf(['a', 'b'])
  election.lostLeader('b', 1)
  expect(election.ask(3)).toBe('lost')
  election.follow(9)
  expect(asks(election, 9, 30)).not.toEqual([])
  expect(election.ask(3)).toBe('open')
  expect(election.answered(vote('b', 3, { preVote: true }))).toBe('stand')
})
