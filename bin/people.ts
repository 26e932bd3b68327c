import { nodeCalls } from '../lib/syscalls/node.ts'

// yargs asks for the working directory when it is loaded, for nothing that is used here. One that is gone is no reason
// to fail.
const cwd = process.cwd.bind(process)
process.cwd = () => '/'
// eslint-disable-next-line @typescript-eslint/no-require-imports -- an import would be evaluated first
const { people } = require('../lib/commands/cli.ts') as typeof import('../lib/commands/cli.ts')
process.cwd = cwd

void people(nodeCalls(), process.argv.slice(2)).then((status) => (process.exitCode = status))
