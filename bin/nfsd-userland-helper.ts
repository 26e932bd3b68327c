import { main } from '../lib/main.ts'

const status = main(process.argv.slice(2), process.env)
if (typeof status === 'number') process.exitCode = status
else void status.then((later) => (process.exitCode = later))
