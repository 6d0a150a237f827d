// Puts the ratios of a result into the README: `node bench/readme.ts bench/results/<run>.json`.

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { speedTable, withSpeed } from './report/readme.ts'
import { type Sample, summarize } from './report/samples.ts'

const [, , path] = process.argv
if (path === undefined) {
  console.error('Which result? node bench/readme.ts bench/results/<run>.json')
  process.exit(2)
}
const { samples }: { samples: Sample[] } = JSON.parse(await readFile(path, 'utf8'))
const readme = join(import.meta.dirname, '../README.md')
await writeFile(readme, withSpeed(await readFile(readme, 'utf8'), speedTable(summarize(samples))))
