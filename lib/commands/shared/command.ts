/** What a command for people is: its words, its options, and what it does. Wired into yargs by lib/commands/cli.ts. */
import type { Argv } from 'yargs'
import { Failed, storageFailure } from '../../failure.ts'
import type { Context } from './context.ts'
import type { Vocabulary } from './vocabulary.ts'

/** @returns the exit status. Throws Failed; any other error is reported like an upcall's failure */
type Run<Given> = (given: Given, settings: Context, commandLine: CommandLine) => number | Promise<number>

/** Options that several commands have. */
export const jsonOption = { type: 'boolean', default: false, describe: 'print JSON, for programs' } as const
export const dryRunOption = { type: 'boolean', default: false, describe: 'only print what would be done' } as const

/** What the command line gives a command: where things are, all words that exist, and where to set its status. */
export interface CommandLine {
  readonly settings: (given: Readonly<Record<string, unknown>>) => Context
  readonly vocabulary: () => Vocabulary
  readonly ended: (status: number) => void
}

export interface Command {
  /** The first word of its usage: the command's name. */
  readonly name: string
  readonly usage: string
  readonly summary: string
  readonly options: (cli: Argv) => Argv
  readonly addTo: (cli: Argv, commandLine: CommandLine) => Argv
}

/** @param usage the command's words in yargs' notation: `show <OWNER>` */
export function command<Given>(
  usage: string,
  summary: string,
  options: (cli: Argv) => Argv<Given>,
  run: Run<Given>,
): Command {
  const list = /<(\w+)\.\.>/.exec(usage)?.[1]
  return {
    name: usage.split(' ')[0] ?? '',
    usage,
    summary,
    options,
    addTo: (cli, commandLine) =>
      cli.command(usage, summary, options, async (words) => {
        const given = lastOfEach(words, list)
        refuseEmpty(given, usage)
        commandLine.ended(await run(given as Given, commandLine.settings(given), commandLine))
      }),
  }
}

/** @throws Failed bad-argument, if an option has an empty value: a path would be the current directory */
function refuseEmpty(given: Readonly<Record<string, unknown>>, usage: string): void {
  for (const [name, value] of Object.entries(given))
    if (value === '' && !usage.includes(`<${name}`))
      throw new Failed({ kind: 'bad-argument', why: `option --${name} needs a value` })
}

/** @throws Failed storage, if another user runs it: what the system refuses may look like another fault */
export function assertRoot(name: string): void {
  if (process.geteuid?.() !== 0) throw storageFailure(`${name} reads files that only root may read: run it as root`)
}

/** @throws Failed bad-argument, if the word is no number of these things, or 0 */
export function countIn(word: string, things: string): number {
  const count = Number(word)
  if (!Number.isSafeInteger(count) || count < 1)
    throw new Failed({ kind: 'bad-argument', why: `not a number of ${things}`, word })
  return count
}

/**
 * If an option is given twice, the last one counts, as before the verb.
 * @param list the option that takes several words
 */
const lastOfEach = (
  given: Readonly<Record<string, unknown>>,
  list: string | undefined,
): Readonly<Record<string, unknown>> =>
  Object.fromEntries(
    Object.entries(given).map(([name, value]) => [name, Array.isArray(value) && name !== list ? value.at(-1) : value]),
  )
