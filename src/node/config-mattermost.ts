// How the store of Mattermost's apps answers, as a configuration file says it: after the documentation, or after the code.

import type { ConfigReader, Place } from './config-reader.ts'

export type MattermostConfig = {
  /** Follow what Mattermost's code does where its documentation says otherwise. */
  readonly strict: boolean
  /** The largest value, in bytes. */
  readonly valueBytes: number
}

/** The largest value that Mattermost itself takes, in bytes. */
const mattermostValueBytes = 8_192

/** `most`: the largest value that any store takes, in bytes. */
export function readMattermost(reader: ConfigReader, place: Place, most: number): MattermostConfig {
  const standard = Math.min(mattermostValueBytes, most)
  const fields = reader.isPresent(place) ? reader.fields(place, ['strict', 'valueBytes']) : undefined
  if (fields === undefined) return { strict: false, valueBytes: standard }
  const strict = reader.flag(fields.strict, false)
  if (!strict) {
    return { strict, valueBytes: reader.whole(fields.valueBytes, { least: 1, most }, standard) }
  }
  if (reader.isPresent(fields.valueBytes)) {
    reader.mistake(
      fields.valueBytes,
      `strict takes values of ${mattermostValueBytes} bytes as Mattermost does: leave this out`,
    )
  }
  if (most < mattermostValueBytes) {
    reader.mistake(
      fields.strict,
      `strict takes values of ${mattermostValueBytes} bytes, but limits.valueBytes is ${most}`,
    )
  }
  return { strict, valueBytes: mattermostValueBytes }
}
