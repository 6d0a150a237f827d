// The log of a node: JSON lines for machines in `<data>/node.log`, plain ones for people on standard output.

import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { destination, type Logger, multistream, pino, stdSerializers } from 'pino'

const levels: Readonly<Record<number, string>> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'warn',
  50: 'error',
  60: 'fatal',
}

export function logPath(directory: string): string {
  return join(directory, 'node.log')
}

/**
 * A logger for the node with this data directory, which exists; and how to write out what it still holds when the
 * process ends. Rejects with a sentence when the file cannot be opened.
 */
export async function createLog(
  directory: string,
  id: string,
): Promise<{ readonly logger: Logger; readonly flush: () => void }> {
  const path = logPath(directory)
  try {
    // Looked at before pino has it: a destination that never opened throws when the process ends.
    await (await open(path, 'a')).close()
  } catch (cause) {
    throw new Error(`The log ${path} cannot be opened: ${sentenceOf({ err: cause })}`, { cause })
  }
  // Not synchronous: a disk that hangs must not hang the node with it.
  const file = destination({ dest: path, append: true, sync: false })
  await once(file, 'ready')
  let complained = false
  const complain = (error: unknown): void => {
    // A full disk is no reason to fall over, but nobody should look for lines that are not there.
    if (!complained)
      process.stderr.write(`The log ${path} cannot be written: ${sentenceOf({ err: error })}\n`)
    complained = true
  }
  file.on('error', complain)
  const terminal = {
    write: (line: string) => {
      // Last words go to standard error, as one sentence, from whoever ends the process.
      if (!isFatal(line)) process.stdout.write(`${plainLine(line)}\n`)
    },
  }
  const logger = pino(
    // The causes of an error stand beside it in the file, and not within its sentence.
    { base: { pid: process.pid, node: id }, serializers: { err: stdSerializers.errWithCause } },
    multistream([{ stream: file }, { stream: terminal }]),
  )
  const flush = (): void => {
    try {
      file.flushSync()
    } catch (error) {
      complain(error)
    }
  }
  return { logger, flush }
}

const hidden: ReadonlySet<string> = new Set(['level', 'time', 'pid', 'node', 'msg', 'err'])

/** A JSON line of the log as a person reads it: time, level, sentence, and the fields beside it. */
export function plainLine(line: string): string {
  const record = parseRecord(line)
  if (record === undefined) return line.trimEnd()
  const time = new Date(Number(record['time'])).toISOString().slice(11, 23)
  const level = levels[Number(record['level'])] ?? 'log'
  const fields = Object.entries(record)
    .filter(([name]) => !hidden.has(name))
    .map(([name, value]) => ` ${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
  return `${time} ${level.padEnd(5)} ${sentenceOf(record)}${fields.join('')}`
}

/** Whether a line as `plainLine` writes it tells of the ordinary course of things. */
export function isRoutine(line: string): boolean {
  return /^[\d:.]{12} (trace|debug|info) /.test(line)
}

/** The last sentence at level error or above that this process wrote to the log; undefined when there is none. */
export async function lastError(directory: string, pid: number): Promise<string | undefined> {
  const records = (await tail(logPath(directory), 65_536)).split('\n').map(parseRecord)
  const last = records.findLast((record) => record?.['pid'] === pid && Number(record['level']) >= 50)
  return last === undefined ? undefined : sentenceOf(last)
}

function sentenceOf(record: Readonly<Record<string, unknown>>): string {
  const { msg, err } = record
  const cause = typeof err === 'object' && err !== null ? Reflect.get(err, 'message') : undefined
  const parts = [msg, cause].filter((part): part is string => typeof part === 'string' && part !== '')
  return [...new Set(parts)].join(': ')
}

function isFatal(line: string): boolean {
  return Number(parseRecord(line)?.['level']) >= 60
}

function parseRecord(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const parsed: unknown = JSON.parse(line)
    return typeof parsed === 'object' && parsed !== null ? { ...parsed } : undefined
  } catch {
    // The tail of a file begins in the middle of a line, and a killed process ends in one.
    return undefined
  }
}

async function tail(path: string, bytes: number): Promise<string> {
  try {
    await using file = await open(path, 'r')
    const { size } = await file.stat()
    const { buffer, bytesRead } = await file.read({
      buffer: Buffer.alloc(bytes),
      position: Math.max(0, size - bytes),
    })
    return buffer.toString('utf8', 0, bytesRead)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''
    throw error
  }
}
