// How V8's heap grows in a node: the young generation is kept small, which is where most of an idle node's memory would be, and the
// old one is given room.
//
// V8 doubles the space for new objects whenever enough of them survive, to over 100 MB here, and hardly ever takes it back: what a start
// loads is enough for half of that. Nothing is gained by it: a node makes short-lived objects, and 40,000 writes cost the same CPU with
// 4, 16 or 112 MB (measured). V8 reads its bound once, before any of our code runs, but the factor of growth each time, so that is what
// is set: it grows only while collections of new objects come in quick succession, and not beyond `mostBytes`.
//
// Of old objects a node has some 45 MB that stay. V8 would collect them whenever a third of that has come, the bytes of buffers
// counted: on a busy follower every two seconds, each time for nearly nothing: a tenth of all processor time.

import { PerformanceObserver } from 'node:perf_hooks'
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Both halves of it: 8 MiB for new objects. */
const mostBytes = 16 * 1024 * 1024

/** Collections within a second that call for more room. */
const busy = 10

/** To be called before the program is loaded: until `followLoad` it does not grow at all. */
export function holdYoungGeneration(): void {
  setGrowth(false)
}

/**
 * From now on, for the life of the process, the young generation grows by what the node has to do, and the old one is collected
 * when it has doubled.
 */
export function followLoad(): void {
  setFlagsFromString('--heap-growing-percent=100')
  let grows = setGrowth(false)
  const times: number[] = []
  const observer = new PerformanceObserver((list) => {
    for (const { startTime } of list.getEntries()) times.push(startTime)
    times.splice(0, times.length - busy)
    const [first = 0] = times
    const isBusy = times.length === busy && (times.at(-1) ?? 0) - first < 1000
    const wanted = isBusy && youngBytes() < mostBytes
    if (wanted !== grows) grows = setGrowth(wanted)
  })
  observer.observe({ entryTypes: ['gc'] })
}

/**
 * Takes back what loading the program has left behind, also pages with little on them and what other collections keep for
 * later: some 50 MB of memory, for a standstill of about 200 ms. So before anything is served.
 */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  // A context that is made now has it; ours was made before.
  const collect: (options: object) => void = runInNewContext('gc')
  setFlagsFromString('--no-expose-gc')
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' })
}

function setGrowth(grows: boolean): boolean {
  setFlagsFromString(`--semi-space-growth-factor=${grows ? 2 : 1}`)
  return grows
}

function youngBytes(): number {
  return getHeapSpaceStatistics().find((space) => space.space_name === 'new_space')?.space_size ?? 0
}
