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
import * as disk from '../syscalls/files.ts'
import { counted, quote } from '../text.ts'
import { sweep } from './sweep.ts'
import { settled, type Settlement, type World } from './world.ts'

/** Before the lock is taken: see above. */
export function syncReclaimed({ state }: World): void {
  const { instance } = lookAt(state)
  const directory = instance.kind === 'partial' ? directoryOf(state, instance.start) : undefined
  if (directory !== undefined) disk.sync(directory)
}

/** Ends a partial instance's grace. @throws Failed other-instance, if a later one has completed its grace. */
export function endGrace(world: World, { start }: PartialInstance, legacyTop: string | undefined): Settlement {
  const { state, log } = world
  noteLegacyTop(world, start, legacyTop)
  const clients = clientsOf(state)
  const [partial, full] = [markOf(start, 'partial'), markOf(start, 'full')]
  if (!disk.move(partial, full, clients) && disk.lookAtName(full, clients) === undefined) {
    const { instance: now } = lookAt(state)
    const lastFull = now.kind === 'full' ? now.start : now.kind === 'partial' ? now.full : undefined
    if (!('start' in now) || (lastFull !== undefined && lastFull > start))
      throw new Failed({
        kind: 'other-instance',
        given: String(start),
        current: 'start' in now ? String(now.start) : 'no time',
      })
    // A start meanwhile has swept it, since it had no records. Its grace is over all the same: older records do not
    // count any more.
    disk.makeLink('-', full, clients)
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

/** The kernel has left grace, and nobody has told us. */
export function endMissedGrace(world: World, instance: PartialInstance): Settlement {
  // The kernel is out of grace before its own `gracedone` has run, so most often nothing is wrong.
  world.log.notice(
    'the kernel is out of grace, and has not said so yet: ' +
      'grace ends here too, and a client that has not reclaimed may no longer',
  )
  disk.tolerating(
    disk.cannotGrow,
    () => {
      mark(world.state, instance.start, 'unasked')
    },
    undefined,
  )
  return endGrace(world, instance, undefined)
}

/** The kernel does tell us: an upcall that found grace over was only early. */
export const nowAsked = ({ state }: World, { marks }: Recorded, start: Start): Settlement =>
  marks(start, 'unasked')
    ? {
        sync: [],
        then: () => {
          unmark(state, start, 'unasked')
        },
      }
    : settled

/** Grace is over already, and the kernel says so: what an upcall that died half-way left undone is done now. */
export const confirmGraceEnd = (world: World, legacyTop: string | undefined): Settlement => ({
  sync: [],
  then: () => {
    if (legacyTop !== undefined) refuseLegacyLeft(clearLegacy(world, [legacyTop]))
  },
})

/** Of an end that was found: whoever ended it may have died before it was durable, or before what follows. */
export const finishGraceEnd = (world: World, start: Start): Settlement => ({
  sync: [openClients(world.state)],
  then: () => {
    // Another upcall may have done it meanwhile.
    if (disk.lookAtName(markOf(start, 'unconfirmed'), clientsOf(world.state)) === undefined) return
    followUp(world, start)
    sweep(world, lookAt(world.state))
  },
})

/**
 * What follows once the end of an instance's grace is durable.
 * @param told where the kernel's own tracker has its clients: a full disk has no space to note that.
 * @returns how many legacy directories stay: then it is not done.
 */
export function followUp(world: World, start: Start, told?: string): number {
  const { state, log } = world
  const noted = readMark(state, start, 'legacy')
  // It was a directory's path when it was written. Something else must not stop every later start.
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
  // The last one is the one that tells an upcall that something is missing.
  for (const name of ['legacy', 'may_end_early', 'unconfirmed'] as const) unmark(state, start, name)
  const unshown = showGraceEnd(state, start)
  if (unshown !== undefined) log.warning(`boot_time, which is for people only, could not be written: ${unshown}`)
  return 0
}

/** Where the kernel's own tracker has clients, if that is a place of its own: whoever follows up must know. */
function noteLegacyTop({ state }: World, start: Start, top: string | undefined): void {
  if (top === undefined || top === usualTop || top === legacyTopIn(state.path)) return
  if (!hasLegacyRecords(top, state.anywhere)) return
  disk.tolerating(
    [...disk.cannotGrow, 'ENAMETOOLONG'],
    () => {
      mark(state, start, 'legacy', top)
    },
    undefined,
  )
}

/**
 * The end of grace for clients of the kernel's own tracker: one that stayed could reclaim in any later instance.
 * @returns how many stay.
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
 * Asks the kernel to end grace, if everybody recorded has reclaimed and said so. A client without a session never says
 * that it is done, so one of them is enough to wait for the end of the grace time (field `has_session` in nfsdcltrack).
 */
export function endGraceEarly(world: World, seen: Recorded, instance: PartialInstance): void {
  const { state, nfsd, log } = world
  // Most often a client is left, and one call shows it. If none is, what was seen before the barrier is read again.
  if (nfsd.grace() !== 'running' || !nobodyIsLeft(world, instance, seen)) return
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
 * Whether everybody recorded in older instances has reclaimed: then their directories are gone, the oldest first. Not
 * durable, and need not be, but see remove.ts.
 */
const nobodyIsLeft = ({ state }: World, instance: PartialInstance, { starts }: Recorded): boolean =>
  olderThan(instance, starts)
    .reverse()
    .every((start) => disk.removeIfEmpty(String(start), clientsOf(state)))
