// Lines for people to paste into a shell.

import { isAbsolute, relative, sep } from 'node:path'

/** The text as one word of any POSIX shell, and of fish. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}

/** A path as one would type it here: relative when it lies below the working directory. */
export function shortPath(path: string): string {
  if (!isAbsolute(path)) return path
  const short = relative(process.cwd(), path)
  return short === '' || short.startsWith('..') ? path : `.${sep}${short}`
}

/** Reads the token when the line runs, so that it stands in no history. */
export function tokenFrom(path: string): string {
  return `$(cat ${shellWord(path)})`
}

/** Three lines of curl: write through one node, read through another, look at the cluster through a third. */
export function curlLines(urls: readonly string[], tokenPath: string): readonly string[] {
  const at = (index: number): string => urls[index % urls.length] ?? ''
  const authorization = `-H "Authorization: Bearer ${tokenFrom(tokenPath)}"`
  const key = '/v1/stores/default/keys/greeting'
  // Bodies end without a newline; pasted together the answers would run into each other.
  const curl = "curl -w '\\n'"
  return [
    `${curl} -X PUT ${authorization} -H 'Content-Type: text/plain' --data-binary 'hello' ${at(0)}${key}`,
    `${curl} ${authorization} ${at(1)}${key}`,
    `${curl} ${authorization} ${at(2)}/v1/cluster`,
  ]
}
