// `trivet export`: the keys of a store as lines of JSON, from one revision, into a file that is whole or not there.

import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { rename, stat } from 'node:fs/promises'
import type { Command } from 'commander'

import { TrivetError } from '../errors.ts'
import { queryString, storePath } from '../sdk/paths.ts'
import { chunksOf, openStream } from './asking.ts'
import { connectionOf, example, print, withConnection } from './command.ts'
import type { Connection, ConnectionOptions } from './connection.ts'
import { FileTarget } from './file-target.ts'
import { linesOf } from './lines.ts'
import { bytesText, keysText, type Progress, progressOfCommand } from './progress.ts'

type ExportOptions = ConnectionOptions & {
  readonly json?: true
  readonly store: string
  readonly prefix?: string
  readonly start?: string
  readonly end?: string
  readonly continue?: true
}

/** Adds `export`. */
export function addExportCommand(program: Command): void {
  withConnection(program.command('export'), '60s')
    .argument('<file>', 'where to write, or - for standard output')
    .option('--store <name>', 'the store', 'default')
    .option('--prefix <prefix>', 'only keys that begin with it')
    .option('--start <key>', 'from this key on, inclusive')
    .option('--end <key>', 'up to this key, exclusive')
    .option('--continue', 'go on with an interrupted export; what follows is of a later revision')
    .summary('write the keys of a store to a file')
    .description(
      'Writes keys, values, types and expiries, one key a line of JSON, all from one revision. The file appears once it is whole; ' +
        'until then it is FILE.partial.',
    )
    .addHelpText('after', example('export carts.ndjson --store carts --prefix eu/'))
    .action(async (file: string, options: ExportOptions, command: Command) => {
      if (file === '-' && options.continue === true) {
        command.error('error: only a file can be continued', { exitCode: 2 })
      }
      await exportKeys(file, options, await connectionOf(options))
    })
}

/** What an interrupted export has written. */
type Written = { readonly count: number; readonly bytes: number; readonly lastKey: string | undefined }

const nothingWritten: Written = { count: 0, bytes: 0, lastKey: undefined }

async function exportKeys(file: string, options: ExportOptions, connection: Connection): Promise<void> {
  const progress = progressOfCommand()
  try {
    if (file === '-') {
      await copyLines({ connection, options, before: nothingWritten, progress }, writeOut)
      return
    }
    const partial = `${file}.partial`
    const before = options.continue === true ? await writtenIn(partial) : nothingWritten
    await using target = await FileTarget.open(partial, before.bytes)
    const end = await copyLines({ connection, options, before, progress }, (bytes) => target.write(bytes))
    await target.close()
    await rename(partial, file)
    progress.end()
    print(options, end, `${keysText(end.count)} as of revision ${end.revision}`)
  } finally {
    progress.end()
  }
}

type Copying = {
  readonly connection: Connection
  readonly options: ExportOptions
  readonly before: Written
  readonly progress: Progress
}

type End = { readonly end: true; readonly revision: number; readonly count: number }

/** Has the keys that follow, and what ends them, written line by line. */
async function copyLines(
  { connection, options, before, progress }: Copying,
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<End> {
  const { prefix, end, store } = options
  const start = before.lastKey ?? options.start
  const path = `${storePath(store)}/keys${queryString({ prefix, start, end, values: 'true' })}`
  const headers = { Accept: 'application/x-ndjson' }
  const answer = await openStream(connection, { method: 'GET', path, headers, effect: 'none' })
  let { count, bytes } = before
  for await (const line of linesOf(chunksOf(answer))) {
    const row = parse(line.bytes)
    if (row['end'] === true) {
      const last: End = { end: true, revision: Number(row['revision']), count }
      await write(Buffer.from(`${JSON.stringify(last)}\n`))
      return last
    }
    if (row['error'] !== undefined) throw problemOf(row['error'])
    // The listing begins with the key that it is to go on after.
    if (row['key'] === before.lastKey) continue
    await write(Buffer.concat([line.bytes, Buffer.from('\n')]))
    count += 1
    bytes += line.bytes.length + 1
    progress.show(`${keysText(count)}, ${bytesText(bytes)}`, undefined)
  }
  throw new TrivetError(
    'deadline-exceeded',
    `The answer of ${answer.endpoint} ended in the middle: run it again, or with --continue to go on from the last key`,
  )
}

function parse(bytes: Buffer): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(bytes.toString())) as Readonly<Record<string, unknown>>
  } catch (cause) {
    throw new TrivetError('internal', 'The listing holds a line that no Trivet node writes', { cause })
  }
}

function problemOf(problem: unknown): TrivetError {
  const { detail, code } = Object(problem) as { detail?: unknown; code?: unknown }
  return new TrivetError('internal', `The listing broke off: ${String(code)}: ${String(detail)}`)
}

/** Counts the whole lines of an interrupted export. */
async function writtenIn(partial: string): Promise<Written> {
  const exists = await stat(partial).then(
    () => true,
    () => false,
  )
  if (!exists) throw new Error(`There is no ${partial} to go on with: run it without --continue.`)
  let written = nothingWritten
  for await (const line of linesOf(createReadStream(partial))) {
    if (!line.whole) break
    const { key } = parse(line.bytes)
    if (typeof key !== 'string') break
    written = { count: line.number, bytes: line.end, lastKey: key }
  }
  return written
}

async function writeOut(bytes: Uint8Array): Promise<void> {
  if (!process.stdout.write(bytes)) await once(process.stdout, 'drain')
}
