// How stores, tokens, apps and who uses them may be called: the same on every member for ever.

/** Names of nodes and stores: lower-case words joined by `-` or `_`, such as `cart-items`. */
export const namePattern = '^[a-z][a-z0-9]*([-_][a-z0-9]+)*$'

export const maxNameLength = 63

/** Names of clusters and tokens are for people: what can be printed, begun and ended by something to see. */
export const titlePattern = '^[!-~]([ -~]{0,61}[!-~])?$'

/** Ids of Mattermost's apps, users and bots. */
export const holderPattern = '^[!-~]{1,128}$'

const name = new RegExp(namePattern)
const title = new RegExp(titlePattern)
const holder = new RegExp(holderPattern)

export function isName(text: string): boolean {
  return text.length <= maxNameLength && name.test(text)
}

export function isTitle(text: string): boolean {
  return title.test(text)
}

export function isHolder(text: string): boolean {
  return holder.test(text)
}
