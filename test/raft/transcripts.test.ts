// The recorded transcripts play out as recorded. After a wanted change: TRIVET_RECORD=1 records them anew; read the diff.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Transcript } from './transcript.ts'

const folder = join(import.meta.dirname, 'transcripts')
const recording = process.env['TRIVET_RECORD'] === '1'

describe('transcripts', () => {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name)
    const text = readFileSync(path, 'utf8')
    const [intent = ''] = text.split('\n')

    it(`${name}: ${intent.replace(/^# /, '')}`, () => {
      expect(intent, 'opens with a sentence of intent').toMatch(/^# [A-Z].*[.:]$/)
      const played = Transcript.play(text)
      if (recording) writeFileSync(path, played)
      else expect(played).toBe(text)
    })
  }
})
