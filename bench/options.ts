// What `npm run bench` may be told.

import { parseArgs } from 'node:util'

export type Options = {
  readonly quick: boolean
  /** Names of groups; all unless said. */
  readonly only: readonly string[] | undefined
  readonly rounds: number
  readonly seconds: number
  readonly warmUpSeconds: number
  /** Another checkout to measure beside this one. */
  readonly trivet: string | undefined
  readonly withEtcd: boolean
  /** Where results go. */
  readonly out: string | undefined
}

export const usage = (groups: readonly string[]) => `npm run bench -- [options]

  --quick            the heart of it in less than three minutes
  --only A,B         these groups alone: ${groups.join(', ')}
  --rounds N         how often each load is repeated, in turns (5; quick: 3)
  --seconds N        how long each load lasts (4; quick: 2)
  --warm-up N        how long new clusters are under load before anything counts, in seconds (30; quick: 3)
  --trivet DIR       also measure the build of another checkout
  --without-etcd     leave etcd out
  --out DIR          where the results go (bench/results)`

const quickGroups = ['http', 'clients', 'failover']

/** Throws a sentence for what cannot be meant. */
export function readOptions(args: readonly string[], groups: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      'warm-up': { type: 'string' },
      trivet: { type: 'string' },
      'without-etcd': { type: 'boolean', default: false },
      out: { type: 'string' },
    },
  })
  const { quick } = values
  const only = values.only?.split(',').map((name) => name.trim())
  const unknown = only?.find((name) => !groups.includes(name))
  if (unknown !== undefined) {
    throw new Error(
      `There is no group "${unknown}": --only takes ${groups.join(', ')}, with commas between them.`,
    )
  }
  return {
    quick,
    only: only ?? (quick ? quickGroups : undefined),
    rounds: positive('rounds', values.rounds, quick ? 3 : 5),
    seconds: positive('seconds', values.seconds, quick ? 2 : 4),
    warmUpSeconds: positive('warm-up', values['warm-up'], quick ? 3 : 30),
    trivet: values.trivet,
    withEtcd: !values['without-etcd'],
    out: values.out,
  }
}

function positive(name: string, given: string | undefined, otherwise: number): number {
  if (given === undefined) return otherwise
  if (/^[1-9]\d*$/.test(given)) return Number(given)
  throw new Error(`--${name} takes a whole number from 1 on, not "${given}".`)
}
