// All faults there are: what each does to the nodes, and how it is taken back.

import { setTimeout as delay } from 'node:timers/promises'
import { type Aim, type Fault, nothing, servesAgain } from './fault.ts'
import { damageFaults } from './faults-disk.ts'
import { memberFaults } from './faults-members.ts'
import { networkFaults } from './faults-network.ts'
import type { Ground } from './ground.ts'

const plain = { needsDiskHook: false, isWeather: false, isDamage: false, writesGoOn: true } as const

const processFaults: readonly Fault[] = [
  {
    ...plain,
    name: 'kill',
    about: 'SIGKILL a minority; they start again when it ends',
    begin: async (aim) => {
      const nodes = aim.minority()
      await aim.ground.kill(nodes)
      return { what: `killed ${nodes.join(', ')}`, nodes, heal: async () => startAll(aim.ground, nodes) }
    },
  },
  {
    ...plain,
    name: 'kill-all',
    about: 'SIGKILL all nodes in the same instant; they start again when it ends',
    writesGoOn: false,
    begin: async ({ ground, order }) => {
      await ground.kill(order)
      return { what: 'killed all at once', nodes: order, heal: async () => startAll(ground, order) }
    },
  },
  {
    ...plain,
    name: 'crash-loop',
    about: 'SIGKILL one node again and again, soon after each start',
    begin: async (aim) => {
      const { ground, victim } = aim
      const times = aim.between(2, 4)
      for (let round = 0; round < times; round++) {
        await ground.kill([victim])
        ground.start(victim)
        await delay(aim.between(100, 1500))
      }
      await ground.kill([victim])
      return {
        what: `killed ${victim} ${times + 1} times`,
        nodes: [victim],
        heal: async () => ground.start(victim),
      }
    },
  },
  {
    ...plain,
    name: 'pause',
    about: 'SIGSTOP a minority; SIGCONT when it ends',
    begin: async (aim) => {
      const nodes = aim.minority()
      for (const id of nodes) aim.ground.pause(id, true)
      return {
        what: `froze ${nodes.join(', ')}`,
        nodes,
        heal: async () => {
          for (const id of nodes) aim.ground.pause(id, false)
        },
      }
    },
  },
  {
    ...plain,
    name: 'restart',
    about: 'a rolling restart: each node stops cleanly and is back before the next',
    begin: async ({ ground, order }) => {
      for (const id of order) {
        await ground.stop(id)
        ground.start(id)
        await servesAgain(ground, id)
      }
      return { what: `restarted ${order.join(', ')}`, nodes: order, heal: nothing }
    },
  },
  {
    ...plain,
    name: 'transfer',
    about: 'leadership is handed from node to node',
    begin: async (aim) => {
      const to = Array.from({ length: aim.between(2, 5) }, () => aim.chance.pick(aim.order))
      for (const id of to) {
        await transfer(aim, id)
        await delay(aim.between(0, 400))
      }
      return { what: `handed leadership to ${to.join(', ')}`, nodes: to, heal: nothing }
    },
  },
  {
    ...plain,
    name: 'clock',
    about: 'the wall clocks of a minority jump, and jump back when it ends',
    isWeather: true,
    begin: async (aim) => {
      const nodes = aim.minority()
      const minutes = aim.chance.pick([-60 * 24 * 400, -60, -1, 1, 60, 60 * 24 * 30])
      for (const id of nodes) await aim.ground.setClock(id, minutes * 60_000)
      return {
        what: `clock of ${nodes.join(', ')} ${minutes < 0 ? '−' : '+'}${inTime(Math.abs(minutes))}`,
        nodes,
        heal: async () => {
          for (const id of aim.ground.stillHere(nodes)) await aim.ground.setClock(id, 0)
        },
      }
    },
  },
]

export const faults: readonly Fault[] = [...processFaults, ...networkFaults, ...damageFaults, ...memberFaults]

export function faultNamed(name: string): Fault {
  const fault = faults.find((one) => one.name === name)
  if (fault === undefined)
    throw new Error(`There is no fault ${name}; there are ${faults.map((one) => one.name).join(', ')}.`)
  return fault
}

/** The names of those that `all` means: without a disk hook, those that need none. */
export function allFaults(hasDiskHook: boolean): readonly string[] {
  return faults.filter(({ needsDiskHook }) => hasDiskHook || !needsDiskHook).map(({ name }) => name)
}

function startAll(ground: Ground, ids: readonly string[]): void {
  for (const id of ids) ground.start(id)
}

/** Asked of any node; that one who is in the middle of something else refuses is fine. */
async function transfer({ ground, order }: Aim, to: string): Promise<void> {
  for (const id of order) {
    try {
      const answer = await ground.fetch(id, '/v1/cluster/leader', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ to }),
      })
      await answer.arrayBuffer()
      if (answer.ok) return
    } catch {
      // It does not answer: another is asked.
    }
  }
}

function inTime(minutes: number): string {
  if (minutes >= 1440) return `${minutes / 1440} d`
  return minutes >= 60 ? `${minutes / 60} h` : `${minutes} min`
}
