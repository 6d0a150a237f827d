// Broken invariants stop the node: an assertion that fails is a defect or damaged memory, never an operating error.

export class InvariantError extends Error {
  override readonly name = 'InvariantError'
}

export function assert(condition: unknown, invariant: string): asserts condition {
  if (!condition) throw new InvariantError(`Broken invariant: ${invariant}`)
}
