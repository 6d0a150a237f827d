import { defineConfig } from 'vitest/config'

// Three projects: `unit` has everything that runs in one process, `integration` starts real node processes, and `sim` runs
// hundreds of simulated clusters, which `npm test` leaves to `npm run test:sim`.
export default defineConfig({
  test: {
    // Also on two cores, where the default is one: much of a test is waiting.
    maxWorkers: 2,
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/integration/**', 'test/sim/long/**'],
          testTimeout: 20_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          testTimeout: 90_000,
          hookTimeout: 60_000,
          // Real processes want the machine for themselves.
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: 'sim',
          include: ['test/sim/long/**/*.test.ts'],
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})
