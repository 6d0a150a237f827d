// What the tests of the state machine share: a founding, a log to apply, and a look at every row.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Entry } from '../../src/raft/types.ts'
import { encodeCommand, encodeEntryData } from '../../src/store/commands.ts'
import type { StateFailure } from '../../src/store/state-failure.ts'
import type { StateLoader } from '../../src/store/state-loader.ts'
import { StateMachine, type StateMachineOptions } from '../../src/store/state-machine.ts'
import { openLevel } from '../../src/store/state-open.ts'
import { replicatedRange } from '../../src/store/state-rows.ts'
import type { StateSnapshot } from '../../src/store/state-snapshot.ts'
import type { StateLevel } from '../../src/store/state-writer.ts'
import type {
  Applied,
  Command,
  CommandBatch,
  Condition,
  Founding,
  Once,
  Outcome,
  Principal,
  Token,
} from '../../src/store/types.ts'
import { MemoryState } from './memory-state.ts'

function token(name: string, principal: Principal): Token {
  return { name, hash: name.padEnd(43, '_'), principal }
}

/** Tokens by what they may do. A token's hash is its name, filled up to the length of one. */
export const tokens = {
  admin: token('admin', { type: 'admin' }),
  monitor: token('monitor', { type: 'monitor' }),
  cart: token('cart', {
    type: 'component',
    grants: [
      { store: 'default', access: 'read-write', prefix: 'cart/' },
      { store: 'default', access: 'read' },
      { store: 'sessions', access: 'read-write' },
      { store: 'gone', access: 'read-write' },
    ],
  }),
  minter: token('minter', {
    type: 'component',
    mint: true,
    grants: [
      { store: 'default', access: 'read-write', prefix: 'cart' },
      { store: 'new', access: 'read-write' },
    ],
  }),
}

export const founding: Founding = {
  clusterId: '0123456789abcdef0123456789abcdef',
  name: 'test',
  configuration: {
    members: [1, 2, 3].map((n) => ({
      peer: `peer-${n}`,
      id: `n${n}`,
      http: `http://127.0.0.1:700${n}`,
      p2p: `/ip4/127.0.0.1/tcp/710${n}`,
      voter: true,
      since: 0,
      commandVersion: 1,
    })),
  },
  stores: [{ name: 'default' }, { name: 'sessions', ttl: 60_000, maxValueBytes: 16 }],
  tokens: Object.values(tokens),
  valueBytes: 1024,
  foundedAt: 1_000_000,
  commandVersion: 1,
}

export function bytes(text: string): Buffer {
  return Buffer.from(text)
}

type SetOptions = {
  readonly token?: string
  readonly store?: string
  readonly contentType?: string
  readonly conditions?: readonly Condition[]
  readonly once?: Once
}

export function set(key: string | Uint8Array, value: string | Uint8Array, options: SetOptions = {}): Command {
  return {
    type: 'set',
    token: tokens.admin.hash,
    store: 'default',
    key: Buffer.from(key),
    value: Buffer.from(value),
    contentType: 'text/plain',
    conditions: [],
    ...options,
  }
}

export function del(key: string | Uint8Array, options: Omit<SetOptions, 'contentType'> = {}): Command {
  return {
    type: 'delete',
    token: tokens.admin.hash,
    store: 'default',
    key: Buffer.from(key),
    conditions: [],
    ...options,
  }
}

/** The n-th session's id. */
function sessionId(n: number): string {
  return String(n).padStart(22, 's')
}

export function openSession(n: number, token = tokens.admin.hash): Command {
  return { type: 'openSession', token, session: sessionId(n) }
}

/** A write of the n-th session. */
export function inSession(n: number, seq: number, acked = 0): { readonly once: Once } {
  return { once: { type: 'session', session: sessionId(n), seq, acked } }
}

/** A write under an idempotency key; requests of another `request` have another digest. */
export function underKey(key: string, request = 0): { readonly once: Once } {
  return { once: { type: 'key', key, digest: Buffer.alloc(32, request) } }
}

/** Commands of one origin as they travel. */
export function batch(
  commands: readonly (readonly [number: number, command: Command])[],
  { peer = 'peer-1', boot = 1, acked = 0 } = {},
): CommandBatch {
  return {
    peer,
    boot,
    acked,
    commands: commands.map(([number, command]) => ({ number, bytes: encodeCommand(command) })),
  }
}

/** A commands entry. */
export function entry(
  index: number,
  batches: readonly CommandBatch[],
  time = founding.foundedAt + index,
): Entry {
  return { type: 'commands', index, term: 1, data: encodeEntryData({ time, batches }) }
}

/** Opens state machines and closes them, and what failed, after the test. */
export class Workshop {
  readonly failures: StateFailure[] = []
  readonly #machines: StateMachine[] = []
  readonly #directories: string[] = []

  async directory(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'trivet-state-'))
    this.#directories.push(directory)
    return directory
  }

  async open(level: StateLevel, options: Partial<StateMachineOptions> = {}): Promise<Machine> {
    const onFailure = (failure: StateFailure) => this.failures.push(failure)
    const machine = await StateMachine.open({ level, founding, onFailure, ...options })
    this.#machines.push(machine)
    return new Machine(machine)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const machine of this.#machines) await machine.close().catch(() => undefined)
    for (const directory of this.#directories) await rm(directory, { recursive: true })
  }
}

/** A state machine with a client that counts its commands. */
export class Machine {
  readonly state: StateMachine
  #number: number

  constructor(state: StateMachine, answered = 0) {
    this.state = state
    this.#number = answered
  }

  /** The same client with another state machine. */
  on(state: StateMachine): Machine {
    return new Machine(state, this.#number)
  }

  /** Applies one entry of these commands, each once and acknowledged before the next entry. */
  run(...commands: readonly Command[]): Promise<readonly Outcome[]> {
    return this.runAt(founding.foundedAt + this.next, ...commands)
  }

  /** The same, with the entry's stamp. */
  async runAt(time: number, ...commands: readonly Command[]): Promise<readonly Outcome[]> {
    const acked = this.#number
    const numbered = commands.map((command) => {
      this.#number += 1
      return [this.#number, command] as const
    })
    const applied = await this.apply(entry(this.next, [batch(numbered, { acked, peer: 'client' })], time))
    return applied.map(({ outcome }) => outcome)
  }

  apply(...entries: readonly Entry[]): Promise<readonly Applied[]> {
    return this.state.apply(entries)
  }

  get next(): number {
    return this.state.lastApplied + 1
  }

  async text(key: string, store = 'default'): Promise<string | undefined> {
    const item = await this.state.get(store, bytes(key))
    return item === undefined ? undefined : Buffer.from(item.value).toString()
  }
}

/** Every row of the replicated state. */
export async function rows(level: StateLevel): Promise<readonly (readonly [Uint8Array, Uint8Array])[]> {
  return level.iterator(replicatedRange).all()
}

/** Every row of the replicated state as hex, for comparing members; a node's own rows are left out. */
export async function dump(level: StateLevel): Promise<readonly string[]> {
  const all = await rows(level)
  return all.map(
    ([key, value]) => `${Buffer.from(key).toString('hex')} ${Buffer.from(value).toString('hex')}`,
  )
}

/** How many iterators were opened on it from now on. */
export function iterators(level: StateLevel): () => number {
  const open = level.iterator.bind(level)
  let opened = 0
  Object.defineProperty(level, 'iterator', {
    value: (...options: Parameters<typeof open>) => {
      opened += 1
      return open(...options)
    },
  })
  return () => opened
}

/** Entries 1 to `count`, each writing a key of its own, one they share, and deleting an older one. */
export function log(count: number): readonly Entry[] {
  return Array.from({ length: count }, (_, n) => {
    const index = n + 1
    const number = n * 3 + 1
    const commands = [
      [number, set(`key-${index}`, `value-${index}`)],
      [number + 1, set('shared', `${index}`)],
      [number + 2, del(`key-${index - 4}`)],
    ] as const
    return entry(index, [batch(commands, { acked: Math.max(0, number - 40) })])
  })
}

/** Loads all chunks that are still missing; returns the size of the largest, in bytes. */
export async function transfer(
  snapshot: StateSnapshot,
  loader: StateLoader,
  maxBytes: number,
): Promise<number> {
  let largest = 0
  while (!loader.complete) {
    const chunk = await snapshot.chunk(loader.after, maxBytes)
    largest = Math.max(largest, chunk.bytes.length)
    await loader.add(chunk)
  }
  return largest
}

/** The twin in memory, opened. */
export async function memory(options = {}): Promise<MemoryState> {
  const level = new MemoryState(options)
  await level.open()
  return level
}

/** What LevelDB may stand on: the real one, and the twin that can lose and fail. Each opens the same place again. */
export const backends = [
  {
    name: 'LevelDB',
    make: async (workshop: Workshop) => {
      const directory = await workshop.directory()
      return { open: (): Promise<StateLevel> => openLevel(directory) }
    },
  },
  {
    name: 'the twin in memory',
    make: async () => {
      let level: MemoryState | undefined
      const open = async (): Promise<StateLevel> => {
        level = level === undefined ? new MemoryState() : await level.restart()
        await level.open()
        return level
      }
      return { open }
    },
  },
] as const
