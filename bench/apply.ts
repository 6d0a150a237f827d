// What applying costs one node: CPU per command of every thread, in JavaScript and in LevelDB.
//
// `node bench/apply.ts`, or `node bench/apply.ts --commands 100000 --keys 10000 --bytes 256 --kind set`. Each line is another
// number of commands per entry. Compare lines of one run, or runs that take turns; the machine is noisy.

import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Entry } from '../src/raft/types.ts'
import { encodeCommand, encodeEntryData } from '../src/store/commands.ts'
import { StateMachine } from '../src/store/state-machine.ts'
import { openLevel } from '../src/store/state-open.ts'
import type { Command, Founding } from '../src/store/types.ts'

const { values: options } = parseArgs({
  options: {
    commands: { type: 'string', default: '60000' },
    keys: { type: 'string', default: '10000' },
    bytes: { type: 'string', default: '256' },
    /** `set`, `increment`, or `session`: a set as the SDK sends it. */
    kind: { type: 'string', default: 'set' },
    entries: { type: 'string', default: '1,16,64,256' },
  },
})
const commands = Number(options.commands)
const value = Buffer.alloc(Number(options.bytes), 'v')
const hash = 'h'.repeat(43)
const session = 's'.repeat(22)

const founding: Founding = {
  clusterId: '0'.repeat(32),
  name: 'bench',
  configuration: { members: [] },
  stores: [{ name: 'default' }],
  tokens: [{ name: 'admin', hash, principal: { type: 'admin' } }],
  valueBytes: 1024 * 1024,
  foundedAt: 1_000_000,
  commandVersion: 3,
}

/** The n-th command, counted from 1. */
function commandOf(n: number): Command {
  const key = Buffer.from(`bench-${Math.floor(Math.random() * Number(options.keys))}`)
  const place = { token: hash, store: 'default', key, conditions: [] }
  if (options.kind === 'increment') return { type: 'increment', ...place, delta: 1n }
  value.writeDoubleBE(Math.random(), 0)
  const once = { type: 'session', session, seq: n, acked: Math.max(0, n - 256) } as const
  const set = { type: 'set', ...place, value, contentType: 'application/octet-stream' } as const
  return options.kind === 'session' ? { ...set, once } : set
}

/** Entries that follow each other, as a leader makes them of the commands of one node. */
function* entriesOf(perEntry: number): Generator<Entry> {
  const peer = '12D3KooWJVGzYfMLZHWnMcgPzHNVVVCZTvLeEVAwnMh5hPVnXUzr'
  const one = (
    index: number,
    acked: number,
    list: readonly { number: number; bytes: Uint8Array }[],
  ): Entry => {
    const batches = [{ peer, boot: 1, acked, commands: list }]
    return { type: 'commands', index, term: 1, data: encodeEntryData({ time: 1_000_000 + index, batches }) }
  }
  yield one(1, 0, [{ number: 1, bytes: encodeCommand({ type: 'openSession', token: hash, session }) }])
  for (let n = 1, index = 2; n <= commands; index++) {
    const list = Array.from({ length: perEntry }, () => ({
      number: n + 1,
      bytes: encodeCommand(commandOf(n++)),
    }))
    yield one(index, Math.max(0, n - 2 * Math.max(256, perEntry)), list)
  }
}

/** Microseconds of CPU so far, by thread: the first is JavaScript's. */
async function threads(): Promise<ReadonlyMap<string, number>> {
  const ids = await readdir('/proc/self/task')
  const times = ids.map(async (id) => {
    const text = await readFile(`/proc/self/task/${id}/schedstat`, 'utf8')
    return [id, Number(text.split(' ')[0]) / 1000] as const
  })
  return new Map(await Promise.all(times))
}

async function measure(perEntry: number): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'trivet-apply-'))
  try {
    const level = await openLevel(directory)
    const onFailure = ({ error }: { error: Error }): void => {
      throw error
    }
    const state = await StateMachine.open({ level, founding, onFailure })
    const entries = [...entriesOf(perEntry)]
    const warm = Math.floor(entries.length / 5)
    const apply = async (from: number, to: number): Promise<number> => {
      let refused = 0
      // As a node is given them: what was committed while the entries before were applied.
      for (let at = from; at < to; ) {
        const some = entries.slice(at, Math.min(to, at + Math.max(1, Math.floor(256 / perEntry))))
        at += some.length
        for (const { outcome } of await state.apply(some)) if (outcome.type === 'refused') refused++
      }
      await state.flush()
      return refused
    }
    await apply(0, warm)
    const before = await threads()
    const usage = process.cpuUsage()
    const begun = performance.now()
    const refused = await apply(warm, entries.length)
    const took = performance.now() - begun
    const { user, system } = process.cpuUsage(usage)
    const count = (entries.length - warm) * perEntry
    const after = await threads()
    const spent = [...after].map(([id, time]) => [id, (time - (before.get(id) ?? 0)) / count] as const)
    const own = spent.find(([id]) => id === String(process.pid))?.[1] ?? 0
    const others = spent.filter(([id]) => id !== String(process.pid)).map(([, time]) => time)
    const listed = others.filter((time) => time > 0.3).map((time) => time.toFixed(1))
    console.log(
      `${String(perEntry).padStart(4)} a entry: ${((user + system) / count).toFixed(1)} µs CPU per command, ` +
        `${own.toFixed(1)} in JavaScript, ${listed.join(' + ')} in others; ${((took * 1000) / count).toFixed(1)} µs of time; ${refused} refused`,
    )
    await state.close()
  } finally {
    await rm(directory, { recursive: true })
  }
}

for (const perEntry of options.entries.split(',')) await measure(Number(perEntry))
