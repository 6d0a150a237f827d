// A hundred thousand keys with binary values, through files, from one real cluster into another: nothing is different.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { temporaryDirectory, trivet } from '../cli/run.ts'
import { RealCluster } from './real-cluster.ts'

const count = 100_000

/** Lines of export as they are imported: binary values of 0 to 300 bytes, types, every third with an expiry. */
function lines(): string {
  const all: string[] = []
  for (let n = 0; n < count; n++) {
    const noise = createHash('sha512').update(String(n)).digest()
    const value = Buffer.concat(Array.from({ length: 5 }, () => noise)).subarray(0, n % 301)
    const expires = n % 3 === 0 ? { expires: new Date(Date.UTC(2040, 0, 1) + n * 1001).toISOString() } : {}
    const row = {
      key: `k/${noise.toString('hex', 0, 4)}/${n}`,
      value: value.toString('base64'),
      contentType: `x/y${n % 9}`,
    }
    all.push(JSON.stringify({ ...row, ...expires }))
  }
  return `${all.join('\n')}\n`
}

/** What the lines of an export come to, with or without revisions, and how many there are. */
async function digestOf(file: string, { revisions }: { readonly revisions: boolean }) {
  const hash = createHash('sha256')
  let rows = 0
  for await (const line of createInterface({ input: createReadStream(file) })) {
    const { key, value, contentType, expires, revision, end } = JSON.parse(line) as Record<string, unknown>
    if (end === true) continue
    rows += 1
    hash.update(JSON.stringify([key, value, contentType, expires, revisions ? revision : 0]))
  }
  return { rows, digest: hash.digest('hex') }
}

test('backup and restore, export and import keep every key as it is', { timeout: 600_000 }, async () => {
  const cwd = await temporaryDirectory()
  await writeFile(join(cwd, 'made'), lines())
  await using source = await RealCluster.start()
  await using target = await RealCluster.start({ nodes: 1 })
  const at = async (cluster: RealCluster, ...args: readonly string[]) => {
    const env = { TRIVET_ENDPOINTS: cluster.urls.join(','), TRIVET_TOKEN: cluster.token }
    const { status, stdout, stderr } = await trivet(args, { cwd, env })
    expect({ args, status, stderr: status === 0 ? '' : stderr }).toEqual({ args, status: 0, stderr: '' })
    return stdout.toString()
  }

  expect(await at(source, 'import', 'made')).toBe(`set ${count} keys in default\n`)
  await at(source, 'backup', 'saved')
  await at(target, 'restore', 'saved')
  await at(source, 'export', 'before')
  await at(target, 'export', 'after')
  const before = await digestOf(join(cwd, 'before'), { revisions: true })
  expect(before.rows).toBe(count)
  expect(await digestOf(join(cwd, 'after'), { revisions: true })).toEqual(before)

  await at(target, 'store', 'create', 'second')
  await at(target, 'import', 'before', '--store', 'second')
  await at(target, 'export', 'again', '--store', 'second')
  expect(await digestOf(join(cwd, 'again'), { revisions: false })).toEqual(
    await digestOf(join(cwd, 'before'), { revisions: false }),
  )
})
