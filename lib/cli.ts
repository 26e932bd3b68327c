/** What a person types, through yargs. An upcall never comes here: loading it costs more than an upcall does. */
import yargs, { type Argv } from 'yargs'
import packageJson from '../package.json' with { type: 'json' }
import { options } from './settings/options.ts'
import { argumentNames, verbs } from './upcall/verbs.ts'

/** `--help` and `--version`. @returns the exit status. */
export async function help(words: readonly string[]): Promise<number> {
  const text = await new Promise<string>((resolve, reject) => {
    void parser().parse([...words], {}, (error: Error | undefined | null, _arguments: unknown, output: string) => {
      if (error == null) resolve(output)
      else reject(error)
    })
  })
  process.stdout.write(`${text}\n`)
  return 0
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
    .wrap(100)
    .epilogue(
      [
        'Exit status: 0 done, and durable; 255 the client may not reclaim; 140 grace end of another instance;',
        '234 bad argument; 218 unknown verb; 151 owner too long; 135 storage failed; 243 state directory unusable at',
        'start; 146 out of time.',
      ].join('\n'),
    )
  for (const [verb, { takes, summary }] of Object.entries(verbs)) {
    const argument = argumentNames[takes]
    cli = cli.command(argument === '' ? verb : `${verb} <${argument}>`, summary)
  }
  for (const [name, { takes, short, alias, summary }] of Object.entries(options))
    cli = cli.option(name, {
      type: takes === undefined ? 'boolean' : 'string',
      alias: [short, alias].filter((other) => other !== undefined),
      describe: summary,
    })
  return cli
}
