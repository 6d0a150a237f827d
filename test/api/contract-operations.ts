// The part of the REST contract on operations: batches and transactions.

import { describe } from 'vitest'
import type { Bench } from './contract.ts'

export function describeOperations(_: Bench): void {
  describe.todo('a batch')
}
