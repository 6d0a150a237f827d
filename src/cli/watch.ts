// `trivet watch`: what happens to keys, one event a line, until it is stopped.

import { type Command, Option } from 'commander'

import type { WatchEvent } from '../sdk/types.ts'
import { collect, example, withClientOf } from './command.ts'
import type { ConnectionOptions } from './connection.ts'
import { withStore } from './data.ts'

type WatchingOptions = ConnectionOptions & {
  readonly store: string
  readonly json?: true
  readonly prefix?: readonly string[]
  readonly key?: readonly string[]
  readonly from?: string
  readonly snapshot?: true
}

/** Adds `watch`. */
export function addWatchCommand(program: Command): void {
  withStore(program.command('watch'))
    .option('--prefix <prefix>', 'only keys that begin with it; may be repeated', collect)
    .option('--key <key>', 'only this key; may be repeated', collect)
    .option('--from <id>', 'begin after this revision, or after the event of this id')
    .addOption(new Option('--snapshot', 'begin with every present key').conflicts('from'))
    .summary('watch what happens to keys')
    .description(
      'Writes each change as it happens: what it is, its revision, and the key; with --json all of it, values in base64. Goes on ' +
        'through another node when one is lost.',
    )
    .addHelpText('after', example('watch --prefix cart/ --snapshot'))
    .action((options: WatchingOptions) =>
      withClientOf(options, async (client) => {
        const { prefix, key, from, snapshot } = options
        for await (const event of client.store(options.store).watch({ prefix, key, from, snapshot })) {
          const line = options.json === true ? jsonOf(event) : wordsOf(event)
          if (line !== undefined) process.stdout.write(`${line}\n`)
        }
      }),
    )
}

function jsonOf(event: WatchEvent): string {
  if (event.type !== 'set') return JSON.stringify(event)
  return JSON.stringify({ ...event, value: Buffer.from(event.value).toString('base64') })
}

/** Undefined for what tells of no key. */
function wordsOf(event: WatchEvent): string | undefined {
  switch (event.type) {
    case 'set':
    case 'delete':
    case 'expire':
      return `${event.type} ${event.revision} ${event.key}`
    case 'reset':
      return 'reset'
    case 'progress':
      return undefined
    default:
      return event satisfies never
  }
}
