// A peer that dies or freezes, as a process of its own: how soon it is missed, and what it may cost.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'

import { Libp2pTransport } from '../../src/node/libp2p.ts'
import { generatePeerKey } from '../../src/node/peer-key.ts'
import { freePort } from './free-port.ts'
import { cluster } from './names-of-clusters.ts'
import { commandsEntry, until, Witness } from './transport-contract.ts'

const ends: (() => Promise<unknown> | undefined)[] = []

afterEach(async () => {
  await Promise.all(ends.splice(0).map((end) => end()))
})

test('a peer whose process is killed is missed within milliseconds', async () => {
  const { parent, child, process: victim } = await withChild()
  const missed = new Promise<number>((resolve) => {
    parent.onEvent = () => resolve(performance.now())
  })
  const killedAt = performance.now()
  victim.kill('SIGKILL')
  expect((await missed) - killedAt).toBeLessThan(250)
  expect(parent.events.at(-1)).toBe(`disconnected ${child.id}`)
})

test('a peer that stops reading costs no more than its outboxes, and is served again when it goes on', async () => {
  const { parent, child, process: victim } = await withChild()
  victim.kill('SIGSTOP')
  const entries = [commandsEntry(1, 1_000_000)]
  const body = { type: 'append', since: 0, term: 1, prevIndex: 0, prevTerm: 0, commitIndex: 0 } as const
  const before = process.memoryUsage().arrayBuffers
  let taken = 0
  const stopAt = performance.now() + 500
  while (performance.now() < stopAt) {
    if (parent.transport.send(child.id, parent.raft(child, { ...body, entries }))) taken += 1
    // Lets the sockets take what they will.
    await new Promise(setImmediate)
  }
  // 16 MiB wait in the outbox; beyond it there are one window and what the kernel holds.
  expect(taken).toBeGreaterThan(15)
  expect(taken).toBeLessThan(32)
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(80_000_000)
  expect(parent.transport.counters().droppedMessages).toBeGreaterThan(0)
  expect(parent.transport.isConnected(child.id)).toBe(true)
  victim.kill('SIGCONT')
  await untilAnswered(parent, child)
  // Whatever was taken arrives: nothing was thrown away to make room.
  await until(() => lastAppended(parent) === taken, 15_000)
  expect(parent.transport.send(child.id, parent.raft(child, { ...body, entries }))).toBe(true)
  expect(parent.events).toEqual([`connected ${child.id}`])
})

/** How many appends the child says it got. */
function lastAppended(parent: Witness): number {
  const counts = parent.messages.map(({ message }) =>
    message.type === 'raft' && message.message.type === 'appended' ? message.message.matchIndex : 0,
  )
  return Math.max(0, ...counts)
}

async function withChild() {
  const key = await generatePeerKey()
  const listen = `/ip4/127.0.0.1/tcp/${await freePort()}`
  const script = fileURLToPath(new URL('libp2p-child.ts', import.meta.url))
  const victim = spawn(process.execPath, [script, key.peer, listen], { stdio: ['ignore', 'pipe', 'inherit'] })
  ends.push(() => endProcess(victim))
  const [line]: unknown[] = await once(createInterface({ input: victim.stdout }), 'line')
  const { peer, address } = JSON.parse(String(line)) as { peer: string; address: string }
  const transport = new Libp2pTransport({ key, listen, hello: { clusterId: cluster, id: 'parent', boot: 1 } })
  ends.push(() => transport.close())
  const parent = new Witness({ transport, peer: { peer: key.peer, id: 'parent', addresses: [listen] } })
  const child = new Witness({ transport, peer: { peer, id: 'child', addresses: [address] } })
  await parent.start([child])
  await untilAnswered(parent, child)
  return { parent, child, process: victim }
}

/** The child can send only once its own streams are greeted, which may be later than ours. */
async function untilAnswered(parent: Witness, child: Witness): Promise<void> {
  const before = parent.messages.length
  await until(() => {
    parent.transport.send(
      child.id,
      parent.raft(child, { type: 'heartbeat', since: 0, term: 1, round: 9, commitIndex: 0 }),
    )
    return parent.messages.length > before
  }, 15_000)
}

async function endProcess(victim: ChildProcess): Promise<void> {
  if (victim.exitCode !== null || victim.signalCode !== null) return
  const exited = once(victim, 'exit')
  victim.kill('SIGKILL')
  await exited
}
