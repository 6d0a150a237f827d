// What the comparison is to show, and whether it does: ratios to etcd in the same run, and a few absolute bounds.

import type { Spread } from '../statistics.ts'
import { type Figure, find, type Measured } from './samples.ts'

export type Verdict = {
  readonly what: string
  readonly reach: string
  /** In words; undefined when it was not measured. */
  readonly reached: string | undefined
  readonly isMet: boolean | undefined
}

type Place = { readonly group: string; readonly scenario: string; readonly figure: Figure }

type Target = {
  readonly what: string
  readonly reach: string
  readonly judge: (
    look: (place: Place, system?: 'Trivet' | 'etcd') => Spread | undefined,
  ) => Judged | undefined
}

type Judged = { readonly reached: string; readonly isMet: boolean }

/** Trivet's figure must be at least, or at most, so many times etcd's. */
function ratio(
  what: string,
  place: Place,
  bound: { readonly atLeast: number } | { readonly atMost: number },
): Target {
  const least = 'atLeast' in bound
  const limit = 'atLeast' in bound ? bound.atLeast : bound.atMost
  return {
    what,
    reach: `${least ? 'at least' : 'at most'} ${limit} times`,
    judge: (look) => {
      const [ours, theirs] = [look(place), look(place, 'etcd')]
      if (ours === undefined || theirs === undefined) return undefined
      const times = ours.median / theirs.median
      return { reached: `${times.toFixed(2)} times`, isMet: least ? times >= limit : times <= limit }
    },
  }
}

/** Trivet's own figure must stay below a bound, by its median or its worst. */
function bounded(
  what: string,
  place: Place,
  bound: { unit: string; median?: number; most?: number },
): Target {
  const { unit, median, most } = bound
  const words = [
    ...(median === undefined ? [] : [`median ${median} ${unit}`]),
    ...(most === undefined ? [] : [`worst ${most} ${unit}`]),
  ]
  return {
    what,
    reach: words.join(', '),
    judge: (look) => {
      const ours = look(place)
      if (ours === undefined) return undefined
      const shown = (value: number) => (value < 10 ? value.toFixed(2) : value.toFixed(0))
      return {
        reached: `median ${shown(ours.median)} ${unit}, worst ${shown(ours.most)} ${unit}`,
        isMet:
          ours.median <= (median ?? Number.POSITIVE_INFINITY) &&
          ours.most <= (most ?? Number.POSITIVE_INFINITY),
      }
    },
  }
}

function atLeader(verb: string, connections: string, figure: Figure): Place {
  return { group: 'http', scenario: `${verb}, ${connections}, at the leader`, figure }
}

const loads = ['64 connections', '256 connections'] as const

const throughput = (verb: string, times: number) =>
  loads.flatMap((connections) => [
    ratio(`HTTP ${verb}, ${connections}: throughput`, atLeader(verb, connections, 'perSecond'), {
      atLeast: times,
    }),
    ratio(`HTTP ${verb}, ${connections}: p99`, atLeader(verb, connections, 'p99'), { atMost: 0.5 }),
  ])

const put = (keys: string): Place => ({
  group: 'size',
  scenario: `PUT, 64 connections, ${keys}`,
  figure: 'perSecond',
})

const targets: readonly Target[] = [
  ...throughput('PUT', 3),
  ratio('HTTP PUT, 1 connection: p50', atLeader('PUT', '1 connection', 'p50'), { atMost: 1 }),
  ...throughput('GET', 4),
  ...(['set', 'get'] as const).map((operation) =>
    ratio(
      `clients, 256 concurrent ${operation}s`,
      { group: 'clients', scenario: `${operation}, 256 at a time`, figure: 'perSecond' },
      { atLeast: 8 },
    ),
  ),
  ...loads.map((connections) =>
    ratio(`CPU seconds per 10,000 PUTs, all nodes, ${connections}`, atLeader('PUT', connections, 'cpu'), {
      atMost: 0.5,
    }),
  ),
  bounded(
    'SIGKILL of the leader to the next acknowledged write',
    { group: 'failover', scenario: 'the leader killed (SIGKILL)', figure: 'milliseconds' },
    { unit: 'ms', median: 150, most: 400 },
  ),
  bounded(
    'a hung leader (SIGSTOP)',
    { group: 'failover', scenario: 'the leader hung (SIGSTOP)', figure: 'milliseconds' },
    { unit: 'ms', most: 2000 },
  ),
  bounded(
    'resident memory per node, idle',
    { group: 'size', scenario: 'resident memory, idle, just started', figure: 'megabytes' },
    { unit: 'MB', most: 120 },
  ),
  bounded(
    'resident memory per node, 1,000,000 keys',
    { group: 'size', scenario: 'resident memory, 1,000,000 keys, after the PUTs', figure: 'megabytes' },
    { unit: 'MB', most: 250 },
  ),
  bounded(
    'restart with 1,000,000 keys until ready',
    { group: 'size', scenario: 'restart of a follower with 1,000,000 keys until ready', figure: 'seconds' },
    { unit: 's', most: 3 },
  ),
  {
    what: 'PUT throughput, 1,000,000 keys against 10,000',
    reach: 'at least 80 %',
    judge: (look) => {
      const [many, few] = [look(put('1,000,000 keys')), look(put('10,000 keys'))]
      if (many === undefined || few === undefined) return undefined
      const share = many.median / few.median
      return { reached: `${(share * 100).toFixed(0)} %`, isMet: share >= 0.8 }
    },
  },
]

export function judge(measured: readonly Measured[]): readonly Verdict[] {
  const look = ({ group, scenario, figure }: Place, system = 'Trivet') =>
    find(measured, { group, scenario, system, figure })
  return targets.map(({ what, reach, judge: decide }) => {
    const judged = decide(look)
    return { what, reach, reached: judged?.reached, isMet: judged?.isMet }
  })
}
