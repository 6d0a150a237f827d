// How far a watch has come: the revision, and within a revision of several events the number of the last one.

export type Position = {
  readonly revision: number
  /** Absent where the whole revision has been told. */
  readonly n?: number | undefined
}

/** Reads the id of an event. Throws for what is none. */
export function parsePosition(id: string): Position {
  const [, revision, n] = /^(\d{1,16})(?:\.(\d{1,10}))?$/.exec(id) ?? []
  if (revision === undefined) throw new Error(`${JSON.stringify(id)} is not the id of an event`)
  return { revision: Number(revision), ...(n === undefined ? {} : { n: Number(n) }) }
}

export function formatPosition({ revision, n }: Position): string {
  return n === undefined ? String(revision) : `${revision}.${n}`
}

export function isAfter(one: Position, other: Position): boolean {
  if (one.revision !== other.revision) return one.revision > other.revision
  return (one.n ?? Number.POSITIVE_INFINITY) > (other.n ?? Number.POSITIVE_INFINITY)
}

/** Undefined when one of them has no position yet, or there is none. */
export function earliest(positions: readonly (Position | undefined)[]): Position | undefined {
  let least = positions[0]
  for (const position of positions) {
    if (position === undefined || least === undefined) return undefined
    if (isAfter(least, position)) least = position
  }
  return least
}
