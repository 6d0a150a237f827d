// Who belongs to the cluster next: the present configuration and a wish make another one, or a refusal that says why.
//
// Every change is one configuration that differs from the one before in at most one voter, so that their majorities meet
// (thesis 4.1). Nobody begins as a voter: a new member is a learner until it has caught up (4.2.1).

import type { ErrorCode } from '../errors.ts'
import { majority } from '../raft/quorum.ts'
import type { Configuration, Member, MemberId } from '../raft/types.ts'
import { isHttpAddress, isPeerAddress } from './config-nodes.ts'
import { isName } from './names.ts'
import type { Newcomer } from './surface.ts'

/** What an operator wishes of the cluster. `force`: also if too few voters would be left that are known to be well. */
export type Wish =
  | { readonly type: 'add'; readonly newcomer: Newcomer }
  | { readonly type: 'remove'; readonly id: string; readonly force: boolean }
  /** The member of this id goes and the newcomer comes, in one change; it may bear the same id. */
  | {
      readonly type: 'replace'
      readonly replaces: string
      readonly newcomer: Newcomer
      readonly force: boolean
    }

/** What a leader sees to by itself. */
export type Correction =
  | { readonly type: 'promote'; readonly peer: MemberId }
  /** Its log was lost: nothing that it said before this boot counts (rule 7). */
  | { readonly type: 'demote'; readonly peer: MemberId; readonly since: number }
  /** It says itself where it is reached, and what its program understands. */
  | {
      readonly type: 'update'
      readonly peer: MemberId
      readonly http: string
      readonly p2p: string
      readonly commandVersion: number
    }

export type Composed =
  | { readonly type: 'changed'; readonly configuration: Configuration }
  /** It is so already. */
  | { readonly type: 'unchanged' }
  | {
      readonly type: 'refused'
      readonly code: ErrorCode
      readonly detail: string
      readonly field?: 'id' | 'http' | 'p2p' | 'peer'
      /** It may pass by itself: these members may be heard from in a moment. */
      readonly awaits?: readonly MemberId[]
    }

/** The most members that a configuration has; nodes refuse a longer one from the wire. */
export const maxMembers = 100

/** The highest version of commands that every member understands: the leader proposes none above it (rule 21). */
export function commonCommandVersion({ members }: Configuration): number {
  return Math.min(...members.map((member) => member.commandVersion))
}

/** The next configuration. `isWell`: this member is known to acknowledge what it is sent. */
export function compose(
  configuration: Configuration,
  change: Wish | Correction,
  isWell: (peer: MemberId) => boolean,
): Composed {
  switch (change.type) {
    case 'add':
      return add(configuration, configuration.members, change.newcomer)
    case 'remove':
    case 'replace':
      return remove(configuration, change, isWell)
    case 'promote':
      return correct(configuration, { ...change, voter: true }, isWell)
    case 'demote':
      return correct(configuration, { ...change, voter: false }, isWell)
    case 'update':
      return correct(configuration, change, isWell)
    default:
      return change satisfies never
  }
}

/** Adds a learner to `members`, which may lack one that it replaces. */
function add(
  configuration: Configuration,
  members: readonly Member[],
  { id, http, p2p, peer }: Newcomer,
): Composed {
  const mistake = mistakeIn({ id, http, p2p, peer })
  if (mistake !== undefined) return mistake
  const namesake = members.find((member) => member.id === id)
  if (namesake !== undefined) {
    const detail = `${id} is a member already, with peer id ${namesake.peer}`
    return { type: 'refused', code: 'member-exists', detail, field: 'id' }
  }
  // Also that of a member which is being replaced: a node that lost its data must not come back as the one that voted.
  const known = configuration.members.find((member) => member.peer === peer)
  if (known !== undefined) {
    const detail = `${known.id} is a member with this peer id already; a node that begins anew needs a new key`
    return { type: 'refused', code: 'member-exists', detail, field: 'peer' }
  }
  for (const field of ['http', 'p2p'] as const) {
    const other = members.find((member) => member[field] === (field === 'http' ? http : p2p))
    if (other === undefined) continue
    return { type: 'refused', code: 'invalid-request', detail: `${other.id} is reached there already`, field }
  }
  if (members.length >= maxMembers) {
    return { type: 'refused', code: 'invalid-request', detail: `A cluster has at most ${maxMembers} members` }
  }
  // What its program understands is known once it speaks; one that is too old for the state does not join (`founding.ts`).
  const commandVersion = commonCommandVersion(configuration)
  const learner: Member = { peer, id, http, p2p, voter: false, since: 0, commandVersion }
  return { type: 'changed', configuration: { members: [...members, learner] } }
}

function mistakeIn(newcomer: Newcomer): Extract<Composed, { type: 'refused' }> | undefined {
  const wrong = (field: keyof Newcomer, expected: string) => ({
    type: 'refused' as const,
    code: 'invalid-request' as const,
    detail: `Expected ${expected}, found ${JSON.stringify(newcomer[field])}`,
    field,
  })
  if (!isName(newcomer.id)) return wrong('id', 'a node id of lower-case letters, digits, - and _')
  if (!isHttpAddress(newcomer.http))
    return wrong('http', 'an address like http://127.0.0.1:7001, without a path')
  if (!isPeerAddress(newcomer.p2p)) return wrong('p2p', 'a multiaddr like /ip4/127.0.0.1/tcp/7101')
  if (newcomer.peer === '' || newcomer.peer.length > 128) return wrong('peer', 'a peer id like 12D3KooW...')
  return undefined
}

function remove(
  configuration: Configuration,
  change: Extract<Wish, { type: 'remove' | 'replace' }>,
  isWell: (peer: MemberId) => boolean,
): Composed {
  const id = change.type === 'remove' ? change.id : change.replaces
  const leaving = configuration.members.find((member) => member.id === id)
  if (leaving === undefined) {
    return { type: 'refused', code: 'not-found', detail: `${id} is no member of this cluster`, field: 'id' }
  }
  const left = configuration.members.filter((member) => member !== leaving)
  if (!left.some((member) => member.voter)) {
    return { type: 'refused', code: 'quorum-at-risk', detail: `${id} is the last voter of this cluster` }
  }
  const next: Composed =
    change.type === 'remove'
      ? { type: 'changed', configuration: { members: left } }
      : add(configuration, left, change.newcomer)
  if (next.type !== 'changed' || change.force || !leaving.voter) return next
  return risk(next.configuration, isWell) ?? next
}

function correct(
  configuration: Configuration,
  change: { readonly peer: MemberId } & Partial<Omit<Member, 'peer'>>,
  isWell: (peer: MemberId) => boolean,
): Composed {
  const present = configuration.members.find((member) => member.peer === change.peer)
  if (present === undefined) {
    return { type: 'refused', code: 'not-found', detail: `${change.peer} is no member of this cluster` }
  }
  const next: Member = {
    peer: present.peer,
    id: present.id,
    http: change.http ?? present.http,
    p2p: change.p2p ?? present.p2p,
    voter: change.voter ?? present.voter,
    since: Math.max(present.since, change.since ?? 0),
    commandVersion: change.commandVersion ?? present.commandVersion,
  }
  if (JSON.stringify(next) === JSON.stringify(asWritten(present))) return { type: 'unchanged' }
  const members = configuration.members.map((member) => (member === present ? next : member))
  if (!members.some((member) => member.voter)) {
    return {
      type: 'refused',
      code: 'quorum-at-risk',
      detail: `${present.id} is the last voter of this cluster`,
    }
  }
  const isVoteChange = next.voter !== present.voter
  return (
    (isVoteChange ? risk({ members }, isWell) : undefined) ?? { type: 'changed', configuration: { members } }
  )
}

/** The same fields in the same order, so that two members can be compared as text. */
function asWritten({ peer, id, http, p2p, voter, since, commandVersion }: Member): Member {
  return { peer, id, http, p2p, voter, since, commandVersion }
}

/** A refusal when too few voters of this configuration are known to be well for it ever to be committed. */
function risk(
  { members }: Configuration,
  isWell: (peer: MemberId) => boolean,
): Extract<Composed, { type: 'refused' }> | undefined {
  const voters = members.filter((member) => member.voter)
  const ailing = voters.filter((member) => !isWell(member.peer))
  const needed = majority(voters.length)
  if (voters.length - ailing.length >= needed) return undefined
  return {
    type: 'refused',
    code: 'quorum-at-risk',
    detail:
      `Of the ${voters.length} voters that would be left ${needed} have to answer, but ` +
      `${ailing.map((member) => member.id).join(', ')} cannot be counted on now`,
    awaits: ailing.map((member) => member.peer),
  }
}
