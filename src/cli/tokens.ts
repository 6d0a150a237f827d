// The commands for tokens: who may do what, minting, revoking, and new secrets for old ones.

import { text as textOf } from 'node:stream/consumers'
import type { Command } from 'commander'

import { TrivetError } from '../errors.ts'
import { list, string } from '../sdk/answers.ts'
import { Asker, type Body } from './asking.ts'
import { collect, connectionOf, example, print, table, withConnection } from './command.ts'
import type { ConnectionOptions } from './connection.ts'

type TokenOptions = ConnectionOptions & { readonly json?: true }

type CreateOptions = TokenOptions & {
  readonly admin?: true
  readonly monitor?: true
  readonly store?: readonly string[]
  readonly prefix?: string
  readonly mint?: true
  readonly app?: string
  readonly user?: string
  readonly bot?: string
  readonly ttl?: string
  readonly secretStdin?: true
}

/** Adds `token` with `list`, `create`, `revoke` and `rotate`. */
export function addTokenCommands(program: Command): void {
  const token = program
    .command('token')
    .summary('list, create, revoke or rotate tokens')
    .description('Shows and changes who may do what. A secret is shown once, when it is made.')
    .helpCommand(false)

  withConnection(token.command('list'))
    .summary('list the tokens')
    .description('Writes the tokens, one a line: name, whom it speaks for, what it opens, when it expires.')
    .addHelpText('after', example('token list'))
    .action(async (options: TokenOptions) => {
      using asker = new Asker(await connectionOf(options))
      const body = await asker.ask({ method: 'GET', path: '/v1/tokens', effect: 'none' })
      const rows = list(body, 'tokens').map(rowOf)
      print(options, body, table(['NAME', 'PRINCIPAL', 'GRANTS', 'EXPIRES'], rows))
    })

  addCreate(token)

  withConnection(token.command('revoke'))
    .argument('<name>', 'the token that shall go')
    .summary('revoke a token')
    .description('Revokes a token. Once this is answered no node takes it, and its open streams end.')
    .addHelpText('after', example('token revoke cart'))
    .action(async (name: string, options: TokenOptions) => {
      using asker = new Asker(await connectionOf(options))
      const answer = await asker.ask({ method: 'DELETE', path: pathOf(name), effect: 'once' })
      print(options, answer, `${name} is revoked`)
    })

  withConnection(token.command('rotate'))
    .argument('<name>', 'the token that shall get a new secret')
    .option('--overlap <duration>', 'how long the old secret is taken too, such as 1h')
    .summary('give a token a new secret')
    .description('Makes a new secret for a token and writes it to standard output.')
    .addHelpText('after', example('token rotate cart --overlap 1h > cart.token'))
    .action(async (name: string, options: TokenOptions & { readonly overlap?: string }) => {
      const { overlap } = options
      using asker = new Asker(await connectionOf(options))
      const path = `${pathOf(name)}/rotate`
      const answer = await asker.ask({ method: 'POST', path, body: { overlap }, effect: 'once' })
      print(options, answer, secretOf(answer, name))
    })
}

function addCreate(token: Command): void {
  withConnection(token.command('create'))
    .argument('<name>', 'what people shall call it')
    .option('--admin', 'it may do everything')
    .option('--monitor', 'it may look at the cluster and its metrics, nothing else')
    .option(
      '--store <name[:read]>',
      'it may open this store, with :read only to read; may be repeated',
      collect,
    )
    .option('--prefix <prefix>', 'only keys that begin with it, in every --store')
    .option('--mint', 'it may mint and revoke tokens within its own grants')
    .option('--app <id>', 'it speaks for a user or bot of this Mattermost app')
    .option('--user <id>', 'the user of --app')
    .option('--bot <id>', 'the bot of --app')
    .option('--ttl <duration>', 'how long it is taken, such as 90d')
    .option('--secret-stdin', 'take the secret from standard input instead of making one')
    .summary('create a token')
    .description('Creates a token and writes its secret to standard output, this once.')
    .addHelpText(
      'after',
      example('token create cart --store carts --store prices:read --ttl 90d > cart.token'),
    )
    .action(async (name: string, options: CreateOptions, command: Command) => {
      const mistake = mistakeOf(options)
      if (mistake !== undefined) command.error(`error: ${mistake}`, { exitCode: 2 })
      const secret = options.secretStdin === true ? await secretFromInput() : undefined
      using asker = new Asker(await connectionOf(options))
      const body = { name, ...holderOf(options), ttl: options.ttl, secret }
      const answer = await asker.ask({ method: 'POST', path: '/v1/tokens', body, effect: 'once' })
      const words = secret === undefined ? secretOf(answer, name) : `${name} is created`
      print(options, answer, words)
    })
}

/** What of the flags does not go together. */
function mistakeOf({
  admin,
  monitor,
  store,
  prefix,
  mint,
  app,
  user,
  bot,
}: CreateOptions): string | undefined {
  const kinds = [admin, monitor, store, app].filter((one) => one !== undefined)
  if (kinds.length !== 1) return 'say whom it speaks for: one of --admin, --monitor, --store or --app'
  if (store === undefined && (prefix !== undefined || mint === true))
    return '--prefix and --mint need --store'
  if (app !== undefined && (user === undefined) === (bot === undefined)) return '--app needs --user or --bot'
  if (app === undefined && (user !== undefined || bot !== undefined)) return '--user and --bot need --app'
  return undefined
}

function holderOf({ admin, monitor, store, prefix, mint, app, user, bot }: CreateOptions): object {
  if (admin === true) return { admin }
  if (monitor === true) return { monitor }
  if (app !== undefined) return { app, user, bot }
  const stores = (store ?? []).map((text) => {
    const readOnly = text.endsWith(':read')
    return { store: readOnly ? text.slice(0, -5) : text, access: readOnly ? 'read' : 'read-write', prefix }
  })
  return { stores, mint }
}

async function secretFromInput(): Promise<string> {
  const secret = (await textOf(process.stdin)).trim()
  if (secret === '') throw new Error('Standard input brought no secret.')
  return secret
}

/** A write that had to be sent twice is answered the second time without what must be shown once. */
function secretOf(answer: Body, name: string): string {
  const { secret } = answer
  if (typeof secret === 'string') return secret
  throw new TrivetError(
    'outcome-unknown',
    `${name} has a new secret, but the answer that showed it was lost on its way; run "trivet token rotate ${name}"`,
  )
}

function pathOf(name: string): string {
  return `/v1/tokens/${encodeURIComponent(name)}`
}

function rowOf(token: Body): readonly (string | undefined)[] {
  const principal = Object(token['principal']) as Body
  const expires = token['expires']
  return [
    string(token, 'name'),
    principalText(principal),
    grantsText(token) ?? grantsText(principal),
    typeof expires === 'string' ? expires : undefined,
  ]
}

function principalText(principal: Body): string {
  const holder = Object(principal['holder']) as Body
  const app = principal['app']
  if (typeof app === 'string') return `app ${app}, ${String(holder['type'])} ${String(holder['id'])}`
  return `${String(principal['type'])}${principal['mint'] === true ? ', mints' : ''}`
}

function grantsText(from: Body): string | undefined {
  const grants = from['grants']
  if (!Array.isArray(grants) || grants.length === 0) return undefined
  return grants
    .map((grant: Body) => {
      const prefix = grant['prefix']
      const within = typeof prefix === 'string' && prefix !== '' ? ` ${JSON.stringify(prefix)}` : ''
      return `${String(grant['store'])}${grant['access'] === 'read' ? ':read' : ''}${within}`
    })
    .join(' ')
}
