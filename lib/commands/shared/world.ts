/**
 * What a transition may touch, for a person's command: it speaks on stderr, and nobody waits for it but that person.
 */
import type { World } from '../../events/world.ts'
import { openLog } from '../../kernel/log.ts'
import { nfsdAt } from '../../kernel/nfsd.ts'
import { stateDirectory } from '../../store/state-directory.ts'
import type { Context } from './context.ts'

export const worldOf = ({ calls, stateDirectory: path, runDirectory, nfsdDirectory, debug }: Context): World => ({
  calls,
  state: stateDirectory(calls, path, runDirectory),
  nfsd: nfsdAt(calls, nfsdDirectory),
  log: openLog(calls, { foreground: true, debug }),
  deadline: { assertTimeLeft: () => undefined },
})
