// Faults of disks: full, slow, and bytes that are not what was written.

import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { cutFile, flipBit, openFilesOf, pickFile } from './damage.ts'
import type { Fault } from './fault.ts'
import type { Ground } from './ground.ts'

const plain = { needsDiskHook: false, isWeather: false, isDamage: true, writesGoOn: true } as const

type Place = 'log' | 'level'

const placeNames: Readonly<Record<Place, string>> = { log: 'log', level: 'LevelDB' }

/**
 * A node that had to repair itself twice within an hour stops and leaves its disk to an operator. A run has no hour: before it
 * damages a node again it does what the alarm asks for.
 */
async function forgetRepairs(ground: Ground, id: string): Promise<void> {
  await rm(join(ground.seat(id).data, 'repairs.json'), { force: true })
}

/** Done to the files of a node that was killed, and found by it when it starts again at once. */
function damage(kind: 'flip' | 'cut', place: Place): Fault {
  return {
    ...plain,
    name: `${kind}-${place}`,
    about: `${kind === 'flip' ? 'one bit flips' : 'the end is missing'} in a file of one node's ${placeNames[place]}, as it finds out when it starts`,
    begin: async (aim) => {
      const { ground, victim, chance } = aim
      await ground.kill([victim])
      await forgetRepairs(ground, victim)
      const file = await pickFile(ground.seat(victim).data, place, chance)
      const where = file === undefined ? undefined : await (kind === 'flip' ? flipBit : cutFile)(file, chance)
      ground.start(victim)
      return {
        what: where === undefined ? `${victim} has nothing to damage` : `${victim}: ${where}`,
        nodes: [victim],
        heal: async () => ground.start(victim),
      }
    },
  }
}

/** It serves again; if it ends by itself before it does, or has, it is started. */
async function backAgain(ground: Ground, id: string): Promise<void> {
  const deadline = performance.now() + 10_000
  while (!(await ground.serves(id)) && performance.now() < deadline) {
    ground.start(id)
    await delay(100)
  }
}

export const damageFaults: readonly Fault[] = [
  {
    ...plain,
    name: 'disk-full',
    about: "one node's disk fills up (ENOSPC), and has room again when it ends",
    needsDiskHook: true,
    isDamage: false,
    begin: async (aim) => {
      const { ground, victim } = aim
      const { disk } = ground.seat(victim)
      const room = aim.chance.pick([0, 4, 16, 64]) * 1024
      // It may end by itself: then an operator starts it again when there is room.
      ground.allowDeath(victim, true)
      await disk.setRoom(room)
      return {
        what: `${victim}: ${room / 1024} KiB left`,
        nodes: [victim],
        heal: async () => {
          await disk.setRoom(undefined)
          await backAgain(ground, victim)
          ground.allowDeath(victim, false)
        },
      }
    },
  },
  {
    ...plain,
    name: 'disk-slow',
    about: 'every sync of a minority takes up to seconds longer',
    needsDiskHook: true,
    isDamage: false,
    isWeather: true,
    writesGoOn: false,
    begin: async (aim) => {
      const nodes = aim.minority()
      const ms = aim.chance.pick([20, 100, 400, 2500])
      for (const id of nodes) await aim.ground.seat(id).disk.setSyncDelay(ms)
      return {
        what: `syncs of ${nodes.join(', ')} take ${ms} ms longer`,
        nodes,
        heal: async () => {
          for (const id of aim.ground.stillHere(nodes)) await aim.ground.seat(id).disk.setSyncDelay(0)
        },
      }
    },
  },
  damage('flip', 'log'),
  damage('cut', 'log'),
  damage('flip', 'level'),
  damage('cut', 'level'),
  {
    ...plain,
    name: 'flip-cold',
    about: 'one bit flips in a file that a running node has not open; a scrub or the next start finds it',
    begin: async (aim) => {
      const { ground, victim, chance } = aim
      await forgetRepairs(ground, victim)
      const pid = ground.pid(victim)
      const isOpen = pid === undefined ? new Set<string>() : await openFilesOf(pid)
      const place = chance.pick(['log', 'level'] as const)
      const file = await pickFile(ground.seat(victim).data, place, chance, isOpen)
      const where = file === undefined ? undefined : await flipBit(file, chance)
      return {
        what: where === undefined ? `${victim} has no closed file` : `${victim}: ${where}`,
        nodes: [victim],
        // The start after it is what has to find it.
        heal: async () => {
          await ground.stop(victim)
          ground.start(victim)
        },
      }
    },
  },
]
