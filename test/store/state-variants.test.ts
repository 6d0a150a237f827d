// The tests of the state machine can fail: each of these broken programs comes to something else than the model.

import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { edited } from '../sim/variant-run.ts'
import type { Hunt } from './state-hunt.ts'

const root = resolve(import.meta.dirname, '../..')

type Edit = { readonly file: string; readonly find: string; readonly replace: string }

const variants: readonly (readonly [name: string, edits: readonly Edit[]])[] = [
  [
    'expires by the clock of its own machine',
    [
      {
        file: 'store/state-apply.ts',
        find: 'before.expires > this.#stamp',
        replace: 'before.expires > Date.now()',
      },
    ],
  ],
  [
    'expires what was renewed after it was found due',
    [
      {
        file: 'store/state-apply.ts',
        find: 'before.expires === undefined || before.expires > this.#stamp',
        replace: 'before.expires === undefined',
      },
    ],
  ],
  [
    'keeps what a transaction did before it failed',
    [
      {
        file: 'store/state-transaction.ts',
        find: "if (result.type === 'refused') return refused({ ...result, index })",
        replace:
          "if (result.type === 'refused') return { outcome: { ...result, index }, alterations: view.alterations(), writes }",
      },
      {
        file: 'store/state-apply.ts',
        find: "carryOut: outcome.type === 'refused' ? undefined : carryOut",
        replace: 'carryOut',
      },
    ],
  ],
  [
    'misses rows of a range that have not come to LevelDB',
    [
      {
        file: 'store/state-fetch.ts',
        find: 'this.#overlay.within(rowName(gte), rowName(lt))',
        replace: '[]',
      },
    ],
  ],
  [
    'forgets that a record was to expire at another time',
    [
      {
        file: 'store/state-changes.ts',
        find: 'if (old !== undefined && before?.expires !== after?.expires) {',
        replace: 'if (false) {',
      },
    ],
  ],
  [
    'shows one user of an app the keys of another',
    [
      {
        file: 'store/state-steps.ts',
        find: 'Buffer.concat([place.prefix, key])',
        replace: 'key',
      },
    ],
  ],
  [
    'judges only the operations of the branch that is taken',
    [
      {
        file: 'store/state-transaction.ts',
        find: '[...then, ...otherwise].every',
        replace: 'then.every',
      },
    ],
  ],
]

/** Of the logs that are tried, the same in every run. */
const seed = 1

/** How many logs it took to tell; undefined if none of them did. */
async function hunt(edits: readonly Edit[], asked: Hunt): Promise<number | undefined> {
  const home = mkdtempSync(join(tmpdir(), 'trivet-state-variant-'))
  try {
    mkdirSync(join(home, 'test'))
    for (const part of ['src', 'test/store', 'package.json']) {
      cpSync(join(root, part), join(home, part), { recursive: true })
    }
    symlinkSync(join(root, 'node_modules'), join(home, 'node_modules'))
    const place = (file: string) => join(home, 'src', file)
    const texts = edited({ name: 'a state machine', seed, edits }, (file) =>
      readFileSync(place(file), 'utf8'),
    )
    for (const [file, text] of texts) writeFileSync(place(file), text)
    const { promise, resolve: answer, reject } = Promise.withResolvers<number | undefined>()
    const worker = new Worker(pathToFileURL(join(home, 'test/store/state-hunt.ts')), { workerData: asked })
    worker.once('message', answer)
    worker.once('error', reject)
    worker.once('exit', (code) => reject(new Error(`The thread ended with ${code} and no answer`)))
    return await promise
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

describe('a state machine that', () => {
  it.each(variants)('%s is told from the model', { timeout: 60_000 }, async (_, edits) => {
    expect(await hunt(edits, { seed, most: 1000 })).toBeGreaterThan(0)
  })

  it('is as it should be is not', { timeout: 60_000 }, async () => {
    expect(await hunt([], { seed, most: 50 })).toBeUndefined()
  })
})
