/**
 * A server instance starts.
 *
 * Every start begins a new partial instance, also a second one in a row (kernels 6.8 to 6.13 call `init` twice) and one
 * after a crash in grace: what was reclaimable stays so, because it is read off boot_time, which a start does not touch.
 * Everything is prepared under names of the new instance's own and made durable; one rename then makes it current.
 * Killed before the rename, the next start finds an empty directory to sweep; after it, the start has happened.
 */
import { reclaimableIn } from '../recovery/instance.ts'
import { quote } from '../failure.ts'
import * as disk from '../stable/disk.ts'
import * as instances from '../stable/instances.ts'
import { hasLegacyRecords, legacyTopIn, usualTop } from '../stable/legacy.ts'
import { recordsIn } from '../stable/records.ts'
import { lookAt } from '../stable/state-directory.ts'
import { forgetUntracked, ranUntracked } from '../stable/untracked.ts'
import type { ClientOwner } from '../upcall/owner.ts'
import type { GraceStart } from '../upcall/request.ts'
import { sweep } from './grace-end.ts'
import type { World } from './world.ts'

/** @param underLock runs its argument with the state directory's lock held. */
export function startInstance(
  world: World,
  told: GraceStart | undefined,
  underLock: <T>(work: () => T) => T,
): void {
  const { state, nfsd, log, deadline } = world
  // The clients of the kernel's own tracker are not in our records, which then can't tell when nobody is left.
  const mayEndEarly = ![legacyTopIn(state.path), usualTop].some(hasLegacyRecords)
  const ranWithoutUs = ranUntracked(state.path)
  if (ranWithoutUs) log.error('a server instance ran that could not be recorded: nobody may reclaim in this one')
  for (;;) {
    deadline.assertTimeLeft('starting a server instance')
    const start = instances.prepareStart(state, world.now(), told, mayEndEarly)
    const { overtaken, setAside } = underLock(() => instances.commitStart(state, start, ranWithoutUs))
    if (overtaken) continue
    disk.syncDirectory(state.path)
    for (const file of setAside)
      log.error(`${file} ${ranWithoutUs ? 'proves nothing any more' : 'could not be understood: nobody may reclaim'}; it is kept in ${quote(`${state.clients}/damaged`)}`)
    // Harmful or not, what it told of lies before an instance that is recorded: kept, it would cost the next one.
    forgetUntracked(state.path)
    log.notice(`server instance ${start} started, in grace`)
    break
  }
  sweep(world)
  if (nfsd.takesAllowedClients()) allowClients(world)
}

/** The thread's downcall: who may reclaim, told in advance. */
function allowClients({ state, nfsd, log, deadline }: World): void {
  const { instance, starts } = lookAt(state)
  const seen = new Set<string>()
  function* owners(): Generator<ClientOwner> {
    for (const start of reclaimableIn(instance, starts))
      for (const entry of recordsIn(state, start)) {
        if (entry.kind === 'damaged')
          log.error(`record ${quote(entry.name)} of instance ${start} can't be understood: it allows nothing`)
        if (seen.has(entry.name)) continue // the newest entry has decided, as it does for `check`
        seen.add(entry.name)
        if (entry.kind === 'record') yield entry.owner
      }
  }
  const count = nfsd.allowClients(owners(), () => {
    deadline.assertTimeLeft('telling the kernel who may reclaim')
  })
  log.notice(`told the kernel that ${count} clients may reclaim`)
}
