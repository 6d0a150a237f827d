// What the disk gives a process that does nothing else: append and fdatasync, and synced batches of LevelDB.
//
// `disk.ts DIRECTORY SECONDS` prints operations a second as one line of JSON.

import { randomBytes } from 'node:crypto'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { Level } from 'level'

const [, , directory = '', seconds = '2'] = process.argv

/** How often a second the step can be done, one after the other. */
async function rate(step: () => Promise<unknown>): Promise<number> {
  const begun = performance.now()
  const until = begun + Number(seconds) * 1000
  let done = 0
  for (; performance.now() < until; done++) await step()
  return done / ((performance.now() - begun) / 1000)
}

async function appending(bytes: number): Promise<number> {
  await using file = await open(join(directory, `append-${bytes}`), 'a')
  const record = randomBytes(bytes)
  return await rate(async () => {
    await file.write(record)
    await file.datasync()
  })
}

async function levelPutting(puts: number): Promise<number> {
  const level = new Level<string, Buffer>(join(directory, `level-${puts}`), { valueEncoding: 'buffer' })
  await level.open()
  const value = randomBytes(256)
  try {
    const batches = await rate(async () => {
      const batch = level.batch()
      for (let at = 0; at < puts; at++) batch.put(`key-${Math.floor(Math.random() * 10_000)}`, value)
      await batch.write({ sync: true })
    })
    return batches * puts
  } finally {
    await level.close()
  }
}

const found = {
  'append of 512 bytes and fdatasync, one after the other': await appending(512),
  'append of 16 KiB and fdatasync, one after the other': await appending(16_384),
  'LevelDB, puts of 256 bytes in synced batches of 1': await levelPutting(1),
  'LevelDB, puts of 256 bytes in synced batches of 64': await levelPutting(64),
}
console.log(JSON.stringify(found))
