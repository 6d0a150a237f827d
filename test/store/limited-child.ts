// Appends to a log under a limit on the size of files until one is refused, and tells what was acknowledged.

import { realDisk } from '../../src/store/real-disk.ts'
import { Wal } from '../../src/store/wal.ts'
import { command, foundedBase, node } from './wal-harness.ts'

const directory = process.argv[2] ?? ''
const wal = await Wal.create({
  disk: realDisk,
  directory,
  node,
  base: foundedBase,
  now: Date.now,
  onNotice: (error) => process.stderr.write(`${error.stack}\n`),
})
for (let index = 1; ; index++) {
  try {
    await wal.append({ entries: [command(index, 0, Buffer.alloc(3000, index))] })
  } catch (error) {
    const again = await wal.append({ entries: [command(index, 0, 'again')] }).catch(String)
    process.stdout.write(JSON.stringify({ acknowledged: index - 1, error: String(error), again }))
    break
  }
}
