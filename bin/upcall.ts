/** The executable's entry. It handles upcalls itself, and passes all other words to the commands for people. */
import { handOn } from '../lib/hand-on.ts'
import { main } from '../lib/main.ts'
import { host } from '../lib/syscalls/host.ts'

host.calls.exit(main(host.calls, host.words, host.environment) ?? handOn(host))
