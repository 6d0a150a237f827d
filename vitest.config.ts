import { defineConfig } from 'vitest/config'

// Six projects: `unit` has everything that runs in one process, `integration` starts real node processes. What takes longer,
// `long` with real processes, `slow` with one process, and `sim` with hundreds of simulated clusters, `npm test` leaves to
// `npm run test:long`; and `browser`, which needs a Chromium, to `npm run test:browser`.

const longOnes = [
  'backup',
  'catch-up',
  'chaos',
  'counting',
  'crowd',
  'failover',
  'hostile',
  'members',
  'once',
  'power',
  'recover',
  'rolling',
  'rot',
  'strangers',
  'takeover',
  'watchers',
].map((name) => `test/integration/${name}.test.ts`)

/** Of one process, and of many starts of the command. */
const slowUnits = [
  'cli/administration',
  'cli/data',
  'cli/recover',
  'cli/start',
  'docs/sdk',
  'node/full-disks',
  'node/members',
  'sdk/discovery',
  'store/state-rot',
].map((name) => `test/${name}.test.ts`)

/**
 * A worker loads the program once for all its files: a process for each took a third of all CPU time. So no file may replace
 * a module or leave a change behind in one, or in a global; those that need a process for themselves start one.
 */
const shared = { isolate: false }

/** Real processes want the machine for themselves. */
const alone = { testTimeout: 90_000, hookTimeout: 60_000, fileParallelism: false }

export default defineConfig({
  test: {
    // Also on two cores, where the default is one: much of a test is waiting.
    maxWorkers: 2,
    projects: [
      {
        test: {
          ...shared,
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [...slowUnits, 'test/integration/**', 'test/sim/long/**', 'test/browser/**'],
          testTimeout: 20_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...shared,
          ...alone,
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          exclude: longOnes,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...alone,
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          sequence: { groupOrder: 4 },
        },
      },
      {
        test: { ...alone, name: 'long', include: longOnes, sequence: { groupOrder: 2 } },
      },
      // These two side by side: neither starts a cluster of processes.
      {
        test: {
          ...shared,
          name: 'slow',
          include: slowUnits,
          testTimeout: 90_000,
          hookTimeout: 60_000,
          sequence: { groupOrder: 3 },
        },
      },
      {
        test: {
          ...shared,
          name: 'sim',
          include: ['test/sim/long/**/*.test.ts'],
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
})
