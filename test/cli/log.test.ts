// The log of a node, as people see it and as it is looked through after a death.

import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { expect, it } from 'vitest'

import { createLog, isRoutine, lastError, logPath, plainLine } from '../../src/cli/log.ts'
import { temporaryDirectory } from './run.ts'

it('shows a line as time, level, sentence and fields', () => {
  const record = {
    level: 40,
    time: Date.UTC(2030, 0, 1, 12, 30, 1, 5),
    pid: 1,
    node: 'n1',
    role: 'leader',
    term: 3,
    msg: 'role',
  }
  expect(plainLine(JSON.stringify(record))).toBe('12:30:01.005 warn  role role=leader term=3')
  expect(plainLine('no JSON\n')).toBe('no JSON')
  expect(isRoutine(plainLine(JSON.stringify({ ...record, level: 30 })))).toBe(true)
  expect(isRoutine(plainLine(JSON.stringify(record)))).toBe(false)
  expect(isRoutine('no JSON')).toBe(false)
})

it('keeps the last error of a process findable, also behind half a line', async () => {
  const directory = await temporaryDirectory()
  expect(await lastError(directory, process.pid)).toBeUndefined()
  const { logger, flush } = await createLog(directory, 'n1')
  logger.error({ err: new Error('no space left') }, 'the log could not be written')
  logger.info('going on')
  await expect.poll(async () => (await readFile(logPath(directory), 'utf8')).split('\n').length).toBe(3)
  flush()
  await writeFile(logPath(directory), '{"level":50,"pid":', { flag: 'a' })
  expect(await lastError(directory, process.pid)).toBe('the log could not be written: no space left')
  expect(await lastError(directory, 1)).toBeUndefined()
})

it('that cannot be opened is refused with one sentence', async () => {
  const directory = await temporaryDirectory()
  await mkdir(logPath(directory))
  await expect(createLog(directory, 'n1')).rejects.toThrow(/^The log .*node\.log cannot be opened: EISDIR/)
})

it('has the last words of a process that ends at once', async () => {
  const directory = await temporaryDirectory()
  const { logger, flush } = await createLog(directory, 'n1')
  logger.fatal('the end')
  flush()
  expect(await lastError(directory, process.pid)).toBe('the end')
})
