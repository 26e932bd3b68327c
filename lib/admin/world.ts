/** What a transition may touch, for a person's command: it speaks on stderr, and nobody waits for it but that person. */
import { nfsdAt } from '../downcall/nfsd.ts'
import { openLog } from '../log.ts'
import type { Settings } from '../settings/settings.ts'
import { stateDirectory } from '../stable/state-directory.ts'
import type { World } from '../transitions/world.ts'

export const worldOf = (settings: Settings): World => ({
  state: stateDirectory(settings.stateDirectory, settings.runDirectory),
  nfsd: nfsdAt(settings.nfsdDirectory),
  log: openLog({ foreground: true, debug: settings.debug }),
  deadline: { assertTimeLeft: () => undefined },
  now: Date.now,
  monotonic: () => performance.now(),
})
