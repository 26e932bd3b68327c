/** What a transition may touch, for a person's command: it speaks on stderr, and nobody waits for it but that person. */
import { nfsdAt } from '../../kernel/nfsd.ts'
import { openLog } from '../../kernel/log.ts'
import type { Settings } from '../../settings/settings.ts'
import { stateDirectory } from '../../store/state-directory.ts'
import type { World } from '../../events/world.ts'

export const worldOf = (settings: Settings): World => ({
  state: stateDirectory(settings.stateDirectory, settings.runDirectory),
  nfsd: nfsdAt(settings.nfsdDirectory),
  log: openLog({ foreground: true, debug: settings.debug }),
  deadline: { assertTimeLeft: () => undefined },
  now: Date.now,
  monotonic: () => performance.now(),
})
