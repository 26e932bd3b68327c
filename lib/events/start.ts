/**
 * A server instance starts.
 *
 * Every start begins a new partial instance, also a second one in a row (kernels 6.8 to 6.13 call `init` twice) and one
 * after a crash in grace: what was reclaimable stays so, because a start adds a fact and touches none. Everything is
 * prepared under names of the new instance's own; one call then makes it current, and one barrier makes all of it durable.
 * Killed before that call, nobody looks at what it made; killed anywhere before its end, it has not succeeded, and the mark
 * that was made before all else tells the next start that this instance ran without us (lib/store/untracked.ts).
 */
import { reclaimableIn } from '../rules/instance.ts'
import { counted, quote } from '../failure.ts'
import type { AllowedClient } from '../kernel/nfsd.ts'
import * as disk from '../syscalls/files.ts'
import { readBootTime } from '../store/format1.ts'
import * as instances from '../store/instances.ts'
import { hasLegacyRecords, legacyTopIn, usualTop } from '../store/v4recovery.ts'
import { migrate } from '../store/migrate.ts'
import { recordsIn } from '../store/records.ts'
import { clientsOf, legacyCounts, lookAt, makeStateDirectory, markFormat, setAside } from '../store/state-directory.ts'
import { forgetUntracked, noteStart } from '../store/untracked.ts'
import { showStart } from '../store/views.ts'
import type { Request } from '../upcall/request.ts'
import { followUp, sweep } from './grace-end.ts'
import type { World } from './world.ts'

/** @param underLock runs its argument with the state directory's lock held. */
export function startInstance(
  world: World,
  { kernelBootTime, askedBy }: Request & { event: 'start' },
  underLock: <T>(work: () => T) => T,
): void {
  const { state, nfsd, log, deadline } = world
  const { ranUntracked, unmarked } = noteStart(state, askedBy ?? kernelBootTime)
  if (unmarked !== undefined)
    log.warning(
      `no mark of this start could be made in ${quote(state.runDirectory)} (${unmarked}): should it fail, nobody would know`,
    )
  makeStateDirectory(state)
  const damaged = setDamagedAside(world)
  if (!damaged) migrate(state)
  const nothingProven = damaged || ranUntracked
  endBefore(world)
  // The clients of the kernel's own tracker are not in our records, which then can't tell when nobody is left.
  const waitsForLegacy =
    !ranUntracked &&
    legacyCounts(lookAt(state)) &&
    [legacyTopIn(state.path), usualTop].some((top) => hasLegacyRecords(top, state.anywhere))
  for (;;) {
    deadline.assertTimeLeft('starting a server instance')
    const prepared = instances.prepareStart(state, world.calls.now(), kernelBootTime, {
      mayEndEarly: !waitsForLegacy,
      nothingProven,
    })
    const { overtaken } = underLock(() => instances.commitStart(state, prepared))
    if (damaged) markFormat(clientsOf(state))
    disk.sync(clientsOf(state))
    if (overtaken) continue
    if (ranUntracked) log.error('a server instance ran that could not be recorded: nobody may reclaim in this one')
    const unshown = showStart(state, prepared.start)
    if (unshown !== undefined) log.warning(`new_boot_time could not be written for people to see: ${unshown}`)
    log.notice(`server instance ${prepared.start} started, in grace`)
    break
  }
  sweep(world)
  if (nfsd.takesAllowedClients()) allowClients(world)
  // Last of all: a start that is killed, or hangs until its alarm, has failed for the kernel, however much of it is done.
  const remembered = forgetUntracked(state)
  if (remembered !== undefined)
    log.error(
      `the mark of this start in ${quote(state.runDirectory)} can't be taken away (${remembered}): the next start would let nobody reclaim`,
    )
}

/**
 * Format 1, where one of the files that define an instance can't be understood. It may hide that a grace has ended, so
 * nobody may reclaim, and both are kept. @returns whether that is so.
 */
function setDamagedAside({ state, log }: World): boolean {
  const { format, instance } = lookAt(state)
  const root = format === 1 ? disk.openDirectory(state.path, state.anywhere, 'follow') : 'absent'
  if (typeof root !== 'object') return false
  const damaged = instance.kind === 'damaged' || typeof readBootTime('boot_time', root) === 'object'
  if (damaged)
    for (const file of ['boot_time', 'new_boot_time'])
      if (setAside(state, file, root, file) !== undefined)
        log.error(
          `${file} could not be understood: nobody may reclaim; it is kept in ${quote(`${state.clientsPath}/damaged`)}`,
        )
  disk.close(root)
  return damaged
}

/** What the end of the last instance's grace left undone, if the upcall that ended it died. */
function endBefore(world: World): void {
  const { instance, marks } = lookAt(world.state)
  if (instance.kind !== 'full') return
  if (marks(instance.start, 'unasked'))
    world.log.error(`nobody ever told us that the grace of server instance ${instance.start} was over`)
  if (!marks(instance.start, 'unconfirmed')) return
  disk.sync(clientsOf(world.state))
  followUp(world, instance.start)
}

/** The thread's downcall: who may reclaim, told in advance. */
function allowClients({ state, nfsd, log, deadline }: World): void {
  const { instance, starts } = lookAt(state)
  const reclaimable = reclaimableIn(instance, starts)
  function* clients(): Generator<AllowedClient> {
    for (const start of reclaimable)
      for (const entry of recordsIn(state, start)) {
        if (entry.kind === 'damaged' || entry.kind === 'newer')
          log.error(`record ${quote(entry.name)} of instance ${start} can't be understood: it allows nothing`)
        // The newest entry has decided, as it does for `check`.
        if (entry.kind === 'record' && !hasNewer(start, entry.name))
          yield { owner: entry.owner, principal: entry.facts.principal }
      }
  }
  const hasNewer = (start: number, name: string): boolean =>
    reclaimable.some((newer) => {
      const directory = newer > start ? state.directoryOf(newer) : undefined
      return directory !== undefined && disk.lookAtName(name, directory) !== undefined
    })
  const count = nfsd.allowClients(clients(), () => {
    deadline.assertTimeLeft('telling the kernel who may reclaim')
  })
  log.notice(`told the kernel that ${counted(count, 'client')} may reclaim`)
}
