/** `serve`, as help and completion show it. It is run by lib/serve/serve.ts, before any command is looked for. */
import { Failed } from '../failure.ts'
import { serveOptions } from '../upcall/serve-options.ts'
import { command } from './shared/command.ts'

export const serveCommand = command(
  'serve',
  'answer a kernel that calls no helper, through the pipe of rpc_pipefs, until SIGTERM',
  (cli) => {
    for (const [name, { takes, summary }] of Object.entries(serveOptions))
      cli = cli.option(name, { type: takes === undefined ? 'boolean' : 'string', describe: summary })
    return cli
      .example('$0 serve', 'before the server starts, as the service does')
      .example('$0 -f serve --until-gone', 'for one server instance, in a container')
  },
  () => {
    throw new Failed({ kind: 'needs-executable', word: 'serve' })
  },
)
