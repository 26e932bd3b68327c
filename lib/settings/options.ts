/**
 * The options before the verb. Pure.
 *
 * Words from the verb on are the kernel's and reach the program untouched, whatever they look like: a client id may be
 * `0x10` or `-rf`. So this ends at the first word that is no option.
 */
import { Failed } from '../failure.ts'

/** Spelled once, for upcalls (here) and for people (yargs). */
export const options = {
  'state-dir': { takes: 'DIR', short: 's', alias: 'storagedir', summary: 'the state directory (default /var/lib/nfs)' },
  foreground: { takes: undefined, short: 'f', alias: undefined, summary: "log to stderr instead of the kernel's log" },
  debug: { takes: undefined, short: 'd', alias: undefined, summary: 'say more' },
  'nfsd-dir': {
    takes: 'DIR',
    short: undefined,
    alias: undefined,
    summary: "where the kernel's nfsd file system is mounted (default /proc/fs/nfsd)",
  },
  'run-dir': {
    takes: 'DIR',
    short: undefined,
    alias: undefined,
    summary: 'where notes about starts are kept while the machine is up (default /run/nfsd-userland-helper)',
  },
  config: { takes: 'FILE', short: undefined, alias: undefined, summary: 'read this instead of /etc/nfs.conf' },
} as const satisfies Record<
  string,
  { takes?: string | undefined; short?: string | undefined; alias?: string | undefined; summary: string }
>

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
    if (options[name].takes === undefined) {
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
    const { short, alias, takes } = options[name]
    if (long === name || (long !== undefined && long === alias)) return value === undefined ? { name } : { name, value }
    if (long !== undefined || short === undefined || word[1] !== short) continue
    const more = word.slice(2)
    if (more === '') return { name }
    return takes === undefined ? { name, bundled: `-${more}` } : { name, value: more }
  }
  throw new Failed({ kind: 'bad-argument', why: 'unknown option', word })
}
