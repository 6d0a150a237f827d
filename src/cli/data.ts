// The commands for data: one SDK call each, the answer on standard output.

import { readFile } from 'node:fs/promises'
import { buffer } from 'node:stream/consumers'
import { type Command, InvalidArgumentError, Option } from 'commander'

import { TrivetError } from '../errors.ts'
import type { RemoteStore } from '../sdk/store.ts'
import { example, print, withClientOf, withConnection } from './command.ts'
import type { ConnectionOptions } from './connection.ts'

type DataOptions = ConnectionOptions & { readonly store: string; readonly json?: true }
type ReadingOptions = DataOptions & { readonly consistency: 'linearizable' | 'stale' }
type DeletingOptions = DataOptions & { readonly ifRevision?: number }
type SettingOptions = DeletingOptions & {
  readonly ifAbsent?: true
  readonly file?: string
  readonly contentType?: string
  readonly ttl?: string
}
type ListingOptions = ReadingOptions & {
  readonly prefix?: string
  readonly start?: string
  readonly end?: string
  readonly reverse?: true
}

/** Adds `get`, `set`, `delete` and `keys`. */
export function addDataCommands(program: Command): void {
  reading(withStore(program.command('get')))
    .argument('<key>')
    .summary('write the value of a key to standard output')
    .description('Writes the bytes of a value to standard output, with a newline only to a terminal.')
    .addHelpText('after', example('get greeting --store default'))
    .action((key: string, options: ReadingOptions) =>
      withStoreOf(options, (store) => get(store, key, options)),
    )

  conditional(withStore(program.command('set')))
    .argument('<key>')
    .argument('[value]', 'the value, or - for standard input')
    .option('--file <path>', 'read the value from a file')
    .option('--content-type <type>', 'the media type to store beside it (default: text for an argument)')
    .option('--ttl <duration>', "how long it lasts, such as 24h; none: for ever (default: the store's)")
    .option('--if-absent', 'only if the key is missing')
    .summary('set a key')
    .description('Sets a key to a text, the bytes of a file, or what standard input brings.')
    .addHelpText('after', example('set greeting hello'))
    .action((key: string, value: string | undefined, options: SettingOptions, command: Command) => {
      if ((value === undefined) === (options.file === undefined)) {
        command.error('error: give the value as an argument, as - for standard input, or with --file', {
          exitCode: 2,
        })
      }
      if (options.ifAbsent === true && options.ifRevision !== undefined) {
        command.error('error: --if-absent and --if-revision exclude each other', { exitCode: 2 })
      }
      return withStoreOf(options, (store) => set(store, key, value, options))
    })

  conditional(withStore(program.command('delete')))
    .argument('<key>')
    .summary('delete a key')
    .description('Deletes a key. Deleting a missing one is no error.')
    .addHelpText('after', example('delete greeting'))
    .action((key: string, options: DeletingOptions) =>
      withStoreOf(options, async (store) => {
        const deleted = await store.delete(key, { ifRevision: options.ifRevision })
        print(
          options,
          deleted,
          `${deleted.deleted ? 'deleted' : 'was missing'}, revision ${deleted.revision}`,
        )
      }),
    )

  reading(withStore(program.command('keys')))
    .option('--prefix <prefix>', 'only keys that begin with it')
    .option('--start <key>', 'from this key on, inclusive')
    .option('--end <key>', 'up to this key, exclusive')
    .option('--reverse', 'last key first')
    .summary('list keys')
    .description(
      'Writes the keys in the order of their bytes, one a line; with --json one page of the listing a line.',
    )
    .addHelpText('after', example('keys --prefix cart/'))
    .action((options: ListingOptions) => withStoreOf(options, (store) => keys(store, options)))
}

/** The flags of every command for the keys of one store. */
export function withStore(command: Command): Command {
  return withConnection(command).option('--store <name>', 'the store', 'default')
}

function reading(command: Command): Command {
  return command.addOption(
    new Option('--consistency <level>', 'stale: what the node has, perhaps not the newest')
      .choices(['linearizable', 'stale'])
      .default('linearizable'),
  )
}

export function conditional(command: Command): Command {
  return command.option('--if-revision <number>', 'only if this revision of the key stands', parseRevision)
}

function withStoreOf(options: DataOptions, use: (store: RemoteStore) => Promise<void>): Promise<void> {
  return withClientOf(options, (client) => use(client.store(options.store)))
}

async function get(store: RemoteStore, key: string, options: ReadingOptions): Promise<void> {
  const entry = await store.getEntry(key, { consistency: options.consistency })
  if (entry === undefined)
    throw new TrivetError('no-such-key', `${JSON.stringify(key)} is not in ${store.name}`)
  if (options.json === true) {
    // The value itself is REST's body; beside it stands what REST says in headers, shaped as in a listing with values.
    const value = Buffer.from(entry.value).toString('base64')
    process.stdout.write(`${JSON.stringify({ ...entry, size: entry.value.length, value })}\n`)
    return
  }
  process.stdout.write(entry.value)
  if (process.stdout.isTTY) process.stdout.write('\n')
}

async function set(
  store: RemoteStore,
  key: string,
  value: string | undefined,
  options: SettingOptions,
): Promise<void> {
  const { ifRevision, ifAbsent, contentType, ttl } = options
  const bytes = value === '-' ? await buffer(process.stdin) : await fileOf(options.file)
  const written = await store.set(key, bytes ?? value ?? '', { ifRevision, ifAbsent, contentType, ttl })
  const what = written.created ? 'created' : written.changed ? 'changed' : 'unchanged'
  print(options, written, `${what}, revision ${written.revision}`)
}

async function fileOf(path: string | undefined): Promise<Buffer | undefined> {
  try {
    return path === undefined ? undefined : await readFile(path)
  } catch (error) {
    throw new Error(
      `The file ${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
    )
  }
}

async function keys(store: RemoteStore, options: ListingOptions): Promise<void> {
  const { prefix, start, end, reverse, consistency } = options
  for await (const page of store.pages({ prefix, start, end, reverse, consistency })) {
    if (options.json === true) process.stdout.write(`${JSON.stringify(page)}\n`)
    else for (const { key } of page.keys) process.stdout.write(`${key}\n`)
  }
}

function parseRevision(text: string): number {
  const revision = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(revision) || revision < 1) {
    throw new InvalidArgumentError('A revision is a positive integer.')
  }
  return revision
}
