// `trivet dev --key-value`, as far as it is refused before anything starts.

import { readdir } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { temporaryDirectory, trivet } from './run.ts'

it.each(['greeting', '=hello', ''])('is refused as %j: it is a key, = and a value', async (text) => {
  const cwd = await temporaryDirectory()
  const { status, stderr } = await trivet(['dev', '--key-value', text], { cwd })
  expect(status).toBe(2)
  expect(stderr).toContain('It is a key, = and a value.')
  expect(await readdir(cwd)).toEqual([])
})
