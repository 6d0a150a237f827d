// The commands that ask about the cluster itself, or change who leads it.

import type { Command } from 'commander'

import type { ClusterDescription, MemberDescription } from '../api/protocol.ts'
import { example, print, table, withClientOf, withConnection } from './command.ts'
import type { ConnectionOptions } from './connection.ts'

type ClusterOptions = ConnectionOptions & { readonly json?: true }

/** Adds `status` and `leader`. */
export function addClusterCommands(program: Command): void {
  withConnection(program.command('status'))
    .summary('show the members of the cluster')
    .description('Shows the cluster as the node that answers sees it: who leads, and how far each member is.')
    .addHelpText('after', example('status --endpoint http://127.0.0.1:7001'))
    .action((options: ClusterOptions) =>
      withClientOf(options, async (client) => {
        const cluster = await client.cluster()
        print(options, cluster, statusLines(cluster).join('\n'))
      }),
    )

  withConnection(program.command('leader'))
    .argument('<id>', 'the member that shall lead')
    .summary('hand leadership over')
    .description('Hands leadership to a member.')
    .addHelpText('after', example('leader n2'))
    .action((id: string, options: ClusterOptions) =>
      withClientOf(options, async (client) => {
        await client.transferLeadership(id)
        print(options, { leader: id }, `${id} leads`)
      }),
    )
}

const columns: readonly (readonly [
  title: string,
  cell: (member: MemberDescription) => string | number | undefined,
])[] = [
  ['ID', (member) => (member.self ? `${member.id}*` : member.id)],
  ['ROLE', (member) => member.role],
  ['TERM', (member) => member.term],
  ['COMMIT', (member) => member.commitIndex],
  ['APPLIED', (member) => member.lastApplied],
  ['LAG', (member) => member.lag],
  ['DIGEST', digestOf],
  ['HEALTH', healthOf],
  ['HTTP', (member) => member.http],
  ['P2P', (member) => member.p2p],
]

/** The status as people read it: a sentence, a table, and the alarms. The star marks the node that answered. */
function statusLines(cluster: ClusterDescription): readonly string[] {
  const leader = cluster.leader === undefined ? 'no leader is known' : `${cluster.leader} leads`
  const rows = cluster.members.map((member) => columns.map(([, cell]) => cell(member)))
  const shown = table(
    columns.map(([title]) => title),
    rows,
  )
  return [`${cluster.cluster}: ${leader}, term ${cluster.term}, revision ${cluster.revision}`, '', shown]
}

/** Equal on all members that have come equally far. */
function digestOf({ digest }: MemberDescription): string | undefined {
  return digest === undefined ? undefined : `${digest.digest.slice(0, 8)}@${digest.index}`
}

function healthOf(member: MemberDescription): string {
  if (member.alarms.length > 0) return member.alarms.join(',')
  if (member.healthy) return 'ok'
  return member.role === 'unknown' ? 'silent' : 'ailing'
}
