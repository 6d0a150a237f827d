// The examples of docs/rest.md, sent to a node in their order: what the page shows is what is answered.

import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { secrets } from './contract.ts'
import { type DocumentBed, makeDocumentBed, type Sent } from './document-bed.ts'

type Example = {
  readonly line: number
  readonly request: string
  /** The answer is a value or lines, and no JSON. */
  readonly isText: boolean
  readonly status: number
  readonly answer: string
}

const page = readFileSync(resolve(import.meta.dirname, '../../docs/rest.md'), 'utf8')

/** Every block `http`, with the block `json <status>` or `text <status>` that follows it. */
function examples(): readonly Example[] {
  const blocks = [...page.matchAll(/^```http\n(.*?)^```\n(?:\n```(json|text) (\d+)\n(.*?)^```)?/gms)]
  return blocks.map(({ 1: request = '', 2: form = '', 3: status = '', 4: answer = '', index }) => {
    const line = page.slice(0, index).split('\n').length
    expect(status, `docs/rest.md:${line} has no answer`).not.toBe('')
    return { line, request, isText: form === 'text', status: Number(status), answer }
  })
}

/** `$NAME` stands for what an answer before has shown under it. */
function read(text: string, known: ReadonlyMap<string, string>): Sent {
  const filled = text.replace(/\$[A-Z]+/g, (name) => known.get(name) ?? name)
  const [head = '', ...body] = filled.split('\n\n')
  const [first = '', ...lines] = head.trimEnd().split('\n')
  const [method = '', path = ''] = first.split(' ')
  const headers = Object.fromEntries(
    lines.map((line) => [
      line.slice(0, line.indexOf(':')).toLowerCase(),
      line.slice(line.indexOf(':') + 1).trim(),
    ]),
  )
  if (body.length === 0) return { method, path, headers }
  return {
    method,
    path,
    headers: { 'content-type': 'application/json', ...headers },
    body: body.join('\n\n').trimEnd(),
  }
}

/** What an answer must have: `...` is any text, `$NAME` one to be kept. */
function expected(shown: unknown): unknown {
  if (typeof shown === 'string') return shown === '...' || shown.startsWith('$') ? expect.any(String) : shown
  if (Array.isArray(shown)) return shown.map(expected)
  if (typeof shown !== 'object' || shown === null) return shown
  return expect.objectContaining(
    Object.fromEntries(Object.entries(shown).map(([name, value]) => [name, expected(value)])),
  )
}

/** `...` is any text. */
function textOf(shown: string): RegExp {
  const parts = shown.trimEnd().split('...')
  return new RegExp(`^${parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`)
}

let bed: DocumentBed

beforeAll(async () => {
  bed = await makeDocumentBed()
})

afterAll(() => bed.close())

test('every example of docs/rest.md is answered as it says', async () => {
  const known = new Map<string, string>()
  const all = examples()
  expect(all.length).toBeGreaterThan(10)
  for (const { line, request, isText, status, answer } of all) {
    const got = await bed.send(read(request, known))
    const said = `docs/rest.md:${line}: ${got.status} ${got.text}`
    expect(got.status, said).toBe(status)
    if (isText) {
      expect(got.text.trimEnd(), said).toMatch(textOf(answer))
      continue
    }
    const shown = Object(JSON.parse(answer)) as Record<string, unknown>
    expect(got.json, said).toEqual(expected(shown))
    for (const [name, value] of Object.entries(shown)) {
      if (typeof value === 'string' && value.startsWith('$')) known.set(value, String(got.json[name]))
    }
  }
})

test('the lines for curl print what the page says', async () => {
  const [, script = '', printed = ''] = /^```sh\n(.*?)^```\n\n```text\n(.*?)^```/ms.exec(page) ?? []
  expect(script).toContain('curl')
  const fresh = await makeDocumentBed()
  onTestFinished(() => fresh.close())
  const lines = script.replaceAll('\\\n', ' ').trimEnd().split('\n')
  // An answer ends without a newline; a shell shows the prompt behind it.
  const spoken = ['shopt -s expand_aliases', ...lines.flatMap((line) => [line, 'echo'])].join('\n')
  const env = { ...process.env, URL: fresh.api.address.url, TOKEN: secrets.admin }
  const { stdout } = await promisify(execFile)('bash', ['-c', spoken], { env })
  expect(stdout.trim()).toBe(printed.trim())
})

test('every code of an error is on the page', async () => {
  const { errorCodes } = await import('../../src/errors.ts')
  // The one that only a closed handle of the SDK has.
  for (const code of errorCodes.filter((one) => one !== 'invalid-store'))
    expect(page).toContain(`\`${code}\``)
})
