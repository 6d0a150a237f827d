// `trivet completion`: scripts that make a shell complete commands and flags, written from the commands themselves.

import { Argument, type Command } from 'commander'

import { endWithReader, example } from './command.ts'

const shells = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof shells)[number]

/** Adds `completion`. */
export function addCompletionCommand(program: Command): void {
  program
    .command('completion')
    .addArgument(new Argument('<shell>', 'the shell it is for').choices(shells))
    .summary('write a script that completes commands and flags')
    .description(
      'Writes a completion script to standard output. In bash: source <(trivet completion bash). In zsh the same, after ' +
        'compinit. In fish: trivet completion fish | source.',
    )
    .addHelpText('after', example('completion bash > ~/.local/share/bash-completion/completions/trivet'))
    .action((shell: Shell) => {
      endWithReader()
      process.stdout.write(scripts[shell](entriesOf(program)))
    })
}

/** One thing that may stand next on a line. */
type Word = { readonly text: string; readonly about: string }

/** A command, or the program itself, and what may follow it. */
type Entry = {
  /** `/token/create`; empty for the program. */
  readonly path: string
  readonly commands: readonly Word[]
  readonly flags: readonly (Word & { readonly takesValue: boolean; readonly choices: readonly string[] })[]
  /** What its argument may be, where that is a choice. */
  readonly choices: readonly string[]
}

function entriesOf(command: Command, path = ''): readonly Entry[] {
  const flags = command.options.flatMap((option) =>
    option.long === undefined || option.long === null
      ? []
      : [
          {
            text: option.long,
            about: option.description,
            takesValue: option.required || option.optional,
            choices: option.argChoices ?? [],
          },
        ],
  )
  const help = { text: '--help', about: 'display help for command', takesValue: false, choices: [] }
  const own: Entry = {
    path,
    commands: command.commands.map((one) => ({ text: one.name(), about: one.summary() })),
    flags: [...flags, help],
    choices: command.registeredArguments.flatMap((argument) => argument.argChoices ?? []),
  }
  return [own, ...command.commands.flatMap((one) => entriesOf(one, `${path}/${one.name()}`))]
}

const scripts: Readonly<Record<Shell, (entries: readonly Entry[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
}

/** Flags whose value is one of few, by flag. */
function choicesByFlag(entries: readonly Entry[]): ReadonlyMap<string, readonly string[]> {
  const flags = entries.flatMap((entry) => entry.flags)
  return new Map(
    flags.filter(({ choices }) => choices.length > 0).map(({ text, choices }) => [text, choices]),
  )
}

/** Flags that take any value, for which files are as good a guess as any. */
function freeFlags(entries: readonly Entry[]): readonly string[] {
  const flags = entries.flatMap((entry) => entry.flags)
  const free = flags.filter(({ takesValue, choices }) => takesValue && choices.length === 0)
  return [...new Set(free.map(({ text }) => text))]
}

function paths(entries: readonly Entry[]): readonly string[] {
  return entries.map(({ path }) => path).filter((path) => path !== '')
}

// The scripts walk over the words typed so far and follow those that name a command. All words of ours are made of
// letters, digits and dashes, so that none needs quoting; what is said about them may hold anything.

function bashScript(entries: readonly Entry[]): string {
  const cases = entries.map(({ path, commands, flags, choices }) => {
    const words = [...commands, ...flags].map(({ text }) => text)
    return `    '${path}') words='${[...words, ...choices].join(' ')}' ;;`
  })
  const choices = [...choicesByFlag(entries)].map(
    ([flag, values]) =>
      `    ${flag}) COMPREPLY=($(compgen -W '${values.join(' ')}' -- "$current")); return ;;`,
  )
  return `# bash completion for trivet
_trivet() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} path='' words='' word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$path/$word" in
    ${paths(entries).join('|')}) path="$path/$word" ;;
    esac
  done
  COMPREPLY=()
  case "$previous" in
${choices.join('\n')}
    ${freeFlags(entries).join('|')}) return ;;
  esac
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _trivet trivet
`
}

function zshScript(entries: readonly Entry[]): string {
  const described = (words: readonly Word[]): string =>
    words.map(({ text, about }) => quoted(`${text}:${about.replaceAll(':', '\\:')}`)).join(' ')
  const cases = entries.map(
    ({ path, commands, flags, choices }) =>
      `    '${path}') commands=(${described(commands)}${choices.join(' ')}) flags=(${described(flags)}) ;;`,
  )
  const choices = [...choicesByFlag(entries)].map(
    ([flag, values]) => `    ${flag}) compadd -- ${values.join(' ')}; return ;;`,
  )
  return `#compdef trivet
_trivet() {
  local curpath='' word
  local -a commands flags
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$curpath/$word" in
    ${paths(entries).join('|')}) curpath="$curpath/$word" ;;
    esac
  done
  case "$words[CURRENT-1]" in
${choices.join('\n')}
    ${freeFlags(entries).join('|')}) _files; return ;;
  esac
  case "$curpath" in
${cases.join('\n')}
  esac
  if [[ "$PREFIX" == -* ]]; then
    _describe -o flag flags
  elif (( \${#commands} )); then
    _describe command commands
  else
    _files
  fi
}
compdef _trivet trivet
`
}

function fishScript(entries: readonly Entry[]): string {
  const lines = entries.flatMap(({ path, commands, flags, choices }) => {
    const at = `complete -c trivet -n '__trivet_at "${path}"'`
    const few = commands.length > 0 || choices.length > 0
    return [
      ...commands.map(
        ({ text, about }) => `${at} -f -a ${text} -d ${quoted(about.replaceAll('\\', '\\\\'))}`,
      ),
      ...(choices.length > 0 ? [`${at} -f -a '${choices.join(' ')}'`] : []),
      ...flags.map(({ text, about, takesValue, choices: values }) => {
        const value = values.length > 0 ? ` -x -a '${values.join(' ')}'` : takesValue ? ' -r' : ''
        return `${at}${few ? ' -f' : ''} -l ${text.slice(2)}${value} -d ${quoted(about.replaceAll('\\', '\\\\'))}`
      }),
    ]
  })
  return `# fish completion for trivet
function __trivet_at
  set -l path ''
  for word in (commandline -opc)[2..-1]
    switch "$path/$word"
      case ${paths(entries).join(' ')}
        set path "$path/$word"
    end
  end
  test "$path" = "$argv[1]"
end
${lines.join('\n')}
`
}

/** In single quotes, as zsh reads them, and fish where there is no backslash. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
