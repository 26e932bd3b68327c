/** The executable: upcalls here, every other word by the commands for people. */
import { handOn } from '../lib/hand-on.ts'
import { main } from '../lib/main.ts'
import { calls, host } from '../lib/syscalls/host.ts'

calls.exit(main(host.words, host.environment) ?? handOn())
