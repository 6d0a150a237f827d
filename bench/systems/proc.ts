// What Linux tells about a process: the processor time it took and the memory it holds.

import { readFile } from 'node:fs/promises'

/** Linux counts in hundredths of a second on every machine we know (`getconf CLK_TCK`). */
const ticksPerSecond = 100

/** Seconds of processor time, in the program and in the kernel for it, from the text of `/proc/<pid>/stat`. */
export function cpuSecondsIn(stat: string): number {
  // The name in parentheses may have spaces and parentheses of its own: count from its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
}

/** Resident megabytes (10^6 bytes), from the text of `/proc/<pid>/status`. */
export function residentMegabytesIn(status: string): number {
  const [, kibibytes] = /^VmRSS:\s+(\d+) kB$/m.exec(status) ?? []
  return (Number(kibibytes) * 1024) / 1e6
}

export async function cpuSeconds(pid: number): Promise<number> {
  return cpuSecondsIn(await readFile(`/proc/${pid}/stat`, 'utf8'))
}

export async function residentMegabytes(pid: number): Promise<number> {
  return residentMegabytesIn(await readFile(`/proc/${pid}/status`, 'utf8'))
}
