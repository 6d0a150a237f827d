// The examples of a page of documentation, run as a reader would: shell lines in a shell, TypeScript in a process of its own.

import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { mainFile } from '../../src/cli/node-process.ts'

const run = promisify(execFile)
const root = resolve(import.meta.dirname, '../..')

export type Example = {
  readonly language: string
  readonly text: string
  /** What the page says that it prints; undefined when it says nothing of it. */
  readonly prints: string | undefined
}

/** The examples of `docs/<name>`, in order. A block of `text` right behind one is what that prints. */
export async function examplesOf(name: string): Promise<readonly Example[]> {
  const page = await readFile(join(root, 'docs', name), 'utf8')
  const blocks = page.matchAll(/^```(\w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/gms)
  return [...blocks]
    .map(([, language = '', text = '', prints]) => ({ language, text, prints }))
    .filter(({ language }) => language !== 'text')
}

/** Where examples find what they name: the packages as they are in the source, the nodes of `trivet dev` as these URLs. */
export class Reader implements AsyncDisposable {
  readonly #directory: string
  readonly #urls: readonly string[]
  readonly #token: string

  private constructor(directory: string, urls: readonly string[], token: string) {
    this.#directory = directory
    this.#urls = urls
    this.#token = token
  }

  static async sit(cluster: { readonly urls: readonly string[]; readonly token: string }): Promise<Reader> {
    const directory = await mkdtemp(join(tmpdir(), 'trivet-docs-'))
    const command = `#!/bin/sh\nexec ${process.execPath} ${mainFile} "$@"\n`
    await writeFile(join(directory, 'trivet'), command, { mode: 0o755 })
    return new Reader(directory, cluster.urls, cluster.token)
  }

  /** Runs one example; resolves with what it printed. Rejects when it fails. */
  async run({ language, text }: Example): Promise<string> {
    const env = {
      ...process.env,
      PATH: `${this.#directory}:${process.env['PATH']}`,
      TRIVET_ENDPOINTS: this.#urls.join(','),
      TRIVET_TOKEN: this.#token,
    }
    const options = { cwd: this.#directory, env, timeout: 30_000 }
    const here = this.#placed(text)
    if (language === 'sh') return (await run('sh', ['-ec', here], options)).stdout
    if (language !== 'ts') throw new Error(`no way to run ${language}`)
    const file = join(this.#directory, 'example.ts')
    await writeFile(file, here)
    return (await run(process.execPath, ['--disable-warning=ExperimentalWarning', file], options)).stdout
  }

  #placed(text: string): string {
    return text
      .replace(/'trivet\/(sdk|node)'/g, (_name, part) => `'${join(root, 'src', part, 'index.ts')}'`)
      .replace("'trivet/mattermost'", `'${join(root, 'src/sdk/mattermost.ts')}'`)
      .replace(/http:\/\/127\.0\.0\.1:700(\d)/g, (url, digit) => this.#urls[Number(digit) - 1] ?? url)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true })
  }
}
