// The commands for stores: which there are, making one, dropping one with all its keys.

import { type Command, InvalidArgumentError } from 'commander'

import { list, string } from '../sdk/answers.ts'
import { Asker, type Body } from './asking.ts'
import { connectionOf, example, print, table, withConnection } from './command.ts'
import type { ConnectionOptions } from './connection.ts'
import { bytesText } from './progress.ts'

type StoreOptions = ConnectionOptions & { readonly json?: true }
type CreateOptions = StoreOptions & { readonly ttl?: string; readonly maxValueBytes?: number }

/** Adds `store` with `list`, `create` and `drop`. */
export function addStoreCommands(program: Command): void {
  const store = program
    .command('store')
    .summary('list, create or drop stores')
    .description('Shows and changes which stores there are.')
    .helpCommand(false)

  withConnection(store.command('list'))
    .summary('list the stores that the token may open')
    .description('Writes the stores, one a line, with what stands in them where the token may see it.')
    .addHelpText('after', example('store list'))
    .action(async (options: StoreOptions) => {
      using asker = new Asker(await connectionOf(options))
      const body = await asker.ask({ method: 'GET', path: '/v1/stores', effect: 'none' })
      print(options, body, storeTable(list(body, 'stores')))
    })

  withConnection(store.command('create'))
    .argument('<name>', 'lower-case letters, digits, and single - or _ between them')
    .option('--ttl <duration>', 'how long its keys last unless they say so themselves, such as 24h')
    .option('--max-value-bytes <count>', 'the largest value it takes', parseCount)
    .summary('create a store')
    .description('Creates an empty store.')
    .addHelpText('after', example('store create sessions --ttl 1h --max-value-bytes 65536'))
    .action(async (name: string, options: CreateOptions) => {
      const { ttl, maxValueBytes } = options
      using asker = new Asker(await connectionOf(options))
      const body = { name, ttl, maxValueBytes }
      const answer = await asker.ask({ method: 'POST', path: '/v1/stores', body, effect: 'once' })
      print(options, answer, `${name} is created`)
    })

  withConnection(store.command('drop'))
    .argument('<name>', 'the store that shall go, with all its keys')
    .summary('drop a store')
    .description('Drops a store with all its keys, at once. The store "default" stays.')
    .addHelpText('after', example('store drop sessions'))
    .action(async (name: string, options: StoreOptions) => {
      using asker = new Asker(await connectionOf(options))
      const path = `/v1/stores/${encodeURIComponent(name)}`
      const answer = await asker.ask({ method: 'DELETE', path, effect: 'once' })
      print(options, answer, `${name} is dropped`)
    })
}

function storeTable(stores: readonly Body[]): string {
  const rows = stores.map((store) => {
    const { keys, bytes, ttl, maxValueBytes } = store
    return [
      string(store, 'name'),
      typeof keys === 'number' ? keys : undefined,
      typeof bytes === 'number' ? bytesText(bytes) : undefined,
      typeof ttl === 'string' ? ttl : undefined,
      typeof maxValueBytes === 'number' ? bytesText(maxValueBytes) : undefined,
    ]
  })
  return table(['NAME', 'KEYS', 'SIZE', 'TTL', 'LARGEST VALUE'], rows)
}

function parseCount(text: string): number {
  const count = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(count) || count < 1) {
    throw new InvalidArgumentError('It is a positive integer.')
  }
  return count
}
