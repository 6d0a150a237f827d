// What a node said before it was started anew, when it comes late: nobody counts it any more (rule 7).

import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import type { Replica } from '../../src/node/replica.ts'
import type { Message } from '../../src/raft/types.ts'
import { Town } from './town.ts'

async function until(holds: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 10_000
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`)
    await delay(2)
  }
}

type Scene = { readonly town: Town; readonly replica: Replica; readonly peer: string; readonly boot: number }

/** A leader, and a follower that it has heard under this boot. Nothing reaches the leader from now on but what is told to it. */
async function scene(seed: number, restarts: boolean): Promise<Scene> {
  const town = await Town.start({ seed })
  const leader = await town.leader()
  const [follower = ''] = town.ids.filter((id) => id !== leader)
  const { peer } = town.address(follower)
  const boot = town.node(follower).inside?.wal.recovered.boot ?? 0
  if (restarts) {
    await town.crash(follower)
    await town.start(follower)
    await town.ready()
  }
  const replica = town.node(await town.leader()).inside?.replica
  if (replica === undefined) throw new Error('the leader takes part')
  const heard = () => (replica.raft.progress?.get(peer)?.matchIndex ?? 0) >= replica.raft.log.commitIndex
  await until(heard, 'the follower has caught up')
  return { town, replica, peer, boot }
}

const appended = (replica: Replica, from: string, to: string): Message => ({
  type: 'appended',
  from,
  to,
  term: replica.raft.term,
  matchIndex: replica.raft.log.lastIndex,
})

describe('a leader', () => {
  it('no longer counts what an earlier boot acknowledged once a later one was heard', async () => {
    const { town, replica, peer, boot } = await scene(31, true)
    await using _ = town
    const leader = await town.leader()
    town.partition(
      [leader],
      town.ids.filter((id) => id !== leader),
    )
    const before = replica.raft.log.commitIndex
    const write = town.set(leader, 'key', 'value', 1000)
    await until(() => replica.raft.log.savedIndex > before, 'the leader has the entry')
    const message = appended(replica, peer, town.address(leader).peer)
    replica.step(message, boot)
    expect(replica.raft.log.commitIndex).toBe(before)
    await expect(write).rejects.toMatchObject({ code: 'outcome-unknown' })
  })

  it('counts nothing of the boots before the one that a configuration names', async () => {
    const { town, replica, peer, boot } = await scene(32, false)
    await using _ = town
    const leader = await town.leader()
    town.partition(
      [leader],
      town.ids.filter((id) => id !== leader),
    )
    const { members } = replica.raft.log.configuration.configuration
    const demoted = members.map((member) =>
      member.peer === peer ? { ...member, voter: false, since: boot + 1 } : member,
    )
    expect(replica.changeConfiguration({ members: demoted })).toMatchObject({ type: 'appended' })
    const message = appended(replica, peer, town.address(leader).peer)
    replica.step(message, boot)
    expect(replica.raft.progress?.get(peer)?.matchIndex).toBe(0)
    replica.step(message, boot + 1)
    expect(replica.raft.progress?.get(peer)?.matchIndex).toBe(
      message.type === 'appended' ? message.matchIndex : 0,
    )
  })
})
