// The commands for Mattermost apps: which there are, and taking one away with all that it has.

import type { Command } from 'commander'

import { list, string } from '../sdk/answers.ts'
import { Asker } from './asking.ts'
import { connectionOf, example, print, table, withConnection } from './command.ts'
import type { ConnectionOptions } from './connection.ts'
import { bytesText } from './progress.ts'

type AppOptions = ConnectionOptions & { readonly json?: true }

/** Adds `app` with `list` and `remove`. */
export function addAppCommands(program: Command): void {
  const app = program
    .command('app')
    .summary('list or remove Mattermost apps')
    .description('Shows the Mattermost apps that keep keys here, and removes them.')
    .helpCommand(false)

  withConnection(app.command('list'))
    .summary('list the apps')
    .description('Writes the apps, one a line, with what stands in their keyspaces.')
    .addHelpText('after', example('app list'))
    .action(async (options: AppOptions) => {
      using asker = new Asker(await connectionOf(options))
      const body = await asker.ask({ method: 'GET', path: '/v1/apps', effect: 'none' })
      const rows = list(body, 'apps').map((one) => {
        const { keys, bytes } = one
        return [
          string(one, 'id'),
          typeof keys === 'number' ? keys : undefined,
          typeof bytes === 'number' ? bytesText(bytes) : undefined,
        ]
      })
      print(options, body, table(['ID', 'KEYS', 'SIZE'], rows))
    })

  withConnection(app.command('remove'))
    .argument('<id>', 'the app that shall go')
    .summary('remove an app')
    .description('Removes an app with the keys and tokens of all its users, at once.')
    .addHelpText('after', example('app remove com.example.todo'))
    .action(async (id: string, options: AppOptions) => {
      using asker = new Asker(await connectionOf(options))
      const path = `/v1/apps/${encodeURIComponent(id)}`
      print(options, await asker.ask({ method: 'DELETE', path, effect: 'once' }), `${id} is removed`)
    })
}
