// What an operator may name, and within which bounds: one set of rules for the configuration file and for the wire.

/** Names of nodes and stores: lower-case words joined by `-` or `_`, such as `cart-items`. */
export const namePattern = '^[a-z][a-z0-9]*([-_][a-z0-9]+)*$'

export const maxNameLength = 63

/** Names of clusters and tokens are for people: what can be printed, begun and ended by something to see. */
export const titlePattern = '^[!-~]([ -~]{0,61}[!-~])?$'

/** The longest key, in bytes. */
export const maxKeyBytes = 4_096

/** The largest value any configuration may allow, in bytes. */
export const maxValueBytes = 64 * 1_024 * 1_024

/** Ids of Mattermost's apps, users and bots. */
export const holderPattern = '^[!-~]{1,128}$'

/** The longest time to live: 3,650 days, in milliseconds. */
export { maxTtlMs as maxTtl } from '../store/command-shapes.ts'

const name = new RegExp(namePattern)
const title = new RegExp(titlePattern)
const holder = new RegExp(holderPattern)

export function isName(text: string): boolean {
  return text.length <= maxNameLength && name.test(text)
}

export function isHolder(text: string): boolean {
  return holder.test(text)
}

export function isTitle(text: string): boolean {
  return title.test(text)
}
