import { nodeCalls } from '../lib/syscalls/node.ts'

// yargs reads the working directory when it is loaded, but nothing here uses it. It must not fail if that directory no
// longer exists.
const cwd = process.cwd.bind(process)
process.cwd = () => '/'
// eslint-disable-next-line @typescript-eslint/no-require-imports -- an import would be evaluated first
const { people } = require('../lib/commands/cli.ts') as typeof import('../lib/commands/cli.ts')
process.cwd = cwd

void people(nodeCalls(), process.argv.slice(2)).then((status) => (process.exitCode = status))
