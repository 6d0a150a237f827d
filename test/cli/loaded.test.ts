// What the program of a node loads, in a process of its own: an import of `node:http` anywhere would bring undici.

import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

const program = join(import.meta.dirname, '../../src/cli/start.ts')

async function loadedWith(first: string): Promise<readonly string[]> {
  const script = `${first}
    await import(${JSON.stringify(program)})
    console.log(JSON.stringify(process.moduleLoadList))`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script])
  return JSON.parse(stdout)
}

it('does not load a client of HTTP that it never uses', async () => {
  const undici = 'NativeModule internal/deps/undici/undici'
  expect(await loadedWith('')).not.toContain(undici)
  expect(await loadedWith(`import 'node:http'`)).toContain(undici)
}, 30_000)
