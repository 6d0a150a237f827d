// Loads over HTTP: puts and gets of small values by connections and place, a mix of both, values of many sizes, clusters of five.

import type { Group } from '../bench.ts'
import { fill } from '../loads/fill.ts'
import {
  type HttpScenario,
  makeReady,
  measureHttp,
  type Place,
  takeTurns,
  usual,
  withClusters,
} from './turns.ts'

const verbs = [
  { verb: 'PUT', reads: 0 },
  { verb: 'GET', reads: 1 },
] as const

/** Everywhere with 1, 64 and 256 connections; one connection cannot be spread. */
const everywhere = (['the leader', 'a follower', 'all nodes'] as const).flatMap((place) =>
  verbs.flatMap(({ verb, reads }) =>
    [1, 64, 256]
      .filter((connections) => connections > 1 || place !== 'all nodes')
      .map((connections) => scenarioOf(verb, reads, place, connections)),
  ),
)

function scenarioOf(verb: string, reads: number, place: Place, connections: number): HttpScenario {
  return {
    group: 'http',
    scenario: `${verb}, ${connections} connection${connections === 1 ? '' : 's'}, at ${place}`,
    place,
    connections,
    mix: { reads, ...usual },
  }
}

/** The heart: what most of the targets are about. */
function isHeart({ place, connections, mix }: HttpScenario): boolean {
  return place === 'the leader' && (connections > 1 || mix.reads === 0)
}

export const http: Group = {
  name: 'http',
  title: 'PUT of 256 bytes and linearizable GET over HTTP',
  run: (bench) =>
    withClusters(bench, 3, async (clusters) => {
      await makeReady(bench, clusters)
      for (const scenario of everywhere.filter((one) => !bench.quick || isHeart(one))) {
        await takeTurns(clusters, bench.rounds, (cluster) => measureHttp(bench, cluster, scenario))
      }
    }),
}

export const mixed: Group = {
  name: 'mixed',
  title: '95 % GET and 5 % PUT of 256 bytes over HTTP',
  run: (bench) =>
    withClusters(bench, 3, async (clusters) => {
      await makeReady(bench, clusters)
      for (const place of ['the leader', 'all nodes'] as const) {
        for (const connections of [64, 256]) {
          const scenario = `95/5, ${connections} connections, at ${place}`
          const what = { group: 'mixed', scenario, place, connections, mix: { reads: 0.95, ...usual } }
          await takeTurns(clusters, bench.rounds, (cluster) => measureHttp(bench, cluster, what))
        }
      }
    }),
}

/** With fewer connections and keys as values grow, so that it is the systems that are busy and not the memory of the machine. */
const sizes = [
  { name: '16 B', valueBytes: 16, connections: 64, keys: 10_000 },
  { name: '4 KiB', valueBytes: 4096, connections: 64, keys: 10_000 },
  { name: '64 KiB', valueBytes: 65_536, connections: 16, keys: 1000 },
  { name: '1 MiB', valueBytes: 1_048_576, connections: 4, keys: 24 },
] as const

export const values: Group = {
  name: 'values',
  title: 'Values of many sizes over HTTP, at the leader',
  run: (bench) =>
    withClusters(bench, 3, async (clusters) => {
      await makeReady(bench, clusters)
      for (const { name, valueBytes, connections, keys } of sizes) {
        for (const cluster of clusters) {
          await fill(cluster, {
            from: 0,
            to: keys,
            valueBytes,
            together: Math.max(1, Math.min(100, 2 ** 18 / valueBytes)),
          })
        }
        for (const { verb, reads } of verbs) {
          const scenario = `${verb} of ${name}, ${connections} connections`
          const mix = { reads, keys, valueBytes }
          const what = { group: 'values', scenario, place: 'the leader', connections, mix } as const
          await takeTurns(clusters, bench.rounds, (cluster) => measureHttp(bench, cluster, what))
        }
      }
    }),
}

export const nodes: Group = {
  name: 'nodes',
  title: 'Clusters of three and of five nodes: PUT of 256 bytes over HTTP, at the leader',
  run: async (bench) => {
    for (const count of [3, 5]) {
      await withClusters(bench, count, async (clusters) => {
        await makeReady(bench, clusters)
        for (const connections of [64, 256]) {
          const scenario = `${count} nodes, ${connections} connections`
          const mix = { reads: 0, ...usual }
          const what = { group: 'nodes', scenario, place: 'the leader', connections, mix } as const
          await takeTurns(clusters, bench.rounds, (cluster) => measureHttp(bench, cluster, what))
        }
      })
    }
  },
}
