/**
 * The options before the verb. Pure.
 *
 * Words from the verb on are the kernel's and reach the program untouched, whatever they look like: a client id may be
 * `0x10` or `-rf`. So this ends at the first word that is no option.
 */
import { Failed } from '../failure.ts'

/** Spelled once, with what is usual where none is given: for upcalls (here, settings.ts) and for people (yargs). */
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
    summary: 'where notes about starts are kept while the machine is up',
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

/** An option in a list of words, for people. */
export const summaryOfOption = (name: OptionName): string => {
  const { summary, usual }: Option = options[name]
  return usual === undefined ? summary : `${summary} (default ${usual})`
}

export type OptionName = keyof typeof options

export interface Words {
  /** Options in the order given; the last of a name counts. */
  readonly given: ReadonlyMap<OptionName, string>
  /** The first word that is no option. */
  readonly verb: string | undefined
  readonly rest: readonly string[]
}

/** @throws Failed bad-argument for an option that does not exist, or has no value. */
export function parseWords(words: readonly string[]): Words {
  const given = new Map<OptionName, string>()
  const queue = [...words]
  for (let word = queue.shift(); word !== undefined; word = queue.shift()) {
    refuseShortEquals([word])
    if (word === '--') return { given, verb: queue.shift(), rest: queue }
    if (!word.startsWith('-') || word === '-') return { given, verb: word, rest: queue }
    const { name, value, bundled } = parseOption(word)
    if (bundled !== undefined) queue.unshift(bundled)
    if (!('takes' in options[name])) {
      if (value !== undefined) throw new Failed({ kind: 'bad-argument', why: `option --${name} takes no value`, word })
      given.set(name, '')
      continue
    }
    const taken = value ?? queue.shift()
    if (taken === undefined || taken === '')
      throw new Failed({ kind: 'bad-argument', why: `option --${name} needs a value`, word })
    given.set(name, taken)
  }
  return { given, verb: undefined, rest: [] }
}

/**
 * Whether a person wants to see it, in words that need not be understood: what is said of a mistake in them goes there,
 * too.
 */
export const asksForForeground = (words: readonly string[]): boolean =>
  words.some((word) => /^(?:--foreground|-[df]*f[df]*)$/.test(word))

/**
 * `-s=/x` is `=/x` to some programs and `/x` to others, so it is nothing here.
 * @throws Failed bad-argument. Words after `--` are no options.
 */
export function refuseShortEquals(words: readonly string[]): void {
  const end = words.indexOf('--')
  const word = (end < 0 ? words : words.slice(0, end)).find((word) => /^-[A-Za-z]+=/.test(word))
  if (word !== undefined)
    throw new Failed({ kind: 'bad-argument', why: "the value of a short option stands after it, without '='", word })
}

/** `--name`, `--name=value`, `-n`, `-nvalue`, or several flags in one word: `-fd`. */
function parseOption(word: string): { name: OptionName; value?: string; bundled?: string } {
  const equals = word.indexOf('=')
  const long = !word.startsWith('--') ? undefined : equals < 0 ? word.slice(2) : word.slice(2, equals)
  const value = long === undefined || equals < 0 ? undefined : word.slice(equals + 1)
  for (const key in options) {
    const name = key as OptionName
    const { short, alias, takes }: Option = options[name]
    if (long === name || (long !== undefined && long === alias)) return value === undefined ? { name } : { name, value }
    if (long !== undefined || short === undefined || word[1] !== short) continue
    const more = word.slice(2)
    if (more === '') return { name }
    return takes === undefined ? { name, bundled: `-${more}` } : { name, value: more }
  }
  throw new Failed({ kind: 'bad-argument', why: 'unknown option', word })
}
