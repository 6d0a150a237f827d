// The commands that run nodes. What they need is loaded when one of them runs, so that the others start fast.

import { type Command, InvalidArgumentError } from 'commander'

import { collect, example } from './command.ts'
import { defaultData } from './connection.ts'

type DevFlags = {
  readonly nodes: number
  readonly data: string
  readonly httpPort: number
  readonly p2pPort: number
  readonly host: string
  readonly keyValue: readonly KeyValue[]
}

type KeyValue = readonly [key: string, value: string]

type StartFlags = {
  readonly config: string
  readonly node?: string
  readonly data?: string
  readonly foundWithout: readonly string[]
}

/** Adds `dev`, `start`, `keygen` and `recover`. `end` gets the exit status of a server that has run. */
export function addServerCommands(program: Command, end: (status: number) => void): void {
  program
    .command('dev')
    .summary('run a cluster on this machine')
    .description(
      'Runs a cluster of real node processes on this machine until Ctrl-C. Started again, everything is still there.',
    )
    .option('--nodes <count>', 'how many nodes', wholeNumber(1, 9), 3)
    .option('--data <directory>', 'where everything is kept', defaultData)
    .option('--http-port <port>', 'HTTP port of the first node', wholeNumber(1, 65_535), 7001)
    .option('--p2p-port <port>', 'libp2p port of the first node', wholeNumber(1, 65_535), 7101)
    .option(
      '--host <address>',
      'where HTTP listens; beyond loopback without TLS, for containers',
      '127.0.0.1',
    )
    .option(
      '--key-value <key=value>',
      'put this into the default store before anything is said to be ready; may be repeated',
      collectKeyValue,
      [],
    )
    .addHelpText('after', example('dev --nodes 1 --key-value greeting=hello'))
    .action(async (flags: DevFlags, command: Command) => {
      const { dev } = await import('./dev.ts')
      const given = new Set(Object.keys(flags).filter((name) => command.getOptionValueSource(name) === 'cli'))
      end(await dev({ ...flags, given }))
    })

  program
    .command('start')
    .summary('run one node')
    .description(
      'Runs one node of the cluster that the configuration file describes, until SIGTERM or SIGINT.',
    )
    .requiredOption('--config <path>', 'the configuration file, the same for every node')
    .option('--node <id>', 'which of its nodes this is (default: TRIVET_NODE)')
    .option('--data <directory>', 'where this node keeps its data, instead of what the file says')
    .option(
      '--found-without <id>',
      'found the cluster though this node is absent; may be repeated',
      collect,
      [],
    )
    .addHelpText('after', example('start --config cluster.yml --node n1'))
    .action(async (flags: StartFlags, command: Command) => {
      const node = flags.node ?? process.env['TRIVET_NODE']
      if (node === undefined || node === '') {
        command.error('error: say which node this is, with --node or TRIVET_NODE', { exitCode: 2 })
      }
      // First, because what is loaded next is what makes it grow.
      const { holdYoungGeneration } = await import('./heap.ts')
      holdYoungGeneration()
      const { start } = await import('./start.ts')
      end(await start({ ...flags, node }))
    })

  program
    .command('keygen')
    .summary("make a node's key, or show the one it has")
    .description(
      "Prints the peer id of the key in a data directory, for the configuration file's nodes. Makes the key if there is none.",
    )
    .option('--data <directory>', "the node's data directory", defaultData)
    .addHelpText('after', example('keygen --data /var/lib/trivet'))
    .action(async ({ data }: { readonly data: string }) => {
      const { loadPeerKey } = await import('../node/peer-key.ts')
      process.stdout.write(`${(await loadPeerKey(data)).peer}\n`)
    })

  addRecover(program, end)
}

function addRecover(program: Command, end: (status: number) => void): void {
  program
    .command('recover')
    .summary('go on with one node when no quorum is left')
    .description(
      'Makes a stopped node the first of a new cluster, with all the data that it has, when so many others are lost for good that ' +
        'no quorum can ever come together again. Without --force it changes nothing, says what the node has and what may be lost, ' +
        'and ends with status 1.',
    )
    .requiredOption('--data <directory>', "the node's data directory")
    .option('--force', 'do it: writes that only the lost nodes had are given up', false)
    .addHelpText('after', example('recover --data /var/lib/trivet --force'))
    .action(async (flags: { readonly data: string; readonly force: boolean }) => {
      const { recoverNode } = await import('./recover.ts')
      end(await recoverNode(flags))
    })
}

/** Splits at the first `=`: a value may hold more of them, a key none. */
function collectKeyValue(text: string, before: readonly KeyValue[]): readonly KeyValue[] {
  const equals = text.indexOf('=')
  if (equals < 1) throw new InvalidArgumentError('It is a key, = and a value.')
  return [...before, [text.slice(0, equals), text.slice(equals + 1)]]
}

function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const number = Number(text)
    if (!/^\d+$/.test(text) || number < least || number > most) {
      throw new InvalidArgumentError(`It is a whole number from ${least} to ${most}.`)
    }
    return number
  }
}
