// The simulator bites: each program that is broken on purpose is caught, in few seeds from one that is known to.

import { describe, expect, it } from 'vitest'
import { hunt } from '../variant-run.ts'
import { variants } from '../variants.ts'

/** As the program changes, what a seed does changes too: so many are tried before a variant counts as missed. */
const most = 120

describe('a node that', () => {
  it.each(variants)('$name is caught', { timeout: 180_000 }, async (variant) => {
    const caught = await hunt(variant, { first: variant.seed, most })
    process.stdout.write(`${variant.name}: ${caught.type} after ${caught.seeds} seeds\n`)
    expect(caught.type).toBe('caught')
  })
})
