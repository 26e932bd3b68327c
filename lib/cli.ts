/** What a person types, through yargs. An upcall never comes here: loading it costs more than an upcall does. */
import yargs, { type Argv } from 'yargs'
import packageJson from '../package.json' with { type: 'json' }
import { commands } from './admin/commands.ts'
import { Failed } from './failure.ts'
import { options, type OptionName } from './settings/options.ts'
import { settingsFrom } from './settings/settings.ts'
import { argumentNames, verbs } from './upcall/verbs.ts'

/**
 * `--help`, `--version` and the commands. @returns when the command is done.
 * @throws Failed bad-argument for words that yargs refuses, and whatever the command throws.
 */
export async function people(words: readonly string[]): Promise<void> {
  await parser().parseAsync([...words])
}

function parser(): Argv {
  let cli = yargs([])
    .scriptName('nfsd-userland-helper')
    .locale('en')
    .usage('$0 [options] VERB [ARGUMENT]\n\nRemembers, across restarts, which NFSv4 clients may reclaim their locks.')
    .version(packageJson.version)
    .alias('version', 'V')
    .alias('help', 'h')
    .exitProcess(false)
    .strict()
    .fail((message, error) => {
      // yargs knows no error of ours: a message of its own is about the words.
      throw (error as Error | undefined) ?? new Failed({ kind: 'bad-argument', why: message.replaceAll('\n', ' ') })
    })
    .wrap(100)
    .epilogue(
      [
        'Exit status: 0 done, and durable; 255 the client may not reclaim; 140 grace end of another',
        'instance; 234 bad argument; 218 unknown verb; 151 owner too long; 135 storage failed;',
        '243 state directory unusable at start; 146 out of time.',
      ].join('\n'),
    )
  for (const [verb, { takes, summary }] of Object.entries(verbs)) {
    const argument = argumentNames[takes]
    cli = cli.command(argument === '' ? verb : `${verb} <${argument}>`, summary)
  }
  cli = cli.command(
    'selftest',
    commands.selftest,
    (command) =>
      command
        .option('clients', { type: 'number', default: 160, describe: 'how many clients to play' })
        .option('json', { type: 'boolean', describe: 'a result for programs' })
        .example('$0 selftest', 'in the configured state directory, for the configured grace time')
        .example('$0 selftest -s /mnt/new-disk --json', 'before moving the state directory there'),
    async (given) => {
      const { selftest, describe } = await import('./admin/selftest.ts')
      const { stateDirectory, nfsdDirectory } = settingsFrom(optionsIn(given))
      const measured = await selftest(stateDirectory, nfsdDirectory, atLeastOne(given.clients))
      process.stdout.write(given.json === true ? `${JSON.stringify(measured)}\n` : `${describe(measured)}\n`)
    },
  )
  for (const [name, { takes, short, alias, summary }] of Object.entries(options))
    cli = cli.option(name, {
      type: takes === undefined ? 'boolean' : 'string',
      alias: [short, alias].filter((other) => other !== undefined),
      describe: summary,
    })
  return cli
}

function atLeastOne(value: number): number {
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Failed({ kind: 'bad-argument', why: 'not a number of clients', word: String(value) })
  return value
}

/** The program's own options, as an upcall would have parsed them. */
function optionsIn(given: Record<string, unknown>): Map<OptionName, string> {
  const found = new Map<OptionName, string>()
  for (const name of Object.keys(options) as OptionName[]) {
    const value = given[name]
    if (typeof value === 'string') found.set(name, value)
    else if (value === true) found.set(name, '')
  }
  return found
}
