// The `trivet` command as a whole: its commands, how they fail, and what a shell learns from that.

import { AssertionError } from 'node:assert'
import { Command, CommanderError } from 'commander'

import { TrivetError } from '../errors.ts'
import { InvariantError } from '../raft/assert.ts'
import { version } from '../version.ts'
import { addAppCommands } from './apps.ts'
import { addBackupCommands } from './backup.ts'
import { addClusterCommands } from './cluster.ts'
import { endWithReader } from './command.ts'
import { addCompletionCommand } from './completion.ts'
import { addCounterCommands } from './counters.ts'
import { addDataCommands } from './data.ts'
import { addExportCommand } from './export.ts'
import { addImportCommand } from './import.ts'
import { addMemberCommands } from './member.ts'
import { addServerCommands } from './server.ts'
import { addStoreCommands } from './stores.ts'
import { addTokenCommands } from './tokens.ts'
import { addWatchCommand } from './watch.ts'

/**
 * Runs one command and resolves with its exit status: 0 done, 1 refused or failed, 2 usage, 3 no such key, 4 condition
 * failed, 5 outcome unknown. `complain` gets one sentence about what went wrong.
 */
export async function run(args: readonly string[], complain: (sentence: string) => void): Promise<number> {
  try {
    let status = 0
    const program = createProgram(complain, (ended) => {
      status = ended
    })
    await program.parseAsync(args, { from: 'user' })
    return status
  } catch (error) {
    // Commander has said its sentence already.
    if (!(error instanceof CommanderError)) complain(describe(error))
    return exitStatus(error)
  }
}

/** All commands. `complain` gets what commander says of a mistake; `end` the exit status of a server that has run. */
export function createProgram(complain: (sentence: string) => void, end: (status: number) => void): Command {
  const program = new Command('trivet')
  program
    .description('A replicated key-value store.')
    .version(version)
    .exitOverride()
    // One sentence, whatever commander would spread over lines.
    .configureOutput({
      writeOut: (text) => {
        endWithReader()
        process.stdout.write(text)
      },
      outputError: (text) =>
        complain(
          text
            .trim()
            .replace(/^error: /, '')
            .replace(/\s*\n\s*/g, ' '),
        ),
    })
    .helpCommand(false)
  addServerCommands(program, end)
  addDataCommands(program)
  addCounterCommands(program)
  addWatchCommand(program)
  addClusterCommands(program)
  addMemberCommands(program)
  addStoreCommands(program)
  addTokenCommands(program)
  addAppCommands(program)
  addExportCommand(program)
  addImportCommand(program)
  addBackupCommands(program)
  addCompletionCommand(program)
  return program
}

function exitStatus(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  if (!(error instanceof TrivetError)) return 1
  switch (error.code) {
    case 'no-such-key':
      return 3
    case 'condition-failed':
      return 4
    case 'outcome-unknown':
      return 5
    default:
      return 1
  }
}

/** What the system's refusals of a file mean to an operator. */
const refusals: Readonly<Record<string, string>> = {
  EACCES: 'this user may not',
  EPERM: 'this user may not',
  EROFS: 'its file system is read-only',
  ENOSPC: 'its disk is full',
  ENOENT: 'it is not there, or its file system is read-only',
  ENOTDIR: 'a part of its path is a file, not a directory',
  EEXIST: 'a file of that name is there',
  EISDIR: 'it is a directory',
  EMFILE: 'this process has too many files open',
}

/** A refusal of the file system in one sentence; undefined for any other error. */
function systemSentence(error: Error): string | undefined {
  const { code, path, syscall }: NodeJS.ErrnoException = error
  const why = refusals[code ?? '']
  if (why === undefined || path === undefined || syscall === undefined) return undefined
  return `${path} cannot be used: ${why} (${syscall}: ${code}).`
}

/** Errors of our own making, as opposed to an operator's: where they happened is what matters. */
const faults = [TypeError, RangeError, ReferenceError, SyntaxError, AssertionError, InvariantError]

/** One line for a refusal or an operator's mistake; where it was for a fault of our own. */
function describe(error: unknown): string {
  if (error instanceof TrivetError) return `${error.code}: ${error.detail}`
  if (!(error instanceof Error)) return String(error)
  const system = systemSentence(error)
  if (system !== undefined) return system
  const fault = faults.some((kind) => error instanceof kind)
  return fault ? (error.stack ?? error.message) : error.message
}
