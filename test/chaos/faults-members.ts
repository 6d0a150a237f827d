// Faults that change who belongs to the cluster: a node that lost its disk and is replaced, members that come and go.

import { rm } from 'node:fs/promises'
import { eventually } from '../integration/real-cluster.ts'
import { type Aim, type Fault, nothing, servesAgain } from './fault.ts'
import type { Ground } from './ground.ts'

const plain = { needsDiskHook: false, isWeather: false, isDamage: true, writesGoOn: true } as const

/** How long a change may take, in seconds, with the catching up. */
const changeSeconds = 60

export const memberFaults: readonly Fault[] = [
  {
    ...plain,
    name: 'wipe',
    about: "one node's disk is lost, and the node is replaced by an empty one of the same name",
    begin: async (aim) => {
      const { ground, victim } = aim
      await ground.kill([victim])
      await rm(ground.seat(victim).data, { recursive: true })
      await ground.makeKey(victim)
      return {
        what: `${victim} lost its disk and is replaced`,
        nodes: [victim],
        heal: async () => {
          await ground.writeConfiguration()
          ground.start(victim)
          await change(aim, {
            method: 'POST',
            path: '/v1/cluster/members',
            body: { ...member(ground, victim), replaces: victim },
          })
          await promoted(ground, victim)
        },
      }
    },
  },
  {
    ...plain,
    name: 'members',
    about: 'a node is added, and once it votes another is removed',
    isDamage: false,
    begin: async (aim) => {
      const { ground, victim } = aim
      const id = await ground.addSeat()
      await ground.writeConfiguration()
      ground.start(id)
      await change(aim, { method: 'POST', path: '/v1/cluster/members', body: member(ground, id) })
      await promoted(ground, id)
      await change(aim, { method: 'DELETE', path: `/v1/cluster/members/${victim}` })
      await ground.forget(victim)
      await servesAgain(ground, id)
      return { what: `${id} came, ${victim} went`, nodes: [id, victim], heal: nothing }
    },
  },
]

function member(ground: Ground, id: string): Readonly<Record<string, string>> {
  const { http, entryPort, peer } = ground.seat(id)
  return { id, http, p2p: `/ip4/127.0.0.1/tcp/${entryPort}`, peer }
}

/** Asked of any node until one has done it, or says that it was done before. Rejects with what the last one said. */
async function change(
  { ground, order }: Aim,
  request: {
    readonly method: string
    readonly path: string
    readonly body?: Readonly<Record<string, string>>
  },
): Promise<void> {
  let said = 'nobody answered'
  let attempts = 0
  await eventually(
    `${request.method} ${request.path}`,
    async () => {
      for (const id of order) {
        if (ground.state(id) !== 'up') continue
        try {
          const answer = await ground.fetch(id, request.path, {
            method: request.method,
            ms: 10_000,
            ...(request.body === undefined
              ? {}
              : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(request.body) }),
          })
          said = `${id} answered ${answer.status}: ${await answer.text()}`
          // The first answer may have been lost with the node that gave it.
          const isDone = /^(member-exists|not-found)$/.test(answer.headers.get('trivet-error') ?? '')
          if (answer.ok || (isDone && attempts > 0)) return true
          attempts += 1
        } catch (error) {
          said = `${id}: ${String(error)}`
        }
      }
      return undefined
    },
    changeSeconds,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}; ${said}`)
  })
}

async function promoted(ground: Ground, id: string): Promise<void> {
  await eventually(
    `${id} to vote`,
    async () => {
      const cluster = await ground.cluster(id)
      const self = cluster?.members.find((one) => one.id === id)
      return self?.peer === ground.seat(id).peer && self.voter ? true : undefined
    },
    changeSeconds,
  )
}
