// `trivet import`: lines of JSON become keys of a store, batch by batch; an interrupted import goes on where it was.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'

import { isErrorCode, TrivetError } from '../errors.ts'
import { list, string } from '../sdk/answers.ts'
import { Asker, type Body } from './asking.ts'
import { connectionOf, example, print, withConnection } from './command.ts'
import type { ConnectionOptions } from './connection.ts'
import { type LinePlace, linesOf } from './lines.ts'
import { bytesText, keysText, type Progress, progressOfCommand } from './progress.ts'

type ImportOptions = ConnectionOptions & { readonly json?: true; readonly store: string }

/** What a request may carry: the contract's bounds, and a good margin for what JSON adds. */
const batchOperations = 1000
const batchBytes = 4 * 1024 * 1024

/** Adds `import`. */
export function addImportCommand(program: Command): void {
  withConnection(program.command('import'), '60s')
    .argument('<file>', 'what to read, or - for standard input')
    .option('--store <name>', 'the store', 'default')
    .summary('set the keys that a file lists')
    .description(
      'Sets one key for each line of JSON: {"key", "value" (base64) | "text" | "json", "contentType"?, "expires"?}, as export writes ' +
        'them. How far it has come is kept in FILE.import; after an interruption the same command goes on there.',
    )
    .addHelpText('after', example('import carts.ndjson --store carts'))
    .action(async (file: string, options: ImportOptions) => {
      const connection = await connectionOf(options)
      using asker = new Asker(connection)
      const progress = progressOfCommand()
      try {
        const imported = await importKeys(file, options.store, { asker, progress })
        progress.end()
        const { keys, expired } = imported
        const also = expired === 0 ? '' : `; ${expired} had expired and were left out`
        print(options, imported, `set ${keysText(keys)} in ${options.store}${also}`)
      } finally {
        progress.end()
      }
    })
}

type Tools = { readonly asker: Asker; readonly progress: Progress }

/** What has been done of the file. */
type Done = LinePlace & { readonly keys: number; readonly expired: number }

async function importKeys(file: string, store: string, tools: Tools): Promise<Omit<Done, keyof LinePlace>> {
  const { asker, progress } = tools
  const journal = file === '-' ? undefined : await Journal.open(file, store, asker)
  const size = journal?.size
  let done: Done = journal?.done ?? { bytes: 0, lines: 0, keys: 0, expired: 0 }
  if (done.lines > 0) progress.show(`going on after line ${done.lines}`, undefined)
  const input = file === '-' ? process.stdin : createReadStream(file, { start: done.bytes })
  let batch = new Batch(done)
  const send = async (): Promise<void> => {
    await batch.send(store, asker)
    done = batch.done
    await journal?.keep(done)
    const share = size === undefined || size === 0 ? undefined : done.bytes / size
    progress.show(`${keysText(done.keys)}, ${bytesText(done.bytes)}`, share)
    batch = new Batch(done)
  }
  for await (const line of linesOf(input, done)) {
    const row = rowOf(line.bytes, line.number)
    if (row.type === 'end') {
      if (row.count !== batch.done.keys + batch.done.expired) {
        throw new Error(
          `Line ${line.number} says that there are ${row.count} keys; ${batch.done.keys + batch.done.expired} were read.`,
        )
      }
    } else if (row.type === 'key' && batch.isFull(line.bytes.length)) await send()
    batch.add(row, { bytes: line.end, lines: line.number }, line.bytes.length)
  }
  await send()
  await journal?.remove()
  return { keys: done.keys, expired: done.expired }
}

type Row =
  | { readonly type: 'key'; readonly operation: Body }
  | { readonly type: 'expired' }
  | { readonly type: 'nothing' }
  | { readonly type: 'end'; readonly count: number }

/** What a line says. Throws a sentence that names it. */
function rowOf(bytes: Buffer, number: number): Row {
  const text = bytes.toString().trim()
  if (text === '') return { type: 'nothing' }
  const row = parsed(text, number)
  if (row['end'] === true) return { type: 'end', count: Number(row['count']) }
  const { key, contentType, expires } = row
  const given = ['value', 'text', 'json'].filter((name) => row[name] !== undefined)
  if (typeof key !== 'string') throw new Error(`Line ${number} has no "key".`)
  const [name] = given
  if (name === undefined || given.length > 1)
    throw new Error(`Line ${number} needs one of "value", "text" and "json".`)
  if (expires !== undefined && (typeof expires !== 'string' || Number.isNaN(Date.parse(expires)))) {
    throw new Error(`Line ${number} has an "expires" that is no time, such as 2027-01-31T12:00:00.000Z.`)
  }
  if (expires !== undefined && Date.parse(expires) <= Date.now()) return { type: 'expired' }
  // What does not say when it expires does not expire, whatever the store's default.
  const lasting = expires === undefined ? { ttl: 'none' } : { expires }
  return { type: 'key', operation: { op: 'set', key, [name]: row[name], contentType, ...lasting } }
}

function parsed(text: string, number: number): Body {
  try {
    const row: unknown = JSON.parse(text)
    if (typeof row === 'object' && row !== null) return { ...row }
  } catch {
    // Said below, with the line's number, which is what helps.
  }
  throw new Error(`Line ${number} is no JSON object.`)
}

/** Rows that go in one request. */
class Batch {
  readonly #operations: { readonly operation: Body; readonly line: number }[] = []
  #bytes = 0
  #done: Done

  constructor(done: Done) {
    this.#done = done
  }

  /** What is done once this batch is. */
  get done(): Done {
    return this.#done
  }

  isFull(bytes: number): boolean {
    const { length } = this.#operations
    return length > 0 && (length >= batchOperations || this.#bytes + bytes > batchBytes)
  }

  add(row: Row, place: LinePlace, bytes: number): void {
    const { keys, expired } = this.#done
    if (row.type === 'key') this.#operations.push({ operation: row.operation, line: place.lines })
    this.#bytes += bytes
    this.#done = {
      ...place,
      keys: keys + (row.type === 'key' ? 1 : 0),
      expired: expired + (row.type === 'expired' ? 1 : 0),
    }
  }

  /** Each operation is tried again while it may succeed. Rejects with the first that is refused, and its line. */
  async send(store: string, asker: Asker): Promise<void> {
    let left: readonly { readonly operation: Body; readonly line: number }[] = this.#operations
    for (let pause = 100; left.length > 0; pause = Math.min(2000, pause * 2)) {
      const body = { operations: left.map(({ operation }) => ({ ...operation, store })) }
      // Not under an idempotency key, which the cluster would remember for each of them: a repeat sets the same once more.
      const answer = await asker.ask({ method: 'POST', path: '/v1/batch', body, effect: 'none' })
      const failed = list(answer, 'results').flatMap((result, at) => {
        const one = left[at]
        return Number(result['status']) < 300 || one === undefined ? [] : [{ ...one, error: errorOf(result) }]
      })
      const refused = failed.find(({ error }) => !isPassing(error))
      if (refused !== undefined) {
        const { error, line } = refused
        throw new TrivetError(error.code, `line ${line}: ${error.detail}`)
      }
      left = failed
      if (left.length > 0) await delay(pause)
    }
  }
}

/** Setting the same key to the same value again does no harm, so that doubt is a reason to try again. */
function isPassing(error: TrivetError): boolean {
  return error.retryable || error.code === 'outcome-unknown'
}

function errorOf(result: Body): TrivetError {
  const code = string(result, 'code')
  const detail = result['detail']
  return new TrivetError(isErrorCode(code) ? code : 'internal', typeof detail === 'string' ? detail : code)
}

/** What `FILE.import` holds: which work it is of, and how far that has come. */
type Kept = { readonly work: string; readonly done: Done }

/** Remembers how far the import of a file has come, beside the file. */
class Journal {
  readonly size: number
  readonly done: Done | undefined
  readonly #path: string
  readonly #work: string

  /** `work` tells the file as it is now, the cluster and the store from any other. */
  static async open(file: string, store: string, asker: Asker): Promise<Journal> {
    const { size, mtimeMs } = await stat(file)
    const { id } = await asker.ask({ method: 'GET', path: '/v1/cluster', effect: 'none' })
    const head = await headOf(file)
    const work = createHash('sha256')
      .update(JSON.stringify([id, store, size, mtimeMs]))
      .update(head)
      .digest('hex')
    const path = `${file}.import`
    const kept = await keptIn(path)
    return new Journal({ size, path, work, done: kept?.work === work ? kept.done : undefined })
  }

  private constructor(parts: {
    readonly size: number
    readonly path: string
    readonly work: string
    readonly done: Done | undefined
  }) {
    this.size = parts.size
    this.done = parts.done
    this.#path = parts.path
    this.#work = parts.work
  }

  async keep(done: Done): Promise<void> {
    const kept: Kept = { work: this.#work, done }
    const fresh = `${this.#path}.new`
    await writeFile(fresh, JSON.stringify(kept))
    await rename(fresh, this.#path)
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true })
  }
}

const headBytes = 64 * 1024

async function headOf(file: string): Promise<Buffer> {
  await using handle = await open(file)
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(headBytes), 0, headBytes, 0)
  return buffer.subarray(0, bytesRead)
}

/** Undefined where there is none, and for one that is not whole: then the work begins anew, which does no harm. */
async function keptIn(path: string): Promise<Kept | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Kept
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
