// The examples of docs/sdk.md: each is compiled, run against real nodes, and prints what its comments say.

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadPeerKey } from '../../src/node/peer-key.ts'
import { type Neighbourhood, startNeighbourhood } from '../api/neighbourhood.ts'
import { freePort } from '../node/free-port.ts'

const root = resolve(import.meta.dirname, '../..')
const run = promisify(execFile)
const token = 'the-secret-of-the-admin-0123456789'

const doors: Readonly<Record<string, string>> = {
  'trivet/sdk': join(root, 'src/sdk/index.ts'),
  'trivet/node': join(root, 'src/embedded/index.ts'),
}

const page = await readFile(join(root, 'docs/sdk.md'), 'utf8')
/** Each with the heading that it stands under. */
const examples = page.split(/^## /m).flatMap((section) => {
  const title = section.split('\n')[0] ?? ''
  return Array.from(section.matchAll(/^```ts\n(.*?)^```$/gms), (match, index) => ({
    name: `${title} ${index + 1}`,
    code: match[1] ?? '',
  }))
})

let directory: string
let nodes: Neighbourhood

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'trivet-docs-'))
  await symlink(join(root, 'node_modules'), join(directory, 'node_modules'))
  await writeFile(join(directory, 'package.json'), '{ "type": "module" }')
  const hash = createHash('sha256').update(token).digest('base64url')
  nodes = await startNeighbourhood({
    seed: 3,
    founding: {
      valueBytes: 1024 * 1024,
      stores: [{ name: 'default' }, { name: 'carts' }],
      tokens: [{ name: 'admin', hash, principal: { type: 'admin' } }],
    },
  })
  await writeFile(join(directory, 'cluster.yml'), await ownCluster())
})

afterAll(async () => {
  await nodes[Symbol.asyncDispose]()
  await rm(directory, { recursive: true })
})

/** For the example that runs a node of its own. */
async function ownCluster(): Promise<string> {
  const { peer } = await loadPeerKey(join(directory, 'n1'))
  const [http, p2p] = [await freePort(), await freePort()]
  return `
cluster: docs
nodes:
  n1: { http: "http://127.0.0.1:${http}", p2p: /ip4/127.0.0.1/tcp/${p2p}, peer: ${peer}, data: ./n1 }
tokens:
  - { name: admin, admin: true, secret: "${token}" }
`
}

/** A whole program: what the page says once stands before the examples that need it. */
function program(code: string): string {
  const endpoints = JSON.stringify(nodes.apis.map(({ address }) => address.url))
  const whole = /^await using /m.test(code)
  const before = `import { connect } from 'trivet/sdk'
await using client = connect({ endpoints: ${endpoints}, token: process.env.TRIVET_TOKEN, timeout: '15s' })
const store = await client.open('carts')
`
  return whole ? code.replace(/endpoints: \[.*?\]/, `endpoints: ${endpoints}`) : before + code
}

/** What the example prints, as its comments have it: one or more lines, in order. */
function promised(code: string): readonly string[] {
  return Array.from(code.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm), (match) => match[1] ?? '').flatMap(
    (text) => text.split(' | '),
  )
}

describe('docs/sdk.md', () => {
  it('has examples that compile', async () => {
    const files = await Promise.all(
      examples.map(async ({ code }, index) => {
        const file = join(directory, `compiled-${index}.ts`)
        await writeFile(file, program(code))
        return file
      }),
    )
    const paths = Object.fromEntries(Object.entries(doors).map(([name, file]) => [name, [file]]))
    const compilerOptions = { paths, noUnusedLocals: false, noPropertyAccessFromIndexSignature: false }
    const config = join(directory, 'tsconfig.json')
    await writeFile(
      config,
      JSON.stringify({ extends: join(root, 'tsconfig.json'), compilerOptions, include: [], files }),
    )
    const compiled = await run(join(root, 'node_modules/.bin/tsc'), ['-p', config]).catch(
      (error: unknown) => error,
    )
    expect(compiled).toMatchObject({ stdout: '' })
  })

  for (const { name, code } of examples) {
    it(`prints what it promises: ${name}`, async () => {
      const file = join(directory, `${name.replaceAll(/\W+/g, '-')}.ts`)
      const text = program(code).replaceAll(/'(trivet\/\w+)'/g, (_, door: string) => `'${doors[door]}'`)
      await writeFile(file, text)
      const environment = { ...process.env, TRIVET_TOKEN: token }
      const { stdout } = await run(process.execPath, [file], { cwd: directory, env: environment })
      expect(stdout.trimEnd().split('\n')).toEqual(promised(code).length === 0 ? [''] : promised(code))
    })
  }
})
