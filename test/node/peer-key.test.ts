// A node's key is made once, kept from others, and never mistaken for a whole one when it is not.

import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'

import { isPeerId, loadPeerKey, peerKeyPath, readPeerKey } from '../../src/node/peer-key.ts'

let directory = ''

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'trivet-key-'))
})

afterEach(() => rm(directory, { recursive: true }))

test('the key is made once, readable by its owner alone, and found again', async () => {
  const data = join(directory, 'deep', 'n1')
  const made = await loadPeerKey(data)
  expect(isPeerId(made.peer)).toBe(true)
  expect((await stat(peerKeyPath(data))).mode & 0o777).toBe(0o600)
  expect(await readdir(data)).toEqual(['peer.key'])
  const found = await loadPeerKey(data)
  expect(found.peer).toBe(made.peer)
  expect(found.privateKey.equals(made.privateKey)).toBe(true)
})

test('two starts in the same moment agree on one key', async () => {
  const keys = await Promise.all([loadPeerKey(directory), loadPeerKey(directory), loadPeerKey(directory)])
  expect(new Set(keys.map(({ peer }) => peer)).size).toBe(1)
  expect(await readdir(directory)).toEqual(['peer.key'])
})

test('a key that others may read is refused, with the command that helps', async () => {
  await loadPeerKey(directory)
  const path = peerKeyPath(directory)
  await chmod(path, 0o640)
  await expect(loadPeerKey(directory)).rejects.toThrow(
    `The peer key ${path} is open to other users (mode 0640). Run: chmod 600 ${path}`,
  )
})

test('a damaged key is refused, whichever byte it is', async () => {
  const { peer } = await loadPeerKey(directory)
  const path = peerKeyPath(directory)
  const whole = await readFile(path)
  for (let at = 0; at < whole.length; at += 3) {
    const damaged = Buffer.from(whole)
    damaged[at] = (damaged[at] ?? 0) ^ 1
    await writeFile(path, damaged)
    await expect(loadPeerKey(directory)).rejects.toThrow(/is damaged|another format/)
  }
  for (const text of ['', 'x', whole.subarray(0, -1), `${whole}\n`]) {
    await writeFile(path, text)
    await expect(loadPeerKey(directory)).rejects.toThrow('is damaged')
  }
  await writeFile(path, whole)
  expect((await loadPeerKey(directory)).peer).toBe(peer)
})

test('a key of a later format is named as such', async () => {
  const path = peerKeyPath(directory)
  await writeFile(path, 'trivet peer key, format 2\n', { mode: 0o600 })
  await expect(loadPeerKey(directory)).rejects.toThrow('another format')
})

test('reading a key that is not there makes none', async () => {
  expect(await readPeerKey(peerKeyPath(directory))).toBeUndefined()
  expect(await readdir(directory)).toEqual([])
})

test('only ids of Ed25519 keys are peer ids', async () => {
  expect(isPeerId((await loadPeerKey(directory)).peer)).toBe(true)
  for (const text of ['', '12D3KooW', 'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N', '../etc']) {
    expect(isPeerId(text)).toBe(false)
  }
})
