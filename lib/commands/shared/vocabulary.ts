/** Every word that a person may type, as data for completion. It is read from the tables that the parser uses. */
import type { Argv } from 'yargs'
import { options, summaryOfOption, type Option as OptionOfUpcall, type OptionName } from '../../settings/options.ts'
import { argumentNames, summaryOfVerb, verbs, type Verb } from '../../upcall/verbs.ts'

/** The parts of a command from which its words are read. */
interface Spoken {
  readonly name: string
  readonly usage: string
  readonly summary: string
  readonly options: (cli: Argv) => Argv
}

export interface Option {
  /** With their dashes, the long one first. */
  readonly spellings: readonly string[]
  readonly summary: string
  /** What follows the option; undefined for a flag. */
  readonly takes: 'DIR' | 'FILE' | 'TEXT' | readonly string[] | undefined
}

export interface Word {
  readonly name: string
  readonly summary: string
  readonly options: readonly Option[]
  /** What its argument is, if that can be completed. */
  readonly takes: 'FILE' | readonly string[] | undefined
}

export interface Vocabulary {
  readonly options: readonly Option[]
  readonly verbs: readonly Word[]
  readonly commands: readonly Word[]
}

/** @param blank makes a parser that knows no words yet: only lib/commands/cli.ts loads yargs */
export function vocabularyOf(commands: readonly Spoken[], blank: () => Argv): Vocabulary {
  return {
    options: [
      ...Object.entries<OptionOfUpcall>(options).map(([name, { takes, short, alias }]) => ({
        spellings: spelled([name, alias, short]),
        summary: summaryOfOption(name as OptionName),
        takes,
      })),
      { spellings: ['--help', '-h'], summary: 'print help', takes: undefined },
      { spellings: ['--version', '-V'], summary: 'print the version', takes: undefined },
    ],
    verbs: Object.entries(verbs).map(([name, { takes }]) => {
      const [summary, argument] = [summaryOfVerb(name as Verb), argumentNames[takes]]
      return {
        name,
        summary: argument === '' ? summary : `${summary}: ${argument}`,
        options: [],
        takes: undefined,
      }
    }),
    commands: commands.map((known) => wordOf(known, blank())),
  }
}

/** What yargs knows of a command's options once they are declared. Its types do not have it. */
interface Declared {
  readonly getOptions: () => {
    readonly key: Readonly<Record<string, unknown>>
    readonly alias: Readonly<Record<string, readonly string[] | undefined>>
    readonly boolean: readonly string[]
    readonly choices: Readonly<Record<string, readonly string[] | undefined>>
  }
  readonly getInternalMethods: () => {
    readonly getUsageInstance: () => { readonly getDescriptions: () => Readonly<Record<string, string | undefined>> }
  }
}

function wordOf({ name, usage, summary, options: declare }: Spoken, blank: Argv): Word {
  const declared = declare(blank) as unknown as Declared
  const { key, alias, boolean, choices } = declared.getOptions()
  const descriptions = declared.getInternalMethods().getUsageInstance().getDescriptions()
  const positional = [...usage.matchAll(/[<[]([^>\].]+)/g)].map(([, word = '']) => word)
  const aliases = new Set(Object.values(alias).flat())
  const argument = positional[0]
  return {
    name,
    summary,
    takes:
      argument === undefined
        ? undefined
        : (choices[argument] ?? (/source|file|dir/i.test(argument) ? 'FILE' : undefined)),
    options: Object.keys(key)
      .filter((option) => !['help', 'version', ...positional].includes(option) && !aliases.has(option))
      .map((option) => ({
        spellings: spelled([option, ...(alias[option] ?? [])]),
        summary: descriptions[option] ?? '',
        takes: boolean.includes(option)
          ? undefined
          : (choices[option] ?? (/root|dir/.test(option) ? 'DIR' : /file|output/.test(option) ? 'FILE' : 'TEXT')),
      })),
  }
}

const spelled = (names: readonly (string | undefined)[]): string[] =>
  names.filter((name) => name !== undefined).map((name) => (name.length === 1 ? `-${name}` : `--${name}`))
