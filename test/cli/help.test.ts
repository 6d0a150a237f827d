// Every command has help with an example that can be pasted, and completion knows every command.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import type { Command } from 'commander'
import { describe, expect, it } from 'vitest'
import { createProgram } from '../../src/cli/program.ts'

const mainFile = resolve(import.meta.dirname, '../../src/cli/main.ts')

type Leaf = { readonly path: string; readonly command: Command }

function leaves(command: Command, path = ''): readonly Leaf[] {
  if (command.commands.length === 0) return [{ path, command }]
  return command.commands.flatMap((one) => leaves(one, `${path} ${one.name()}`.trim()))
}

function helpOf(command: Command): string {
  let text = ''
  command.configureOutput({ writeOut: (part) => (text += part) })
  command.outputHelp()
  return text
}

/** The words of a line as a shell would pass them, up to a redirection or pipe. */
function wordsOf(line: string): readonly string[] {
  const [words = ''] = line.split(/ [<>|]/)
  return words.split(' ').slice(1)
}

const commands = leaves(
  createProgram(
    () => undefined,
    () => undefined,
  ),
)

describe('the help of every command', () => {
  it('may be cut short by its reader', async () => {
    const child = spawn(process.execPath, [mainFile, 'set', '--help'])
    child.stdout.destroy()
    const [stderr, [status]] = await Promise.all([text(child.stderr), once(child, 'exit')])
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  })

  it('is there for each command of the contract', () => {
    expect(commands.map(({ path }) => path).sort()).toMatchInlineSnapshot(`
      [
        "app list",
        "app remove",
        "backup",
        "completion",
        "delete",
        "dev",
        "export",
        "get",
        "import",
        "increment",
        "keygen",
        "keys",
        "leader",
        "member add",
        "member list",
        "member remove",
        "member replace",
        "recover",
        "restore",
        "set",
        "start",
        "status",
        "store create",
        "store drop",
        "store list",
        "token create",
        "token list",
        "token revoke",
        "token rotate",
        "touch",
        "watch",
      ]
    `)
  })

  it.each(commands.map(({ path }) => path))('has an example that parses: %s', async (path) => {
    const complaints: string[] = []
    const program = createProgram(
      (complaint) => complaints.push(complaint),
      () => undefined,
    )
    const leaf = leaves(program).find((one) => one.path === path)
    const [, line = ''] = /\nExample:\n {2}(trivet [^\n]+)\n/.exec(helpOf(leaf?.command ?? program)) ?? []
    expect(line).toMatch(new RegExp(`^trivet ${path}\\b`))
    let ran = ''
    for (const one of leaves(program)) {
      one.command.action(() => {
        ran = one.path
      })
    }
    await program.parseAsync([...wordsOf(line)], { from: 'user' })
    expect({ ran, complaints }).toEqual({ ran: path, complaints: [] })
  })
})

describe('trivet completion', () => {
  async function scriptFor(shell: string): Promise<string> {
    const chunks: string[] = []
    const write = process.stdout.write
    process.stdout.write = (chunk: string | Uint8Array) => chunks.push(String(chunk)) > 0
    try {
      await createProgram(
        () => undefined,
        () => undefined,
      ).parseAsync(['completion', shell], { from: 'user' })
    } finally {
      process.stdout.write = write
    }
    return chunks.join('')
  }

  /** What bash offers when the last word is to be completed. */
  async function offered(...words: readonly string[]): Promise<readonly string[]> {
    const script = await scriptFor('bash')
    const line = words.map((word) => `'${word}'`).join(' ')
    const asked = `COMP_WORDS=(${line}); COMP_CWORD=${words.length - 1}; _trivet; printf '%s\\n' "\${COMPREPLY[@]}"`
    const { stdout } = await promisify(execFile)('bash', ['-c', `${script}\n${asked}`])
    return stdout.split('\n').filter((word) => word !== '')
  }

  it('offers commands, their commands, their flags and the values of those in bash', async () => {
    expect(await offered('trivet', 'tok')).toEqual(['token'])
    expect(await offered('trivet', 'token', '')).toEqual(['list', 'create', 'revoke', 'rotate', '--help'])
    expect(await offered('trivet', 'token', 'create', 'cart', '--mo')).toEqual(['--monitor'])
    expect(await offered('trivet', 'get', 'k', '--consistency', 's')).toEqual(['stale'])
    expect(await offered('trivet', 'completion', 'z')).toEqual(['zsh'])
    expect(await offered('trivet', 'set', 'k', '--file', '')).toEqual([])
  })

  it.each(['bash', 'zsh', 'fish'])('knows every command and flag in %s', async (shell) => {
    const script = await scriptFor(shell)
    for (const { path, command } of commands) {
      expect(script).toContain(`/${path.replaceAll(' ', '/')}`)
      for (const { long } of command.options)
        expect(script).toContain(shell === 'fish' ? long?.slice(2) : long)
    }
  })

  it('is one sentence and exit status 2 for a shell that it does not know', async () => {
    const { run } = await import('../../src/cli/program.ts')
    const complaints: string[] = []
    expect(await run(['completion', 'csh'], (complaint) => complaints.push(complaint))).toBe(2)
    expect(complaints).toEqual([expect.stringContaining('Allowed choices are bash, zsh, fish')])
  })
})
