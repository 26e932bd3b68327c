/**
 * The world of a transition that a person's command makes. It logs to standard error, and has no deadline, because only
 * that person waits for it.
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
  isUpcall: false,
})
