// How a cluster comes into being, once: nobody founds unless every node of the file says that it is empty.
//
// One node founds: the first of the file. It asks all others; if all are empty it makes the founding durable, has each of them
// do the same, and only then begins. Until somebody has begun no vote is cast and no write taken, so that a founding that
// was interrupted can go on where it stood, even if a disk was lost meanwhile. Once somebody has begun, an empty node is
// one that lost its disk, and nothing brings it back in silence (`safety.md`, rule 10; etcd#12227).

import type { Configuration, MemberId } from '../raft/types.ts'
import type { Founding } from '../store/types.ts'
import type { Answer, Question } from './transport.ts'

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
  /** This node, as people write it. */
  readonly id: string
  /** All nodes of the file, in its order. */
  readonly nodes: readonly { readonly id: string; readonly peer: MemberId }[]
  /** Nodes that the operator founds without. */
  readonly without: readonly string[]
  readonly identity: () => Identity
  /** A new founding with a random cluster id, for these nodes. */
  readonly compose: (ids: readonly string[]) => Founding
  /** Make durable: the founding; that this node takes part. */
  readonly found: (founding: Founding) => Promise<void>
  readonly begin: () => Promise<void>
  readonly ask: (peer: MemberId, question: Question) => Promise<Answer>
  /** Says what this node waits for; called with every look, so the receiver drops what it has said already. */
  readonly waiting: (sentence: string) => void
  readonly sleep: (ms: number) => Promise<void>
}

type Peer = { readonly id: string; readonly peer: MemberId }

type Known =
  | { readonly type: 'silent' }
  /** It belongs to a cluster that this node is no member of. */
  | { readonly type: 'refuses' }
  | { readonly type: 'empty' }
  | { readonly type: 'knows'; readonly clusterId: string; readonly begun: boolean }

/** Resolves once this node may take part. Rejects when a disk fails. `stopped` ends it early. */
export async function found(options: FoundingOptions, stopped: () => boolean): Promise<void> {
  /** Strangers are told why only now and then. */
  const refusing = new Set<string>()
  for (let wait = 100; !stopped(); wait = Math.min(wait * 1.5, 1000)) {
    const identity = options.identity()
    if (identity.type === 'founded' && identity.begun) return
    const others = options.nodes.filter((node) => node.id !== options.id)
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
      return `waiting for a member to tell ${options.id} which cluster it belongs to: ${identity.why}`
    default:
      return identity satisfies never
  }
}

/** Answers another node's question about founding. */
export async function answerFounding(
  options: Pick<FoundingOptions, 'id' | 'identity' | 'found' | 'begin'>,
  question: Question,
): Promise<Answer> {
  const identity = options.identity()
  if (identity.type === 'rebuilding') {
    return {
      type: 'refused',
      reason: `${options.id} has lost its log and waits to learn which cluster it is of`,
    }
  }
  switch (question.type) {
    case 'whoAreYou':
      return identity.type === 'empty'
        ? { type: 'identity', id: options.id, clusterId: undefined, begun: false }
        : {
            type: 'identity',
            id: options.id,
            clusterId: identity.founding.clusterId,
            begun: identity.begun,
          }
    case 'found':
      if (identity.type === 'founded') {
        if (identity.founding.clusterId === question.founding.clusterId) return { type: 'done' }
        return {
          type: 'refused',
          reason: `${options.id} knows cluster ${identity.founding.clusterId} already`,
        }
      }
      if (!question.founding.configuration.members.some((member) => member.id === options.id)) {
        return { type: 'refused', reason: `the founding does not name ${options.id}` }
      }
      await options.found(question.founding)
      // Another founding may have come first; then this one was not made.
      return answerFounding(options, question)
    case 'begin':
      if (identity.type !== 'founded' || identity.founding.clusterId !== question.clusterId) {
        return { type: 'refused', reason: `${options.id} does not know cluster ${question.clusterId}` }
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
      : { type: 'knows', clusterId: answer.clusterId, begun: answer.begun }
  } catch {
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

/** Returns what there is to wait for, or undefined when something was done. */
async function whileEmpty(
  options: FoundingOptions,
  answers: ReadonlyMap<Peer, Known>,
): Promise<string | undefined> {
  const { id } = options
  const begun = named(answers, (known) => known.type === 'knows' && known.begun)
  if (begun !== '') {
    return (
      `the data directory of ${id} is empty, but there is a cluster of ${begun}. ${id} does not found another and does not vote, ` +
      `because it may have voted before: put its data directory back, or have it replaced as a member, with ` +
      `\`trivet member replace ${id}\` of a version that has it`
    )
  }
  const refusing = named(answers, (known) => known.type === 'refuses')
  if (refusing !== '') {
    return `${id} is no member of the cluster of ${refusing}, and waits to be added to it`
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
  if (founder?.id !== options.id)
    return `waiting for ${founder?.id ?? 'a node'} to finish founding the cluster`
  for (const [peer, known] of ours) {
    if (known.type === 'silent' || known.type === 'refuses') {
      return `waiting for ${peer.id} to answer, to finish founding the cluster`
    }
    if (known.type === 'knows' && known.clusterId !== clusterId) {
      return `${peer.id} belongs to cluster ${known.clusterId}, not to ${clusterId}, which ${options.id} is founding`
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
