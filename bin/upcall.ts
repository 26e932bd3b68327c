/** The executable: upcalls here, every other word by the commands for people. */
import { handOn } from '../lib/hand-on.ts'
import { main } from '../lib/main.ts'
import { host } from '../lib/syscalls/host.ts'

host.calls.exit(main(host.calls, host.words, host.environment) ?? handOn(host))
