// What each node holds by itself, to be compared with what the others hold.

import { setTimeout as delay } from 'node:timers/promises'
import type { Ground } from './ground.ts'
import { openValue } from './values.ts'

type Held = { readonly revision: number; readonly value: string }

/** Key → what one node holds under it, and the revision of its state. */
export type Replica = {
  readonly node: string
  readonly revision: number
  readonly keys: ReadonlyMap<string, Held>
  /** What the node says of its whole state as of the entry at `index`, where it says anything. */
  readonly digest: { readonly index: number; readonly digest: string } | undefined
}

/** What all nodes hold, once they agree on the revision or the time is over. Nobody may write meanwhile. */
export async function replicasOf(ground: Ground, seconds: number): Promise<readonly Replica[]> {
  const deadline = performance.now() + seconds * 1000
  for (;;) {
    const replicas = await Promise.all(ground.ids.map((id) => replicaOf(ground, id)))
    // A write of unknown outcome may still come; then all have it soon.
    const isStill = new Set(replicas.map(({ revision }) => revision)).size === 1
    if (isStill || performance.now() > deadline) return replicas
    await delay(100)
  }
}

type Page = {
  readonly keys: readonly { readonly key: string; readonly revision: number }[]
  readonly cursor?: string
  readonly revision: number
}

async function replicaOf(ground: Ground, node: string): Promise<Replica> {
  const listed: Page['keys'][number][] = []
  let revision = 0
  let cursor: string | undefined
  do {
    const more: string = cursor === undefined ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const answer = await ground.fetch(node, `/v1/stores/default/keys?consistency=stale&limit=1000${more}`)
    if (!answer.ok) throw new Error(`${node} lists no keys: ${answer.status} ${await answer.text()}`)
    const page = (await answer.json()) as Page
    listed.push(...page.keys)
    revision = page.revision
    cursor = page.cursor
  } while (cursor !== undefined)
  const keys = new Map<string, Held>()
  const rest = listed.values()
  const readers = Array.from({ length: 8 }, async () => {
    for (const { key, revision: listedAt } of rest) keys.set(key, await heldOf(ground, node, key, listedAt))
  })
  await Promise.all(readers)
  const self = (await ground.cluster(node))?.members.find((member) => member.self)
  return { node, revision, keys, digest: self?.digest }
}

async function heldOf(ground: Ground, node: string, key: string, listedAt: number): Promise<Held> {
  const answer = await ground.fetch(node, `/v1/stores/default/keys/${key}?consistency=stale`)
  const text = await answer.text()
  const revision = Number(answer.headers.get('etag')?.replaceAll('"', ''))
  if (!answer.ok) return { revision: listedAt, value: `(listed, but not there: ${answer.status})` }
  if (revision !== listedAt) return { revision, value: `(listed at revision ${listedAt})` }
  try {
    return { revision, value: openValue(text) }
  } catch {
    return { revision, value: `(nobody's) ${text.slice(0, 200)}` }
  }
}

/** In sentences, how the replicas differ; none when they are equal. */
export function differencesOf(replicas: readonly Replica[]): readonly string[] {
  const [first, ...others] = replicas
  if (first === undefined) return []
  const differs: string[] = []
  for (const other of others) {
    if (other.revision !== first.revision) {
      differs.push(`${first.node} is at revision ${first.revision}, ${other.node} at ${other.revision}`)
    }
    const [mine, theirs] = [first.digest, other.digest]
    if (mine !== undefined && mine.index === theirs?.index && mine.digest !== theirs.digest) {
      const what = `the digest of the state at entry ${mine.index}`
      differs.push(`${what} is ${mine.digest} at ${first.node}, ${theirs.digest} at ${other.node}`)
    }
    for (const key of new Set([...first.keys.keys(), ...other.keys.keys()])) {
      const [one, two] = [first.keys.get(key), other.keys.get(key)].map(inWords)
      if (one !== two) differs.push(`${key} is ${one} at ${first.node}, ${two} at ${other.node}`)
    }
  }
  return differs
}

function inWords(held: Held | undefined): string {
  return held === undefined ? 'absent' : `${JSON.stringify(held.value)} of revision ${held.revision}`
}
