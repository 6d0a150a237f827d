// A node's key: what its peers know it by. It lies at `<data>/peer.key` and never leaves the node.
//
// The file is text, three lines: its format, the peer id for people to read, and the Ed25519 seed in base64url. The
// peer id follows from the seed, so a damaged file is always noticed.

import { randomBytes } from 'node:crypto'
import { link, mkdir, open, readFile, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id'

const firstLine = 'trivet peer key, format 1'
const seedBytes = 32

export type PeerKey = {
  /** The peer id: the public key, as text. */
  readonly peer: string
  readonly privateKey: PrivateKey
}

/** Where a node with this data directory keeps its key. */
export function peerKeyPath(dataDirectory: string): string {
  return join(dataDirectory, 'peer.key')
}

/** A key of which nothing is written anywhere. */
export async function generatePeerKey(): Promise<PeerKey> {
  return keyFromSeed(randomBytes(seedBytes))
}

/**
 * The key of this data directory, made when there is none yet: durable and readable by its owner alone before this
 * resolves. Rejects with a sentence for the operator when the file is damaged or others may read it.
 */
export async function loadPeerKey(dataDirectory: string): Promise<PeerKey> {
  const path = peerKeyPath(dataDirectory)
  const present = await readPeerKey(path)
  if (present !== undefined) return present
  const firstMade = await mkdir(dataDirectory, { recursive: true, mode: 0o700 })
  await writeNewKey(path, randomBytes(seedBytes))
  if (firstMade !== undefined) await syncDirectory(dirname(dataDirectory))
  const written = await readPeerKey(path)
  if (written === undefined) throw new Error(`The peer key ${path} vanished right after it was written.`)
  return written
}

/** The key in this file; undefined when there is no such file. Rejects like `loadPeerKey`. */
export async function readPeerKey(path: string): Promise<PeerKey | undefined> {
  const text = await readText(path)
  if (text === undefined) return undefined
  const lines = text.split('\n')
  const [format, peer, encodedSeed, end] = lines
  if (format?.startsWith('trivet peer key, format ') && format !== firstLine) {
    throw new Error(`The peer key ${path} has another format than this version reads: "${format}".`)
  }
  const seed = Buffer.from(encodedSeed ?? '', 'base64url')
  const isWhole = format === firstLine && end === '' && lines.length === 4 && seed.length === seedBytes
  const key = isWhole && seed.toString('base64url') === encodedSeed ? await keyFromSeed(seed) : undefined
  if (key?.peer !== peer || key === undefined) {
    throw new Error(
      `The peer key ${path} is damaged. Restore it from a backup, or replace this member under a new key.`,
    )
  }
  return key
}

/** Whether this is the id of an Ed25519 key, which every node has. */
export function isPeerId(text: string): boolean {
  try {
    return peerIdFromString(text).type === 'Ed25519'
  } catch {
    return false
  }
}

async function keyFromSeed(seed: Uint8Array): Promise<PeerKey> {
  const privateKey = await generateKeyPairFromSeed('Ed25519', seed)
  return { peer: peerIdFromPrivateKey(privateKey).toString(), privateKey }
}

async function readText(path: string): Promise<string | undefined> {
  try {
    const { mode } = await stat(path)
    if ((mode & 0o077) !== 0) {
      const shown = (mode & 0o777).toString(8).padStart(4, '0')
      throw new Error(`The peer key ${path} is open to other users (mode ${shown}). Run: chmod 600 ${path}`)
    }
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

/** A file under another name is synced first and then linked into place: linking never replaces a key that is there. */
async function writeNewKey(path: string, seed: Uint8Array): Promise<void> {
  const { peer } = await keyFromSeed(seed)
  const draft = `${path}.${randomBytes(8).toString('hex')}.new`
  const file = await open(draft, 'wx', 0o600)
  try {
    await file.writeFile(`${firstLine}\n${peer}\n${Buffer.from(seed).toString('base64url')}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  try {
    await link(draft, path)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  } finally {
    await rm(draft, { force: true })
  }
  await syncDirectory(dirname(path))
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
