// Rot on one node's disk: a bit of its log or state is flipped while it is stopped, and what becomes of that is told.
//
// The cluster is written to all the time. What the node answers once it is ready is held against what was acknowledged, and its
// files are read back offline in the end: neither its own word nor that of its digest is taken for it.

import { cp, mkdtemp, open, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { TrivetError } from '../../src/errors.ts'
import type { Store } from '../../src/sdk/index.ts'
import { realDisk } from '../../src/store/real-disk.ts'
import { readSmallFile } from '../../src/store/small-file.ts'
import { openLevel } from '../../src/store/state-open.ts'
import { realTime } from '../../src/store/state-time.ts'
import { readMeta, verify } from '../../src/store/state-verify.ts'
import { Wal } from '../../src/store/wal.ts'
import { seeded } from '../store/memory-disk.ts'
import { eventually, type RealCluster } from './real-cluster.ts'

const keys = 1000

/** A value says which write it is of, and any other bytes in it are noticed. */
function contentOf(key: number, turn: number): string {
  const random = seeded(key * 1_000_003 + turn)
  const filler = Array.from({ length: 200 }, () => random().toString(36).slice(2, 12)).join('')
  return `${key}:${turn}:${filler}`
}

/** Writes every key again and again, slowly, and knows what was acknowledged. */
export class Gardener {
  /** By key: the last turn that was acknowledged, and the last that was tried. */
  readonly #acknowledged: number[] = Array.from({ length: keys }, () => 0)
  readonly #tried: number[] = Array.from({ length: keys }, () => 0)
  readonly #store: Store
  #stopped = false
  #running: Promise<void> | undefined

  private constructor(store: Store) {
    this.#store = store
  }

  /** Every key is there once this resolves. */
  static async start(store: Store): Promise<Gardener> {
    const gardener = new Gardener(store)
    const all = Array.from({ length: keys }, (_, key) => key).values()
    await Promise.all(
      Array.from({ length: 64 }, async () => {
        for (const key of all) while (!(await gardener.#write(key))) await delay(5)
      }),
    )
    gardener.#running = gardener.#run()
    return gardener
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  /** What one node says of every key, in its own state, that cannot be: a write lost, or bytes that nobody wrote. */
  async wrongAt(cluster: RealCluster, id: string): Promise<readonly string[]> {
    const wrong: string[] = []
    const all = Array.from({ length: keys }, (_, key) => key).values()
    const reader = async () => {
      for (const key of all) {
        const least = this.#acknowledged[key] ?? 0
        // Linearizable, and answered from this node's state.
        const answer = await cluster.fetch(id, `/v1/stores/default/keys/rot-${key}`)
        const body = await answer.text()
        // A node that refuses to answer has told no untruth: it may just have found the damage.
        if (answer.status >= 500) continue
        const turn = Number(body.split(':')[1])
        const isRight =
          answer.status === 200 &&
          turn >= least &&
          turn <= (this.#tried[key] ?? 0) &&
          body === contentOf(key, turn)
        if (!isRight) wrong.push(`rot-${key}, acknowledged ${least}: ${answer.status} ${body.slice(0, 60)}`)
      }
    }
    await Promise.all(Array.from({ length: 16 }, reader))
    return wrong
  }

  async #run(): Promise<void> {
    const writer = async (first: number) => {
      for (let key = first; !this.#stopped; key = (key + 4) % keys) {
        await this.#write(key)
        await delay(20)
      }
    }
    await Promise.all([0, 1, 2, 3].map(writer))
  }

  async #write(key: number): Promise<boolean> {
    const turn = (this.#tried[key] ?? 0) + 1
    this.#tried[key] = turn
    try {
      await this.#store.set(`rot-${key}`, contentOf(key, turn))
      this.#acknowledged[key] = turn
      return true
    } catch (error) {
      if (!(error instanceof TrivetError)) throw error
      return false
    }
  }
}

type Flip = {
  readonly file: string
  readonly offset: number
  readonly bit: number
  readonly size: number
}

export type Outcome = Flip & {
  /** How the node was stopped before the flip, and how afterwards. */
  readonly stopped: 'cleanly' | 'killed'
  readonly next: 'cleanly' | 'killed'
  /** What the node has written down of a repair; undefined when it has repaired nothing. */
  readonly repaired: { readonly what: 'log' | 'state'; readonly why: string } | undefined
  readonly seconds: number
  /** What was served wrongly, or is wrong on its disk afterwards. */
  readonly wrong: readonly string[]
}

/** Log and state in equal parts; in half of the cases every byte of them as likely as another, else every file. */
async function draw(data: string, random: () => number): Promise<Flip> {
  const names = await readdir(data)
  const directories = names.filter((name) => name === 'log' || name.startsWith('state-'))
  const directory = directories[Math.floor(random() * directories.length)] ?? 'log'
  const files: { file: string; size: number }[] = []
  for (const name of (await readdir(join(data, directory))).sort()) {
    const { size } = await stat(join(data, directory, name))
    if (size > 0) files.push({ file: join(directory, name), size })
  }
  const total = files.reduce((sum, { size }) => sum + size, 0)
  let at = Math.floor(random() * total)
  const byByte = files.find(({ size }) => {
    at -= size
    return at < 0
  })
  const hit = random() < 0.5 ? byByte : files[Math.floor(random() * files.length)]
  if (hit === undefined) throw new Error(`There is no file in ${join(data, directory)}`)
  return { ...hit, offset: Math.floor(random() * hit.size), bit: Math.floor(random() * 8) }
}

async function flip(data: string, { file, offset, bit }: Flip): Promise<void> {
  const handle = await open(join(data, file), 'r+')
  try {
    const byte = Buffer.alloc(1)
    await handle.read(byte, 0, 1, offset)
    byte.writeUInt8(byte.readUInt8(0) ^ (1 << bit))
    await handle.write(byte, 0, 1, offset)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

type Repairs = { readonly repairs: readonly NonNullable<Outcome['repaired']>[] }

/**
 * Flips a bit of a stopped node, starts it, waits until it is whole again by its own word, and stops it; then holds that
 * against what it served and what its disk holds. The record of repairs is removed first, as an operator does who trusts the
 * disk again.
 */
export async function rot(
  cluster: RealCluster,
  {
    id,
    gardener,
    random,
    stopped,
  }: { id: string; gardener: Gardener; random: () => number; stopped: Outcome['stopped'] },
): Promise<Outcome> {
  const { data } = cluster.node(id)
  await rm(join(data, 'repairs.json'), { force: true })
  const flipped = await draw(data, random)
  await flip(data, flipped)

  const begun = performance.now()
  cluster.spawn(id)
  await cluster.ready([id], 120)
  const served = await gardener.wrongAt(cluster, id)
  await eventually(`${id} to be whole and a voter`, () => isWhole(cluster, id), 120)
  const seconds = (performance.now() - begun) / 1000
  const [repaired] = (await recordOf(data)).slice(-1)
  const servedAfter = repaired === undefined ? [] : await gardener.wrongAt(cluster, id)
  const next = random() < 0.5 ? 'cleanly' : 'killed'
  await end(cluster, id, next)
  const wrong = [...served, ...servedAfter, ...(await scrub(data))]
  return { ...flipped, stopped, next, repaired, seconds, wrong }
}

/** Ends a node's process as an operator does, or as the machine does. */
export async function end(cluster: RealCluster, id: string, how: Outcome['stopped']): Promise<void> {
  cluster.signal(id, how === 'cleanly' ? 'SIGTERM' : 'SIGKILL')
  await cluster.ended(id)
}

async function isWhole(cluster: RealCluster, id: string): Promise<true | undefined> {
  const leader = await cluster.leader()
  const member = (await cluster.cluster(leader)).members.find((one) => one.id === id)
  const marks = (await readdir(cluster.node(id).data)).filter((name) =>
    ['rebuilding', 'stateless'].includes(name),
  )
  const whole = member?.voter === true && member.alarms.length === 0 && marks.length === 0
  return whole ? true : undefined
}

async function recordOf(data: string): Promise<Repairs['repairs']> {
  const stored = await readSmallFile(realDisk, join(data, 'repairs.json'))
  return typeof stored === 'object' ? (stored as Repairs).repairs : []
}

function fail(error: Error): never {
  throw error
}

/** What is not as it was written in copies of a stopped node's state and log: every row is read against the digest. */
async function scrub(data: string): Promise<readonly string[]> {
  const copy = await mkdtemp(join(tmpdir(), 'trivet-scrub-'))
  try {
    const place = { disk: realDisk, directory: join(copy, 'log') }
    await cp(join(data, 'log'), place.directory, { recursive: true })
    const peeked = await Wal.peek(place)
    if (peeked === undefined) return ['the log is gone']
    const { node, base } = peeked
    await cp(join(data, base.directory), join(copy, base.directory), { recursive: true })
    const level = await openLevel(join(copy, base.directory))
    const snapshot = level.snapshot()
    try {
      const { index } = await verify({ level, snapshot, time: realTime }, {})
      const { lastAppliedTerm: term } = await readMeta(level, snapshot)
      const wal = await Wal.open({ ...place, node, now: Date.now, onNotice: fail, applied: { index, term } })
      await wal.close()
      return []
    } finally {
      await snapshot.close()
      await level.close()
    }
  } catch (error) {
    return [`on its disk: ${error instanceof Error ? error.message : String(error)}`]
  } finally {
    await rm(copy, { recursive: true })
  }
}

export function inWords({ file, offset, bit, size, stopped, repaired, seconds, wrong }: Outcome): string {
  const what =
    wrong.length > 0
      ? `WRONG: ${wrong.slice(0, 3).join('; ')}${wrong.length > 3 ? ` and ${wrong.length - 3} more` : ''}`
      : repaired === undefined
        ? 'nothing depends on it: a scrub finds every row as written'
        : `${repaired.what} repaired: ${repaired.why}`
  return `| ${file} | ${offset}.${bit} of ${size} | ${stopped} | ${seconds.toFixed(1)} s | ${what} |`
}
