// Faults of the wires between nodes: cut both ways, one way and around a bridge; slow, uneven and thin.

import type { Aim, Effect, Fault } from './fault.ts'
import type { Weather } from './proxy.ts'

const plain = { needsDiskHook: false, isWeather: false, isDamage: false, writesGoOn: true } as const

export const networkFaults: readonly Fault[] = [
  {
    ...plain,
    name: 'partition',
    about: 'a minority is cut off, both ways; packets vanish or connections are refused',
    begin: async (aim) => {
      const few = aim.minority()
      const many = aim.order.filter((id) => !few.includes(id))
      const how = aim.chance.pick(['held', 'refused'] as const)
      for (const one of few) for (const other of many) cutBoth(aim, one, other, how)
      return healing(aim, few, `${few.join(' ')} | ${many.join(' ')}, ${how}`)
    },
  },
  {
    ...plain,
    name: 'one-way',
    about: 'one node is heard by nobody, hears nobody, or has one line that works one way only',
    begin: async (aim) => {
      const { victim, order } = aim
      const others = order.slice(1)
      const [other = victim] = others
      const kind = aim.chance.pick(['mute', 'deaf', 'line'] as const)
      const ways: Readonly<Record<typeof kind, readonly (readonly [string, string])[]>> = {
        mute: others.map((to) => [victim, to] as const),
        deaf: others.map((from) => [from, victim] as const),
        line: [[victim, other]],
      }
      for (const [from, to] of ways[kind]) aim.ground.mesh.cut(from, to, 'held')
      const what = kind === 'line' ? `${victim} ⇸ ${other}` : `${victim} is ${kind}`
      return healing(aim, [victim], what)
    },
  },
  {
    ...plain,
    name: 'bridge',
    about: 'two halves see each other only through one node that sees both',
    begin: async (aim) => {
      const [bridge = aim.victim, ...rest] = aim.order
      const half = rest.slice(0, rest.length >> 1)
      const others = rest.slice(half.length)
      for (const one of half) for (const other of others) cutBoth(aim, one, other, 'held')
      return healing(aim, aim.order, `${half.join(' ')} – ${bridge} – ${others.join(' ')}`)
    },
  },
  {
    ...plain,
    name: 'latency',
    about: 'every byte between nodes takes longer',
    writesGoOn: false,
    isWeather: true,
    begin: async (aim) => {
      const latency = aim.between(10, 120)
      return slowed(aim, aim.order, {
        latency,
        jitter: latency >> 2,
        bytesPerSecond: Number.POSITIVE_INFINITY,
      })
    },
  },
  {
    ...plain,
    name: 'jitter',
    writesGoOn: false,
    about: 'what goes to and from a minority arrives unevenly, up to longer than a heartbeat',
    isWeather: true,
    begin: async (aim) => {
      const jitter = aim.between(50, 400)
      return slowed(aim, aim.minority(), { latency: 1, jitter, bytesPerSecond: Number.POSITIVE_INFINITY })
    },
  },
  {
    ...plain,
    name: 'trickle',
    writesGoOn: false,
    about: 'the lines of a minority carry a few kilobytes a second',
    isWeather: true,
    begin: async (aim) => {
      const bytesPerSecond = aim.between(4, 64) * 1024
      return slowed(aim, aim.minority(), { latency: 0, jitter: 0, bytesPerSecond })
    },
  },
]

function cutBoth({ ground }: Aim, one: string, other: string, how: 'held' | 'refused'): void {
  ground.mesh.cut(one, other, how)
  ground.mesh.cut(other, one, how)
}

/** All lines of these nodes, both ways. */
function slowed(aim: Aim, nodes: readonly string[], weather: Weather): Effect {
  for (const from of aim.order) {
    for (const to of aim.order) {
      if (from !== to && (nodes.includes(from) || nodes.includes(to))) aim.ground.mesh.slow(from, to, weather)
    }
  }
  const speed = Number.isFinite(weather.bytesPerSecond) ? `${weather.bytesPerSecond / 1024} KiB/s` : ''
  const delay =
    weather.latency + weather.jitter > 0 ? `${weather.latency}–${weather.latency + weather.jitter} ms` : ''
  const whom = nodes.length === aim.order.length ? 'all lines' : nodes.join(', ')
  return healing(aim, nodes, `${whom}: ${delay}${speed}`)
}

function healing({ ground }: Aim, nodes: readonly string[], what: string): Effect {
  return { what, nodes, heal: async () => ground.mesh.heal() }
}
