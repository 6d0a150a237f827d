// The commands that change the members, and the wait until a new one has caught up and votes.

import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import type { ClusterDescription, MemberDescription } from '../api/protocol.ts'
import { TrivetError } from '../errors.ts'
import type { RemoteClient } from '../sdk/client.ts'
import { example, print, table, withClientOf, withConnection } from './command.ts'
import type { ConnectionOptions } from './connection.ts'
import { progressOfCommand } from './progress.ts'

type MemberOptions = ConnectionOptions & { readonly json?: true }
type AddressOptions = MemberOptions & {
  readonly http: string
  readonly p2p: string
  readonly peer: string
  /** False with `--no-wait`. */
  readonly wait: boolean
}

const lookEveryMs = 500

/** Adds `member` with `list`, `add`, `replace` and `remove`. */
export function addMemberCommands(program: Command): void {
  const member = program
    .command('member')
    .summary('list, add, replace or remove members')
    .description('Shows and changes who belongs to the cluster, one member at a time.')
    .helpCommand(false)

  withConnection(member.command('list'))
    .summary('list the members')
    .description('Writes the members, one a line: name, peer id, whether it votes, and where it is reached.')
    .addHelpText('after', example('member list'))
    .action((options: MemberOptions) =>
      withClientOf(options, async (client) => {
        const { members } = await client.cluster()
        const rows = members.map(({ id, peer, voter, http, p2p }) => [
          id,
          peer,
          voter ? 'voter' : 'learner',
          http,
          p2p,
        ])
        print(options, { members }, table(['ID', 'PEER', 'VOTES', 'HTTP', 'P2P'], rows))
      }),
    )

  withAddress(withConnection(member.command('add')))
    .argument('<id>', 'what people shall call it')
    .summary('add a node as a member')
    .description(
      'Adds a node as a learner and waits until it has caught up and votes. Ctrl-C ends the waiting alone: the cluster goes on.',
    )
    .addHelpText(
      'after',
      example('member add n4 --http http://10.0.0.4:7001 --p2p /ip4/10.0.0.4/tcp/7101 --peer 12D3KooW...'),
    )
    .action((id: string, options: AddressOptions) =>
      withClientOf(options, async (client) => {
        const { http, p2p, peer } = options
        await client.addMember({ id, http, p2p, peer })
        await seeThrough(client, id, options)
      }),
    )

  withAddress(withConnection(member.command('replace')))
    .argument('<id>', 'the member that lost its data, or whose machine is gone')
    .option('--force', 'also when the voters left are not known to make a quorum')
    .summary('put a new node in the place of a member')
    .description(
      'Removes a member and adds a node of the same name with a new key, in one change; then waits until that votes.',
    )
    .addHelpText(
      'after',
      example(
        'member replace n2 --http http://10.0.0.9:7001 --p2p /ip4/10.0.0.9/tcp/7101 --peer 12D3KooW...',
      ),
    )
    .action((id: string, options: AddressOptions & { readonly force?: true }) =>
      withClientOf(options, async (client) => {
        const { http, p2p, peer, force } = options
        await client.addMember({ id, http, p2p, peer, replaces: id }, { force })
        await seeThrough(client, id, options)
      }),
    )

  withConnection(member.command('remove'))
    .argument('<id>', 'the member that shall go')
    .option('--force', 'also when the voters left are not known to make a quorum')
    .summary('remove a member')
    .description('Removes a member, the leader too. Its process goes on and can be stopped.')
    .addHelpText('after', example('member remove n2'))
    .action((id: string, options: MemberOptions & { readonly force?: true }) =>
      withClientOf(options, async (client) => {
        await client.removeMember(id, { force: options.force })
        print(options, { id }, `${id} is removed`)
      }),
    )
}

function withAddress(command: Command): Command {
  return command
    .requiredOption('--http <url>', 'where clients reach it')
    .requiredOption('--p2p <multiaddr>', 'where peers reach it')
    .requiredOption('--peer <peer id>', 'its peer id, as "trivet keygen" prints it on its machine')
    .option('--no-wait', 'do not wait until it votes')
}

/** Shows how far the learner is until it votes, unless that was not wanted. */
async function seeThrough(client: RemoteClient, id: string, options: AddressOptions): Promise<void> {
  const { peer } = options
  if (!options.wait) {
    print(options, { id, peer }, `${id} is a learner`)
    return
  }
  const progress = progressOfCommand()
  for (;;) {
    const cluster = await whileThere(client)
    const member = cluster?.members.find((one) => one.peer === peer)
    if (cluster !== undefined && member === undefined) {
      progress.end()
      throw new Error(`${id} was removed before it had caught up.`)
    }
    if (member?.voter === true) break
    if (cluster !== undefined && member !== undefined) {
      const { sentence, share } = standing(cluster, member)
      progress.show(sentence, share)
    }
    await delay(lookEveryMs)
  }
  progress.end()
  print(options, { id, peer }, `${id} is a voter`)
}

/** The cluster, or undefined while it cannot be asked: a learner takes longer to catch up than a leader to be elected. */
async function whileThere(client: RemoteClient): Promise<ClusterDescription | undefined> {
  try {
    return await client.cluster()
  } catch (error) {
    if (error instanceof TrivetError && error.retryable) return undefined
    throw error
  }
}

/** How far a learner is against the member that is ahead of all. */
export function standing(
  { members }: { readonly members: readonly Pick<MemberDescription, 'commitIndex'>[] },
  { id, lastApplied, role }: Pick<MemberDescription, 'id' | 'lastApplied' | 'role'>,
): { readonly sentence: string; readonly share: number | undefined } {
  if (lastApplied === undefined || role === 'unknown') {
    return { sentence: `waiting for ${id} to be heard: is it started?`, share: undefined }
  }
  const goal = Math.max(...members.map(({ commitIndex = 0 }) => commitIndex))
  const behind = Math.max(0, goal - lastApplied)
  const sentence = behind === 0 ? `${id} has caught up` : `${id} is ${behind} entries behind`
  return { sentence, share: goal === 0 ? 1 : lastApplied / goal }
}
