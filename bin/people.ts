import { people } from '../lib/cli.ts'

void people(process.argv.slice(2)).then((status) => (process.exitCode = status))
