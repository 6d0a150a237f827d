// How a transcript puts into words what happened.

import type { Entry, Message } from '../../src/raft/types.ts'
import type { Happening } from './ensemble.ts'
import type { Seat } from './seat.ts'

/** Runs of one term are put together: `1..3/1 4/2 5/2+abc`. */
export function describeEntries(entries: readonly Entry[]): string {
  const runs: { first: number; last: number; term: number; voters: string }[] = []
  for (const entry of entries) {
    const { index, term } = entry
    const voters =
      entry.type === 'configuration' ? `+${entry.configuration.members.map(({ id }) => id).join('')}` : ''
    const run = runs.at(-1)
    if (run !== undefined && run.term === term && voters === '' && run.voters === '') run.last = index
    else runs.push({ first: index, last: index, term, voters })
  }
  if (runs.length === 0) return 'nothing'
  return runs
    .map(
      ({ first, last, term, voters }) => `${first === last ? first : `${first}..${last}`}/${term}${voters}`,
    )
    .join(' ')
}

export function describeMessage(message: Message): string {
  return `${message.from}→${message.to} (${message.term}) ${describeBody(message)}`
}

function describeBody(message: Message): string {
  switch (message.type) {
    case 'preVote':
      return `pre-vote? log ${message.lastIndex}/${message.lastTerm}`
    case 'requestVote':
      return `vote? log ${message.lastIndex}/${message.lastTerm}${message.transfer ? ', sent by the leader' : ''}`
    case 'vote':
      return `${message.preVote ? 'pre-vote' : 'vote'} for ${message.askedTerm}: ${message.granted ? 'yes' : 'no'}`
    case 'append':
      return `append after ${message.prevIndex}/${message.prevTerm}: ${describeEntries(message.entries)}, commit ${message.commitIndex}`
    case 'appended':
      return `appended up to ${message.matchIndex}`
    case 'appendRejected':
      return `rejected at ${message.prevIndex}, hint ${message.hintIndex}/${message.hintTerm}`
    case 'commit':
      return `commit ${message.commitIndex}`
    case 'heartbeat':
      return `heartbeat ${message.round}, commit ${message.commitIndex}`
    case 'snapshotNeeded':
      return `snapshot up to ${message.index} needed`
    case 'heartbeatAnswer':
      return `heartbeat answer ${message.round}`
    case 'readIndex':
      return `read ${message.id}?`
    case 'readIndexAnswer':
      return `read ${message.id} at ${message.index ?? 'another time'}`
    case 'timeoutNow':
      return 'campaign now'
    default:
      return message satisfies never
  }
}

export function describeHappening(happening: Happening): string {
  switch (happening.type) {
    case 'role':
      return `${happening.member} is ${happening.role} in term ${happening.term}`
    case 'sent':
      return `sent: ${describeMessage(happening.message)}`
    case 'delivered':
      return describeMessage(happening.message)
    case 'lost':
      return `lost: ${describeMessage(happening.message)}`
    case 'saving':
    case 'saved': {
      const { hardState, entries } = happening.duty
      const state =
        hardState === undefined ? '' : ` term ${hardState.term} vote ${hardState.votedFor ?? 'none'}`
      const log = entries.length === 0 ? '' : ` entries ${describeEntries(entries)}`
      return `${happening.member} ${happening.type === 'saving' ? 'saves' : 'has saved'}${state}${log}`
    }
    case 'installing':
    case 'installed': {
      const { base, keeps } = happening.duty
      const verb = happening.type === 'installing' ? 'installs' : 'has installed'
      return `${happening.member} ${verb} a snapshot at ${base.index}/${base.term} and ${keeps ? 'keeps its log' : 'begins its log anew'}`
    }
    case 'snapshot':
      return `${happening.member} wants a snapshot up to ${happening.index}`
    case 'applied':
      return `${happening.member} applied ${describeEntries(happening.entries)}`
    case 'fetched':
      return `${happening.member} read ${describeEntries(happening.entries)} from its disk`
    case 'committed':
      return `${happening.member} knows ${happening.index} as committed`
    case 'read':
      return `read ${happening.id} at ${happening.member}: ${happening.index === undefined ? 'ask again' : `from ${happening.index} on`}`
    default:
      return happening satisfies never
  }
}

export function describeStatus(seat: Seat): string {
  const { raft } = seat
  if (raft === undefined)
    return `${seat.id} is down, its disk has term ${seat.disk.hardState.term} and ${seat.disk.lastIndex} entries`
  const { log, term, role, leader } = raft
  const { members } = log.configuration.configuration
  const known = members.map(({ id, voter }) => (voter ? id : `(${id})`)).join('')
  const reach = `log ${log.lastIndex}/${log.lastTerm} saved ${log.savedIndex} committed ${log.commitIndex} applied ${log.appliedIndex}`
  const vote = `vote ${seat.disk.hardState.votedFor ?? 'none'} in ${seat.disk.hardState.term}`
  return `${seat.id} ${role} in term ${term}, leader ${leader ?? 'unknown'}, ${vote}, ${reach}, members ${known}`
}
