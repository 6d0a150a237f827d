// `trivet increment` and `trivet touch`: what changes a key without sending it anew.

import { type Command, InvalidArgumentError } from 'commander'

import { keyPath, queryString } from '../sdk/paths.ts'
import { Asker } from './asking.ts'
import { connectionOf, example, print } from './command.ts'
import type { ConnectionOptions } from './connection.ts'
import { conditional, withStore } from './data.ts'

type KeyOptions = ConnectionOptions & {
  readonly store: string
  readonly json?: true
  readonly ifRevision?: number
}

/** Adds `increment` and `touch`. */
export function addCounterCommands(program: Command): void {
  conditional(withStore(program.command('increment')))
    .argument('<key>')
    .argument('[delta]', 'what to add, a whole number (default: 1)', parseDelta)
    .option('--ttl <duration>', 'how long the key lasts if this creates it')
    .summary('add to a number')
    .description(
      'Adds to the decimal number of 64 bits under a key and writes the sum; a missing key counts as 0.',
    )
    .addHelpText('after', example('increment visits 5'))
    .action(
      async (key: string, delta: string | undefined, options: KeyOptions & { readonly ttl?: string }) => {
        using asker = new Asker(await connectionOf(options))
        const answer = await asker.ask({
          method: 'POST',
          path: `${keyPath(options.store, key)}/increment`,
          headers: conditionOf(options),
          body: { delta, ttl: options.ttl },
          effect: 'once',
        })
        print(options, answer, String(answer['value']))
      },
    )

  conditional(withStore(program.command('touch')))
    .argument('<key>')
    .requiredOption('--ttl <duration>', 'how long it lasts from now on, such as 24h; none: for ever')
    .summary('set or clear how long a key lasts')
    .description('Sets, renews or clears the time to live of a key. Its value and revision stay.')
    .addHelpText('after', example('touch session/7 --ttl 30m'))
    .action(async (key: string, options: KeyOptions & { readonly ttl: string }) => {
      using asker = new Asker(await connectionOf(options))
      const answer = await asker.ask({
        method: 'POST',
        path: `${keyPath(options.store, key)}/touch${queryString({ ttl: options.ttl })}`,
        headers: conditionOf(options),
        effect: 'once',
      })
      const { expires } = answer
      print(options, answer, typeof expires === 'string' ? `expires ${expires}` : 'does not expire')
    })
}

function conditionOf({ ifRevision }: KeyOptions): Readonly<Record<string, string>> {
  return ifRevision === undefined ? {} : { 'If-Match': `"${ifRevision}"` }
}

/** As text, which carries all 64 bits. */
function parseDelta(text: string): string {
  if (/^(0|-?[1-9]\d{0,18})$/.test(text)) return text
  throw new InvalidArgumentError('It is a whole number of at most 64 bits; put -- before a negative one.')
}
