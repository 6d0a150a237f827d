// What commands have in common: their flags of connection, how they print, how they show an example.

import type { Command } from 'commander'

import { connectRemote, type RemoteClient } from '../sdk/client.ts'
import { type Connection, type ConnectionOptions, findConnection } from './connection.ts'

/** What ends the help of every command: a line that can be pasted into a shell. `line` follows `trivet `. */
export function example(line: string): string {
  return `\nExample:\n  trivet ${line}`
}

/** The flags that say where and as whom; they hold for every command that talks to a cluster. */
export function withConnection(command: Command, timeout = '5s'): Command {
  return command
    .option(
      '--endpoint <url>',
      'a node to talk to; may be repeated (default: TRIVET_ENDPOINTS, else ./data)',
      collect,
    )
    .option(
      '--token-file <path>',
      'where the token lies, unless TRIVET_TOKEN is set (default: ./data/admin.token)',
    )
    .option('--timeout <duration>', 'how long to try', timeout)
    .option('--json', 'answer with the JSON of the REST body')
}

/** Runs `use` with a client that is closed afterwards. */
export async function withClientOf(
  options: ConnectionOptions,
  use: (client: RemoteClient) => Promise<void>,
): Promise<void> {
  await using client = connectRemote(await connectionOf(options), { fewWrites: true })
  await use(client)
}

/** A reader of standard output that has seen enough (`trivet keys | head`) is no failure: the command is done then. */
export function endWithReader(): void {
  process.stdout.once('error', (error) => {
    if ('code' in error && error.code === 'EPIPE') process.exit(0)
    throw error
  })
}

/** Where a command goes that writes to standard output what it is told there. */
export async function connectionOf(options: ConnectionOptions): Promise<Connection> {
  endWithReader()
  return findConnection(options, process.env)
}

/** Writes one answer to standard output: as JSON when that was asked for, else as words. */
export function print(options: { readonly json?: true }, body: unknown, words: string): void {
  process.stdout.write(`${options.json === true ? JSON.stringify(body) : words}\n`)
}

/** Gathers the values of a flag that may be repeated. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value]
}

/** Rows under titles, in columns as wide as what stands in them; `-` where nothing does. */
export function table(
  titles: readonly string[],
  rows: readonly (readonly (string | number | undefined)[])[],
): string {
  const lines = [titles, ...rows.map((row) => row.map((cell) => String(cell ?? '-')))]
  const widths = titles.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)))
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
