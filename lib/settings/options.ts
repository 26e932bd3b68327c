/**
 * The options before the verb. Pure.
 *
 * The verb and all words after it come from the kernel and must not be changed: a client id may look like `0x10` or
 * `-rf`. So parsing ends at the first word that is not an option.
 */
import { Failed } from '../failure.ts'
import { readOptions, type OptionWord } from '../words.ts'

/** Every option and its default, for upcalls (here and in settings.ts) and for people (yargs). */
export const options = {
  'state-dir': {
    takes: 'DIR',
    short: 's',
    alias: 'storagedir',
    usual: '/var/lib/nfs',
    summary: 'the state directory',
  },
  foreground: { short: 'f', summary: "log to stderr instead of the kernel's log" },
  debug: { short: 'd', summary: 'say more' },
  'nfsd-dir': {
    takes: 'DIR',
    usual: '/proc/fs/nfsd',
    summary: "where the kernel's nfsd file system is mounted",
  },
  'run-dir': {
    takes: 'DIR',
    usual: '/run/nfsd-userland-helper',
    summary: 'where notes about starts and upcalls are kept while the machine is up',
  },
  config: { takes: 'FILE', usual: '/etc/nfs.conf', summary: 'the configuration' },
} as const satisfies Record<string, Option>

export interface Option {
  readonly takes?: 'DIR' | 'FILE'
  readonly short?: string
  readonly alias?: string
  readonly usual?: string
  readonly summary: string
}

/** One line about an option, for help and completion. */
export const summaryOfOption = (name: OptionName): string => {
  const { summary, usual }: Option = options[name]
  return usual === undefined ? summary : `${summary} (default ${usual})`
}

export type OptionName = keyof typeof options

export interface Words {
  /** If an option is given twice, the last value counts. */
  readonly given: ReadonlyMap<OptionName, string>
  /** The first word that is not an option. */
  readonly verb: string | undefined
  readonly rest: readonly string[]
}

/** @throws Failed bad-argument for an option that does not exist, or has no value. */
export function parseWords(words: readonly string[]): Words {
  const { given, rest } = readOptions(words, (word) =>
    word.startsWith('-') && word !== '-' && word !== '--' ? optionIn(word) : undefined,
  )
  if (rest[0] === '--') rest.shift()
  const verb = rest.shift()
  return { given, verb, rest }
}

/**
 * Whether `--foreground` is among the options. The words need not be valid: a message about a mistake in them goes to
 * the same place.
 */
export const asksForForeground = (words: readonly string[]): boolean =>
  words.some((word) => /^(?:--foreground|-[df]*f[df]*)$/.test(word))

/** Help and the version are told by the program for people. */
export const asksForHelp = (words: readonly string[]): boolean =>
  words.some((word) => ['--help', '-h', '--version', '-V'].includes(word)) || words[0] === 'help'

/**
 * Refuses `-s=/x`: some programs read `=/x` in it, and others `/x`.
 * @throws Failed bad-argument. Words after `--` are no options.
 */
export function refuseShortEquals(words: readonly string[]): void {
  const end = words.indexOf('--')
  const word = (end < 0 ? words : words.slice(0, end)).find((word) => /^-[A-Za-z]+=/.test(word))
  if (word !== undefined)
    throw new Failed({ kind: 'bad-argument', why: "a short option takes its value without '='", word })
}

/** `--name`, `--name=value`, `-n`, `-nvalue`, or several flags in one word: `-fd`. */
function optionIn(word: string): OptionWord<OptionName> {
  const equals = word.indexOf('=')
  const isLong = word.startsWith('--')
  if (!isLong && equals >= 0) refuseShortEquals([word])
  const name = spelled.get(!isLong ? word.slice(0, 2) : equals < 0 ? word : word.slice(0, equals))
  if (name === undefined) throw new Failed({ kind: 'bad-argument', why: 'unknown option', word })
  const takesValue = 'takes' in options[name]
  if (isLong) return { name, takesValue, value: equals < 0 ? undefined : word.slice(equals + 1) }
  const more = word.slice(2)
  if (more === '') return { name, takesValue }
  return takesValue ? { name, takesValue, value: more } : { name, takesValue, bundled: `-${more}` }
}

/** The options, by the beginning of the words that give them. */
const spelled: ReadonlyMap<string, OptionName> = new Map(
  (Object.keys(options) as OptionName[]).flatMap((name): [string, OptionName][] => {
    const { short, alias }: Option = options[name]
    return [
      [`--${name}`, name],
      ...(alias === undefined ? [] : [[`--${alias}`, name] as [string, OptionName]]),
      ...(short === undefined ? [] : [[`-${short}`, name] as [string, OptionName]]),
    ]
  }),
)
