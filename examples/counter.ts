// A counter that several writers raise at once without losing a step: read, then write only if nobody came between.
// While `npm start` runs: npx node examples/counter.ts

import { type Store, TrivetError } from '../src/sdk/index.ts'
import { connectHere } from './connection.ts'

const key = 'examples/counter'

/** Adds one and returns the new count. */
async function increment(store: Store): Promise<number> {
  for (;;) {
    const entry = await store.getEntry(key)
    const count = Number(new TextDecoder().decode(entry?.value)) + 1
    try {
      // The first writer makes the key; every other names the revision it has read.
      const condition = entry === undefined ? { ifAbsent: true } : { ifRevision: entry.revision }
      await store.set(key, String(count), condition)
      return count
    } catch (error) {
      // Somebody was faster: read again. Any other error, an unknown outcome among them, is for the caller.
      if (!(error instanceof TrivetError && error.code === 'condition-failed')) throw error
    }
  }
}

await using client = await connectHere()
const store = await client.open('default')
await store.delete(key)

const writers = Array.from({ length: 4 }, async () => {
  for (let step = 0; step < 10; step++) await increment(store)
})
await Promise.all(writers)

console.log(`4 writers, 10 steps each: ${await store.getText(key)}`)
