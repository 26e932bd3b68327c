/**
 * Handles every word that is no upcall, with yargs. It is a module of its own, apart from that of the upcalls (see
 * bin/), because loading it costs more than an upcall.
 */
import yargs, { type Argv } from 'yargs'
import packageJson from '../../package.json' with { type: 'json' }
import { errorCode, exitStatuses, Failed, failureFrom, type Failure } from '../failure.ts'
import { openLog } from '../kernel/log.ts'
import {
  asksForForeground,
  asksForHelp,
  options,
  parseWords,
  refuseShortEquals,
  summaryOfOption,
  type Option,
  type OptionName,
} from '../settings/options.ts'
import { pipefsAt } from '../settings/pipefs.ts'
import { settingsFrom } from '../settings/settings.ts'
import type { Calls } from '../syscalls/calls.ts'
import { argumentNames, summaryOfVerb, verbs, type Verb } from '../upcall/verbs.ts'
import { commands } from './commands.ts'
import { standardInput } from './move/source.ts'
import type { CommandLine } from './shared/command.ts'
import { print } from './shared/print.ts'
import { width, wrapped } from './shared/table.ts'
import { vocabularyOf } from './shared/vocabulary.ts'

/**
 * Runs `--help`, `--version` and the commands.
 * @param calls the system's
 * @returns the exit status, when everything is done and printed
 */
export async function people(calls: Calls, words: readonly string[]): Promise<number> {
  let foreground = asksForForeground(words)
  try {
    refuseShortEquals(words)
    if (!asksForHelp(words)) {
      const { verb } = parseWords(words)
      if (verb === undefined) throw new Failed({ kind: 'bad-argument', why: 'no verb given; see --help' })
      if (!commands.some(({ name }) => name === verb)) throw new Failed({ kind: 'unknown-verb', word: verb })
    }
    foreground = true
    let status = 0
    const commandLine: CommandLine = {
      settings: (given) => ({
        ...settingsFrom(calls, optionsIn(given)),
        calls,
        pipefs: () => pipefsAt(calls, optionsIn(given), undefined),
      }),
      vocabulary: () => vocabularyOf(commands, () => yargs([])),
      ended: (ended) => (status = ended),
    }
    // yargs hands over help and version instead of printing them: if printing fails, the status must say so.
    let said = ''
    await parser(commandLine).parseAsync(words.map(spelledOut), {}, (_error, _given, output) => {
      said = output
    })
    if (said !== '') print(`${said}\n`)
    return status
  } catch (thrown) {
    return openLog(calls, { foreground, debug: false, typed: true }).failed(forRootAlone(thrown) ?? failureFrom(thrown))
  }
}

/** The records belong to root, so the system refuses other users. */
function forRootAlone(thrown: unknown): Failure | undefined {
  if (process.geteuid?.() === 0 || !['EACCES', 'EPERM'].includes(errorCode(thrown) ?? '')) return undefined
  const failure = failureFrom(thrown)
  return failure.kind === 'storage' ? { ...failure, what: `${failure.what}; run it as root` } : undefined
}

/** What yargs says of wrong words, as plain sentences; its types leave out the plurals. The log escapes the words. */
const texts = {
  'Unknown argument: %s': { one: "unknown argument: '%s'; see --help", other: 'unknown arguments: %s; see --help' },
  'Not enough non-option arguments: got %s, need at least %s': {
    one: '%s arguments given, at least %s needed; see --help',
    other: '%s arguments given, at least %s needed; see --help',
  },
  'Missing required argument: %s': { one: 'option --%s is missing', other: 'options are missing: %s' },
  'Not enough arguments following: %s': 'option --%s needs a value',
  'Invalid values:': 'wrong value for',
  'Argument: %s, Given: %s, Choices: %s': '%s: %s; it takes %s',
  'Arguments %s and %s are mutually exclusive': 'options --%s and --%s exclude each other',
}

function parser(commandLine: CommandLine): Argv {
  let cli = yargs([])
    .scriptName('nfsd-userland-helper')
    .locale('en')
    .usage('$0 [options] VERB [ARGUMENT]\n\nRemembers, across restarts, which NFSv4 clients may reclaim their locks.')
    .version(packageJson.version)
    .alias('version', 'V')
    .alias('help', 'h')
    .exitProcess(false)
    .parserConfiguration({ 'dot-notation': false })
    .strict()
    .updateStrings(texts as unknown as Record<string, string>)
    .fail((message, error) => {
      // yargs' own errors are about the words, and so is a message without an error.
      const thrown = error as Error | undefined
      if (thrown !== undefined && thrown.name !== 'YError') throw thrown
      throw new Failed({ kind: 'bad-argument', why: message.replace(/\s+/g, ' ').trim() })
    })
    .wrap(width)
    .epilogue(exitStatusTable())
  for (const [verb, { takes }] of Object.entries(verbs)) {
    const argument = argumentNames[takes]
    cli = cli.command(argument === '' ? verb : `${verb} <${argument}>`, summaryOfVerb(verb as Verb))
  }
  for (const { addTo } of commands) cli = addTo(cli, commandLine)
  for (const [name, { takes, short, alias }] of Object.entries<Option>(options))
    cli = cli.option(name, {
      type: takes === undefined ? 'boolean' : 'string',
      alias: [short, alias].filter((other) => other !== undefined),
      describe: summaryOfOption(name as OptionName),
    })
  return cli
}

function exitStatusTable(): string {
  const indent = ' '.repeat(18)
  const lines = Object.values(exitStatuses).flatMap(({ status, errno, meaning }) =>
    wrapped(meaning.replaceAll('`', ''), width - indent.length).map((line, at) => {
      const head = at === 0 ? `  ${String(status).padEnd(5)}${errno ?? ''}` : ''
      return head.padEnd(indent.length) + line
    }),
  )
  return ['Exit status:', ...lines].join('\n')
}

/** yargs takes a single `-` for an empty word. */
const spelledOut = (word: string): string => (word === '-' ? standardInput : word)

/** The program's own options, as an upcall would have parsed them. */
function optionsIn(given: Readonly<Record<string, unknown>>): Map<OptionName, string> {
  const found = new Map<OptionName, string>()
  for (const name of Object.keys(options) as OptionName[]) {
    const value = given[name]
    if (value === '') throw new Failed({ kind: 'bad-argument', why: `option --${name} needs a value` })
    // Each character of a path is a byte, as for an upcall (bin/nfsd-userland-helper.ts).
    if (typeof value === 'string') found.set(name, Buffer.from(value).toString('latin1'))
    else if (value === true) found.set(name, '')
  }
  return found
}
