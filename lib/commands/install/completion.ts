/**
 * Completion for bash and zsh, from the vocabulary. The scripts contain all words, so that the Tab key in a root shell
 * never runs the program. Pure.
 */
import { command } from '../shared/command.ts'
import { print } from '../shared/print.ts'
import type { Option, Vocabulary, Word } from '../shared/vocabulary.ts'

const program = 'nfsd-userland-helper'

export const shells = ['bash', 'zsh'] as const
export type Shell = (typeof shells)[number]

export const completionCommand = command(
  'completion <SHELL>',
  'print the completion for a shell: bash or zsh',
  (cli) =>
    cli
      .positional('SHELL', { choices: shells, demandOption: true, describe: 'the shell' })
      .example('source <($0 completion bash)', 'for this shell only'),
  ({ SHELL }, _settings, commandLine) => {
    print(completionFor(SHELL, commandLine.vocabulary()))
    return 0
  },
)

export const completionFor = (shell: Shell, vocabulary: Vocabulary): string =>
  shell === 'bash' ? bash(vocabulary) : zsh(vocabulary)

function bash({ options, verbs, commands }: Vocabulary): string {
  const words = [...verbs, ...commands]
  const spellings = (list: readonly Option[]): string => list.flatMap((option) => option.spellings).join(' ')
  // What follows an option that takes a value, for each command; the program's own options are the same everywhere.
  const values = (list: readonly Option[], prefix: string): string[] =>
    list
      .filter((option) => option.takes !== undefined)
      .map(({ spellings, takes }) => {
        const patterns = spellings.map((spelling) => `${prefix}${spelling}`)
        return `    ${patterns.join(' | ')}) ${bashValue(takes)}; return ;;`
      })
  const ofCommand = (known: Word): string =>
    `  ${known.name}) ${bashArguments(known, `${spellings(known.options)} ${spellings(options)}`)} ;;`
  return `# bash completion for ${program}(8), made from its tables of words.
_nfsd_userland_helper() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} word= i
  COMPREPLY=()
  # The first word that is no option, nor what an option takes.
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
    ${valued(options).join(' | ')}) ((i++)) ;;
    -*) ;;
    *) word=\${COMP_WORDS[i]}; break ;;
    esac
  done
  case $word:$previous in
${values(options, '*:').join('\n')}
${commands.flatMap((known) => values(known.options, `${known.name}:`)).join('\n')}
  esac
  case $word in
  '') COMPREPLY=($(compgen -W '${spellings(options)} ${words.map(({ name }) => name).join(' ')}' -- "$current")) ;;
${commands.map(ofCommand).join('\n')}
  esac
}
complete -F _nfsd_userland_helper ${program}
`
}

const valued = (list: readonly Option[]): string[] =>
  list.filter(({ takes }) => takes !== undefined).flatMap(({ spellings }) => spellings)

function bashValue(takes: Option['takes']): string {
  if (takes === 'DIR') return 'compopt -o filenames 2> /dev/null; COMPREPLY=($(compgen -d -- "$current"))'
  if (takes === 'FILE') return 'compopt -o filenames 2> /dev/null; COMPREPLY=($(compgen -f -- "$current"))'
  if (takes === 'TEXT' || takes === undefined) return ':'
  return `COMPREPLY=($(compgen -W '${takes.join(' ')}' -- "$current"))`
}

function bashArguments({ takes }: Word, words: string): string {
  const all = typeof takes === 'object' ? [words, ...takes].join(' ') : words
  const offered = `COMPREPLY=($(compgen -W '${all}' -- "$current"))`
  return takes === 'FILE' ? `if [[ $current == -* ]]; then ${offered}; else ${bashValue('FILE')}; fi` : offered
}

function zsh({ options, verbs, commands }: Vocabulary): string {
  const described = (words: readonly Word[]): string =>
    words.map(({ name, summary }) => `    ${single(`${name}:${summary}`)}`).join('\n')
  const ofCommand = (known: Word): string => {
    const specifications = [...known.options.flatMap(zshOption), ...zshArgument(known)].map((spec) => spec.trim())
    return `    ${known.name}) _arguments -s -S $own ${specifications.join(' ')} ;;`
  }
  return `#compdef ${program}
# zsh completion for ${program}(8), made from its tables of words.
_nfsd_userland_helper() {
  local state line context
  local -a verbs commands own
  verbs=(
${described(verbs)}
  )
  commands=(
${described(commands)}
  )
  own=(
${options.flatMap(zshOption).join('\n')}
  )
  _arguments -s -S -C $own '1: :->word' '*:: :->rest' && return
  case $state in
  word)
    _describe -t commands command commands
    _describe -t verbs 'verb (used by the kernel)' verbs
    ;;
  rest)
    case $words[1] in
${commands.map(ofCommand).join('\n')}
    esac
    ;;
  esac
}
# Autoloaded, this file is the function's body; sourced, it only defines it.
if [[ $funcstack[1] == _${program} ]]; then
  _nfsd_userland_helper "$@"
else
  compdef _nfsd_userland_helper ${program}
fi
`
}

/** One specification for each spelling. Each excludes the others. */
function zshOption({ spellings, summary, takes }: Option): string[] {
  const about = summary.replaceAll(/[[\]:\\]/g, String.raw`\$&`)
  const value =
    takes === undefined
      ? ''
      : takes === 'DIR'
        ? ':directory:_files -/'
        : takes === 'FILE'
          ? ':file:_files'
          : takes === 'TEXT'
            ? ':value: '
            : `:value:(${takes.join(' ')})`
  return spellings.map((spelling) => {
    const attached = takes !== undefined && spelling.startsWith('--') ? '=' : ''
    return `    ${single(`(${spellings.join(' ')})${spelling}${attached}[${about}]${value}`)}`
  })
}

const zshArgument = ({ takes }: Word): string[] =>
  takes === undefined ? [] : [single(takes === 'FILE' ? '*:file:_files' : `*:argument:(${takes.join(' ')})`)]

const single = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`
