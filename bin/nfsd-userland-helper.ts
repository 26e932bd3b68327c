import { main } from '../lib/main.ts'

const status = main(process.argv.slice(2), process.env)
// An upcall is done when it has its status: nothing is left for an event loop, whose last turn would cost a millisecond.
if (typeof status === 'number') process.exit(status)
else void status.then((later) => (process.exitCode = later))
