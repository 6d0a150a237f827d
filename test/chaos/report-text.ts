// Text that goes into a page: escaped, wherever it came from.

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

/** For text and for attributes. */
export function escapeText(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character)
}

/** For a script element, which knows no entities. */
export function asScript(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c')
}
