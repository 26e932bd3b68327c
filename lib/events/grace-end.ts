/**
 * Grace ends: by the kernel's word, by ours (it is over as soon as nobody is left to reclaim), or found over when nobody
 * told us.
 *
 * The end is one rename of the instance's own mark. Before it the old records let their clients reclaim, after it they mean
 * nothing, and no state lies in between; run twice, late, or beside a start, it finds itself done or changes nothing that
 * counts. What the kernel may have granted since is safe once the rename is durable, so nothing that changes a record is
 * answered before that: the mark `unconfirmed` tells an upcall that finds grace over whether anybody has seen to it, and to
 * the directories of the kernel's own tracker, which would let their clients reclaim later.
 */
import { counted, Failed, quote } from '../failure.ts'
import type { PartialInstance, Start } from '../rules/instance.ts'
import * as disk from '../syscalls/files.ts'
import * as instances from '../store/instances.ts'
import { hasLegacyRecords, legacyTopIn, removeLegacyRecords, usualTop } from '../store/v4recovery.ts'
import type { Recorded } from '../store/layout.ts'
import { lookAt, storageFailure } from '../store/state-directory.ts'
import { showGraceEnd } from '../store/views.ts'
import { settled, type Settlement, type World } from './world.ts'

/** How long an upcall tidies up, at most: the kernel waits, and grants no new lock meanwhile. */
const tidyMs = 1000

/** Commits the end of a partial instance's grace. */
export function endGrace(world: World, { start }: PartialInstance, legacyTop: string | undefined): Settlement {
  const { state, log } = world
  noteLegacyTop(world, start, legacyTop)
  if (instances.commitGraceEnd(state, start) === 'gone') {
    const { instance: now } = lookAt(state)
    throw new Failed({
      kind: 'other-instance',
      given: String(start),
      current: 'start' in now ? String(now.start) : 'no time',
    })
  }
  return {
    sync: [state.clients()],
    then: () => {
      log.notice(`grace of server instance ${start} is over`)
      const left = followUp(world, start)
      sweep(world)
      refuseLegacyLeft(left)
    },
  }
}

/** Where the kernel's own tracker has clients, if that is a place of its own: whoever follows up must know. */
function noteLegacyTop({ state }: World, start: Start, top: string | undefined): void {
  if (
    top === undefined ||
    top === usualTop ||
    top === legacyTopIn(state.path) ||
    !hasLegacyRecords(top, state.anywhere)
  )
    return
  disk.tolerating(
    [...disk.cannotGrow, 'ENAMETOOLONG'],
    () => {
      instances.mark(state, start, 'legacy', top)
    },
    undefined,
  )
}

/** The kernel does say so: an upcall that found grace over, and died before it had ended it, was only early. */
export function toldAfterAll({ state }: World, { marks }: Recorded, start: Start): Settlement {
  if (!marks(start, 'unasked')) return settled
  return {
    sync: [],
    then: () => {
      instances.unmark(state, start, 'unasked')
    },
  }
}

/** Grace is over already, and the kernel says so: what an upcall that died half-way left undone is done now. */
export function confirmGraceEnd(world: World, start: Start, legacyTop: string | undefined): Settlement {
  return {
    sync: [],
    then: () => {
      instances.unmark(world.state, start, 'unasked')
      if (legacyTop !== undefined) refuseLegacyLeft(clearLegacy(world, [legacyTop]))
    },
  }
}

/** What follows once the end of an instance's grace is durable. @returns how many legacy directories stay: then it is not done. */
export function followUp(world: World, start: Start): number {
  const { state, log } = world
  const noted = instances.readMark(state, start, 'legacy')
  // It was the path of a directory when it was written. What can't be one must not stop every later start.
  const isPath = noted !== undefined && /^(?:\/+[^/]{1,255})+$/.test(noted)
  if (noted !== undefined && !isPath)
    log.error(`where the kernel's own tracker had its clients can't be understood: ${quote(noted)}`)
  const left = clearLegacy(world, [legacyTopIn(state.path), usualTop, ...(isPath ? [noted] : [])])
  if (left > 0) return left
  instances.confirmGraceEnd(state, start)
  const unshown = showGraceEnd(state, start)
  if (unshown !== undefined) log.warning(`boot_time could not be written for people to see: ${unshown}`)
  return 0
}

/** The end of grace for clients of the kernel's own tracker: one that stayed could reclaim in any later instance. */
function clearLegacy({ state, log }: World, tops: readonly string[]): number {
  let all = 0
  for (const top of new Set(tops)) {
    const left = removeLegacyRecords(top, state.anywhere)
    if (left > 0) log.critical(leftIn(left, top))
    all += left
  }
  return all
}

const leftIn = (left: number, top: string): string =>
  `${counted(left, 'entry', 'entries')} of ${quote(top)} could not be removed, which would let clients reclaim later`

function refuseLegacyLeft(left: number): void {
  if (left > 0)
    throw storageFailure(
      `${counted(left, 'directory', 'directories')} of the kernel's own tracker could not be removed, which would let clients reclaim later`,
    )
}

/**
 * Asks the kernel to end grace, if everybody recorded has reclaimed and said so. A client without a session never says
 * that it is done, so one of them is enough to wait for the end of the grace time (field `has_session` in nfsdcltrack).
 */
export function endGraceEarly({ state, nfsd, log }: World, seen: Recorded, instance: PartialInstance): void {
  // Most often somebody is left, and one call tells. If not, what was seen before the barrier is seen anew.
  if (nfsd.grace() !== 'running' || !instances.nobodyIsLeft(state, instance, seen.starts)) return
  const { marks, starts } = lookAt(state)
  if (!marks(instance.start, 'may_end_early') || !instances.nobodyIsLeft(state, instance, starts)) return
  log.notice(`nobody is left to reclaim: asked the kernel to end grace (${nfsd.endGrace()})`)
}

/** Removes what nothing looks at any more. Whatever goes wrong here is for the next sweep. */
export function sweep({ calls, state, log }: World): void {
  const end = calls.monotonic() + tidyMs
  try {
    const { removed, aside } = instances.sweep(state, () => calls.monotonic() < end)
    if (removed > 0) log.notice(`removed ${counted(removed, 'record')} of clients that did not reclaim`)
    if (aside > 0)
      log.error(`${counted(aside, 'record')} could not be understood: kept in ${quote(`${state.clientsPath}/damaged`)}`)
  } catch (thrown) {
    log.warning(`old instances could not be removed: ${String(thrown)}`)
  }
}
