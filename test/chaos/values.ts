// Values that show by themselves whether they are whole: a name, and a filling that follows from it.

/** The value of this name: some tens of bytes for most, a few kilobytes for others. */
export function sealValue(name: string): string {
  const number = hash(name)
  const bytes = number % 4 === 0 ? number % 4000 : number % 60
  return `${name}|${`${name}-`.repeat(Math.ceil(bytes / (name.length + 1))).slice(0, bytes)}`
}

/** The name of a value; where a counter stands. Throws for what neither `sealValue` nor a counter has made. */
export function openValue(text: string): string {
  if (/^\d+$/.test(text)) return text
  const [name = ''] = text.split('|', 1)
  if (sealValue(name) === text) return name
  throw new Error(`a value that nobody wrote: ${JSON.stringify(text.slice(0, 200))}`)
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (const character of text) value = Math.imul(value ^ (character.codePointAt(0) ?? 0), 0x01000193) >>> 0
  return value
}
