// How a cluster comes into being, once: nobody founds unless every node of the file says that it is empty.
//
// One node founds: the first of the file. It asks all others; if all are empty it makes the founding durable, has each of them
// do the same, and only then begins. Until somebody has begun no vote is cast and no write taken, so that a founding that
// was interrupted can go on where it stood, even if a disk was lost meanwhile. Once somebody has begun, an empty node is
// one that lost its disk, and nothing brings it back in silence (`safety.md`, rule 10; etcd#12227). It joins only where the
// cluster has it as a learner: then somebody has added it, and nothing is counted on that it might have said before.

import type { Configuration, MemberId } from '../raft/types.ts'
import { commandVersion } from '../store/commands.ts'
import type { Founding } from '../store/types.ts'
import { commonCommandVersion } from './membership.ts'
import type { NodeAddress } from './settings.ts'
import type { Answer, Membership, Question } from './transport.ts'
import { RefusalError } from './wire.ts'

/** What a node knows of its cluster. `begun`: it has taken part in elections, or may. */
export type Identity =
  | { readonly type: 'empty' }
  | { readonly type: 'founded'; readonly founding: Founding; readonly begun: boolean }
  /**
   * It was a member and has lost its log (`why`), and with it the founding. What its state says of its cluster is here, if
   * that can be read. It never founds and takes no founding; a member can tell it where it belongs.
   */
  | {
      readonly type: 'rebuilding'
      readonly boot: number
      readonly why: string
      readonly clusterId: string | undefined
      readonly configuration: Configuration | undefined
    }

export type FoundingOptions = {
  /** This node. */
  readonly own: NodeAddress
  /** All nodes of the file, in its order. */
  readonly nodes: readonly NodeAddress[]
  /** Nodes that the operator founds without. */
  readonly without: readonly string[]
  readonly identity: () => Identity
  /** What this node needs that joins the cluster of this one; undefined while this one does not take part. */
  readonly membership: (joining: MemberId) => Membership | undefined
  /** A new founding with a random cluster id, for these nodes. */
  readonly compose: (ids: readonly string[]) => Founding
  /** Make durable: the founding; that this node takes part. */
  readonly found: (founding: Founding) => Promise<void>
  readonly begin: () => Promise<void>
  /** Makes durable that this node is a learner of a cluster that has begun, by this configuration. */
  readonly join: (membership: Membership) => Promise<void>
  readonly ask: (peer: MemberId, question: Question) => Promise<Answer>
  /** Says what this node waits for; called with every look, so the receiver drops what it has said already. */
  readonly waiting: (sentence: string) => void
  readonly sleep: (ms: number) => Promise<void>
}

type Peer = Pick<NodeAddress, 'id' | 'peer'>

type Known =
  | { readonly type: 'silent' }
  /** It belongs to a cluster that this node is no member of. */
  | { readonly type: 'refuses' }
  | { readonly type: 'empty' }
  | {
      readonly type: 'knows'
      readonly clusterId: string
      readonly begun: boolean
      readonly membership: Membership | undefined
    }

/** Resolves once this node may take part. Rejects when a disk fails. `stopped` ends it early. */
export async function found(options: FoundingOptions, stopped: () => boolean): Promise<void> {
  /** Strangers are told why only now and then. */
  const refusing = new Set<string>()
  for (let wait = 100; !stopped(); wait = Math.min(wait * 1.5, 1000)) {
    const identity = options.identity()
    if (identity.type === 'founded' && identity.begun) return
    const others = options.nodes.filter((node) => node.id !== options.own.id)
    const answers = new Map(
      await Promise.all(others.map(async (peer) => [peer, await look(options, peer)] as const)),
    )
    if (stopped()) return
    for (const [peer, known] of answers) {
      if (known.type === 'refuses') refusing.add(peer.id)
      else if (known.type !== 'silent') refusing.delete(peer.id)
      else if (refusing.has(peer.id)) answers.set(peer, { type: 'refuses' })
    }
    const sentence = await act(options, identity, answers)
    if (sentence === undefined) continue
    options.waiting(sentence)
    await options.sleep(wait)
  }
}

function act(
  options: FoundingOptions,
  identity: Identity,
  answers: ReadonlyMap<Peer, Known>,
): Promise<string | undefined> | string {
  switch (identity.type) {
    case 'empty':
      return whileEmpty(options, answers)
    case 'founded':
      return whileFounding(options, identity.founding, answers)
    case 'rebuilding':
      return whileRebuilding(options, identity.why, answers)
    default:
      return identity satisfies never
  }
}

export type FoundingQuestion = Extract<Question, { type: 'whoAreYou' | 'found' | 'begin' }>

/** Answers the question of `from` about founding and joining. */
export async function answerFounding(
  options: Pick<FoundingOptions, 'own' | 'identity' | 'membership' | 'found' | 'begin'>,
  question: FoundingQuestion,
  from: MemberId,
): Promise<Answer> {
  const identity = options.identity()
  const { id } = options.own
  if (identity.type === 'rebuilding') {
    return {
      type: 'refused',
      reason: `${id} has lost its log and waits to learn which cluster it is of`,
    }
  }
  switch (question.type) {
    case 'whoAreYou': {
      if (identity.type === 'empty') return { type: 'identity', id, clusterId: undefined, begun: false }
      const { founding, begun } = identity
      const answer = { type: 'identity', id, clusterId: founding.clusterId, begun } as const
      const membership = options.membership(from)
      const isMember = membership?.configuration.members.some(({ peer }) => peer === from)
      return membership !== undefined && isMember === true ? { ...answer, membership } : answer
    }
    case 'found':
      if (identity.type === 'founded') {
        if (identity.founding.clusterId === question.founding.clusterId) return { type: 'done' }
        return {
          type: 'refused',
          reason: `${id} knows cluster ${identity.founding.clusterId} already`,
        }
      }
      if (!question.founding.configuration.members.some((member) => member.id === id)) {
        return { type: 'refused', reason: `the founding does not name ${id}` }
      }
      await options.found(question.founding)
      // Another founding may have come first; then this one was not made.
      return answerFounding(options, question, from)
    case 'begin':
      if (identity.type !== 'founded' || identity.founding.clusterId !== question.clusterId) {
        return { type: 'refused', reason: `${id} does not know cluster ${question.clusterId}` }
      }
      if (!identity.begun) await options.begin()
      return { type: 'done' }
    default:
      return question satisfies never
  }
}

async function look(options: FoundingOptions, peer: Peer): Promise<Known> {
  try {
    const answer = await options.ask(peer.peer, { type: 'whoAreYou' })
    if (answer.type !== 'identity') return { type: 'refuses' }
    return answer.clusterId === undefined
      ? { type: 'empty' }
      : {
          type: 'knows',
          clusterId: answer.clusterId,
          begun: answer.begun,
          membership: answer.membership,
        }
  } catch (error) {
    if (error instanceof RefusalError && error.refusal.cause === 'stranger') return { type: 'refuses' }
    // Not reached, or it did not answer: both mean that it cannot be asked now, which is what the caller acts on.
    return { type: 'silent' }
  }
}

function named(answers: ReadonlyMap<Peer, Known>, which: (known: Known) => boolean): string {
  return [...answers]
    .filter(([, known]) => which(known))
    .map(([peer]) => peer.id)
    .join(', ')
}

/** By the newest configuration, and with the latest boot, that anybody tells of. */
function newestMembership(answers: ReadonlyMap<Peer, Known>): Membership | undefined {
  let newest: Membership | undefined
  let boot = 0
  for (const known of answers.values()) {
    if (known.type !== 'knows' || known.membership === undefined) continue
    boot = Math.max(boot, known.membership.boot)
    if (newest === undefined || known.membership.index > newest.index) newest = known.membership
  }
  return newest && { ...newest, boot }
}

/** This node is empty, and a member of a cluster that has begun. */
async function whileKnown(options: FoundingOptions, membership: Membership): Promise<string | undefined> {
  const { id, peer } = options.own
  const { configuration, founding } = membership
  const own = configuration.members.find((member) => member.peer === peer)
  if (own?.voter !== false) {
    return (
      `the data directory of ${id} is empty, but it is a voter of the cluster ${founding.name}: it does not take part, because it may have ` +
      `voted before. Put its data directory back; or delete the peer.key in it, make another with \`trivet keygen\`, and have it ` +
      `replaced with ${replaceCommand({ ...options.own, peer: '<its new peer id>' })}`
    )
  }
  const needed = commonCommandVersion(configuration)
  if (commandVersion < needed) {
    return (
      `${id} cannot join: it understands commands up to version ${commandVersion}, and the cluster ${founding.name} uses ` +
      `version ${needed}. Install the version of Trivet that the other members run`
    )
  }
  await options.join(membership)
  return undefined
}

/** This node was a member and has lost its log: what it is of, a member knows. It takes no part before it has been demoted. */
async function whileRebuilding(
  options: FoundingOptions,
  why: string,
  answers: ReadonlyMap<Peer, Known>,
): Promise<string | undefined> {
  const membership = newestMembership(answers)
  if (membership?.configuration.members.some(({ peer }) => peer === options.own.peer) !== true) {
    return `waiting for a member to tell ${options.own.id} which cluster it belongs to: ${why}`
  }
  await options.join(membership)
  return undefined
}

function addCommand({ id, http, p2p, peer }: NodeAddress): string {
  return `\`trivet member add ${id} --http ${http} --p2p ${p2p} --peer ${peer}\``
}

function replaceCommand({ id, http, p2p, peer }: NodeAddress): string {
  return `\`trivet member replace ${id} --http ${http} --p2p ${p2p} --peer ${peer}\``
}

/** Returns what there is to wait for, or undefined when something was done. */
async function whileEmpty(
  options: FoundingOptions,
  answers: ReadonlyMap<Peer, Known>,
): Promise<string | undefined> {
  const { id } = options.own
  const membership = newestMembership(answers)
  if (membership !== undefined) return whileKnown(options, membership)
  const begun = named(answers, (known) => known.type === 'refuses' || (known.type === 'knows' && known.begun))
  if (begun !== '') {
    return (
      `the data directory of ${id} is empty, but there is a cluster of ${begun}, and this node is no member of it. ${id} neither founds ` +
      `another nor votes. Have it added with ${addCommand(options.own)}, or, if it takes the place of a node of that name which ` +
      `lost its data, with ${replaceCommand(options.own)}`
    )
  }
  const knowing = named(answers, (known) => known.type === 'knows')
  const taking = options.nodes.filter((node) => !options.without.includes(node.id))
  const founder = taking[0]
  if (founder?.id !== id) {
    return knowing === ''
      ? `waiting for ${founder?.id ?? 'a node'} to found the cluster`
      : `waiting for ${knowing} to go on founding the cluster`
  }
  if (knowing !== '') {
    return (
      `${knowing} holds an unfinished founding that ${id} does not know, so ${id} lost its disk while founding. No write was ` +
      `taken: empty the data directories of all nodes and start them again`
    )
  }
  const silent = named(answers, (known) => known.type === 'silent')
  const missing = silent.split(', ').filter((name) => name !== '' && !options.without.includes(name))
  if (missing.length > 0) {
    return (
      `waiting for ${missing.join(', ')} to answer: a cluster is founded once all its nodes say that they are empty ` +
      `(to found without: \`trivet start --found-without ${missing[0]}\`)`
    )
  }
  await options.found(options.compose(taking.map((node) => node.id)))
  return undefined
}

async function whileFounding(
  options: FoundingOptions,
  founding: Founding,
  answers: ReadonlyMap<Peer, Known>,
): Promise<string | undefined> {
  const { clusterId } = founding
  const members = new Set(founding.configuration.members.map((member) => member.id))
  const ours = [...answers].filter(([peer]) => members.has(peer.id))
  if (ours.some(([, known]) => known.type === 'knows' && known.begun && known.clusterId === clusterId)) {
    await options.begin()
    return undefined
  }
  const founder = founding.configuration.members[0]
  if (founder?.id !== options.own.id)
    return `waiting for ${founder?.id ?? 'a node'} to finish founding the cluster`
  for (const [peer, known] of ours) {
    if (known.type === 'silent' || known.type === 'refuses') {
      return `waiting for ${peer.id} to answer, to finish founding the cluster`
    }
    if (known.type === 'knows' && known.clusterId !== clusterId) {
      return `${peer.id} belongs to cluster ${known.clusterId}, not to ${clusterId}, which ${options.own.id} is founding`
    }
    if (known.type !== 'empty') continue
    const answer = await options.ask(peer.peer, { type: 'found', founding }).catch(String)
    if (typeof answer === 'string') return `waiting for ${peer.id} to take the founding: ${answer}`
    if (answer.type !== 'done') {
      return `${peer.id} does not take the founding: ${answer.type === 'refused' ? answer.reason : answer.type}`
    }
  }
  await options.begin()
  // Whoever is not reached now learns it by asking.
  await Promise.allSettled(ours.map(([peer]) => options.ask(peer.peer, { type: 'begin', clusterId })))
  return undefined
}
