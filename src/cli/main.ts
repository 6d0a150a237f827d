#!/usr/bin/env node
// The entry of the `trivet` command.

import { join } from 'node:path'

const needed = '22.18.0'
if (process.versions.node.localeCompare(needed, 'en', { numeric: true }) < 0) {
  process.stderr.write(`trivet needs Node ${needed} or later; this is ${process.versions.node}.\n`)
  process.exit(1)
}

// With what was compiled last time a command starts in less than half the time. The cache lies inside this package and
// not in the shared temporary directory, where another user could put code of their own; where it cannot be written,
// there is none.
const { enableCompileCache } = await import('node:module')
enableCompileCache(join(import.meta.dirname, '../../node_modules/.cache/trivet'))

const { run } = await import('./program.ts')
const status = await run(process.argv.slice(2), (sentence) => process.stderr.write(`${sentence}\n`))

// Not left to the event loop: whatever a command that failed has left open must not hold the shell. What was written
// leaves first, also into a pipe.
await Promise.all(
  [process.stdout, process.stderr].map((stream) => new Promise((done) => stream.write('', done))),
)
process.exit(status)
