/**
 * Grace ends in one of three ways: the kernel says so; no client is left that may reclaim, and we tell the kernel; or
 * an upcall finds that the kernel has ended it without telling us.
 *
 * The end is one rename: the instance's own mark `partial` becomes `full`. Before it the old records let their clients
 * reclaim. After it they mean nothing. There is no state in between. If it runs twice, late, or beside a start, it is
 * already done or changes nothing that counts, because the mark belongs to this instance alone. It needs no space.
 *
 * Some records may have moved without a sync by the upcalls that moved them. They are synced before their old places
 * lose their meaning: we may end grace ourselves, because no client is left.
 *
 * The locks that the kernel may have granted since are safe once the rename is durable. So nothing that changes a
 * record is answered before that. The mark `unconfirmed` means that the end is not yet known to be durable, or that the
 * directories of the kernel's own tracker, which would let their clients reclaim later, may still be there. An upcall
 * that finds it does what is missing. The mark is removed last.
 *
 * The kernel leaves grace before its own `gracedone` has run. An upcall that finds this ends grace itself, because
 * locks may have been granted that conflict with those that were not reclaimed. It makes the mark `unasked`, which
 * stays until the kernel's `gracedone` comes. If that never comes, the next start logs it.
 */
import { Failed, storageFailure } from '../failure.ts'
import { olderThan, type PartialInstance, type Start } from '../rules/instance.ts'
import { markOf, type Recorded } from '../store/layout.ts'
import { mark, readMark, unmark } from '../store/marks.ts'
import { directoryOf, openClients } from '../store/open-directories.ts'
import { clientsOf, lookAt } from '../store/state-directory.ts'
import { hasLegacyRecords, legacyTopIn, removeLegacyRecords, usualTop } from '../store/v4recovery.ts'
import { showGraceEnd } from '../store/views.ts'
import * as files from '../syscalls/files.ts'
import { counted, quote } from '../text.ts'
import { sweep } from './sweep.ts'
import { settled, type Settlement, type World } from './world.ts'

/** Makes moved records durable, before the lock is taken: see above. */
export function syncReclaimed({ state }: World): void {
  const { instance } = lookAt(state)
  const directory = instance.kind === 'partial' ? directoryOf(state, instance.start) : undefined
  if (directory !== undefined) files.sync(directory)
}

/** Ends a partial instance's grace. @throws Failed other-instance, if a later one has completed its grace. */
export function endGrace(world: World, { start }: PartialInstance, legacyTop: string | undefined): Settlement {
  const { state, log } = world
  noteLegacyTop(world, start, legacyTop)
  const clients = clientsOf(state)
  const [partial, full] = [markOf(start, 'partial'), markOf(start, 'full')]
  if (!files.move(partial, full, clients) && files.lookAtName(full, clients) === undefined) {
    const { instance: now } = lookAt(state)
    const lastFull = now.kind === 'full' ? now.start : now.kind === 'partial' ? now.full : undefined
    if (!('start' in now) || (lastFull !== undefined && lastFull > start))
      throw new Failed({
        kind: 'other-instance',
        given: String(start),
        current: 'start' in now ? String(now.start) : 'no time',
      })
    // A later start has removed it, because it had no records. Its grace is over nevertheless: older records count no
    // longer.
    files.makeLink('-', full, clients)
  }
  return {
    sync: [clients],
    then: () => {
      log.notice(`grace of server instance ${start} is over`)
      const left = followUp(world, start, legacyTop)
      sweep(world, lookAt(state))
      refuseLegacyLeft(left)
    },
  }
}

/** The kernel has ended grace without telling us. */
export function endMissedGrace(world: World, instance: PartialInstance): Settlement {
  // The kernel is out of grace before its own `gracedone` has run, so most often nothing is wrong.
  world.log.notice(
    'the kernel is out of grace, and has not said so yet: ' +
      'grace ends here too, and a client that has not reclaimed may no longer',
  )
  files.tolerating(
    files.cannotGrow,
    () => {
      mark(world.state, instance.start, 'unasked')
    },
    undefined,
  )
  return endGrace(world, instance, undefined)
}

/** The kernel's own `gracedone` has come, after an upcall that found grace over. */
export const nowAsked = ({ state }: World, { marks }: Recorded, start: Start): Settlement =>
  marks(start, 'unasked')
    ? {
        sync: [],
        then: () => {
          unmark(state, start, 'unasked')
        },
      }
    : settled

/** `gracedone` finds that grace is over already. It completes what an upcall that died half-way left undone. */
export const confirmGraceEnd = (world: World, legacyTop: string | undefined): Settlement => ({
  sync: [],
  then: () => {
    if (legacyTop !== undefined) refuseLegacyLeft(clearLegacy(world, [legacyTop]))
  },
})

/**
 * Completes an end of grace: the upcall that ended it may have died before the end was durable, or before what follows
 * it.
 */
export const finishGraceEnd = (world: World, start: Start): Settlement => ({
  sync: [openClients(world.state)],
  then: () => {
    // Another upcall may have completed it meanwhile.
    if (files.lookAtName(markOf(start, 'unconfirmed'), clientsOf(world.state)) === undefined) return
    followUp(world, start)
    sweep(world, lookAt(world.state))
  },
})

/**
 * What follows once the end of an instance's grace is durable.
 * @param told the directory of the kernel's own tracker, because a full disk has no space to note it
 * @returns how many directories of that tracker could not be removed: if any, it is not done
 */
export function followUp(world: World, start: Start, told?: string): number {
  const { state, log } = world
  const noted = readMark(state, start, 'legacy')
  // A note that is no path is damaged. It must not stop every later start.
  const isPath = noted !== undefined && /^(?:\/+[^/]{1,255})+$/.test(noted)
  if (noted !== undefined && !isPath)
    log.error(`the noted directory of the kernel's own tracker can't be understood: ${quote(noted)}`)
  const left = clearLegacy(world, [
    legacyTopIn(state.path),
    usualTop,
    ...(isPath ? [noted] : []),
    ...(told === undefined ? [] : [told]),
  ])
  if (left > 0) return left
  // `unconfirmed` goes last: it tells an upcall that something is left to do.
  for (const name of ['legacy', 'may_end_early', 'unconfirmed'] as const) unmark(state, start, name)
  const unshown = showGraceEnd(state, start)
  if (unshown !== undefined) log.warning(`boot_time, which is for people only, could not be written: ${unshown}`)
  return 0
}

/**
 * Notes the directory of the kernel's own tracker, if it is not the usual one, for an upcall that completes this end.
 */
function noteLegacyTop({ state }: World, start: Start, top: string | undefined): void {
  if (top === undefined || top === usualTop || top === legacyTopIn(state.path)) return
  if (!hasLegacyRecords(top, state.anywhere)) return
  files.tolerating(
    [...files.cannotGrow, 'ENAMETOOLONG'],
    () => {
      mark(state, start, 'legacy', top)
    },
    undefined,
  )
}

/**
 * Removes what the kernel's own tracker has recorded: it would let clients reclaim in every later instance.
 * @returns how many directories could not be removed
 */
function clearLegacy({ state, log }: World, tops: readonly string[]): number {
  let all = 0
  for (const top of new Set(tops)) {
    const left = removeLegacyRecords(top, state.anywhere)
    if (left > 0) log.critical(legacyLeft(left, quote(top)))
    all += left
  }
  return all
}

function refuseLegacyLeft(left: number): void {
  if (left > 0) throw storageFailure(legacyLeft(left, "the kernel's own tracker"))
}

const legacyLeft = (left: number, whose: string): string =>
  `${counted(left, 'entry', 'entries')} of ${whose} could not be removed: they would let clients reclaim later`

/**
 * Asks the kernel to end grace, if every recorded client has said that it has reclaimed everything. A client without a
 * session never says so. If there is one, grace lasts its whole time (field `has_session` in nfsdcltrack).
 * @param mayChange called before the first change, which removes the directories from which every client has moved: no
 *   record can be moved back afterwards
 */
export function endGraceEarly(world: World, seen: Recorded, instance: PartialInstance, mayChange: () => boolean): void {
  const { state, nfsd, log } = world
  // Most often a client is left, and one call shows that. If none is, what was read before the barrier is read again.
  if (nfsd.grace() !== 'running' || !mayChange()) return
  if (!nobodyIsLeft(world, instance, seen)) return
  const now = lookAt(state)
  if (!now.marks(instance.start, 'may_end_early') || !nobodyIsLeft(world, instance, now)) return
  const answer = nfsd.endGrace()
  log.notice(
    answer === 'asked'
      ? 'nobody is left to reclaim: the kernel is asked to end grace'
      : `nobody is left to reclaim, but the kernel could not be asked to end grace: ${answer}`,
  )
}

/**
 * Whether every client recorded in older instances has reclaimed. If so, their directories have been removed, the
 * oldest first. That need not be durable, but see remove.ts.
 */
const nobodyIsLeft = ({ state }: World, instance: PartialInstance, { starts }: Recorded): boolean =>
  olderThan(instance, starts)
    .reverse()
    .every((start) => files.removeIfEmpty(String(start), clientsOf(state)))
