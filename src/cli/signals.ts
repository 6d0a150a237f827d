// How a long-lived process is told to stop, what becomes of somebody who asks twice, and of a terminal that has gone.

/** npm passes a Ctrl-C on to a process that the terminal has told already: within this time it counts once. */
const echoMs = 500

/**
 * Resolves with the first request to stop: SIGINT, SIGTERM or SIGHUP, or the end of the process that started this one
 * with a channel to it. A second SIGINT calls `hurry`.
 */
export function untilStopped(hurry: () => void): Promise<string> {
  return new Promise((resolve) => {
    let firstAt: number | undefined
    const stop = (why: string): void => {
      const now = performance.now()
      firstAt ??= now
      if (why === 'SIGINT' && now - firstAt > echoMs) hurry()
      resolve(why)
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop(signal))
    if (process.channel !== undefined) {
      process.once('disconnect', () => stop('the end of the parent process'))
      // Listening must not keep a process alive that could not start.
      process.channel.unref()
    }
  })
}

/**
 * A closed terminal or pipe must not end a process that has others to serve, least of all in the middle of its stop.
 * Nothing is lost that is not in the log.
 */
export function outliveOutput(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
}
