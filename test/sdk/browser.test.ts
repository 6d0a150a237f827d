// The SDK runs where there is no Node: held over everything it imports, and by the compiler without Node's types.

import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { rolldown } from 'rolldown'
import { expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '../..')

/** Every file that is loaded when `entry` is, with what it imports from elsewhere. */
async function graph(entry: string): Promise<Map<string, string[]>> {
  const files = new Map<string, string[]>()
  const waiting = [entry]
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (files.has(file)) continue
    const text = await readFile(file, 'utf8')
    const found = text.matchAll(
      /^(?:import|export) (?!type )[\w\s{},*]*from '([^']+)'$|\bimport\(?'([^']+)'/gm,
    )
    const imports = [...found].map((match) => match[1] ?? match[2] ?? '')
    const own = imports.filter((name) => name.startsWith('.'))
    const foreign = imports.filter((name) => !name.startsWith('.'))
    files.set(file, foreign)
    waiting.push(...own.map((name) => join(dirname(file), name)))
  }
  return files
}

it('imports nothing but its own files, errors, durations, the protocol and the codec of MessagePack', async () => {
  const files = await graph(join(root, 'src/sdk/index.ts'))
  const names = [...files.keys()].map((file) => file.slice(root.length + 1))
  expect(names.filter((name) => !name.startsWith('src/sdk/')).sort()).toEqual([
    'src/api/protocol.ts',
    'src/duration.ts',
    'src/errors.ts',
  ])
  expect(names.filter((name) => name.startsWith('src/sdk/')).length).toBeGreaterThan(5)
  expect([...files.values()].flat()).toEqual(['msgpackr'])
})

it('is small once it is bundled, and asks for nothing of Node', async () => {
  const bundle = await rolldown({
    input: join(root, 'src/sdk/index.ts'),
    platform: 'browser',
    // What is found only where it is looked for by its name is none of ours: msgpackr asks for an optional add-on.
    onLog: (_level, log) => expect.fail(log.message),
  })
  const { output } = await bundle.generate({ format: 'esm', minify: true })
  const [chunk, ...more] = output
  expect(more).toEqual([])
  expect(chunk.imports).toEqual([])
  const bytes = gzipSync(chunk.code).length
  // A lazy second look where it grows: most of it is the codec.
  expect(bytes).toBeGreaterThan(5000)
  expect(bytes).toBeLessThan(32_000)
})

it('brings a driver for Mattermost that imports no more than that', async () => {
  const files = await graph(join(root, 'src/sdk/mattermost.ts'))
  const names = [...files.keys()].map((file) => file.slice(root.length + 1))
  expect(names.filter((name) => !name.startsWith('src/sdk/')).sort()).toEqual([
    'src/api/protocol.ts',
    'src/duration.ts',
    'src/errors.ts',
  ])
  expect([...files.values()].flat()).toEqual([])
})

it('type-checks with the types of a browser alone', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'trivet-browser-'))
  try {
    const config = join(directory, 'tsconfig.json')
    const compilerOptions = {
      types: [],
      lib: ['es2024', 'esnext.disposable', 'dom', 'dom.iterable'],
      noEmit: true,
    }
    const files = [join(root, 'src/sdk/index.ts'), join(root, 'src/sdk/mattermost.ts')]
    await symlink(join(root, 'node_modules'), join(directory, 'node_modules'))
    await writeFile(
      config,
      JSON.stringify({ extends: join(root, 'tsconfig.json'), compilerOptions, include: [], files }),
    )
    const tsc = join(root, 'node_modules/.bin/tsc')
    const { stdout } = await promisify(execFile)(tsc, ['-p', config])
    expect(stdout).toBe('')
  } finally {
    await rm(directory, { recursive: true })
  }
})
