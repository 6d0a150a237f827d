// How large the space for new objects becomes, in processes of their own: what bounds it holds for a whole process.

import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { temporaryDirectory } from './run.ts'

/** As JavaScript: what reads TypeScript would make more new objects in that process than anything here. */
async function compiled(): Promise<string> {
  const path = join(await temporaryDirectory(), 'heap.mjs')
  const source = await readFile(join(import.meta.dirname, '../../src/cli/heap.ts'), 'utf8')
  await writeFile(path, stripTypeScriptTypes(source))
  return path
}

/** The largest that it was in a process which begins with this, and then makes objects of which many survive; in MB. */
async function largest(first: string, module: string): Promise<number> {
  const script = `
    import { getHeapSpaceStatistics } from 'node:v8'
    import { setImmediate as soon } from 'node:timers/promises'
    import { followLoad, collectGarbage, holdYoungGeneration } from ${JSON.stringify(module)}
    const size = () => getHeapSpaceStatistics().find((space) => space.space_name === 'new_space').space_size
    ${first}
    const kept = []
    let most = 0
    for (let turn = 0; turn < 150; turn++) {
      for (let n = 0; n < 10_000; n++) kept[(turn * 7919 + n) % 100_000] = { turn, n: [n] }
      most = Math.max(most, size())
      await soon()
    }
    console.log(most / 1e6)
  `
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script])
  return Number(stdout)
}

it('stays as small as it is, grows to its bound under load, and would grow beyond', async () => {
  const module = await compiled()
  expect(await largest('holdYoungGeneration()', module)).toBeLessThan(8)
  const bounded = await largest('collectGarbage(); followLoad()', module)
  expect(bounded).toBeGreaterThan(8)
  expect(bounded).toBeLessThan(35)
  expect(await largest('', module)).toBeGreaterThan(bounded)
}, 30_000)
